"""The WooCommerce client: what it sends, what it makes of rows and pages, and how it bears a slow host."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from invsync_dagster.platforms.contract import LevelReference, Limits, Result, WriteRow
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.platforms.woocommerce import WooCommerceSettings
from invsync_dagster.platforms.woocommerce.orders import document_of
from invsync_dagster.platforms.woocommerce.settings import LIMITS, limits_with
from tests.unit.platforms.woo_stage import WooStage, body

BOM = b"\xef\xbb\xbf"
NOTICE = b'<br />\n<b>Warning</b>: Undefined array key "sku" in <b>/srv/[site]/plugin.php</b> on line <b>12</b><br />\n'
PLAIN_NOTICE = b"\nPHP Notice:  Undefined index: {x} in /srv/plugin.php on line 3\n"


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_write_sends_the_quantity_alone_and_never_switches_stock_management_on() -> None:
    stage = WooStage()
    level = stage.store.add_product("A", None, managed=False)
    outcome = stage.write(level, 7)
    assert stage.bodies() == [{"update": [{"id": int(level.item_id), "stock_quantity": 7}]}]
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REVIEW, "unmanaged")
    assert stage.store.shown(level) is None


def test_variations_are_written_under_their_product_in_one_call() -> None:
    stage = WooStage()
    product = stage.store.add_product("SHIRT", None, kind="variable", managed=False)
    small, large = stage.store.add_variation(product, "S", 1), stage.store.add_variation(product, "L", 2)
    answer = stage.platform.write([WriteRow(large, 5), WriteRow(small, 0)], key="key")
    assert [outcome.result for outcome in answer.outcomes] == [Result.ACKNOWLEDGED] * 2
    assert (stage.store.shown(small), stage.store.shown(large)) == (0, 5)
    (request,) = stage.wire.requests
    assert urlsplit(request.url).path.endswith(f"/products/{product.item_id}/variations/batch")


def test_rows_of_several_products_variations_are_refused_before_sending() -> None:
    stage = WooStage()
    with pytest.raises(ValueError, match="one product"):
        stage.platform.write([WriteRow(LevelReference("5", "1"), 1), WriteRow(LevelReference("6"), 1)], key="key")
    assert stage.wire.requests == []


def test_stock_that_the_product_keeps_is_written_to_the_product_and_not_to_a_variation() -> None:
    stage = WooStage()
    product = stage.store.add_product("SHIRT", 9, kind="variable")
    variation = stage.store.add_variation(product, "S", None, managed=False)
    outcome = stage.write(variation, 4)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REVIEW, "stock_on_product")
    assert stage.store.shown(variation) == 9
    assert stage.write(product, 4).result is Result.ACKNOWLEDGED
    assert stage.store.shown(variation) == 4


def test_a_variation_named_as_a_product_is_for_review_and_the_rest_is_written() -> None:
    stage = WooStage()
    product = stage.store.add_product("SHIRT", None, kind="variable", managed=False)
    variation = stage.store.add_variation(product, "S", 1)
    good = stage.store.add_product("HAT", 1)
    rows = [WriteRow(LevelReference(variation.item_id), 3), WriteRow(good, 3)]
    wrong, right = stage.platform.write(rows, key="key").outcomes
    assert (wrong.result, wrong.recovery, wrong.code) == (Result.REJECTED, Recovery.REVIEW, "not_found")
    assert right.result is Result.ACKNOWLEDGED
    assert stage.store.shown(variation) == 1


@pytest.mark.parametrize("item", ["", "0", "007", "12a", "-3", "gid://shopify/InventoryItem/1", "9" * 20])
def test_an_id_that_can_be_none_is_for_review_without_a_call(item: str) -> None:
    stage = WooStage()
    assert stage.write(LevelReference(item), 1).recovery is Recovery.REVIEW
    assert stage.read(LevelReference(item)).problem is not None
    assert stage.wire.requests == []


@pytest.mark.parametrize("shown", [7, 7.0, "7", "7.0", "7.000000"])
def test_a_row_is_acknowledged_by_its_id_and_number_however_it_is_written(shown: Any) -> None:
    stage = WooStage()
    rows = [
        {"id": 6, "manage_stock": True, "stock_quantity": 1},
        {"id": 5, "manage_stock": True, "stock_quantity": shown},
    ]
    stage.wire.answer_next(body({"update": rows}))
    answer = stage.platform.write([WriteRow(LevelReference("5"), 7), WriteRow(LevelReference("6"), 1)], key="key")
    assert [outcome.result for outcome in answer.outcomes] == [Result.ACKNOWLEDGED] * 2


@pytest.mark.parametrize(
    "row",
    [
        {"id": 5, "manage_stock": True, "stock_quantity": 3},
        {"id": 5, "manage_stock": True, "stock_quantity": None},
        {"id": 5, "manage_stock": True},
        {"id": 5, "stock_quantity": 7},
        {"id": 6, "manage_stock": True, "stock_quantity": 7},
        {"manage_stock": True, "stock_quantity": 7},
        {"id": 5, "error": {"code": "internal", "message": "boom", "data": {"status": 500}}},
        {"id": 5, "error": "boom"},
    ],
)
def test_a_row_that_does_not_confirm_its_number_is_unknown(row: dict[str, Any]) -> None:
    stage = WooStage()
    stage.wire.answer_next(body({"update": [row]}))
    outcome = stage.write(LevelReference("5"), 7)
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)


def test_an_article_in_the_trash_is_for_review_whether_it_is_written_or_read() -> None:
    stage = WooStage()
    level = stage.store.add_product("A", 3)
    stage.store.trash(level)
    outcome = stage.write(level, 7)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REVIEW, "not_found")
    problem = stage.read(level).problem
    assert problem is not None
    assert (problem.recovery, problem.code) == (Recovery.REVIEW, "not_found")
    assert stage.platform.listings().listings == ()


def test_a_row_that_the_store_rejects_keeps_its_words() -> None:
    stage = WooStage()
    error = {"code": "woocommerce_rest_cannot_edit", "message": "No cs_fedcba9876543210 here.", "data": {"status": 403}}
    stage.wire.answer_next(body({"update": [{"id": 5, "error": error}]}))
    outcome = stage.write(LevelReference("5"), 7)
    assert (outcome.result, outcome.recovery) == (Result.REJECTED, Recovery.REJECT)
    assert (outcome.code, outcome.message) == ("woocommerce_rest_cannot_edit", "No [secret] here.")


@pytest.mark.parametrize(
    "before",
    [BOM, BOM * 2, b"\r\n" + BOM, BOM + b"\n" + BOM, NOTICE, NOTICE + BOM, PLAIN_NOTICE, BOM + NOTICE * 3, b"\n \n"],
)
@pytest.mark.parametrize(
    "after",
    [
        b"",
        b"\n",
        BOM,
        b"<br />\n<b>Deprecated</b>: old",
        PLAIN_NOTICE,
        b"Strict Standards: [old] in /srv/p.php on line 3",
    ],
)
def test_what_php_prints_around_the_json_is_passed_over(before: bytes, after: bytes) -> None:
    stage = WooStage()
    rows = [{"id": 5, "manage_stock": True, "stock_quantity": 7}]
    stage.wire.answer_next(body({"update": rows}, before, after))
    assert stage.write(LevelReference("5"), 7).result is Result.ACKNOWLEDGED
    stage.wire.answer_next(body(rows, before, after))
    assert stage.read(LevelReference("5")).quantity == 7


@pytest.mark.parametrize("after", [b"[]", b',{"id":6}]', b'{"id":6}', b"trailing"])
def test_json_that_goes_on_behind_its_end_is_no_answer(after: bytes) -> None:
    stage = WooStage()
    stage.wire.answer_next(body([{"id": 5, "manage_stock": True, "stock_quantity": 7}], b"", after))
    with pytest.raises(PlatformError) as raised:
        stage.read(LevelReference("5"))
    assert raised.value.code == "malformed_answer"


def test_an_answer_that_was_cut_off_is_not_taken_for_its_part() -> None:
    stage = WooStage()
    cut = b'[{"id":5,"manage_stock":true,"stock_quantity":7,"attributes":[{"id":9,"name":"size"}],"sk'
    stage.wire.answer_next(Response(200, {}, cut))
    with pytest.raises(PlatformError) as raised:
        stage.read(LevelReference("5"))
    assert (raised.value.recovery, raised.value.code) == (Recovery.RETRY, "malformed_answer")


# --- failures of a call ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "result", "recovery", "code"),
    [
        (Response(200, {}, b"<!DOCTYPE html><title>Maintenance</title>"), Result.UNKNOWN, Recovery.SETTLE, "web_page"),
        (Response(403, {}, b"<html>Blocked</html>"), Result.NOT_SENT, Recovery.REAUTHENTICATE, "forbidden"),
        (Response(404, {}, b"<html>Not here</html>"), Result.NOT_SENT, Recovery.REAUTHENTICATE, "no_api"),
        (
            Response(
                404, {}, b'{"code":"woocommerce_rest_product_invalid_id","message":"Invalid ID.","data":{"status":404}}'
            ),
            Result.REJECTED,
            Recovery.REVIEW,
            "not_found",
        ),
        (
            Response(301, {"location": "https://www.shop.example.com/x?ck=1"}, b""),
            Result.NOT_SENT,
            Recovery.REAUTHENTICATE,
            "moved",
        ),
        (Response(413, {}, b"<html>too large</html>"), Result.NOT_SENT, Recovery.RETRY, "too_large"),
        (
            Response(
                400, {}, b'{"code":"rest_invalid_json","message":"Invalid JSON body passed.","data":{"status":400}}'
            ),
            Result.REJECTED,
            Recovery.REJECT,
            "rest_invalid_json",
        ),
    ],
)
def test_a_refused_call_says_what_to_do(response: Response, result: Result, recovery: Recovery, code: str) -> None:
    stage = WooStage()
    stage.wire.answer_next(response)
    outcome = stage.write(LevelReference("5"), 7)
    assert (outcome.result, outcome.recovery, outcome.code) == (result, recovery, code)
    assert outcome.message


def test_the_stores_words_are_told_without_the_page_that_they_were_written_for() -> None:
    stage = WooStage()
    page = '<p>There has been a critical error on this website.</p><p><a href="https://x">Learn&nbsp;more</a></p>'
    error = {"code": "internal_server_error", "message": page, "data": {"status": 500}}
    stage.wire.answer_next(Response(500, {}, json.dumps(error).encode()))
    outcome = stage.write(stage.store.add_product("HAT", 5), 3)
    assert (outcome.result, outcome.message) == (
        Result.UNKNOWN,
        "There has been a critical error on this website. Learn more",
    )
    tee = stage.store.add_product("TEE", None, kind="variable", managed=False)
    as_product = LevelReference(stage.store.add_variation(tee, "TEE-S", 5).item_id)
    assert "use the /products/<product_id>/variations/<id> endpoint" in stage.write(as_product, 3).message


def test_a_moved_store_is_named_without_its_query() -> None:
    stage = WooStage()
    stage.wire.answer_next(Response(301, {"location": "https://www.shop.example.com/x?ck=1"}, b""))
    assert "https://www.shop.example.com:" in stage.write(LevelReference("5"), 7).message
    stage.wire.answer_next(Response(301, {"location": "/shop/wp-json/wc/v3/products/batch"}, b""))
    assert "https://shop.example.com/shop:" in stage.write(LevelReference("5"), 7).message


@pytest.mark.parametrize(
    "location",
    ["https://shop.example.com/wp-json/wc/v3/products/batch/?a=1", "https://shop.example.com/", "/wp-login.php", ""],
)
def test_a_store_that_sends_us_to_a_page_of_its_own_has_its_api_closed(location: str) -> None:
    stage = WooStage()
    stage.wire.answer_next(Response(301, {"location": location}, b""))
    outcome = stage.write(LevelReference("5"), 7)
    assert (outcome.recovery, outcome.code) == (Recovery.REAUTHENTICATE, "no_api")
    assert "any permalinks but Plain" in outcome.message


def test_a_host_that_gives_fewer_rows_than_asked_for_is_asked_for_the_rest() -> None:
    stage = WooStage()
    levels = [stage.store.add_product(f"A{number}", number) for number in range(30)]

    def ten_at_most(request: Request) -> Response:
        answer = stage.store.handle(request)
        return Response(answer.status, answer.headers, json.dumps(json.loads(answer.body)[:10]).encode())

    stage.wire._handler = ten_at_most
    answer = stage.platform.read([*levels, LevelReference("999999")])
    assert [reading.quantity for reading in answer.readings] == [*range(30), None]
    gone = answer.readings[-1].problem
    assert gone is not None
    assert gone.code == "not_found"
    assert answer.budget is not None
    assert answer.budget.spent == len(stage.wire.requests)


def test_one_switch_of_the_store_stops_the_channel_and_sends_no_listing_to_review() -> None:
    stage = WooStage()
    one, other = stage.store.add_product("A", 5), stage.store.add_product("B", 6)
    stage.store.switch_stock_management(False)
    outcomes = stage.platform.write([WriteRow(one, 1), WriteRow(other, 1)], key="key").outcomes
    stopped = (Result.NOT_SENT, Recovery.REAUTHENTICATE, "stock_management_off")
    assert [(each.result, each.recovery, each.code) for each in outcomes] == [stopped] * 2
    for ask in (lambda: stage.platform.read([one, other]), stage.platform.check_credentials):
        with pytest.raises(PlatformError, match="Enable stock management") as raised:
            ask()
        assert (raised.value.recovery, raised.value.code) == (Recovery.REAUTHENTICATE, "stock_management_off")
    stage.store.switch_stock_management(True)
    stage.platform.check_credentials()
    assert stage.read(one).quantity == 5


def test_a_key_that_may_not_see_the_settings_leaves_unmanaged_articles_to_review() -> None:
    stage = WooStage()
    level = stage.store.add_product("A", None, managed=False)
    refused = b'{"code":"woocommerce_rest_cannot_view","message":"Sorry, you cannot view this resource."}'
    stage.wire._script.append(stage.store.handle)
    stage.wire.answer_next(Response(403, {}, refused))
    outcome = stage.write(level, 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REVIEW, "unmanaged")
    stage.wire._script.append(stage.store.handle)
    stage.wire.answer_next(Response(500, {}, b""))
    outcome = stage.write(level, 3)
    assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.RETRY)


def test_a_key_that_may_only_read_is_found_out() -> None:
    stage = WooStage()
    words = b'{"code":"woocommerce_rest_authentication_error","message":"The API key provided does not have write permissions."}'
    stage.platform.check_credentials()
    stage.wire._script.append(stage.store.handle)
    stage.wire.answer_next(Response(401, {}, words))
    with pytest.raises(PlatformError, match="write permissions") as raised:
        stage.platform.check_credentials()
    assert raised.value.recovery is Recovery.REAUTHENTICATE


# --- a slow host -----------------------------------------------------------------------------------------------------


def write_full(stage: WooStage, levels: list[LevelReference]) -> int:
    """Write as many of the levels as one call takes now, and return how many."""
    rows = [WriteRow(level, 3) for level in levels[: stage.platform.limits.write_batch]]
    stage.platform.write(rows, key="key")
    return len(rows)


def test_slow_answers_make_calls_smaller_and_quick_ones_larger_again() -> None:
    stage = WooStage()
    levels = [stage.store.add_product(f"P{number}", 1) for number in range(50)]
    sizes = []
    for seconds in (20, 9, 2, 2, 2, 2):
        stage.slow(seconds)
        sizes.append(write_full(stage, levels))
    assert sizes == [50, 20, 17, 27, 37, 47]


def test_lost_answers_halve_the_rows_and_give_more_time_up_to_the_longest() -> None:
    stage = WooStage()
    levels = [stage.store.add_product(f"P{number}", 1) for number in range(50)]
    sizes = []
    for _ in range(5):
        stage.wire.lose_answer_next()
        sizes.append(write_full(stage, levels))
    assert sizes == [50, 25, 12, 6, 5]
    assert stage.wire.deadlines == [45.0, 67.5, 90.0, 90.0, 90.0]
    assert stage.platform.limits.request_deadline == 90.0
    write_full(stage, levels)
    write_full(stage, levels)
    assert stage.wire.deadlines[-1] == 45.0


def test_a_store_that_takes_fewer_rows_gets_fewer() -> None:
    stage = WooStage()
    stage.wire.answer_next(Response(413, {}, b""))
    stage.write(LevelReference("5"), 1)
    assert stage.platform.limits.write_batch == 25


def test_another_process_goes_on_at_the_pace_that_was_learned_within_its_own_limits() -> None:
    stage = WooStage()
    for _ in range(2):
        stage.wire.lose_answer_next()
        write_full(stage, [stage.store.add_product(f"P{number}-{stage.clock.now()}", 1) for number in range(50)])
        stage.clock.advance(1)
    other = WooStage()
    other.platform.go_on_from(stage.platform.pace)
    assert other.platform.limits.write_batch == stage.platform.limits.write_batch == 12
    other.write(LevelReference("5"), 1)
    assert other.wire.deadlines == [90.0]
    small = WooStage({"write_batch": 3, "request_deadline": 40})
    small.platform.go_on_from(stage.platform.pace)
    assert small.platform.limits.write_batch == 3
    small.write(LevelReference("5"), 1)
    assert small.wire.deadlines == [40.0]


def test_a_connection_that_never_was_says_nothing_about_the_pace() -> None:
    stage = WooStage()
    stage.wire.refuse_next()
    stage.write(LevelReference("5"), 1)
    assert stage.platform.limits.write_batch == 50


# --- reading ---------------------------------------------------------------------------------------------------------


def test_products_and_variations_are_read_with_one_call_each_and_the_budget_is_told() -> None:
    stage = WooStage()
    product = stage.store.add_product("SHIRT", None, kind="variable", managed=False)
    variation, hat = stage.store.add_variation(product, "S", 4), stage.store.add_product("HAT", -2, backorders=True)
    answer = stage.platform.read([variation, hat])
    assert [(each.quantity, each.platform_sku) for each in answer.readings] == [(4, "S"), (-2, "HAT")]
    assert answer.budget is not None
    assert answer.budget.spent == 2
    queries = [query_of(request.url) for request in stage.wire.requests]
    assert [each["include"] for each in queries] == [hat.item_id, variation.item_id]
    one = stage.platform.read([hat]).budget
    assert one is not None
    assert one.spent == 1


@pytest.mark.parametrize(
    ("shown", "quantity"),
    [(4, 4), ("4", 4), ("4.0000", 4), (4.9, 4), ("-2", -2), (-1.5, -2), (None, 0)],
)
def test_a_number_is_read_in_whole_units_rounded_down(shown: Any, quantity: int) -> None:
    stage = WooStage()
    stage.wire.answer_next(body([{"id": 5, "sku": None, "manage_stock": True, "stock_quantity": shown}]))
    assert stage.read(LevelReference("5")).quantity == quantity


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("", "no_number"),
        ("many", "no_number"),
        (True, "no_number"),
        ([], "no_number"),
        ("nan", "no_number"),
        (1e12, "implausible_quantity"),
        (-(10**400), "implausible_quantity"),
        ("inf", "implausible_quantity"),
    ],
)
def test_a_number_that_is_none_is_for_review_and_hides_no_other(shown: Any, code: str) -> None:
    stage = WooStage()
    rows = [
        {"id": 5, "manage_stock": True, "stock_quantity": shown},
        {"id": 6, "manage_stock": True, "stock_quantity": 4},
    ]
    stage.wire.answer_next(body(rows))
    bad, good = stage.platform.read([LevelReference("5"), LevelReference("6")]).readings
    assert (bad.quantity, good.quantity) == (None, 4)
    assert bad.problem is not None
    assert (bad.problem.recovery, bad.problem.code) == (Recovery.REVIEW, code)


def test_a_listing_that_shows_more_than_any_shelf_holds_is_no_number_for_the_stock() -> None:
    stage = WooStage()
    listed = {"type": "simple", "manage_stock": True}
    stage.wire.answer_next(
        body([{**listed, "id": 5, "stock_quantity": 10**12}, {**listed, "id": 6, "stock_quantity": 4}])
    )
    huge, small = stage.platform.listings().listings
    assert (huge.quantity, small.quantity, small.problem) == (None, 4, "")
    assert "set the right number" in huge.problem


def test_an_order_of_more_than_any_shelf_holds_is_not_understood() -> None:
    with pytest.raises(NotUnderstoodError):
        document_of(
            {
                "id": 1,
                "status": "processing",
                "date_created_gmt": "2026-11-21T08:00:00",
                "date_modified_gmt": "2026-11-21T08:00:00",
                "line_items": [{"id": 2, "product_id": 3, "quantity": 10**400}],
            }
        )


def test_what_keeps_no_number_of_its_own_is_for_review() -> None:
    stage = WooStage()
    unmanaged = stage.store.add_product("A", None, managed=False)
    product = stage.store.add_product("SHIRT", 9, kind="variable")
    on_product = stage.store.add_variation(product, "S", None, managed=False)
    gone = stage.store.add_product("OLD", 3)
    stage.store.remove(gone)
    codes = []
    for level in (
        unmanaged,
        on_product,
        gone,
        LevelReference(on_product.item_id),
        LevelReference(on_product.item_id, "1"),
    ):
        reading = stage.read(level)
        assert reading.quantity is None
        assert reading.problem is not None
        assert reading.problem.recovery is Recovery.REVIEW
        codes.append(reading.problem.code)
    assert codes == ["unmanaged", "stock_on_product", "not_found", "not_found", "not_found"]
    assert stage.read(product).quantity == 9


def test_drafts_and_private_products_are_read_like_others() -> None:
    stage = WooStage()
    for status in ("draft", "private", "pending"):
        assert stage.read(stage.store.add_product(status, 3, status=status)).quantity == 3


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("shop.example.com", "address"),
        ("http://shop.example.com", "https://"),
        ("https://user@shop.example.com", "bare"),
        ("https://shop.example.com/?x=1", "bare"),
        ("https://shop.example.com/wp-json/wc/v3", "before /wp-json"),
    ],
)
def test_an_address_that_cannot_be_a_store_is_refused(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WooCommerceSettings(store_url=address, consumer_key_env="K", consumer_secret_env="S", webhook_secret_env="W")


def test_limits_are_changed_within_what_a_store_takes() -> None:
    assert limits_with({"write_batch": 100, "rate": 5}) == Limits(
        **{name: getattr(LIMITS, name) for name in Limits.__dataclass_fields__ if name not in ("write_batch", "rate")},
        write_batch=100,
        rate=5,
    )
    for wrong in ({"write_batch": 101}, {"read_batch": 0}, {"rate": 0}, {"speed": 1}, {"one_location_a_write": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            limits_with(wrong)
