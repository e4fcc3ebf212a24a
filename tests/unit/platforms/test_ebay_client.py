"""What only eBay does: tokens that run out, offers' own quantities, rows that fail in part, orders that ship in part."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from invsync_dagster.platforms.contract import LevelReference, Outcome, QuickReader, Result, WriteRow
from invsync_dagster.platforms.ebay.settings import EbaySettings
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import Response
from tests.contract.ebay_harness import SECRETS, SETTINGS, EbayHarness
from tests.contract.suite import write_one


def rows(*entries: dict[str, Any], status: int = 200) -> Response:
    return Response(status, {}, json.dumps({"responses": list(entries)}).encode())


def error(number: int, message: str = "Why.", category: str = "REQUEST") -> list[dict[str, Any]]:
    return [{"errorId": number, "category": category, "message": message, "longMessage": message}]


def written(harness: EbayHarness, answer: Response) -> Outcome:
    """Return the outcome of one SKU's write that is answered so."""
    harness.wire.answer_next(answer)
    return write_one(harness, LevelReference("A"), 3)


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_renewed_before_it_runs_out_and_kept_till_then() -> None:
    harness = EbayHarness()
    level = harness.make_level(5)
    harness.clock.advance(7200 - 301)
    harness.platform.check_credentials()
    before = len(harness.wire.requests)
    harness.clock.advance(2)
    harness.platform.read([level])
    assert [request.url.rpartition("/")[2] for request in harness.wire.requests[before:]] == [
        "token",
        "bulk_get_inventory_item",
        "offer?sku=SKU-1",
    ]
    assert not any("token" in request.url for request in harness.wire.requests[:before])


def test_a_token_that_cant_be_renewed_is_used_while_it_is_good() -> None:
    harness = EbayHarness()
    level = harness.make_level(5)
    harness.clock.advance(7200 - 200)
    harness.wire.answer_next(Response(503, {}, b""))
    assert harness.platform.read([level]).readings[0].quantity == 5
    harness.clock.advance(300)
    harness.wire.answer_next(Response(503, {}, b""))
    with pytest.raises(PlatformError) as raised:
        harness.platform.read([level])
    assert raised.value.recovery is Recovery.RETRY


def test_a_token_refused_after_a_while_is_replaced_at_the_next_attempt() -> None:
    harness = EbayHarness()
    level = harness.make_level(5)
    harness.clock.advance(600)
    harness.account.access.expire()
    outcome = write_one(harness, level, 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.NOT_SENT, Recovery.RETRY, "token_expired")
    assert write_one(harness, level, 3).result is Result.ACKNOWLEDGED
    assert harness.book(level) == 3


