"""What the Shopify client sends, and what each of Shopify's answers means for the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from invsync_dagster.platforms.contract import Budget, LevelReference, Outcome, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.oauth import StaticToken
from invsync_dagster.platforms.shopify import ShopifyPlatform, ShopifySettings
from invsync_dagster.platforms.shopify.sandbox import ShopError, ShopifySandbox
from invsync_dagster.platforms.shopify.settings import LIMITS, limits_with
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.wire import ManualClock, Wire

TOKEN = "shpat_secret"


class Shop:
    """A stand-in shop and its client."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.sandbox = ShopifySandbox(
            access_token=TOKEN, webhook_secret="s", clock=self.clock, random=Random(3), **options
        )
        self.wire = Wire(self.sandbox.handle)
        config = ShopifySettings(shop_url="https://x.myshopify.com/", access_token_env="T", webhook_secret_env="S")
        self.client = ShopifyPlatform(config, StaticToken(TOKEN), LIMITS, self.wire)

    def sent(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.wire.requests[-1].body)
        return found

    def one(self, level: LevelReference, quantity: int, expected: int | None = None, key: str = "k") -> Outcome:
        (outcome,) = self.client.write([WriteRow(level, quantity, expected)], key=key).outcomes
        return outcome

    def answers(self, answer: Any) -> None:
        self.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))


def test_no_call_needs_more_points_than_the_limits_say() -> None:
    shop = Shop()
    levels = [shop.sandbox.add_article(f"A{number}", 5) for number in range(250)]
    now, said = shop.clock.now(), list[int]()
    handle = shop.sandbox.handle

    def told(request: Request) -> Response:
        response = handle(request)
        said.append(json.loads(response.body)["extensions"]["cost"]["requestedQueryCost"])
        return response

    shop.wire._handler = told
    for most, call in (
        (LIMITS.write_cost, lambda: shop.client.write([WriteRow(level, 4) for level in levels], key="k")),
        (LIMITS.read_cost, lambda: shop.client.read(levels[: LIMITS.read_batch])),
        (LIMITS.orders_cost, lambda: shop.client.orders_changed(now, now)),
        (LIMITS.orders_cost, lambda: shop.client.open_orders()),
        (LIMITS.orders_cost, lambda: shop.client.orders([str(number) for number in range(1, 4)])),
        (LIMITS.orders_cost, lambda: shop.client.listings()),
    ):
        shop.clock.advance(60)
        call()
        assert said[-1] <= most
    assert said == [10, 400, 363, 363, 363, 363]


def user_errors(*errors: Mapping[str, Any], group: Any = None) -> dict[str, Any]:
    return {"data": {"inventorySetQuantities": {"inventoryAdjustmentGroup": group, "userErrors": list(errors)}}}


def test_a_write_is_one_adjustment_with_its_key_and_every_compare_value() -> None:
    shop = Shop()
    first, second = shop.sandbox.add_article("A", 5), shop.sandbox.add_article("B", 6)
    answer = shop.client.write([WriteRow(first, 4, expected=5), WriteRow(second, 3)], key="0b5c-77")
    assert [outcome.result for outcome in answer.outcomes] == [Result.ACKNOWLEDGED] * 2
    assert answer.budget == Budget(available=1990.0, restore_rate=100.0, spent=10.0)
    request = shop.wire.requests[-1]
    assert request.url == "https://x.myshopify.com/admin/api/2026-07/graphql.json"
    assert request.headers["X-Shopify-Access-Token"] == TOKEN
    assert "@idempotent(key: $key)" in shop.sent()["query"]
    assert shop.sent()["variables"] == {
        "key": "0b5c-77",
        "input": {
            "name": "available",
            "reason": "correction",
            "referenceDocumentUri": "gid://invsync/Push/0b5c-77",
            "quantities": [
                {
                    "inventoryItemId": first.item_id,
                    "locationId": first.location_id,
                    "quantity": 4,
                    "changeFromQuantity": 5,
                },
                {
                    "inventoryItemId": second.item_id,
                    "locationId": second.location_id,
                    "quantity": 3,
                    "changeFromQuantity": None,
                },
            ],
        },
    }


