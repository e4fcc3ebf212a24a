"""Counts: what they contain, what came after them, what came late, and what is held."""

from __future__ import annotations

from datetime import timedelta

import pytest

from invsync_dagster.events import Content, StockCount
from invsync_dagster.inventory import held_counts, ledger
from invsync_dagster.inventory.counts import CountSource
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.tables import central_inventory, deliveries, imports, operator_actions, stock_counts
from invsync_dagster.settings import ImportLimits
from tests.unit.inventory.stock import ERP, OTHER, SHOP, START, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")

LAX = ImportLimits(zeroed_share=1, moved_share=1, moved_minimum_units=10**9)


def stated(sku: str, quantity: int, minute: float, version: int = 0) -> StockCount:
    return StockCount(f"event-{sku}-{minute}-{version}", sku, quantity, at(minute), version, "sale")


def test_a_count_of_the_erp_sets_on_hand_and_says_so():
    stock = Stock({"A": 10})
    stock.now = at(5)
    applied = stock.tell(stated("A", 7, 4), receipt="r")
    assert (applied.counts, applied.entries) == (1, 1)
    assert stock.balance() == (7, 0)
    (entry,) = stock.entries()
    assert (entry.kind, entry.quantity_delta, entry.channel, entry.reference) == ("count", -3, ERP, "r")
    assert entry.reason == "sale event-A-4-0"
    assert entry.occurred_at == at(4)
    assert set(stock.desired().values()) == {7}
    stock.prove()


def test_an_older_count_never_overwrites_a_newer_one():
    stock = Stock({"A": 10})
    stock.tell(stated("A", 7, 4))
    assert stock.tell(stated("A", 9, 3)).older == 1
    assert stock.tell(stated("A", 7, 4)).older == 1
    assert stock.balance() == (7, 0)


def test_at_one_moment_the_higher_version_holds_in_a_batch_as_well():
    stock = Stock({"A": 10})
    stock.tell(stated("A", 7, 4, 2), stated("A", 6, 4, 3), stated("A", 9, 4, 1))
    assert stock.balance() == (6, 0)
    assert stock.tell(stated("A", 5, 4, 3)).older == 1
    assert stock.tell(stated("A", 5, 4, 4)).counts == 1
    assert stock.balance() == (5, 0)


def test_a_count_that_changes_nothing_is_in_force_without_an_entry():
    stock = Stock({"A": 10})
    assert stock.tell(stated("A", 10, 4)).entries == 0
    assert [row.quantity for row in stock.rows(stock_counts)] == [10, 10]
    assert stock.tell(stated("A", 3, 2)).older == 1


def test_what_left_after_the_count_is_taken_off_and_what_left_before_is_not():
    stock = Stock({"A": 10})
    stock.apply(order("1", ordered=1, shipped=[(1, 2)], updated=2))
    stock.apply(order("2", ordered=2, shipped=[(2, 6)], updated=6))
    stock.apply(order("3", ordered=1, shipped=[(1, 2)], restocked=[(1, 7)], updated=7))
    stock.count({"A": 8}, as_of=4)
    assert stock.balance() == (8 - 2 + 1, 0)
    stock.prove()


def test_late_news_from_before_the_count_changes_reservations_only():
    stock = Stock({"A": 10})
    stock.apply(order(ordered=3))
    stock.count({"A": 8}, as_of=4)
    stock.apply(order(revision=2, ordered=3, shipped=[(2, 2)], updated=2))
    assert stock.balance() == (8, 1)
    assert [(e.kind, e.quantity_delta, e.reserved_delta, e.moved_delta) for e in stock.entries()][-1] == (
        "ship",
        0,
        -2,
        -2,
    )
    stock.apply(order(revision=3, ordered=3, shipped=[(2, 2), (1, 5)], updated=5))
    assert stock.balance() == (7, 0)
    stock.prove()


def test_shipments_within_the_lag_of_a_source_are_not_in_its_count_yet():
    source = CountSource("import-2", contains=(SHOP,), lag_seconds=120)
    for late in (False, True):
        stock = Stock({"A": 10})
        shipped = order(ordered=2, shipped=[(1, 1), (1, 3)], created=-5, updated=3)
        if not late:
            stock.apply(shipped)
        stock.count({"A": 9}, as_of=4, source=source)
        if late:
            stock.apply(shipped)
        assert stock.balance() == (8, 0)
        stock.prove()