def test_a_withdrawn_consent_is_named_in_ebays_words_with_the_mend() -> None:
    harness = EbayHarness()
    harness.account.access.revoke()
    harness.clock.advance(7200)
    outcome = write_one(harness, harness.make_level(5), 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (
        Result.NOT_SENT,
        Recovery.REAUTHENTICATE,
        "invalid_grant",
    )
    assert "let the seller consent again" in outcome.message
    assert "invalid or was issued to another client" in outcome.message


def test_a_wrong_client_secret_is_named_with_the_mend() -> None:
    harness = EbayHarness()
    wrong = {**SECRETS, "client_secret_env": "wrong"}
    settings = EbaySettings.model_validate(SETTINGS)
    platform = VENDORS["ebay"].connect(settings, wrong, {}, harness.wire, harness.clock)
    with pytest.raises(PlatformError, match="production or sandbox") as raised:
        platform.check_credentials()
    assert (raised.value.recovery, raised.value.code) == (Recovery.REAUTHENTICATE, "invalid_client")


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_an_empty_secret_is_refused(missing: str) -> None:
    settings = EbaySettings.model_validate(SETTINGS)
    secrets = {**SECRETS, missing: ""}
    with pytest.raises(ValueError, match=r"empty|32 to 80"):
        if missing == "verification_token_env":
            VENDORS["ebay"].door(settings, secrets)
        else:
            harness = EbayHarness()
            VENDORS["ebay"].connect(settings, secrets, {}, harness.wire, harness.clock)


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "errors", "result", "recovery"),
    [
        (200, [], Result.ACKNOWLEDGED, None),
        (200, error(25002), Result.UNKNOWN, Recovery.SETTLE),
        (400, error(25709), Result.REJECTED, Recovery.REJECT),
        (400, error(25759), Result.REJECTED, Recovery.REJECT),
        (400, error(25038, "1 cannot be revised if the item has a bid"), Result.REJECTED, Recovery.REJECT),
        (400, error(25702), Result.REJECTED, Recovery.REVIEW),
        (404, [], Result.REJECTED, Recovery.REVIEW),
        (400, error(25002, "You exceeded the maximum of revisions."), Result.REJECTED, Recovery.WAIT),
        (500, error(25025), Result.NOT_SENT, Recovery.RETRY),
        (500, error(25001, category="APPLICATION"), Result.UNKNOWN, Recovery.SETTLE),
        (500, [], Result.UNKNOWN, Recovery.SETTLE),
        (None, [], Result.UNKNOWN, Recovery.SETTLE),
    ],
)
@pytest.mark.parametrize("of_call", [200, 207])
def test_a_rows_own_status_and_errors_decide_whatever_the_calls_is(
    of_call: int, status: int | None, errors: list[dict[str, Any]], result: Result, recovery: Recovery | None
) -> None:
    outcome = written(EbayHarness(), rows({"sku": "A", "statusCode": status, "errors": errors}, status=of_call))
    assert (outcome.result, outcome.recovery) == (result, recovery)


def test_rows_that_all_failed_under_a_400_are_told_one_by_one() -> None:
    outcome = written(EbayHarness(), rows({"sku": "A", "statusCode": 400, "errors": error(25702)}, status=400))
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REVIEW, "ebay_25702")


@pytest.mark.parametrize(
    "entries",
    [[], [{"sku": "B", "statusCode": 200}], [{"sku": "A", "statusCode": 200}] * 2, [{"statusCode": 200}]],
)
def test_a_row_without_a_clear_answer_is_unknown(entries: list[dict[str, Any]]) -> None:
    outcome = written(EbayHarness(), rows(*entries))
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.UNKNOWN, Recovery.SETTLE, "no_clear_result")


def test_prices_are_never_named_and_an_offers_own_quantity_is_written_beside_its_items() -> None:
    harness = EbayHarness()
    plain, own = harness.account.add_item("P", 4), harness.account.add_item("O", 4, own=True)
    harness.platform.write([WriteRow(plain, 2), WriteRow(own, 3)], key="key")
    assert json.loads(harness.wire.requests[-1].body) == {
        "requests": [
            {"sku": "P", "shipToLocationAvailability": {"quantity": 2}},
            {
                "sku": "O",
                "shipToLocationAvailability": {"quantity": 3},
                "offers": [{"offerId": own.location_id, "availableQuantity": 3}],
            },
        ]
    }


def test_an_item_written_whose_offer_failed_is_unknown_until_it_is_read() -> None:
    harness = EbayHarness(own=True)
    level = harness.make_level(5)
    item = {"sku": level.item_id, "statusCode": 200}
    offer = {"sku": level.item_id, "offerId": level.location_id, "statusCode": 400, "errors": error(25002)}
    harness.wire.answer_next(rows(item, offer, status=207))
    outcome = write_one(harness, level, 3)
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
    assert outcome.message == "done in part: Why."


def test_what_is_told_of_offers_that_were_not_named_counts_as_well() -> None:
    item, offer = {"sku": "A", "statusCode": 200}, {"sku": "A", "offerId": "81", "statusCode": 200}
    assert written(EbayHarness(), rows(item, offer)).result is Result.ACKNOWLEDGED
    outcome = written(EbayHarness(), rows(item, offer | {"statusCode": 400, "errors": error(25002)}, status=207))
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)


