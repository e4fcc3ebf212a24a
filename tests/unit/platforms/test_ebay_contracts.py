"""Every request that our client can make of eBay, and every answer that the stand-in gives, against eBay's contracts."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.platforms.contract import LevelReference, Platform, Result, WriteRow
from invsync_dagster.platforms.ebay.settings import EbaySettings
from invsync_dagster.platforms.ebay.tokens import tokens_of
from invsync_dagster.platforms.ebay.webhooks import EbayDoor
from invsync_dagster.platforms.errors import PlatformError, SignatureError
from invsync_dagster.platforms.subscribing import Subscriber, Subscription, SubscriptionState
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.ebay_harness import ENDPOINT, SECRETS, SETTINGS, EbayHarness
from tests.contract.wire import Wire
from tests.unit.platforms.ebay_contracts import problems_of_exchange

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def subscribe_all(platform: Platform, address: str = ENDPOINT) -> None:
    """Look at what is subscribed to, and make or mend what isn't active, and once more what is."""
    assert isinstance(platform, Subscriber)
    for one in platform.subscriptions(address).subscriptions:
        with contextlib.suppress(PlatformError):
            platform.subscribe(one, address)
        with contextlib.suppress(PlatformError):
            platform.subscribe(Subscription(one.topic, SubscriptionState.MISSING), address)


def every_exchange() -> list[tuple[Request, Response]]:
    """Drive the client through all that it can ask, and the stand-in through all that it can answer."""
    found: list[tuple[Request, Response]] = []
    harness = EbayHarness(watch=lambda request, response: found.append((request, response)))
    account, platform = harness.account, harness.platform
    levels = [account.add_item(f"SKU {number}/ä", number, own=number % 2 == 0) for number in range(1, 30)]
    hidden = account.add_item("hidden", 3, published=False)
    begin = harness.clock.now() - timedelta(hours=1)
    orders = [account.buy({level: 1}) for level in levels[3:9]]
    account.ship(orders[0])
    account.cancel(orders[1])
    account.refund(orders[2])
    both = account.buy({levels[10]: 3})
    account.ship(both, {next(iter(account.order(both).lines)): 1})
    account.fail_next("SKU 1/ä", 25759, "below the auction allocation")
    account.fail_next("SKU 2/ä", 25001, "A system error has occurred.", status=500, category="APPLICATION")
    platform.write([WriteRow(level, 2) for level in levels[:24]], key="key")
    platform.write([WriteRow(hidden, 2), WriteRow(LevelReference("nowhere"), 1)], key="key")
    platform.write([WriteRow(LevelReference("SKU 2/ä", "999"), 2)], key="key")
    platform.write([WriteRow(levels[20], 2)], key="key")
    platform.read([*levels[:20], hidden, LevelReference("nowhere", "1")])
    cursor = platform.listings().cursor
    platform.listings(cursor)
    platform.orders_changed(begin, harness.clock.now())
    platform.orders_changed(begin, harness.clock.now() + timedelta(minutes=5))
    platform.open_orders()
    platform.orders([*orders, both, "14-00000-00000"])
    account.subscriptions.alert_email = ""
    subscribe_all(platform)
    account.subscriptions.alert_email = "owner@example.com"
    subscribe_all(platform)
    account.subscriptions.mark_down()
    subscribe_all(platform)
    for other in range(12):
        subscribe_all(platform, f"https://sync.example.com/webhooks/{other}")
    harness.deliveries()
    key_id = "00000000-0000-0000-0000-000000000000"
    header = base64.b64encode(json.dumps({"kid": key_id, "signature": "AAAA"}).encode()).decode()
    assert isinstance(harness.door, EbayDoor)
    assert harness.door.wanted_key({"x-ebay-signature": header}, NOW) == key_id
    harness.door.fetch_key(key_id, harness.keys, NOW)
    account.quota.a_day = 0
    with pytest.raises(PlatformError):
        platform.read(levels[:1])
    account.access.revoke()
    with pytest.raises(PlatformError):
        platform.read(levels[:1])
    return found