def test_another_channels_shipments_are_in_the_count_whatever_the_lag():
    stock = Stock({"A": 10})
    stock.apply(order(item="other-A", ordered=1, shipped=[(1, 3)], updated=3), channel=OTHER)
    stock.count({"A": 9}, as_of=4, source=CountSource("import-2", contains=(SHOP,), lag_seconds=120))
    assert stock.balance() == (9, 0)


@pytest.mark.parametrize("late", [False, True])
def test_open_reservations_that_an_available_count_contains_are_not_subtracted_again(late):
    stock = Stock({"A": 10, "B": 0})
    document = order(ordered=3, created=1)
    if not late:
        stock.apply(document)
    stock.apply(order("2", item="other-A", ordered=2, created=1), channel=OTHER)
    stock.count({"A": 7}, as_of=4, source=CountSource("import-2", contains=(SHOP,)), basis="available")
    if late:
        stock.apply(document)
    assert stock.balance() == (10, 5)
    assert set(stock.desired().values()) == {5}
    stock.apply(order("3", ordered=1, created=5))
    assert set(stock.desired().values()) == {4}
    stock.apply(order(revision=2, ordered=3, shipped=[(3, 6)], created=1, updated=6))
    assert stock.balance() == (7, 3)
    assert set(stock.desired().values()) == {4}
    stock.prove()


def test_reserved_units_of_an_import_are_added_once_and_replaced_by_the_next():
    stock = Stock({"A": 10})
    stock.apply(order(ordered=2, created=0))
    source = CountSource("import-2", contains=(SHOP,))
    stock.count({"A": 10}, as_of=1, source=source, reserved=5)
    assert stock.balance() == (10, 5)  # 2 of the 5 are the shop's open order
    stock.count({"A": 10}, as_of=2, source=source, reserved=3)
    assert stock.balance() == (10, 3)
    stock.count({"A": 10}, as_of=3, source=source)
    assert stock.balance() == (10, 3)
    stock.prove()


def test_a_count_of_an_unknown_sku_is_returned_and_the_others_apply():
    stock = Stock({"A": 10})
    result = stock.count({"A": 9, "C": 4}, as_of=0)
    assert (result.applied, result.unknown) == (1, ("C",))


def test_a_count_without_a_listing_is_quarantined_and_can_be_applied_once_it_is_mapped():
    stock = Stock({"A": 10}, skus=("A", "B", "C"))
    assert stock.tell(stated("nobody", 4, 1), stated("A", 9, 1), receipt="r").unresolved == 1
    (row,) = stock.rows(deliveries)
    assert (row.state, stock.balance()) == ("quarantined", (9, 0))
    assert "'nobody'" in row.reason
    from invsync_dagster.inventory.listings import Listing

    stock.map(Listing(ERP, "C", "nobody", platform_sku="nobody"))
    assert stock.tell(stated("nobody", 4, 1), stated("A", 9, 1), receipt="r").counts == 1
    assert (stock.balance("C"), stock.rows(deliveries)[0].state) == ((4, 0), "applied")


# --- the breaker --------------------------------------------------------------------------------------------------------

MANY = [f"S{number:02d}" for number in range(30)]


def test_what_is_held_waits_for_a_person_also_when_its_delivery_is_applied_again():
    stock = Stock({"A": 10, "B": 10})
    none = ImportLimits(zeroed_share=0, zeroed_minimum=0)
    assert stock.tell(stated("A", 0, 5), receipt="r1", limits=none).held == 1
    batch = [Inbound(ERP, Content(counts=(stated("A", 0, 5),)), START, "r1")]
    with write_transaction(stock.engine) as connection:
        applied = ledger.apply(connection, batch, now=at(9), run_id="replay", again=True)
    assert (applied.duplicates, applied.entries, applied.held) == (1, 0, 0)
    assert stock.balance() == (10, 0)
    assert len(stock.rows(imports)) == 1


def test_counts_that_zero_too_much_are_held_while_sales_go_on():
    stock = Stock(dict.fromkeys(MANY, 5), skus=MANY)
    stock.now = at(5)
    applied = stock.tell(*(stated(sku, 0, 4) for sku in MANY[:21]), receipt="r")
    assert (applied.held, applied.counts, applied.entries) == (21, 0, 0)
    assert stock.balance("S00") == (5, 0)
    assert stock.apply(order(item="shop-S00")).entries == 1
    (held,) = stock.rows(imports)
    assert (held.kind, held.state, held.rows) == ("counts", "held", 21)
    assert held.reason == "would zero 21 of 30 stocked SKUs"
    (row,) = stock.rows(deliveries)
    assert (row.state, held.id in row.reason) == ("held", True)
    assert stock.tell(*(stated(sku, 0, 4) for sku in MANY[:21]), receipt="r").duplicates == 1