@pytest.mark.parametrize(
    ("item", "location"),
    [("44", "gid://shopify/Location/1"), ("gid://shopify/InventoryItem/1", ""), ("gid://shopify/InventoryItem/x", "")],
)
def test_a_malformed_id_is_for_review_and_does_not_spoil_the_batch(item: str, location: str) -> None:
    shop = Shop()
    good = shop.sandbox.add_article("A", 5)
    bad = LevelReference(item, location)
    outcomes = shop.client.write([WriteRow(bad, 1), WriteRow(good, 1)], key="k").outcomes
    assert (outcomes[0].result, outcomes[0].recovery) == (Result.REJECTED, Recovery.REVIEW)
    assert outcomes[0].code == "invalid_id"
    assert outcomes[1].result is Result.ACKNOWLEDGED
    assert shop.sandbox.available(good) == 1
    missing, found = shop.client.read([bad, good]).readings
    assert missing.problem is not None
    assert (missing.problem.code, found.quantity) == ("invalid_id", 1)


@pytest.mark.parametrize("quantity", [-1, 1_000_000_001, 2**31])
def test_a_quantity_that_shopify_would_refuse_is_rejected_unsent(quantity: int) -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 5)
    outcome = shop.one(level, quantity)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REJECT, "invalid_quantity")
    assert shop.wire.requests == []


def test_a_negative_number_at_the_shop_can_be_expected_and_is_read() -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 1, continue_selling=True)
    shop.sandbox.buy({level: 3})
    assert shop.client.read([level]).readings[0].quantity == -2
    assert shop.one(level, 0, expected=-2).result is Result.ACKNOWLEDGED
    assert shop.sandbox.available(level) == 0


def test_a_stale_row_is_named_and_the_others_are_refused_with_it() -> None:
    shop = Shop()
    stale, good = shop.sandbox.add_article("A", 5), shop.sandbox.add_article("B", 6)
    outcomes = shop.client.write([WriteRow(good, 1), WriteRow(stale, 4, expected=9)], key="k").outcomes
    assert outcomes[0] == Outcome(
        Result.NOT_SENT, Recovery.RETRY, "batch_refused", "other rows of the call were refused"
    )
    assert outcomes[1] == Outcome(
        Result.REJECTED,
        Recovery.SETTLE,
        "change_from_quantity_stale",
        "The changeFromQuantity value does not match persisted value.",
    )
    assert shop.sandbox.books() == {stale: 5, good: 6}


@pytest.mark.parametrize(
    ("code", "result", "recovery"),
    [
        ("CHANGE_FROM_QUANTITY_STALE", Result.REJECTED, Recovery.SETTLE),
        ("INVALID_INVENTORY_ITEM", Result.REJECTED, Recovery.REVIEW),
        ("INVALID_LOCATION", Result.REJECTED, Recovery.REVIEW),
        ("ITEM_NOT_STOCKED_AT_LOCATION", Result.REJECTED, Recovery.REVIEW),
        ("NON_MUTABLE_INVENTORY_ITEM", Result.REJECTED, Recovery.REVIEW),
        ("INVALID_QUANTITY_TOO_HIGH", Result.REJECTED, Recovery.REJECT),
        ("INVALID_REASON", Result.REJECTED, Recovery.REJECT),
        ("SOMETHING_NEW", Result.REJECTED, Recovery.REJECT),
        ("IDEMPOTENCY_CONCURRENT_REQUEST", Result.UNKNOWN, Recovery.SETTLE),
        ("IDEMPOTENCY_KEY_PARAMETER_MISMATCH", Result.REJECTED, Recovery.SETTLE),
        ("IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED", Result.NOT_SENT, Recovery.RETRY),
    ],
)
def test_each_user_error_says_what_to_do(code: str, result: Result, recovery: Recovery) -> None:
    shop = Shop()
    levels = [shop.sandbox.add_article(f"A{number}", 5) for number in range(3)]
    rows = [WriteRow(level, 1) for level in levels]
    shop.answers(user_errors({"code": code, "field": ["input", "quantities", "1", "quantity"], "message": "No."}))
    named = shop.client.write(rows, key="k").outcomes
    assert (named[1].result, named[1].recovery, named[1].code) == (result, recovery, code.lower())
    assert {outcome.code for outcome in (named[0], named[2])} == {"batch_refused"}
    shop.answers(user_errors({"code": code, "field": None, "message": "No."}))
    common = shop.client.write(rows, key="k").outcomes
    assert {(outcome.result, outcome.recovery) for outcome in common} == {(result, recovery)}