def test_every_exchange_is_valid_by_the_specifications(contracts: Path) -> None:
    statuses = set()
    for request, response in every_exchange():
        if request.url.endswith("/oauth2/token"):
            continue
        statuses.add((request.method, response.status))
        assert problems_of_exchange(contracts, request, response) == [], (request, response)
    assert {("POST", 200), ("POST", 207), ("GET", 200), ("GET", 404), ("POST", 429), ("POST", 401)} <= statuses


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sell/inventory/v1/bulk_get_inventory_item", {"requests": [{"sku": "A"}, {"sku": "A"}]}),
        ("/sell/inventory/v1/bulk_get_inventory_item", {"requests": [{"sku": str(n)} for n in range(26)]}),
        ("/sell/inventory/v1/inventory_item?limit=500", None),
        ("/sell/fulfillment/v1/order?limit=201", None),
        ("/sell/fulfillment/v1/order?orderIds=" + ",".join(map(str, range(51))), None),
        ("/sell/fulfillment/v1/order?filter=lastmodifieddate:[2030-01-01T00:00:00.000Z..]", None),
        ("/sell/fulfillment/v1/order/1/shipping_fulfillment", None),
    ],
)
def test_what_the_stand_in_refuses_is_refused_in_ebays_form(contracts: Path, path: str, body: Any) -> None:
    found: list[tuple[Request, Response]] = []
    harness = EbayHarness(watch=lambda request, response: found.append((request, response)))
    headers = {**found[-1][0].headers, "Content-Type": "application/json"}
    raw = b"" if body is None else json.dumps(body).encode()
    request = Request("GET" if body is None else "POST", f"https://api.ebay.com{path}", headers, raw)
    response = harness.account.handle(request)
    assert response.status == 400
    assert problems_of_exchange(contracts, request, response) == []


def _vector(contracts: Path, name: str) -> Any:
    file = contracts / "ebay" / "event-notification-nodejs-sdk.test.json"
    return json.loads(file.read_text(encoding="utf-8"))[name]


def _verified(vector: Any) -> None:
    """Verify a vector with the key that eBay answers for it."""
    settings = EbaySettings.model_validate(SETTINGS)
    tokens = tokens_of("https://api.ebay.com", "id", "secret", {"grant_type": "client_credentials"})
    door = EbayDoor(settings, SECRETS["verification_token_env"], tokens)
    wire = Wire(lambda request: Response(200, {}, json.dumps(vector["response"]).encode()))
    wire.answer_next(Response(200, {}, b'{"access_token": "token", "expires_in": 7200}'))
    headers = {"x-ebay-signature": vector["signature"]}
    if key := door.wanted_key(headers, NOW):
        door.fetch_key(key, wire, NOW)
    body = json.dumps(vector["message"], separators=(",", ":")).encode()
    door.verify(headers, body, NOW)


def test_ebays_own_signature_is_accepted(contracts: Path) -> None:
    vector = _vector(contracts, "VALID")
    _verified(vector)
    vector["message"]["notification"]["data"]["username"] = "another"
    with pytest.raises(SignatureError):
        _verified(vector)


@pytest.mark.parametrize("name", ["INVALID", "SIGNATURE_MISMATCH"])
def test_ebays_wrong_signatures_are_refused(contracts: Path, name: str) -> None:
    vector = _vector(contracts, name)
    vector.setdefault("response", _vector(contracts, "VALID")["response"])
    with pytest.raises(SignatureError):
        _verified(vector)


def test_the_written_row_is_told_by_its_own_answer_and_not_by_the_calls(contracts: Path) -> None:
    statuses = []
    for request, response in every_exchange():
        if request.url.endswith("/bulk_update_price_quantity"):
            statuses.append(response.status)
    assert statuses == [207, 207, 207, 200]
    harness = EbayHarness()
    level = harness.make_level(4)
    (outcome,) = harness.platform.write([WriteRow(level, 3)], key="key").outcomes
    assert outcome.result is Result.ACKNOWLEDGED