def test_approved_counts_apply_as_they_were_stated_and_newer_ones_outlast_them():
    stock = Stock(dict.fromkeys(MANY, 5), skus=MANY)
    stock.tell(*(stated(sku, 0, 4) for sku in MANY[:21]))
    stock.tell(stated("S01", 3, 6))
    (held,) = stock.rows(imports)
    with write_transaction(stock.engine) as connection:
        result = held_counts.approve_held(connection, held.id, actor="ann", reason="sold out", now=at(9), run_id="run")
    assert (result.applied, result.older) == (20, 1)
    assert (stock.balance("S00"), stock.balance("S01"), stock.balance("S29")) == ((0, 0), (3, 0), (5, 0))
    (row,) = stock.rows(imports)
    assert (row.state, row.decided_by, row.applied_rows) == ("applied", "ann", 20)
    assert stock.rows(operator_actions)[-1].actor == "ann"
    stock.prove()
    with pytest.raises(LookupError), write_transaction(stock.engine) as connection:
        held_counts.approve_held(connection, held.id, actor="ann", reason="", now=at(9), run_id="run")


def test_dropped_counts_never_apply():
    stock = Stock(dict.fromkeys(MANY, 5), skus=MANY)
    stock.tell(*(stated(sku, 0, 4) for sku in MANY[:21]))
    (held,) = stock.rows(imports)
    with write_transaction(stock.engine) as connection:
        held_counts.drop_held(connection, held.id, actor="ann", reason="scanner broken", now=at(9))
    assert stock.rows(imports)[0].state == "dropped"
    assert stock.balance("S00") == (5, 0)


def test_as_many_zeros_as_the_limit_allows_are_not_held():
    stock = Stock(dict.fromkeys(MANY, 5), skus=MANY)
    assert stock.tell(*(stated(sku, 0, 4) for sku in MANY[:20])).counts == 20


def test_counts_that_move_too_many_units_are_held():
    stock = Stock({"A": 2500, "B": 100})
    assert stock.tell(stated("A", 1000, 4)).held == 1
    assert stock.tell(stated("A", 1300, 5)).counts == 1  # 1,200 of 2,600 units


def test_a_day_of_counts_and_orders_in_any_arrival_ends_in_the_last_count_and_what_followed():
    stock = Stock({"A": 10})
    stock.tell(stated("A", 20, 10), limits=LAX)
    stock.apply(order("1", ordered=4, shipped=[(4, 12)], created=11, updated=12))
    stock.tell(stated("A", 15, 13), limits=LAX)
    stock.apply(order("2", ordered=1, shipped=[(1, 12.5)], created=11, updated=12.5))
    assert stock.balance() == (15, 0)
    (row,) = [row for row in stock.rows(central_inventory) if row.sku == "A"]
    assert row.last_updated == START
    assert max(one.as_of for one in stock.rows(stock_counts)) == START + timedelta(minutes=13)


def test_late_restocks_from_before_an_available_count_change_nothing():
    stock = Stock({"A": 10})
    stock.apply(order(ordered=3, shipped=[(3, 1)], updated=1))
    stock.count({"A": 8}, as_of=4, source=CountSource("import-2", contains=(SHOP,)), basis="available")
    stock.apply(order(revision=2, ordered=3, shipped=[(3, 1)], restocked=[(1, 3)], updated=3))
    assert stock.balance() == (8, 0)
    stock.apply(order(revision=3, ordered=3, shipped=[(3, 1)], restocked=[(1, 3), (1, 5)], updated=5))
    assert stock.balance() == (9, 0)
    stock.prove()


def test_an_order_that_an_available_count_contains_counts_once_even_if_first_seen_shipped():
    stock = Stock({"A": 10})
    stock.count({"A": 8}, as_of=4, source=CountSource("import-2", contains=(SHOP,)), basis="available")
    stock.apply(order(revision=2, ordered=2, shipped=[(2, 6)], created=1, updated=6))
    assert stock.balance() == (8, 0)
    stock.prove()


def test_an_order_that_an_available_count_contains_counts_once_even_if_first_seen_cancelled():
    stock = Stock({"A": 10})
    stock.count({"A": 8}, as_of=4, source=CountSource("import-2", contains=(SHOP,)), basis="available")
    stock.apply(order(revision=2, ordered=2, cancelled=2, created=1, updated=6))
    assert stock.balance() == (10, 0)
    stock.prove()
