"""Every request that our client can make of Amazon, and every answer that the stand-in gives, against Amazon's contracts."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from pathlib import Path

import pytest

from invsync_dagster.platforms.amazon.notifications import content_of
from invsync_dagster.platforms.contract import LevelReference, WriteRow
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.platforms.subscribing import Subscriber
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.amazon_harness import API, FIRST, SELLER, AmazonHarness
from tests.unit.platforms.amazon_contracts import (
    problems_of_answer,
    problems_of_exchange,
    problems_of_notification,
)

NOTIFICATIONS = [
    "OrderChangeNotification",
    "ListingsItemMfnQuantityChange",
    "ListingsItemIssuesChangeNotification",
    "ListingsItemStatusChangeNotification",
    "FeedProcessingFinishedNotification",
    "ReportProcessingFinishedNotification",
]


def every_call() -> AmazonHarness:
    """Drive the client through all that it can ask, and the stand-in through all that it can answer."""
    harness = AmazonHarness(rate_factor=1.0, webhook_event_bridge="eu-west-1:123456789012")
    account, platform = harness.account, harness.platform
    levels = [harness.make_level(number) for number in range(1, 23)]
    comma = account.add_item("A,B", 4)
    fba = account.add_item("FBA", None, fulfilled_by_amazon=True)
    orders = [account.buy({level.item_id: 2}, status="PENDING") for level in levels[2:9]]
    begin = harness.clock.now() - timedelta(hours=1)
    account.confirm(orders[0])
    account.ship(orders[1], {next(iter(account.order(orders[1]).lines)): 1})
    account.ship(orders[2])
    account.cancel(orders[3])
    account.cancel(orders[1])
    account.buy({"FBA": 1}, fulfilled_by="AMAZON")
    for level in (levels[0], comma, LevelReference("nowhere")):
        harness.clock.advance(2)
        platform.write([WriteRow(level, 7)], key="key")
    harness.clock.advance(60)
    platform.read([*levels[:18], fba, comma])
    platform.read([LevelReference("x,y")])
    page = platform.listings()
    platform.listings(page.cursor)
    platform.orders_changed(begin, harness.clock.now())
    harness.clock.advance(300)
    platform.orders_changed(begin, harness.clock.now() - timedelta(minutes=3))
    platform.open_orders()
    platform.orders([*orders, "902-0000000-0000000"])
    platform.check_credentials()
    assert isinstance(platform, Subscriber)
    for _ in range(2):
        for one in platform.subscriptions("").subscriptions:
            with contextlib.suppress(PlatformError):
                platform.subscribe(one, "")
    with contextlib.suppress(PlatformError):
        while True:
            platform.read(levels[:1])
    account.revoke()
    with contextlib.suppress(PlatformError):
        platform.read(levels[:1])
    return harness


def test_every_exchange_is_valid_by_the_models(contracts: Path) -> None:
    harness = every_call()
    statuses = set()
    for request, response in harness.exchanges:
        if request.url.endswith("/auth/o2/token"):
            continue
        statuses.add((request.method, response.status))
        assert problems_of_exchange(contracts, request, response) == [], (request, response)
    assert {("PATCH", 200), ("GET", 200), ("GET", 404), ("GET", 429), ("GET", 403)} <= statuses


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/listings/2021-08-01/items/{SELLER}/A?marketplaceIds={FIRST}", b"{", 400),
        (f"/listings/2021-08-01/items/{SELLER}/A?marketplaceIds={FIRST}", b'{"productType":"","patches":[]}', 400),
        (f"/listings/2021-08-01/items/{SELLER}?marketplaceIds={FIRST}&pageSize=21", b"", 400),
        (f"/listings/2021-08-01/items/{SELLER}?marketplaceIds=ATVPDKIKX0DER", b"", 400),
        (f"/listings/2021-08-01/items/ANOTHER1?marketplaceIds={FIRST}", b"", 403),
        ("/orders/2026-01-01/orders?maxResultsPerPage=10", b"", 400),
        ("/orders/2026-01-01/orders?createdAfter=yesterday", b"", 400),
        (
            "/orders/2026-01-01/orders?lastUpdatedAfter=2026-01-01T00:00:00Z&lastUpdatedBefore=2030-01-01T00:00:00Z",
            b"",
            400,
        ),
    ],
)
def test_what_the_stand_in_refuses_is_refused_in_amazons_form(
    contracts: Path, path: str, body: bytes, status: int
) -> None:
    harness = AmazonHarness()
    token = harness.exchanges[-1][0].headers["x-amz-access-token"]
    request = Request("PATCH" if body else "GET", API + path, {"x-amz-access-token": token}, body)
    response = harness.account.handle(request)
    assert response.status == status
    assert problems_of_answer(contracts, request, response) == []


def test_an_expired_token_is_refused_as_amazon_does(contracts: Path) -> None:
    harness = AmazonHarness()
    harness.account.expire_tokens()
    request = Request(
        "GET",
        f"{API}/listings/2021-08-01/items/{SELLER}?marketplaceIds={FIRST}",
        {"x-amz-access-token": harness.exchanges[-1][0].headers["x-amz-access-token"]},
    )
    response = harness.account.handle(request)
    assert problems_of_exchange(contracts, request, response) == []
    (error,) = json.loads(response.body)["errors"]
    assert (response.status, error["code"]) == (403, "Unauthorized")
    assert error["details"] == "The access token you provided has expired."


def test_the_stand_ins_notifications_are_valid_by_their_schema(contracts: Path) -> None:
    harness = every_call()
    told = [json.loads(body)["detail"] for _, body in harness.deliveries()]
    assert len(told) == 13
    for notification in told:
        assert problems_of_notification(contracts, "OrderChangeNotification", notification) == []


@pytest.mark.parametrize("end", ["DONE", "FATAL", "CANCELLED"])
def test_the_stand_ins_notification_of_a_feed_is_valid_by_its_schema(contracts: Path, end: str) -> None:
    harness = AmazonHarness()
    harness.account.feeds.end = end
    outcome = harness.platform.submit({1: WriteRow(harness.make_level(3), 4)})  # type: ignore[attr-defined]
    harness.clock.advance(400)
    (_, body), *others = harness.deliveries()
    told = json.loads(body)["detail"]
    assert (problems_of_notification(contracts, "FeedProcessingFinishedNotification", told), others) == ([], [])
    assert harness.door.parse({}, body).finished == (outcome.handle,)


@pytest.mark.parametrize("name", NOTIFICATIONS)
def test_amazons_own_examples_are_understood(contracts: Path, name: str) -> None:
    schema = json.loads((contracts / "amazon" / "schemas" / "notifications" / f"{name}.json").read_text())
    for example in schema["examples"]:
        content = content_of(example, "A3TH9S8BH6GOGM")
        assert bool(content.documents) == (name == "OrderChangeNotification")
        assert bool(content.finished) == (name == "FeedProcessingFinishedNotification")


def test_amazons_example_orders_are_understood(contracts: Path) -> None:
    model = json.loads((contracts / "amazon" / "models" / "orders_2026-01-01.json").read_text())
    answers = model["paths"]["/orders/2026-01-01/orders"]["get"]["responses"]["200"]["x-amzn-api-sandbox"]["static"]
    told = 0
    for answer in answers:
        harness = AmazonHarness()
        harness.wire.answer_next(Response(200, {}, json.dumps(answer["response"]).encode()))
        page = harness.platform.open_orders()
        orders = answer["response"]["orders"]
        assert page.content.unclear_orders == ()
        for order, document in zip(orders, page.content.documents, strict=True):
            by_amazon = order["fulfillment"].get("fulfilledBy") == "AMAZON"
            assert all(bool(line.ignored) == by_amazon for line in document.lines)
        told += len(orders)
    assert told >= 1