@pytest.mark.parametrize(
    "field", [["input", "quantities"], ["input", "quantities", "3"], ["quantities", "x"], "quantities", 7]
)
def test_a_user_error_whose_row_is_not_known_is_every_rows(field: Any) -> None:
    shop = Shop()
    levels = [shop.sandbox.add_article(f"A{number}", 5) for number in range(3)]
    shop.answers(user_errors({"code": "INVALID_LOCATION", "field": field, "message": "No."}))
    outcomes = shop.client.write([WriteRow(level, 1) for level in levels], key="k").outcomes
    assert [outcome.recovery for outcome in outcomes] == [Recovery.REVIEW] * 3


def test_a_group_beside_user_errors_leaves_the_unnamed_rows_unknown() -> None:
    shop = Shop()
    levels = [shop.sandbox.add_article(f"A{number}", 5) for number in range(2)]
    error = {"code": "INVALID_LOCATION", "field": ["input", "quantities", "0", "locationId"], "message": "No."}
    shop.answers(user_errors(error, group={"id": "gid://shopify/InventoryAdjustmentGroup/1"}))
    outcomes = shop.client.write([WriteRow(level, 1) for level in levels], key="k").outcomes
    assert [outcome.result for outcome in outcomes] == [Result.REJECTED, Result.UNKNOWN]


def test_an_answer_without_an_adjustment_is_no_confirmation() -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 5)
    outcome = shop.one(level, 5)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.UNKNOWN, Recovery.SETTLE, "no_confirmation")


def test_a_throttled_call_tells_how_long_the_bucket_needs() -> None:
    shop = Shop(burst=25.0, restore_rate=4.0)
    level = shop.sandbox.add_article("A", 5)
    assert shop.one(level, 4, key="k1").result is Result.ACKNOWLEDGED
    assert shop.one(level, 3, key="k2").result is Result.ACKNOWLEDGED
    outcome = shop.one(level, 2, key="k3")
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.NOT_SENT, Recovery.WAIT, "throttled")
    assert outcome.retry_after == pytest.approx(1.25)
    assert shop.sandbox.available(level) == 3
    shop.clock.advance(1.25)
    assert shop.one(level, 2, key="k4").result is Result.ACKNOWLEDGED


def graphql_error(*codes: str | None) -> dict[str, Any]:
    return {
        "errors": [
            {"message": f"{TOKEN} no", "extensions": {"code": code}} if code else {"message": "no"} for code in codes
        ]
    }


@pytest.mark.parametrize(
    ("answer", "result", "recovery"),
    [
        (graphql_error("THROTTLED"), Result.NOT_SENT, Recovery.WAIT),
        (graphql_error("ACCESS_DENIED"), Result.NOT_SENT, Recovery.REAUTHENTICATE),
        (graphql_error("SHOP_INACTIVE"), Result.NOT_SENT, Recovery.REAUTHENTICATE),
        (graphql_error("MAX_COST_EXCEEDED"), Result.REJECTED, Recovery.REJECT),
        (graphql_error("INTERNAL_SERVER_ERROR"), Result.UNKNOWN, Recovery.SETTLE),
        (graphql_error(None), Result.UNKNOWN, Recovery.SETTLE),
        (graphql_error("THROTTLED", "INTERNAL_SERVER_ERROR"), Result.UNKNOWN, Recovery.SETTLE),
        ({"errors": "[API] words"}, Result.UNKNOWN, Recovery.SETTLE),
        ({"errors": [7]}, Result.UNKNOWN, Recovery.SETTLE),
        ({"data": {"inventorySetQuantities": None}}, Result.UNKNOWN, Recovery.SETTLE),
        (
            {"data": {"inventorySetQuantities": {"inventoryAdjustmentGroup": {"id": "1"}}}},
            Result.UNKNOWN,
            Recovery.SETTLE,
        ),
    ],
)
def test_errors_in_a_200_never_count_as_success(answer: Any, result: Result, recovery: Recovery) -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 5)
    shop.answers(answer)
    outcome = shop.one(level, 4)
    assert (outcome.result, outcome.recovery) == (result, recovery)
    assert TOKEN not in outcome.message
    assert shop.sandbox.available(level) == 5