def test_a_quick_reading_asks_only_for_offers_that_levels_name() -> None:
    harness = EbayHarness()
    plain, named = harness.make_level(4), harness.account.add_item("OWN", 6, own=True)
    harness.account.set_own_quantity(plain.item_id, 9)
    assert isinstance(harness.platform, QuickReader)
    answer = harness.platform.read_quickly([plain, named])
    assert [(reading.quantity, reading.problem) for reading in answer.readings] == [(4, None), (6, None)]
    assert [request.url.rpartition("/")[2] for request in harness.wire.requests] == [
        "bulk_get_inventory_item",
        "offer?sku=OWN",
    ]
    assert answer.budget is not None
    assert answer.budget.spent == 2.0


def test_a_level_that_names_no_offer_has_no_number_once_an_offer_has_its_own() -> None:
    harness = EbayHarness()
    level, beside = harness.make_level(4), harness.make_level(7)
    harness.account.set_own_quantity(level.item_id, 9)
    first, second = harness.platform.read([level, beside]).readings
    assert (first.quantity, second.quantity, second.problem) == (None, 7, None)
    assert first.problem is not None
    assert (first.problem.recovery, first.problem.code) == (Recovery.REVIEW, "own_quantity")
    (listed, _) = harness.platform.listings().listings
    assert f"its offer {listed.level.location_id} has a quantity of its own (9)" in first.problem.message
    assert listed.level != level
    (named,) = harness.platform.read([listed.level]).readings
    assert (named.quantity, named.problem) == (9, None)


def test_an_ended_offer_sends_its_level_to_review() -> None:
    harness = EbayHarness(own=True)
    level = harness.make_level(5)
    harness.account.end_listing(level)
    assert write_one(harness, level, 3).recovery is Recovery.REVIEW
    (reading,) = harness.platform.read([level]).readings
    assert reading.problem is not None
    assert (reading.problem.recovery, reading.problem.code) == (Recovery.REVIEW, "not_published")


@pytest.mark.parametrize(
    "level", [LevelReference(""), LevelReference("x" * 51), LevelReference("A\n"), LevelReference("A", "offer")]
)
def test_ids_that_cant_be_ebays_go_to_review_unsent(level: LevelReference) -> None:
    harness = EbayHarness()
    assert write_one(harness, level, 1).code == "invalid_id"
    (reading,) = harness.platform.read([level]).readings
    assert reading.problem is not None
    assert reading.problem.code == "invalid_id"
    assert harness.wire.requests == []


def test_the_listings_of_a_251st_revision_wait_by_themselves() -> None:
    harness = EbayHarness(revisions_a_day=3)
    level, other = harness.make_level(9), harness.make_level(9)
    for number in range(3):
        assert write_one(harness, level, number).result is Result.ACKNOWLEDGED
    first, second = harness.platform.write([WriteRow(level, 5), WriteRow(other, 5)], key="key").outcomes
    assert (first.result, first.recovery, first.code, first.retry_after) == (
        Result.REJECTED,
        Recovery.WAIT,
        "revisions_spent",
        3600.0,
    )
    assert second.result is Result.ACKNOWLEDGED
    harness.clock.advance(86_401)
    harness.platform.check_credentials()
    assert write_one(harness, level, 5).result is Result.ACKNOWLEDGED


def test_a_used_up_quota_waits() -> None:
    harness = EbayHarness()
    level = harness.make_level(5)
    harness.account.quota.a_day = 0
    outcome = write_one(harness, level, 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.NOT_SENT, Recovery.WAIT, "throttled")
    assert outcome.message == "the application's 0 calls of eBay's inventory API are used up until 2026-11-22 08:00 UTC"
    assert outcome.retry_after == 3600.0


def test_ebay_is_asked_for_the_rest_of_the_day_once_in_five_minutes_and_only_after_a_refusal() -> None:
    harness = EbayHarness()
    level = harness.make_level(5)
    for after, asked in ((0, 1), (100, 1), (300, 2)):
        harness.clock.advance(after)
        harness.wire.answer_next(Response(429, {}, b""))
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery, outcome.retry_after) == (Result.NOT_SENT, Recovery.WAIT, None)
        assert sum("rate_limit" in request.url for request in harness.wire.requests) == asked
    assert write_one(harness, level, 3).result is Result.ACKNOWLEDGED


