"""Alibaba.com's orders as documents with totals, and the windows in which they are asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.platforms.alibaba.orders import document_of, window_end, window_start
from invsync_dagster.platforms.alibaba.sandbox import AccountError
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError
from tests.unit.platforms.alibaba_stage import AlibabaStage

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture
def stage(tmp_path: Path) -> AlibabaStage:
    return AlibabaStage(tmp_path / "tokens.json")


def totals(stage: AlibabaStage, order: str) -> tuple[int, int, int]:
    (line,) = stage.document(order).lines
    return line.ordered, line.cancelled, line.shipped


def test_an_unpaid_order_promises_nothing_and_a_paid_one_its_units(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 9)
    order = stage.account.buy({level: 2}, state="unpay")
    assert (totals(stage, order), stage.account.shown(level)) == ((0, 0, 0), 9)
    for state in ("paying", "paid", "captured", "undeliver", "delivering"):
        stage.account.bring(order, state)
        assert (totals(stage, order), stage.account.shown(level)) == ((2, 0, 0), 7)
    reference = stage.document(order).lines[0].reference
    assert (reference.item_id, reference.platform_sku) == (level.item_id, "A-1")


def test_a_shipped_order_left_the_shelf_when_its_logistics_say_however_it_changed_since(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 9)
    order = stage.account.buy({level: 2})
    stage.clock.advance(60)
    stage.account.bring(order, "wait_confirm_receipt")
    document = stage.document(order)
    assert [(movement.quantity, movement.at) for movement in document.lines[0].shipments] == [(2, stage.clock.now())]
    shipped_at = stage.clock.now()
    stage.clock.advance(3600)
    stage.account.bring(order, "trade_success")
    assert totals(stage, order) == (2, 0, 2)
    assert stage.document(order).lines[0].shipments[0].at == shipped_at


def test_an_order_closed_before_shipping_is_cancelled_and_one_closed_after_it_stays_shipped(
    stage: AlibabaStage,
) -> None:
    level = stage.account.add_sku("A-1", 9)
    before, after = stage.account.buy({level: 2}), stage.account.buy({level: 3})
    stage.account.bring(before, "trade_close")
    assert (totals(stage, before), stage.account.shown(level)) == ((2, 2, 0), 6)
    stage.account.bring(after, "wait_confirm_receipt")
    shipped_at = stage.clock.now()
    stage.clock.advance(3600)
    for state in ("frozen", "charge_back", "trade_close"):
        stage.account.bring(after, state)
        assert totals(stage, after) == (3, 0, 3)
    assert stage.document(after).lines[0].shipments[0].at == shipped_at


def test_an_order_frozen_before_shipping_stays_promised(stage: AlibabaStage) -> None:
    order = stage.account.buy({stage.account.add_sku("A-1", 9): 2})
    stage.account.bring(order, "frozen")
    assert totals(stage, order) == (2, 0, 0)


def test_a_state_that_nobody_knows_counts_as_one_to_be_shipped(stage: AlibabaStage) -> None:
    order = stage.account.buy({stage.account.add_sku("A-1", 9): 2})
    stage.account.order(order).state = "brand_new_state"
    assert totals(stage, order) == (2, 0, 0)


def test_two_states_of_one_second_are_told_apart_by_the_course_of_an_order(stage: AlibabaStage) -> None:
    order = stage.account.buy({stage.account.add_sku("A-1", 9): 2}, state="unpay")
    revisions = []
    for state in ("unpay", "paid", "undeliver", "wait_confirm_receipt", "trade_success", "trade_close"):
        stage.account.bring(order, state)
        revisions.append(stage.document(order).revision)
    assert revisions == sorted(set(revisions))


def test_a_product_without_skus_is_named_by_its_own_id(stage: AlibabaStage) -> None:
    level = stage.account.add_product("A-1", 9)
    order = stage.account.buy({level: 1})
    reference = stage.document(order).lines[0].reference
    assert (reference.item_id, reference.variant_id) == (level.item_id, "")


def an_order(**changed: Any) -> dict[str, Any]:
    order = {
        "trade_id": "271207727001028893",
        "trade_status": "undeliver",
        "create_date": {"timestamp": "1754021376000"},
        "modify_date": {"timestamp": "1754021377000"},
        "order_products": [{"id": "a", "product_id": "1", "sku_id": "2", "quantity": "2.0000"}],
    }
    return {name: value for name, value in (order | changed).items() if value is not ...}


def test_an_order_that_doesnt_say_when_it_changed_is_as_of_now() -> None:
    document = document_of(an_order(modify_date=...), NOW)
    assert (document.updated_at, document.created_at) == (NOW, datetime.fromtimestamp(1754021376, UTC))


def test_a_part_of_a_piece_is_promised_whole() -> None:
    product = {"id": "a", "product_id": "1", "quantity": "2.5000"}
    assert document_of(an_order(order_products=[product]), NOW).lines[0].ordered == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"trade_id": ...},
        {"trade_id": "21***54"},
        {"trade_status": ...},
        {"trade_status": 7},
        {"create_date": ...},
        {"create_date": {"timestamp": "soon"}},
        {"modify_date": {"timestamp": "9" * 40}},
        {"order_products": "none"},
        {"order_products": [{"id": "a", "quantity": "many"}]},
        {"order_products": [{"id": "a", "quantity": "-1"}]},
        {"order_products": [{"id": "a", "quantity": "1e300"}]},
        {"order_products": [{"id": "a", "quantity": "1"}, {"id": "a", "quantity": "2"}]},
    ],
)
def test_an_order_that_cannot_be_understood_is_no_document(changed: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstoodError):
        document_of(an_order(**changed), NOW)


def test_hidden_order_numbers_are_named_with_their_mend(stage: AlibabaStage) -> None:
    stage.answer({"code": "0", "value": {"total_count": "1", "order_list": [{"trade_id": "21***54"}]}})
    with pytest.raises(PlatformError, match="right to orders") as raised:
        stage.platform.orders_changed(NOW, NOW)
    assert raised.value.code == "masked_orders"


def test_open_orders_are_listed_state_by_state_and_no_other(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 500)
    opened = {stage.account.buy({level: 1}) for _ in range(60)} | {stage.account.buy({level: 1}, state="paid")}
    stage.account.buy({level: 1}, state="unpay")
    stage.account.bring(stage.account.buy({level: 1}), "trade_close")
    found: list[str] = []
    cursor, pages = "", 0
    while pages == 0 or cursor:
        page = stage.platform.open_orders(cursor)
        found += page.content.unclear_orders
        cursor, pages = page.cursor, pages + 1
    assert sorted(found) == sorted(opened)
    with pytest.raises(ValueError, match="never given"):
        stage.platform.open_orders("elsewhere/1")


def test_orders_that_arent_there_are_left_out(stage: AlibabaStage) -> None:
    order = stage.account.buy({stage.account.add_sku("A-1", 9): 2})
    documents = stage.platform.orders(["1", "x", order, order]).content.documents
    assert [document.order_id for document in documents] == [order]


def test_the_window_is_told_in_the_words_of_california_and_in_milliseconds() -> None:
    at = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert window_start(at) == {"date_str": "2026-07-01 04:59:59", "date_timestamp": "1782907199000"}
    assert window_end(at) == {"date_str": "2026-07-01 05:00:01", "date_timestamp": "1782907201000"}


@given(
    st.timedeltas(timedelta(0), timedelta(days=3)).map(lambda after: datetime(2026, 10, 31, tzinfo=UTC) + after),
    st.timedeltas(timedelta(0), timedelta(hours=3)),
)
def test_no_order_falls_into_the_hour_that_california_has_twice(begin: datetime, length: timedelta) -> None:
    """Read by its words alone, whichever of the two hours they mean, a window holds all of what was asked for."""
    theirs = ZoneInfo("America/Los_Angeles")
    for fold in (0, 1):
        start = datetime.fromisoformat(window_start(begin)["date_str"]).replace(tzinfo=theirs, fold=fold)
        end = datetime.fromisoformat(window_end(begin + length)["date_str"]).replace(tzinfo=theirs, fold=fold)
        assert start.astimezone(UTC) <= begin
        assert end.astimezone(UTC) >= begin + length


def test_a_poll_across_the_end_of_summer_time_misses_no_order(stage: AlibabaStage) -> None:
    stage.clock.advance(-(stage.clock.now() - datetime(2026, 11, 1, 7, 30, tzinfo=UTC)).total_seconds())
    stage.account.gate.quota.filled_at = 0.0
    begin = stage.clock.now()
    level = stage.account.add_sku("A-1", 500)
    made = []
    for _ in range(20):
        made.append(stage.account.buy({level: 1}))
        stage.clock.advance(600)
    found: list[str] = []
    since = begin
    while since < stage.clock.now():
        page = stage.platform.orders_changed(since, since + timedelta(minutes=20))
        found += page.content.unclear_orders
        since += timedelta(minutes=20)
    assert sorted(found) == sorted(made)


def test_a_list_goes_by_the_sellers_role_and_the_change(stage: AlibabaStage) -> None:
    stage.platform.orders_changed(NOW - timedelta(minutes=5), NOW)
    ((path, fields),) = stage.sent()
    assert (path, fields["role"], fields["start_page"], fields["page_size"]) == (
        "/alibaba/order/list",
        "seller",
        "0",
        "50",
    )
    assert json.loads(fields["modified_date_start"])["date_str"] == "2026-11-20 23:54:59"
    assert json.loads(fields["modified_date_end"])["date_str"] == "2026-11-21 00:00:01"


def test_the_stand_in_sells_no_more_than_it_has(stage: AlibabaStage) -> None:
    with pytest.raises(AccountError, match="sold out"):
        stage.account.buy({stage.account.add_sku("A-1", 1): 2})


def test_the_stand_in_survives_a_dump(stage: AlibabaStage, tmp_path: Path) -> None:
    level = stage.account.add_sku("A-1", 9)
    order = stage.account.buy({level: 2})
    stage.platform.check_credentials()
    another = AlibabaStage(tmp_path / "tokens.json")
    another.account.load(json.loads(json.dumps(stage.account.dump())))
    assert (another.account.shown(level), another.account.promised()) == (7, {level: 2})
    assert totals(another, order) == (2, 0, 0)