@pytest.mark.parametrize(
    ("status", "recovery", "code"),
    [
        (400, Recovery.REJECT, "bad_request"),
        (402, Recovery.REAUTHENTICATE, "shop_frozen"),
        (403, Recovery.REAUTHENTICATE, "forbidden"),
        (404, Recovery.REAUTHENTICATE, "no_such_shop"),
        (423, Recovery.REAUTHENTICATE, "shop_locked"),
        (503, Recovery.RETRY, "server_error"),
        (301, Recovery.RETRY, "unexpected_status"),
    ],
)
def test_each_status_says_what_to_do(status: int, recovery: Recovery, code: str) -> None:
    shop = Shop()
    shop.wire.answer_next(Response(status, {"retry-after": "9"}, b""))
    with pytest.raises(PlatformError) as raised:
        shop.client.check_credentials()
    assert (raised.value.recovery, raised.value.code) == (recovery, code)
    assert str(status) in raised.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"errors":"Not Found"}', "there is no such shop or API version at this address (HTTP 404: Not Found)"),
        (
            b'{"errors":{"shop":["is closed"]}}',
            'there is no such shop or API version at this address (HTTP 404: {"shop": ["is closed"]})',
        ),
        (b"<html>", "there is no such shop or API version at this address (HTTP 404)"),
        (
            b'{"errors":"no %s here"}' % TOKEN.encode(),
            "there is no such shop or API version at this address (HTTP 404: no [secret] here)",
        ),
    ],
)
def test_shopifys_own_words_stand_beside_ours(body: bytes, words: str) -> None:
    shop = Shop()
    shop.wire.answer_next(Response(404, {}, body))
    with pytest.raises(PlatformError) as raised:
        shop.client.check_credentials()
    assert raised.value.message == words


def test_levels_of_several_locations_are_read_in_one_call() -> None:
    shop = Shop()
    other = shop.sandbox.add_location()
    here, there = shop.sandbox.add_article("A", 5), shop.sandbox.add_article("B", 6, location_id=other)
    nowhere = LevelReference(here.item_id, other)
    readings = shop.client.read([there, nowhere, here, there]).readings
    assert [reading.quantity for reading in readings] == [6, None, 5, 6]
    assert [reading.level for reading in readings] == [there, nowhere, here, there]
    assert readings[1].problem is not None
    assert (readings[1].problem.code, readings[1].problem.recovery) == ("not_stocked", Recovery.REVIEW)
    assert readings[2].platform_sku == "A"
    assert readings[2].variant_id.startswith("gid://shopify/ProductVariant/")
    assert len(shop.wire.requests) == 1


def test_an_untracked_item_is_for_review() -> None:
    shop = Shop()
    (reading,) = shop.client.read([shop.sandbox.add_article("A", 0, tracked=False)]).readings
    assert reading.quantity is None
    assert reading.problem is not None
    assert (reading.problem.code, reading.problem.recovery) == ("untracked", Recovery.REVIEW)


@pytest.mark.parametrize(
    "quantities", [[], [{"name": "on_hand", "quantity": 3}], [{"name": "available", "quantity": "3"}], None]
)
def test_a_reading_without_a_number_is_a_malformed_answer(quantities: Any) -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 5)
    node = {
        "id": level.item_id,
        "sku": "A",
        "tracked": True,
        "variant": None,
        "inventoryLevel": {"quantities": quantities},
    }
    shop.answers({"data": {"at0": [node]}})
    with pytest.raises(PlatformError) as raised:
        shop.client.read([level])
    assert raised.value.code == "malformed_answer"


def test_missing_scopes_are_named() -> None:
    shop = Shop()
    scopes = [{"handle": handle} for handle in ("read_products", "write_inventory", "read_orders")]
    shop.answers({"data": {"currentAppInstallation": {"accessScopes": scopes}}})
    with pytest.raises(PlatformError) as raised:
        shop.client.check_credentials()
    assert (raised.value.recovery, raised.value.code) == (Recovery.REAUTHENTICATE, "missing_scope")
    assert raised.value.message == (
        "the access token lacks the scopes read_locations, read_merchant_managed_fulfillment_orders, "
        "read_third_party_fulfillment_orders"
    )