@pytest.mark.parametrize(
    "said",
    [
        Response(500, {}, b""),
        Response(204, {}, b""),
        Response(200, {}, b"<html>"),
        Response(200, {}, b'{"rateLimits": "none"}'),
        Response(200, {}, b'{"rateLimits": [{"resources": [{"rates": [{"remaining": 0, "reset": "soon"}]}]}]}'),
        Response(
            200,
            {},
            b'{"rateLimits": [{"resources": [{"rates": [{"remaining": 0, "reset": "2019-01-01T00:00:00Z"}]}]}]}',
        ),
    ],
)
def test_what_ebay_says_of_its_quota_and_isnt_understood_leaves_the_refusal_as_it_was(said: Response) -> None:
    harness = EbayHarness()
    level = harness.make_level(5)
    harness.wire.answer_next(Response(429, {}, b""))
    token = Response(200, {}, b'{"access_token": "t", "expires_in": 7200, "token_type": "Application Access Token"}')
    harness.wire.answer_next(token)
    harness.wire.answer_next(said)
    outcome = write_one(harness, level, 3)
    assert (outcome.result, outcome.code, outcome.retry_after) == (Result.NOT_SENT, "throttled", None)


# --- listings ---------------------------------------------------------------------------------------------------------


def test_what_is_not_published_or_only_auctioned_is_listed_with_its_problem() -> None:
    harness = EbayHarness()
    harness.account.add_item("hidden", 3, published=False)
    own = harness.account.add_item("own", 4, own=True)
    hidden, shown = harness.platform.listings().listings
    assert (hidden.problem, hidden.quantity) == ("it has no published offer", None)
    assert (shown.level, shown.problem, shown.quantity) == (own, "", 4)
    assert shown.listing_id.isdecimal()
    listed = {"inventoryItems": [{"sku": "auctioned", "product": {"title": "Vase"}}]}
    auction = {"offers": [{"offerId": "1", "format": "AUCTION", "status": "PUBLISHED"}]}
    for answer in (listed, auction):
        harness.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))
    (vase,) = harness.platform.listings().listings
    assert (vase.title, vase.problem) == ("Vase", "it is only auctioned, one piece at a time")


# --- orders -----------------------------------------------------------------------------------------------------------


def test_a_sale_a_part_shipment_and_the_rest_cancelled_are_told_by_totals() -> None:
    harness = EbayHarness()
    level = harness.make_level(9)
    begin = harness.clock.now()
    order = harness.account.buy({level: 5})
    (document,) = harness.platform.orders_changed(begin, begin + timedelta(minutes=1)).content.documents
    (line,) = document.lines
    assert (line.ordered, line.cancelled, line.shipped, line.reference.item_id) == (5, 0, 0, level.item_id)
    harness.clock.advance(60)
    shipped_at = harness.clock.now()
    harness.account.ship(order, {line.line_id: 2})
    harness.clock.advance(60)
    content = harness.platform.orders_changed(begin, harness.clock.now()).content
    assert (content.documents, content.unclear_orders) == ((), (order,))
    (newer,) = harness.platform.orders([order]).content.documents
    assert newer.revision > document.revision
    assert [(move.quantity, move.at) for move in newer.lines[0].shipments] == [(2, shipped_at)]
    harness.account.cancel(order)
    (last,) = harness.platform.orders([order]).content.documents
    assert (last.lines[0].ordered, last.lines[0].shipped, last.lines[0].cancelled) == (5, 2, 3)
    assert harness.book(level) == 7


def test_an_order_refunded_in_full_before_shipping_is_released_and_one_refunded_after_stays_shipped() -> None:
    harness = EbayHarness()
    level = harness.make_level(9)
    kept, sent = harness.account.buy({level: 1}), harness.account.buy({level: 2})
    harness.account.ship(sent)
    for order in (kept, sent):
        harness.account.refund(order)
    found = {each.order_id: each.lines[0] for each in harness.platform.orders([kept, sent]).content.documents}
    assert (found[kept].cancelled, found[kept].shipped) == (1, 0)
    assert (found[sent].cancelled, found[sent].shipped, found[sent].restocked) == (0, 2, 0)


