"""WooCommerce's orders as documents: what each state, refund and edit of an order says about its units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.events import Content, LineReference, Movement, OrderDocument
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError
from invsync_dagster.platforms.woocommerce.client import ORDERS_A_PAGE
from invsync_dagster.platforms.woocommerce.orders import NO_ARTICLE, document_of, refund_of
from invsync_dagster.platforms.woocommerce.sandbox import StoreError
from invsync_dagster.platforms.woocommerce.windows import Window, window_from
from tests.unit.platforms.woo_stage import WooStage

CREATED, CHANGED = "2026-11-20T08:00:00", "2026-11-20T09:30:00"
AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def order(status: str, *, reduced: Any = None, quantity: Any = 2, **changed: Any) -> dict[str, Any]:
    meta = [] if reduced is None else [{"id": 1, "key": "_reduced_stock", "value": reduced}]
    item = {
        "id": 31,
        "product_id": 794,
        "variation_id": 0,
        "quantity": quantity,
        "sku": "007",
        "meta_data": [{"key": "gift", "value": {"a": 1}}, *meta],
    }
    return {
        "id": 900,
        "status": status,
        "date_created_gmt": CREATED,
        "date_modified_gmt": CHANGED,
        "date_paid_gmt": None,
        "date_completed_gmt": None,
        "line_items": [item],
        "refunds": [],
    } | changed


def trashed(before: str, **changed: Any) -> dict[str, Any]:
    meta = [{"key": "is_vat_exempt", "value": "no"}, {"key": "_wp_trash_meta_status", "value": f"wc-{before}"}]
    return order("trash", **changed) | {"meta_data": meta}


def totals(given: dict[str, Any]) -> tuple[int, int, int, int]:
    (line,) = document_of(given).lines
    return line.ordered, line.cancelled, line.shipped, line.restocked


def test_a_line_that_names_no_article_has_no_effect_unless_the_store_took_units_for_it() -> None:
    nothing = {"product_id": 0, "sku": None}
    custom, gone = order("processing"), order("processing", reduced="2")
    for each in (custom, gone):
        each["line_items"][0] |= nothing
    (line,) = document_of(custom).lines
    assert (line.reference, line.ordered, line.ignored) == (LineReference(), 2, NO_ARTICLE)
    (line,) = document_of(gone).lines
    assert (line.ordered, line.ignored) == (2, "")
    (line,) = document_of(order("processing")).lines
    assert line.ignored == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (order("pending"), (0, 0, 0, 0)),
        (order("checkout-draft"), (0, 0, 0, 0)),
        (order("failed"), (0, 0, 0, 0)),
        (order("failed", reduced="2"), (2, 0, 0, 0)),
        (order("failed", date_paid_gmt=CREATED, date_completed_gmt=CREATED), (2, 0, 2, 2)),
        (order("failed", reduced="2", date_completed_gmt=CREATED), (2, 0, 2, 0)),
        (order("processing", reduced="2"), (2, 0, 0, 0)),
        (order("on-hold", reduced=2), (2, 0, 0, 0)),
        # An article without stock management, or a reading amid the checkout.
        (order("processing"), (2, 0, 0, 0)),
        (order("completed", reduced="2", date_completed_gmt=CHANGED), (2, 0, 2, 0)),
        (order("completed"), (2, 0, 2, 0)),
        (order("cancelled", date_paid_gmt=CREATED), (2, 2, 0, 0)),
        # Nobody can tell any more whether it was ever taken: it is not now.
        (order("cancelled"), (0, 0, 0, 0)),
        (order("cancelled", date_paid_gmt=CREATED, date_completed_gmt=CREATED), (2, 0, 2, 2)),
        (order("trash", reduced="2"), (2, 2, 0, 0)),
        # Somebody tidies up: the goods have gone out, and the trash brings none back.
        (order("trash", reduced="2", date_paid_gmt=CREATED, date_completed_gmt=CREATED), (2, 0, 2, 0)),
        (order("trash", reduced="1", date_paid_gmt=CREATED, date_completed_gmt=CREATED), (2, 0, 2, 1)),
        (order("trash", date_paid_gmt=CREATED, date_completed_gmt=CREATED), (2, 0, 2, 2)),
        (trashed("completed", reduced="2", date_completed_gmt=CREATED), (2, 0, 2, 0)),
        # Without stock management there never was a meta: nothing was put back.
        (trashed("completed", date_completed_gmt=CREATED), (2, 0, 2, 0)),
        (trashed("refunded", reduced="2"), (2, 0, 2, 0)),
        (trashed("cancelled", date_paid_gmt=CREATED, date_completed_gmt=CREATED), (2, 0, 2, 2)),
        # Opened again after it was completed: the store keeps the date, and the goods are in the house.
        (trashed("processing", reduced="2", date_completed_gmt=CREATED), (2, 2, 0, 0)),
        (trashed("on-hold", reduced="2", date_completed_gmt=CREATED), (2, 2, 0, 0)),
        (trashed("pending", date_completed_gmt=CREATED), (0, 0, 0, 0)),
        (trashed("failed", date_paid_gmt=CREATED, date_completed_gmt=CREATED), (2, 0, 2, 2)),
        # A plugin's state may say that it has gone.
        (trashed("shipped", reduced="2", date_completed_gmt=CREATED), (2, 0, 2, 0)),
        (trashed("packing", reduced="2"), (2, 2, 0, 0)),
        (order("refunded", reduced="2"), (2, 0, 2, 0)),
        (order("wc-packing", reduced="2"), (2, 0, 0, 0)),
        (order("packing", date_paid_gmt=CREATED), (2, 0, 0, 0)),
        (order("packing"), (0, 0, 0, 0)),
        (order("processing", reduced="1.5", quantity=1.5), (2, 0, 0, 0)),
        # Changed through REST: the store took more than the order needs.
        (order("processing", reduced="3"), (2, 0, 0, 0)),
    ],
)
def test_each_state_says_what_it_does(given: dict[str, Any], expected: tuple[int, int, int, int]) -> None:
    assert totals(given) == expected


def test_a_document_is_whole_and_has_its_times_in_utc() -> None:
    document = document_of(order("processing", reduced="2"))
    assert (document.order_id, document.whole) == ("900", True)
    assert (document.created_at, document.updated_at) == (AT - timedelta(minutes=90), AT)


@pytest.mark.parametrize(
    ("item", "reference"),
    [
        ({"product_id": 794, "variation_id": 0, "sku": "007"}, LineReference("007", "794", "")),
        ({"product_id": 794, "variation_id": 812, "sku": "A B"}, LineReference("A B", "812", "812")),
        ({"product_id": 0, "variation_id": 0, "sku": "gone"}, LineReference("gone", "", "")),
        ({"product_id": 794, "variation_id": 0, "sku": None}, LineReference("", "794", "")),
    ],
)
def test_a_line_is_named_by_what_was_sold(item: dict[str, Any], reference: LineReference) -> None:
    given = order("processing")
    given["line_items"][0] |= item
    assert document_of(given).lines[0].reference == reference


def test_documents_of_one_second_have_one_revision_and_one_of_the_next_is_newer() -> None:
    states = ["checkout-draft", "pending", "on-hold", "failed", "processing", "completed", "refunded", "cancelled"]
    documents = [document_of(order(status)) for status in states]
    (revision,) = {document.revision for document in documents}
    assert all(document.revision_may_stay for document in documents)
    later = document_of(order("pending", date_modified_gmt="2026-11-20T09:30:01"))
    assert later.revision > revision


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"id": -1},
        {"id": True},
        {"status": ""},
        {"date_modified_gmt": None},
        {"date_modified_gmt": "yesterday"},
        {"date_created_gmt": 7},
        {"line_items": None},
        {"line_items": {}},
        {"line_items": [7]},
        {"line_items": [{"id": 1}]},
        {"line_items": [{"id": 1, "quantity": -1, "product_id": 1}]},
        {"line_items": [{"id": 1, "quantity": "x", "product_id": 1}]},
        {"line_items": [{"id": 1, "quantity": 1e300, "product_id": 1}]},
        {
            "line_items": [
                {"id": 1, "quantity": 1, "product_id": 1, "meta_data": [{"key": "_reduced_stock", "value": {}}]}
            ]
        },
    ],
)
def test_what_is_no_order_is_not_understood(changed: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstoodError):
        document_of(order("processing") | changed)


# --- refunds ---------------------------------------------------------------------------------------------------------


def asked(stage: WooStage, order_id: str) -> OrderDocument:
    (document,) = stage.platform.orders([order_id]).content.documents
    return document


def test_refunds_before_shipping_are_cancelled_and_after_it_restocked() -> None:
    stage = WooStage()
    hat = stage.store.add_product("HAT", 10)
    order_id = stage.store.buy({hat: 5})
    line_id = str(next(iter(stage.store.order(order_id).lines)))
    stage.clock.advance(60)
    stage.store.refund(order_id, {line_id: 1}, restock=True)
    (line,) = asked(stage, order_id).lines
    assert (line.ordered, line.cancelled, line.shipped, line.restocked) == (5, 1, 0, 0)
    stage.clock.advance(60)
    stage.store.set_status(order_id, "completed")
    shipped_at = stage.clock.now()
    stage.clock.advance(60)
    stage.store.refund(order_id, {line_id: 2}, restock=True)
    stage.store.refund(order_id, {line_id: 1}, restock=False)
    (line,) = asked(stage, order_id).lines
    assert (line.ordered, line.cancelled) == (5, 1)
    assert line.shipments == (Movement(4, shipped_at),)
    assert line.restocked == 2
    assert {movement.at for movement in line.restocks} == {shipped_at + timedelta(seconds=60)}
    assert stage.store.shown(hat) == 8


def test_an_order_refunded_in_whole_is_put_back_or_gone_as_the_refund_says() -> None:
    stage = WooStage()
    hat = stage.store.add_product("HAT", 10)
    for restock, expected in ((True, (2, 2, 0, 0)), (False, (2, 0, 2, 0))):
        order_id = stage.store.buy({hat: 2})
        stage.store.refund(order_id, {str(line): 2 for line in stage.store.order(order_id).lines}, restock=restock)
        (line,) = asked(stage, order_id).lines
        assert (line.ordered, line.cancelled, line.shipped, line.restocked) == expected
    assert stage.store.shown(hat) == 8


def test_a_refund_of_money_alone_and_lines_of_others_count_nothing() -> None:
    assert refund_of({"id": 1, "date_created_gmt": CREATED, "line_items": []}).units == {}
    foreign = [
        {"id": 2, "quantity": -1, "meta_data": []},
        {"id": 3, "quantity": "-1.0", "meta_data": [{"key": "_refunded_item_id", "value": "31"}]},
    ]
    assert refund_of({"id": 1, "date_created_gmt": CREATED, "line_items": foreign}).units == {"31": 1}


def test_an_order_in_the_trash_is_found_and_an_unknown_one_left_out() -> None:
    stage = WooStage()
    order_id = stage.store.buy({stage.store.add_product("HAT", 10): 2})
    stage.store.set_status(order_id, "trash")
    content = stage.platform.orders([order_id, "999999", "x"]).content
    assert [(each.order_id, each.lines[0].cancelled) for each in content.documents] == [(order_id, 2)]


@pytest.mark.parametrize(("reopened", "expected"), [(True, (2, 2, 0, 0)), (False, (2, 0, 2, 0))])
def test_an_order_put_into_the_trash_after_it_was_opened_again_is_released_and_else_has_shipped(
    reopened: bool, expected: tuple[int, int, int, int]
) -> None:
    stage = WooStage()
    order_id = stage.store.buy({stage.store.add_product("HAT", 10): 2})
    begin = stage.clock.now()
    for status in ("completed", *(["processing"] if reopened else []), "trash"):
        stage.clock.advance(60)
        stage.store.set_status(order_id, status)
    page = stage.platform.orders_changed(begin, stage.clock.now() + timedelta(minutes=1))
    for document in (asked(stage, order_id), *page.content.documents):
        (line,) = document.lines
        assert (line.ordered, line.cancelled, line.shipped, line.restocked) == expected


@pytest.mark.parametrize(("gives_back", "shown", "ordered"), [(True, 10, 0), (False, 8, 2)])
def test_an_order_that_fails_is_reserved_as_long_as_it_is_off_the_stores_number(
    gives_back: bool, shown: int, ordered: int
) -> None:
    stage = WooStage(failed_gives_back=gives_back)
    hat = stage.store.add_product("HAT", 10)
    order_id = stage.store.buy({hat: 2}, status="on-hold")
    stage.clock.advance(60)
    stage.store.set_status(order_id, "failed")
    assert (stage.store.shown(hat), asked(stage, order_id).lines[0].ordered) == (shown, ordered)
    stage.clock.advance(60)
    stage.store.set_status(order_id, "processing")
    assert (stage.store.shown(hat), asked(stage, order_id).lines[0].ordered) == (8, 2)


@pytest.mark.parametrize("as_posts", [True, False])
def test_a_line_edited_where_orders_are_posts_leaves_the_revision_and_the_document_says_so(as_posts: bool) -> None:
    stage = WooStage(orders_as_posts=as_posts)
    order_id = stage.store.buy({stage.store.add_product("HAT", 10): 5}, status="on-hold")
    (before,) = stage.platform.orders([order_id]).content.documents
    stage.clock.advance(60)
    stage.store.edit_line(order_id, before.lines[0].line_id, 2)
    (after,) = stage.platform.orders([order_id]).content.documents
    assert (after.lines[0].ordered, after.revision == before.revision) == (2, as_posts)
    assert after.revision_may_stay


def test_orders_put_into_the_trash_are_listed_beside_the_others_without_their_webhook() -> None:
    stage = WooStage()
    hat = stage.store.add_product("HAT", 500)
    begin = stage.clock.now()
    made = [stage.store.buy({hat: 1}) for _ in range(ORDERS_A_PAGE + 5)]
    for order_id in made[:-1]:
        stage.clock.advance(1)
        stage.store.set_status(order_id, "trash")
    stage.clock.advance(1)
    found: dict[str, int] = {}
    page = stage.platform.orders_changed(begin, stage.clock.now())
    while True:
        found |= {document.order_id: document.lines[0].cancelled for document in page.content.documents}
        if not page.cursor:
            break
        page = stage.platform.orders_changed(begin, stage.clock.now(), page.cursor)
    assert found == {**dict.fromkeys(made[:-1], 1), made[-1]: 0}


def test_every_call_that_a_list_of_orders_took_is_told_to_the_budget() -> None:
    stage = WooStage()
    begin = stage.clock.now()
    hat = stage.store.add_product("HAT", 50)
    made = [stage.store.buy({hat: 2}) for _ in range(3)]
    for order_id in made[:2]:
        (line,) = stage.store.order(order_id).lines
        stage.store.refund(order_id, {str(line): 1}, restock=True)
    stage.clock.advance(1)
    spent = []
    for ask in (lambda: stage.platform.orders_changed(begin, stage.clock.now()), lambda: stage.platform.orders(made)):
        before = len(stage.wire.requests)
        budget = ask().budget
        assert budget is not None
        spent.append((budget.spent, len(stage.wire.requests) - before))
    assert spent == [(2.0, 2), (3.0, 3)]


# --- a whole life, held against the store's own number ---------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.sampled_from(["pending", "on-hold", "processing", "completed", "cancelled", "failed"]),
        st.tuples(st.sampled_from(["refund", "refund_restock", "edit"]), st.integers(1, 3)),
    ),
    max_size=8,
)


@given(STEPS, st.sampled_from(["pending", "processing", "on-hold"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_totals_are_what_the_store_took_off_its_number(steps: list[Any], first: str, gives_back: bool) -> None:
    stage = WooStage(failed_gives_back=gives_back)
    hat = stage.store.add_product("HAT", 100)
    order_id = stage.store.buy({hat: 5}, status=first)
    (line_id,) = stage.store.order(order_id).lines
    revision = 0
    for step in [None, *steps]:
        stage.clock.advance(60)
        try:
            if isinstance(step, str):
                stage.store.set_status(order_id, step)
            elif step is not None and step[0] == "edit":
                stage.store.edit_line(order_id, str(line_id), step[1])
            elif step is not None:
                stage.store.refund(order_id, {str(line_id): step[1]}, restock=step[0] == "refund_restock")
        except StoreError:
            continue
        document = asked(stage, order_id)
        (line,) = document.lines
        assert document.revision >= revision
        revision = document.revision
        shown = stage.store.shown(hat)
        assert shown is not None
        assert line.ordered - line.cancelled - line.restocked == 100 - shown
        assert 0 <= line.cancelled <= line.ordered
        assert 0 <= line.restocked <= line.shipped <= line.ordered - line.cancelled


# --- listing what changed --------------------------------------------------------------------------------------------


def test_orders_with_refunds_and_those_not_understood_are_asked_for_alone() -> None:
    stage = WooStage()
    begin = stage.clock.now()
    hat = stage.store.add_product("HAT", 10)
    plain, refunded, odd = (stage.store.buy({hat: 1}) for _ in range(3))
    stage.store.refund(refunded, {str(line): 1 for line in stage.store.order(refunded).lines}, restock=True)
    next(iter(stage.store.order(odd).lines.values())).quantity = -1
    page = stage.platform.orders_changed(begin, begin + timedelta(minutes=1))
    assert [document.order_id for document in page.content.documents] == [plain]
    assert page.content.unclear_orders == (refunded, odd)


def test_open_orders_are_those_to_be_shipped_whenever_they_were_made() -> None:
    stage = WooStage()
    hat = stage.store.add_product("HAT", 500)
    made = []
    for number in range(120):
        made.append(stage.store.buy({hat: 1}, status="on-hold" if number % 2 else "processing"))
        stage.clock.advance(1 if number % 3 else 0)
    stage.store.set_status(made.pop(5), "completed")
    stage.store.set_status(made.pop(7), "cancelled")
    stage.store.buy({hat: 1}, status="pending")
    found: list[str] = []
    cursor = "-"
    while cursor:
        page = stage.platform.open_orders("" if cursor == "-" else cursor)
        found += [document.order_id for document in page.content.documents]
        cursor = page.cursor
    assert found == made


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 6)), max_size=6),
    st.integers(2, 4),
)
@settings(max_examples=200, deadline=None)
def test_no_order_is_lost_whatever_changes_while_the_list_is_walked(
    gaps: list[int], changes: list[tuple[int, int]], size: int
) -> None:
    begin = datetime(2026, 11, 21, tzinfo=UTC)
    at, times = begin, {}
    for number, gap in enumerate(gaps):
        at += timedelta(seconds=gap)
        times[number] = at
    end = at + timedelta(seconds=30)
    unchanged = set(times)
    seen: list[int] = []
    window: Window = window_from("", begin, end, size)
    for turn in range(200):
        if turn < len(changes):
            number, later = changes[turn]
            if number in times:
                # Later than all there is, as the store's clock says.
                at += timedelta(seconds=later + 1)
                times[number] = at
                unchanged.discard(number)
        listed = sorted(
            (when, number)
            for number, when in times.items()
            if window.after < when.strftime("%Y-%m-%dT%H:%M:%S") < window.before
        )
        page = listed[(window.page - 1) * window.size : window.page * window.size]
        kept, cursor = window.cut([when for when, _ in page])
        seen += [page[index][1] for index in kept]
        if not cursor:
            break
        window = window_from(cursor, begin, end, size)
    else:
        pytest.fail("the walk does not end")
    assert unchanged <= set(seen)
    if not changes:
        assert sorted(seen) == sorted(times)


def test_a_slow_host_is_asked_for_fewer_orders_a_page_and_none_is_left_out() -> None:
    stage = WooStage()
    begin = stage.clock.now()
    hat = stage.store.add_product("HAT", 500)
    made = [stage.store.buy({hat: 1}) for _ in range(30)]
    stage.clock.advance(1)
    made += [stage.store.buy({hat: 1}) for _ in range(70)]
    stage.clock.advance(1)
    end = stage.clock.now()
    for _ in range(2):
        stage.wire.lose_answer_next()
        with pytest.raises(PlatformError):
            stage.platform.orders_changed(begin, end)
    found: list[str] = []
    cursor = "-"
    while cursor:
        page = stage.platform.orders_changed(begin, end, "" if cursor == "-" else cursor)
        found += [document.order_id for document in page.content.documents]
        cursor = page.cursor
    assert found == made
    sizes = [dict(parse_qsl(urlsplit(request.url).query))["per_page"] for request in stage.wire.requests]
    # The first second has more orders than such a page: it is asked for again, twice as large, until it ends in it.
    assert sizes[:5] == ["50", "25", "12", "24", "48"]


@pytest.mark.parametrize("cursor", ["2", "2026-11-21T00:00:00", "2026-11-21+1x50", "x+1", "2026-11-21T00:00:00+1"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        WooStage().platform.orders_changed(AT, AT, cursor)


def test_an_order_that_oversells_shows_below_zero() -> None:
    stage = WooStage()
    hat = stage.store.add_product("HAT", 0)
    with pytest.raises(StoreError, match="sold out"):
        stage.store.buy({hat: 2})
    stage.store.buy({hat: 2}, checked=False)
    assert stage.read(hat).quantity == -2
    assert stage.platform.orders([]).content == Content()
