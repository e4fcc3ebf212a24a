"""Orders end in the balance of their newest document, whatever came when, how often, and in which batches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.events import Content, LineReference, OrderDocument, OrderLine
from invsync_dagster.inventory import channels
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.listings import Listing, Status, set_status
from invsync_dagster.inventory.orders import Totals, Verdict, judge
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.tables import ELSEWHERE, inventory_levels, order_lines, platform_mapping, unclear_orders
from tests import databases
from tests.unit.inventory.stock import SHOP, START, Stock, at, order

EACH = pytest.mark.usefixtures("each_database")


@pytest.mark.parametrize(
    ("revision", "totals", "asked", "verdict"),
    [
        (6, (1, 0, 0, 0), False, Verdict.NEWER),
        (4, (9, 9, 9, 9), True, Verdict.OLDER),
        (5, (3, 1, 1, 0), False, Verdict.SAME),
        (5, (3, 1, 2, 0), False, Verdict.NEWER),
        (5, (3, 0, 1, 0), False, Verdict.OLDER),
        (5, (3, 0, 2, 0), False, Verdict.TAKES_MORE),
        (5, (3, 2, 0, 0), False, Verdict.UNCLEAR),
        (5, (3, 0, 2, 0), True, Verdict.NEWER),
    ],
)
def test_a_document_is_judged_by_its_revision_then_by_its_totals(revision, totals, asked, verdict):
    assert judge(revision, Totals(*totals), asked, 5, Totals(3, 1, 1, 0)) is verdict


@EACH
def test_an_order_reserves_ships_and_restocks():
    stock = Stock({"A": 10})
    stock.apply(order(ordered=3))
    assert stock.balance() == (10, 3)
    stock.apply(order(revision=2, ordered=3, shipped=[(2, 5)], updated=5))
    assert stock.balance() == (8, 1)
    stock.apply(order(revision=3, ordered=3, cancelled=1, shipped=[(2, 5)], updated=6))
    assert stock.balance() == (8, 0)
    stock.apply(order(revision=4, ordered=3, cancelled=1, shipped=[(2, 5)], restocked=[(1, 9)], updated=9))
    assert stock.balance() == (9, 0)
    assert [
        (e.kind, e.quantity_delta, e.reserved_delta, e.quantity_after, e.reserved_after) for e in stock.entries()
    ] == [
        ("reserve", 0, 3, 10, 3),
        ("ship", -2, -2, 8, 1),
        ("release", 0, -1, 8, 0),
        ("restock", 1, 0, 9, 0),
    ]
    stock.prove()


@EACH
def test_each_movement_keeps_its_own_time():
    stock = Stock({"A": 10})
    stock.apply(order(revision=2, ordered=3, shipped=[(1, 5), (1, 7)], updated=7))
    stock.apply(order(revision=3, ordered=3, shipped=[(1, 5), (2, 7)], updated=8))
    ships = [(e.quantity_delta, e.occurred_at) for e in stock.entries() if e.kind == "ship"]
    assert ships == [(-1, at(5)), (-1, at(7)), (-1, at(7))]


@EACH
def test_a_newer_document_books_down_as_well():
    stock = Stock({"A": 10})
    stock.apply(order(revision=1, ordered=3, shipped=[(3, 1)], restocked=[(1, 2)], updated=2))
    assert stock.balance() == (8, 0)
    stock.apply(order(revision=2, ordered=3, shipped=[(1, 1)], updated=3))
    assert stock.balance() == (9, 2)
    stock.apply(order(revision=3, ordered=3, shipped=[(3, 1)], restocked=[(1, 4)], updated=4))
    assert stock.balance() == (8, 0)
    stock.prove()


@EACH
def test_an_order_edited_up_down_and_shipped_in_excess_never_reserves_below_nothing():
    stock = Stock({"A": 10})
    for revision, ordered, cancelled, shipped in [(1, 2, 0, 3), (2, 4, 0, 3), (3, 4, 4, 3), (4, 9, 4, 3), (5, 9, 0, 0)]:
        movements = [(shipped, 1)] if shipped else []
        stock.apply(order(revision=revision, ordered=ordered, cancelled=cancelled, shipped=movements, updated=revision))
        assert stock.balance() == (10 - shipped, max(0, ordered - cancelled - shipped))
    stock.prove()


@EACH
def test_documents_of_one_revision_that_contradict_each_other_are_asked_for_and_what_takes_more_holds_until_then():
    stock = Stock({"A": 10})
    stock.apply(order(revision=5, ordered=2, cancelled=1))
    applied = stock.apply(order(revision=5, ordered=2, shipped=[(1, 1)]))
    assert applied.unclear == 1
    (asked,) = stock.rows(unclear_orders)
    assert (asked.channel, asked.order_id) == (SHOP, "1")
    assert "contradict" in asked.reason
    assert stock.balance() == (9, 1)
    applied = stock.apply(order(revision=5, ordered=2, cancelled=1))
    assert (applied.unclear, applied.entries) == (1, 0)
    assert stock.balance() == (9, 1)
    stock.apply(order(revision=5, ordered=2, cancelled=1), source="order")
    assert stock.balance() == (10, 1)
    stock.prove()


@EACH
def test_contradicting_documents_in_one_batch_are_asked_for_too():
    stock = Stock({"A": 10})
    documents = [order(revision=5, ordered=2, cancelled=1), order(revision=5, ordered=2, shipped=[(1, 1)])]
    assert stock.apply(*documents).unclear == 1
    assert len(stock.rows(unclear_orders)) == 1
    assert stock.balance() == (9, 1)


@EACH
def test_an_order_named_without_its_document_is_asked_for_and_changes_nothing():
    stock = Stock({"A": 10})
    applied = stock.apply_batch([Inbound(SHOP, Content(unclear_orders=("77",)), START, "r1")])
    assert (applied.unclear, applied.entries) == (1, 0)
    assert [(row.order_id, row.since) for row in stock.rows(unclear_orders)] == [("77", START)]


def policy(stock: Stock, restock: str) -> None:
    """As channels.yaml says it of the shop."""
    with write_transaction(stock.engine) as connection:
        channels.register(connection, SHOP, "shopify", "sandbox", True, Rules(), None, START, restock=restock)


NOT_PUT_BACK = "1 refunded without restocking by the channel, not put back here (restock: {})"


@EACH
@pytest.mark.parametrize(
    ("restock", "on_hand", "decided"),
    [
        ("as_told", 8, [("restock", 1, ""), ("return", 0, NOT_PUT_BACK.format("as_told"))]),
        (
            "never",
            7,
            [
                ("return", 0, "1 restocked by the channel, not put back here (restock: never)"),
                ("return", 0, NOT_PUT_BACK.format("never")),
            ],
        ),
        (
            "always",
            9,
            [
                ("restock", 1, ""),
                ("restock", 1, "1 refunded without restocking by the channel, put back here (restock: always)"),
            ],
        ),
    ],
)
def test_what_is_refunded_after_shipping_comes_back_by_the_channels_policy_which_the_ledger_names(
    restock, on_hand, decided
):
    stock = Stock({"A": 10})
    stock.in_step()
    policy(stock, restock)
    shipped: dict[str, Any] = {"ordered": 3, "shipped": [(3, 1)]}
    stock.apply(order(**shipped, updated=1))
    stock.apply(order(revision=2, **shipped, restocked=[(1, 5)], written_off=[(1, 6)], updated=6))
    assert stock.balance() == (on_hand, 0)
    assert [(e.kind, e.quantity_delta, e.reason) for e in stock.entries()[2:]] == decided
    # The shop's own number moves as the shop says, whatever we make of it.
    assert stock.level().expected == 10 - 3 + 1
    assert stock.apply(order(revision=3, **shipped, restocked=[(1, 5)], written_off=[(1, 6)], updated=7)).entries == 0
    stock.prove()


@EACH
def test_what_was_decided_on_a_refund_stays_when_the_policy_changes():
    stock = Stock({"A": 10})
    policy(stock, "never")
    shipped: dict[str, Any] = {"ordered": 3, "shipped": [(3, 1)]}
    stock.apply(order(**shipped, restocked=[(1, 2)], updated=2))
    policy(stock, "as_told")
    stock.apply(order(revision=2, **shipped, restocked=[(1, 2), (1, 3)], updated=3))
    assert stock.balance() == (8, 0)
    stock.prove()


@EACH
@pytest.mark.parametrize("restock", ["as_told", "never", "always"])
def test_a_shipped_order_that_is_cancelled_and_opened_again_is_promised_again_whatever_the_policy(restock):
    stock = Stock({"A": 10})
    policy(stock, restock)
    stock.apply(order(ordered=3, shipped=[(3, 1)], written_off=[(1, 2)], updated=2))
    stock.apply(order(revision=2, ordered=3, shipped=[(3, 1)], restocked=[(3, 3)], updated=3))
    stock.apply(order(revision=3, ordered=3, updated=4))
    assert stock.balance() == (10, 3)
    stock.prove()


@EACH
def test_a_line_that_the_platform_calls_without_effect_is_kept_with_the_reason():
    stock = Stock({"A": 10})
    assert stock.apply(order(ordered=2, ignored="another ships it")).ignored == 1
    stock.apply(order(revision=2, ordered=2, shipped=[(2, 1)]))
    assert stock.balance() == (10, 0)
    (line,) = stock.rows(order_lines)
    assert (line.ignored_reason, line.sku, line.shipped) == ("another ships it", None, 2)
    stock.prove()


@EACH
def test_a_booked_line_goes_on_by_its_totals_when_it_is_called_without_effect_later():
    stock = Stock({"A": 10})
    stock.apply(order(ordered=2))
    stock.apply(order(revision=2, ordered=2, shipped=[(2, 1)], updated=1, ignored="its quantity isn't tracked"))
    assert stock.balance() == (8, 0)
    # Another ships it after all: nothing of it was ordered from our stock.
    stock.apply(order("2", ordered=2))
    stock.apply(order("2", revision=2, ordered=0, updated=2, ignored="another ships it"))
    assert stock.balance() == (8, 0)
    stock.prove()


@EACH
def test_an_open_case_applies_itself_once_a_document_of_the_same_totals_names_what_is_mapped():
    stock = Stock({"A": 10})
    assert stock.apply(order(item="", variant="unknown", ordered=2)).unresolved == 1
    assert stock.apply(order(item="", variant="unknown", ordered=2)).entries == 0
    stock.apply(order(item="shop-A", variant="unknown", ordered=2), source="poll")
    assert stock.balance() == (10, 2)
    (line,) = stock.rows(order_lines)
    assert (line.sku, line.item_id) == ("A", "shop-A")
    stock.prove()


LINES = ("1", "2")


@st.composite
def histories(draw):
    """Documents of two orders as a platform would show them: totals only grow, revisions as well."""
    documents = []
    for number in range(draw(st.integers(1, 2))):
        totals = {line: [draw(st.integers(1, 4)), 0, 0, 0] for line in LINES}
        for revision in range(1, draw(st.integers(1, 5)) + 1):
            for units in totals.values():
                ordered, cancelled, shipped, restocked = units
                what = draw(st.integers(0, 4))
                if what == 1 and cancelled + shipped < ordered:
                    units[1] += 1
                elif what == 2 and cancelled + shipped < ordered:
                    units[2] += 1
                elif what == 3 and restocked < shipped:
                    units[3] += 1
                elif what == 4:
                    units[0] += 1
            lines = tuple(
                OrderLine(
                    line,
                    LineReference(item_id=f"shop-{'AB'[index]}"),
                    units[0],
                    units[1],
                    order(shipped=[(1, n) for n in range(units[2])]).lines[0].shipments,
                    order(restocked=[(1, n) for n in range(units[3])]).lines[0].restocks,
                )
                for index, (line, units) in enumerate(totals.items())
            )
            # Now and then two states share a revision, as with platforms that tell their time in whole seconds.
            shown = revision - draw(st.integers(0, 1))
            documents.append(OrderDocument(str(number), max(1, shown), START, at(revision), lines))
    return documents


@settings(max_examples=150, deadline=None)
@given(data=st.data(), documents=histories())
def test_any_order_duplication_and_batching_ends_in_the_balance_of_the_final_documents(data, documents):
    judge_any_arrival(data, documents)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), documents=histories())
def test_so_it_does_on_postgresql(data, documents):
    databases.use("postgresql")
    try:
        judge_any_arrival(data, documents)
    finally:
        databases.use("sqlite")


def judge_any_arrival(data, documents):
    final = Stock({"A": 20, "B": 20})
    last = {document.order_id: document for document in documents}
    final.apply(*last.values())

    stock = Stock({"A": 20, "B": 20})
    stock.in_step()
    twice = documents + data.draw(st.lists(st.sampled_from(documents), max_size=6), label="duplicates")
    deliveries = data.draw(st.permutations(twice), label="order of arrival")
    while deliveries:
        size = data.draw(st.integers(1, len(deliveries)), label="batch")
        batch = [Inbound(SHOP, Content((one,)), START) for one in deliveries[:size]]
        stock.apply_batch(batch)
        deliveries = deliveries[size:]

    for number, sku in enumerate("AB"):
        assert stock.balance(sku) == final.balance(sku)
        lines = [one.lines[number] for one in last.values()]
        promised = sum(max(0, line.ordered - line.cancelled - line.shipped) for line in lines)
        moved = sum(line.restocked - line.shipped for line in lines)
        assert stock.balance(sku) == (20 + moved, promised)
        # What the shop itself shows by now: sold, less cancelled, plus restocked.
        own = sum(line.restocked - max(0, line.ordered - line.cancelled) for line in lines)
        assert stock.level(SHOP, sku).expected == 20 + own
    assert stock.rows(unclear_orders) == []
    assert len(stock.rows(order_lines)) == len(last) * len(LINES)
    stock.prove()
    for one in (final, stock):
        one.close()


@EACH
def test_shipping_more_than_was_promised_releases_only_what_was_promised():
    stock = Stock({"A": 10})
    stock.apply(order(ordered=2, shipped=[(3, 1)], updated=1))
    assert [(e.kind, e.quantity_delta, e.reserved_delta) for e in stock.entries()] == [
        ("reserve", 0, 2),
        ("ship", -3, -2),
    ]
    assert stock.balance() == (7, 0)


def two_places() -> Stock:
    """A at a location that is kept in step, and at one of a warehouse that keeps its own stock."""
    stock = Stock({"A": 10})
    stock.map(Listing(SHOP, "A", "two", "north"), Listing(SHOP, "A", "two", "far", status="excluded"))
    return stock


def ignored(stock: Stock) -> list[str]:
    return [line.ignored_reason for line in stock.rows(order_lines)]


@EACH
@pytest.mark.parametrize("location", ["far", "nowhere"])
def test_a_line_that_is_sold_from_elsewhere_has_no_effect(location: str) -> None:
    stock = two_places()
    assert stock.apply(order(item="two", ordered=2, locations=[location])).entries == 0
    assert (stock.balance(), ignored(stock)) == ((10, 0), [ELSEWHERE])
    stock.apply(order(item="two", revision=2, ordered=2, shipped=[(2, 5)], updated=5))
    assert (stock.balance(), ignored(stock)) == ((10, 0), [ELSEWHERE])
    stock.prove()


@EACH
@pytest.mark.parametrize("locations", [["north"], ["far", "north"], []])
def test_a_line_that_is_sold_from_here_at_least_in_part_or_from_nobody_knows_where_counts(locations: list[str]) -> None:
    stock = two_places()
    stock.apply(order(item="two", ordered=2, locations=locations))
    assert (stock.balance(), ignored(stock)) == ((10, 2), [""])
    stock.prove()


@EACH
@pytest.mark.parametrize("revision", [1, 2])
def test_what_a_webhook_booked_is_taken_back_once_the_order_says_where_it_is_sold_from(revision: int) -> None:
    stock = two_places()
    stock.apply(order(item="two", ordered=3, shipped=[(1, 4)], updated=4))
    assert stock.balance() == (9, 2)
    stock.apply(order(item="two", revision=revision, ordered=3, shipped=[(1, 4)], updated=4, locations=["far"]))
    assert (stock.balance(), ignored(stock)) == ((10, 0), [ELSEWHERE])
    assert {entry.reason for entry in stock.entries()[2:]} == {ELSEWHERE}
    stock.apply(order(item="two", revision=3, ordered=3, shipped=[(3, 4)], updated=5))
    assert stock.balance() == (10, 0)
    stock.prove()


@EACH
def test_an_order_that_is_moved_between_locations_counts_where_it_is_now() -> None:
    stock = two_places()
    stock.apply(order(item="two", ordered=2, locations=["north"]))
    stock.apply(order(item="two", revision=2, ordered=2, locations=["far"], updated=1))
    assert (stock.balance(), ignored(stock)) == ((10, 0), [ELSEWHERE])
    stock.apply(order(item="two", revision=1, ordered=2, locations=["north"]))
    assert stock.balance() == (10, 0)
    stock.apply(order(item="two", revision=3, ordered=2, locations=["north"], updated=2))
    assert (stock.balance(), ignored(stock)) == ((10, 2), [""])
    stock.apply(order(item="two", revision=4, ordered=2, shipped=[(2, 3)], updated=3, locations=["north"]))
    assert (stock.balance(), [line.level_id for line in stock.rows(order_lines)]) == ((8, 0), [north(stock).id])
    stock.prove()


@EACH
def test_the_locations_own_number_follows_what_is_sold_from_it_alone() -> None:
    stock = two_places()
    stock.change_levels(inventory_levels.c.location_id == "north", expected=10, acknowledged_quantity=10)
    stock.apply(order(item="two", ordered=2))
    assert north(stock).expected == 8
    stock.apply(order(item="two", ordered=2, locations=["far"]))
    assert north(stock).expected == 10
    stock.apply(order(item="two", revision=2, ordered=2, locations=["north"], updated=1))
    assert north(stock).expected == 8


@EACH
def test_an_item_that_is_mapped_nowhere_stays_an_open_case_wherever_it_is_sold_from() -> None:
    stock = Stock({"A": 10})
    assert stock.apply(order(item="new", ordered=2, locations=["far"])).unresolved == 1
    stock.map(Listing(SHOP, "A", "new", "north"))
    assert stock.balance() == (10, 2)
    stock.apply(order(item="new", ordered=2, locations=["far"]))
    assert (stock.balance(), ignored(stock)) == ((10, 0), [ELSEWHERE])
    stock.prove()


@EACH
@pytest.mark.parametrize("how", ["mapped", "active"])
def test_open_orders_of_a_location_are_asked_for_once_it_is_kept_in_step(how: str) -> None:
    stock = two_places()
    location = "third" if how == "mapped" else "far"
    stock.apply(order("open", item="two", ordered=2, locations=[location]))
    stock.apply(order("gone", item="two", ordered=2, shipped=[(2, 1)], locations=[location]))
    stock.apply(order("other", item="shop-B", ordered=2, locations=["nowhere"]))
    assert stock.rows(unclear_orders) == []
    if how == "mapped":
        stock.map(Listing(SHOP, "A", "two", "third"))
    else:
        (listing,) = [row for row in stock.rows(platform_mapping) if row.platform_location_id == "far"]
        with write_transaction(stock.engine) as connection:
            set_status(connection, [listing.id], "active", actor="ann", reason="ours now", now=at(3))
    assert [(row.order_id, row.reason) for row in stock.rows(unclear_orders)] == [
        ("open", "a location that may ship it is mapped now")
    ]
    stock.apply(order("open", item="two", ordered=2, locations=[location]))
    assert stock.balance() == (10, 2)
    stock.prove()


@EACH
@pytest.mark.parametrize("status", ["retired", "excluded"])
@pytest.mark.parametrize("told", [["north"], []])
def test_what_a_location_sold_while_it_was_kept_in_step_stays_booked_once_another_one_is(
    status: Status, told: list[str]
) -> None:
    stock = two_places()
    stock.apply(order("old", item="two", ordered=2, shipped=[(2, 1)], updated=1, locations=told))
    stock.apply(order("open", item="two", ordered=1, locations=told))
    assert stock.balance() == (8, 1)
    stock.map(Listing(SHOP, "A", "two", "new"))
    (listing,) = [row for row in stock.rows(platform_mapping) if row.platform_location_id == "north"]
    with write_transaction(stock.engine) as connection:
        set_status(connection, [listing.id], status, actor="ann", reason="we moved", now=at(3))
    for revision in (1, 2):
        stock.apply(order("old", revision=revision, item="two", ordered=2, shipped=[(2, 1)], locations=["north"]))
        stock.apply(order("open", revision=revision, item="two", ordered=1, locations=["north"]))
        assert (stock.balance(), set(ignored(stock))) == ((8, 1), {""})
    stock.apply(order("open", revision=3, item="two", ordered=1, locations=["far"]))
    assert (stock.balance(), ignored(stock).count(ELSEWHERE)) == ((8, 0), 1)
    stock.prove()


def north(stock: Stock) -> Any:
    (level,) = [level for level in stock.rows(inventory_levels) if level.location_id == "north"]
    return level