def test_a_line_marked_as_shipped_without_a_fulfillment_left_at_the_orders_last_change() -> None:
    harness = EbayHarness()
    order = {
        "orderId": "14-1",
        "creationDate": "2026-11-21T08:00:00.000Z",
        "lastModifiedDate": "2026-11-21T09:00:00.000Z",
        "lineItems": [
            {"lineItemId": "1", "quantity": 2, "lineItemFulfillmentStatus": "FULFILLED", "legacyItemId": "77"}
        ],
    }
    answers: list[dict[str, Any]] = [{"orders": [order], "total": 1}, {"fulfillments": []}]
    for answer in answers:
        harness.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))
    (document,) = harness.platform.orders(["14-1"]).content.documents
    assert [(move.quantity, move.at) for move in document.lines[0].shipments] == [(2, document.updated_at)]
    assert document.lines[0].reference.item_id == "listing 77"


def test_no_order_is_left_out_when_others_leave_the_list_while_it_is_walked() -> None:
    harness = EbayHarness()
    level = harness.make_level(1000)
    begin = harness.clock.now()
    ids = []
    for _ in range(450):
        ids.append(harness.change(level))
        harness.clock.advance(1)
    end = harness.clock.now()
    page = harness.platform.orders_changed(begin, end)
    found = harness.changes_in(page.content)
    harness.clock.advance(60)
    for order in found[:30]:
        harness.account.cancel(order)
    while page.cursor:
        page = harness.platform.orders_changed(begin, end, page.cursor)
        found += harness.changes_in(page.content)
    assert sorted(set(found)) == sorted(ids)


def test_a_window_that_reaches_ahead_is_left_open_and_walked_to_its_end() -> None:
    harness = EbayHarness()
    level = harness.make_level(1000)
    begin = harness.clock.now()
    ids = []
    for _ in range(450):
        ids.append(harness.change(level))
        harness.clock.advance(1)
    until = harness.clock.now() + timedelta(minutes=5)
    found: list[str] = []
    cursor, pages = "", 0
    while not pages or cursor:
        page = harness.platform.orders_changed(begin, until, cursor)
        found += harness.changes_in(page.content)
        ids.append(harness.change(level))
        cursor, pages = page.cursor, pages + 1
        assert pages < 10
    assert set(ids[:-1]) <= set(found)


def test_open_orders_are_those_with_units_to_ship() -> None:
    harness = EbayHarness()
    level = harness.make_level(9)
    waiting, gone = harness.account.buy({level: 1}), harness.account.buy({level: 1})
    part = harness.account.buy({level: 2})
    harness.account.ship(gone)
    harness.account.ship(part, {next(iter(harness.account.order(part).lines)): 1})
    content = harness.platform.open_orders().content
    assert [document.order_id for document in content.documents] == [waiting]
    assert content.unclear_orders == (part,)


@pytest.mark.parametrize("cursor", ["x", "0of0", "-1"])
def test_a_cursor_that_was_never_given_is_refused(cursor: str) -> None:
    harness = EbayHarness()
    now = harness.clock.now()
    with pytest.raises(ValueError, match="never given"):
        harness.platform.orders_changed(now, now, cursor)
    with pytest.raises(ValueError, match="never given"):
        harness.platform.listings(cursor)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_url", "http://api.ebay.com"),
        ("api_url", "api.ebay.com"),
        ("api_url", "https://api.ebay.com?x=1"),
        ("webhook_url", "https://sync.example.com"),
        ("webhook_url", "sync"),
    ],
)
def test_addresses_that_cant_be_are_refused(field: str, value: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        EbaySettings.model_validate({**SETTINGS, field: value})


@pytest.mark.parametrize("limits", [{"write_batch": 0}, {"write_batch": 26}, {"read_batch": 99}, {"rate": 0}, {"x": 1}])
def test_limits_that_cant_be_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|unknown limit"):
        VENDORS["ebay"].limits(limits)
    assert VENDORS["ebay"].limits({"write_batch": 1}).write_batch == 1