def test_a_large_order_that_changes_meanwhile_is_to_be_asked_for_again() -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 50)
    order = shop.sandbox.buy({level: 9})
    line = next(iter(shop.sandbox.lines(order)))
    for _ in range(4):
        shop.sandbox.fulfil(order, {line: 1})

    handle = shop.sandbox.handle

    def disturbed(request: Any) -> Response:
        if b"query FulfillmentLines" in request.body:
            shop.clock.advance(1)
            shop.sandbox.fulfil(order, {line: 1})
        return handle(request)

    client = ShopifyPlatform(
        ShopifySettings(shop_url="https://x.myshopify.com", access_token_env="T", webhook_secret_env="S"),
        StaticToken(TOKEN),
        LIMITS,
        Wire(disturbed),
    )
    with pytest.raises(PlatformError) as raised:
        client.orders([order])
    assert (raised.value.recovery, raised.value.code) == (Recovery.RETRY, "order_changed")


def test_a_shop_sells_only_what_it_shows_unless_told_to_go_on() -> None:
    shop = Shop()
    scarce, endless = shop.sandbox.add_article("A", 2), shop.sandbox.add_article("B", 2, continue_selling=True)
    with pytest.raises(ShopError, match="sold out"):
        shop.sandbox.buy({scarce: 3})
    shop.sandbox.buy({endless: 3})
    assert shop.sandbox.books() == {scarce: 2, endless: -1}


def test_a_shop_goes_on_where_its_dump_stopped() -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 9)
    order = shop.sandbox.buy({level: 3})
    shop.sandbox.fulfil(order)
    assert shop.one(level, 5, key="before").result is Result.ACKNOWLEDGED
    state = json.loads(json.dumps(shop.sandbox.dump()))
    second = Shop()
    second.sandbox.load(state)
    assert second.sandbox.dump() == shop.sandbox.dump()
    second.sandbox.edit_stock(level, 2)
    assert second.one(level, 5, key="before").result is Result.ACKNOWLEDGED
    assert second.sandbox.available(level) == 2
    assert second.one(level, 4, key="before").code == "idempotency_key_parameter_mismatch"
    assert [delivery.headers["X-Shopify-Topic"] for delivery in second.sandbox.take_outgoing()] == [
        "orders/create",
        "orders/updated",
        "orders/updated",
    ]


def test_a_failed_attempts_key_is_refused_again() -> None:
    shop = Shop()
    level = shop.sandbox.add_article("A", 5)
    assert shop.one(level, 4, expected=1).code == "change_from_quantity_stale"
    again = shop.one(level, 4, expected=1)
    assert (again.result, again.code) == (Result.NOT_SENT, "idempotency_previous_attempt_failed")
    shop.clock.advance(24 * 3600)
    assert shop.one(level, 4, expected=5).result is Result.ACKNOWLEDGED


@pytest.mark.parametrize(
    "url",
    [
        "http://x.myshopify.com",
        "x.myshopify.com",
        "ftp://x",
        "https://",
        "https://x.myshopify.com/?a=b",
        "https://user:word@x.myshopify.com",
        "http://127.evil.example",
    ],
)
def test_an_address_that_would_tell_the_token_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        ShopifySettings(shop_url=url, access_token_env="T", webhook_secret_env="S")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8790/shopify_main", "http://localhost:1", "http://[::1]:1", "https://x.myshopify.com"]
)
def test_plain_http_is_for_loopback_only(url: str) -> None:
    assert ShopifySettings(shop_url=url, access_token_env="T", webhook_secret_env="S").shop_url == url


def test_limits_can_be_lowered_and_wrong_ones_are_named() -> None:
    lowered = limits_with({"write_batch": 50.0, "write_linger": 5})
    assert (lowered.write_batch, lowered.write_linger, lowered.read_batch) == (50, 5, LIMITS.read_batch)
    with pytest.raises(ValueError, match="wriet_batch"):
        limits_with({"wriet_batch": 5})
    for wrong in ({"write_batch": 251}, {"read_batch": 0}, {"rate": 0}, {"write_linger": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            limits_with(wrong)
