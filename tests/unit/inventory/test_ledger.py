"""What channels tell us is applied exactly once, resolved through listings, and told to the levels it concerns."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.inventory import channels, listings
from invsync_dagster.inventory.counts import CountSource
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Applied, Inbound
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.tables import deliveries, order_lines, platform_mapping, stock_ledger
from tests.unit.inventory.stock import ERP, OTHER, SHOP, START, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")


def test_a_delivery_is_applied_once_whatever_run_brings_it_again():
    stock = Stock({"A": 10})
    first = stock.apply(order(ordered=2), receipt="segment:0")
    again = stock.apply(order(ordered=2), receipt="segment:0")
    other = stock.apply(order(ordered=2), receipt="segment:1")
    assert (first.entries, first.duplicates) == (1, 0)
    assert (again.entries, again.duplicates, again.documents) == (0, 1, 0)
    assert (other.entries, other.duplicates, other.unchanged) == (0, 0, 1)
    assert stock.balance() == (10, 2)
    assert [(row.receipt_id, row.state) for row in stock.rows(deliveries)] == [
        ("segment:0", "applied"),
        ("segment:1", "applied"),
    ]


def test_the_same_receipt_twice_in_a_batch_counts_once():
    stock = Stock({"A": 10})
    one = Inbound(SHOP, Content((order(ordered=2),)), START, "r")
    applied = stock.apply_batch([one, one])
    assert (applied.duplicates, applied.entries) == (1, 1)


def test_a_quarantined_delivery_can_be_applied_later():
    stock = Stock({"A": 10})
    row = {
        "receipt_id": "r",
        "channel": SHOP,
        "received_at": START,
        "applied_at": START,
        "state": "quarantined",
        "reason": "?",
    }
    with write_transaction(stock.engine) as connection:
        connection.execute(insert(deliveries), row)
    assert stock.apply(order(ordered=2), receipt="r").entries == 1
    assert [(row.state, row.reason) for row in stock.rows(deliveries)] == [("applied", "")]


def test_the_desired_quantities_of_all_channels_follow_in_the_same_transaction():
    stock = Stock({"A": 10, "B": 3})
    stock.apply(order(ordered=4))
    assert stock.desired() == {SHOP: 6, OTHER: 6, ERP: 6}
    assert stock.desired("B") == {SHOP: 3, OTHER: 3, ERP: 3}
    sequence = stock.entries()[-1].sequence
    assert stock.level(OTHER).desired_sequence == sequence
    assert stock.level(OTHER, "B").desired_sequence < sequence


def test_more_sold_than_there_is_shows_nothing_and_is_kept_as_negative():
    stock = Stock({"A": 3})
    stock.apply(order(ordered=5))
    assert stock.balance() == (3, 5)
    assert set(stock.desired().values()) == {0}


def test_entries_say_where_they_come_from():
    stock = Stock({"A": 10})
    stock.now = at(9)
    stock.apply(order("7/7", ordered=2, created=5), receipt="segment:3")
    (entry,) = stock.entries()
    assert (entry.channel, entry.order_id, entry.line_id, entry.reference) == (SHOP, "7/7", "1", "segment:3")
    assert (entry.occurred_at, entry.received_at, entry.applied_at, entry.run_id) == (at(5), at(9), at(9), "run")


def test_event_ids_stay_apart_whatever_is_in_an_order_id():
    stock = Stock({"A": 100})
    ids = ["a/b", "a%2Fb", "a", "a/b/1", "%", "/"]
    for name in ids:
        assert stock.apply(order(name)).entries == 1
    assert len({row.event_id for row in stock.rows(stock_ledger)}) == len(ids) + 1


# --- the channel's own number -------------------------------------------------------------------------------------------


def test_a_sale_moves_what_its_own_channel_is_expected_to_show_and_makes_it_uncertain():
    stock = Stock({"A": 10})
    stock.in_step()
    stock.now = at(1)
    touched = {name: stock.level(name).touched for name in (SHOP, OTHER)}
    stock.apply(order(ordered=3))
    own, other = stock.level(SHOP), stock.level(OTHER)
    assert (own.expected, own.desired, own.uncertain, own.uncertain_since) == (7, 7, "own_sale", at(1))
    assert (own.touched, own.out_of_step_since) == (touched[SHOP] + 1, at(1))
    assert (other.expected, other.desired, other.uncertain, other.touched) == (10, 7, None, touched[OTHER])
    assert other.out_of_step_since == at(1)


def test_shipping_moves_no_own_number_but_cancelling_and_restocking_do():
    stock = Stock({"A": 10})
    stock.apply(order(revision=1, ordered=3))
    stock.in_step()
    stock.apply(order(revision=2, ordered=3, shipped=[(2, 1)]))
    assert (stock.level().expected, stock.level().uncertain) == (7, None)
    stock.apply(order(revision=3, ordered=3, cancelled=1, shipped=[(2, 1)]))
    assert (stock.level().expected, stock.level().uncertain) == (8, "own_sale")
    stock.apply(order(revision=4, ordered=3, cancelled=1, shipped=[(2, 1)], restocked=[(2, 3)]))
    assert (stock.level().expected, stock.level().desired) == (10, 10)


def test_an_order_first_heard_of_when_it_is_cancelled_leaves_its_level_to_be_read():
    stock = Stock({"A": 10})
    stock.in_step()
    stock.apply(order(ordered=2, cancelled=2))
    # Whether the shop put back what it had taken off, its order doesn't say.
    assert (stock.level().expected, stock.level().uncertain) == (10, "own_sale")
    assert (stock.level(OTHER).expected, stock.level(OTHER).uncertain) == (10, None)


def test_the_first_reason_of_doubt_is_kept():
    stock = Stock({"A": 10})
    stock.in_step(uncertain="answer_lost", uncertain_since=START)
    stock.now = at(3)
    stock.apply(order())
    assert (stock.level().uncertain, stock.level().uncertain_since) == ("answer_lost", START)


def test_a_channel_that_does_not_move_its_own_number_stays_certain():
    stock = Stock({"A": 10})
    stock.in_step()
    stock.apply(order(item="A", ordered=3), channel=ERP)
    level = stock.level(ERP)
    assert (level.expected, level.desired, level.uncertain) == (10, 7, None)


# --- resolving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "sku"),
    [
        ({"item": "shop-B"}, "B"),
        ({"item": "", "sku": "B@shop"}, "B"),
        ({"item": "nobody knows", "sku": "B@shop"}, "B"),
        ({"item": "shop-A", "sku": "B@shop"}, "A"),
    ],
)
def test_a_line_resolves_by_the_first_name_that_is_known(reference, sku):
    stock = Stock({"A": 10, "B": 10})
    stock.apply(order(**reference))
    assert stock.balance(sku) == (10, 1)


def test_a_line_without_a_listing_waits_and_applies_itself_once_it_is_mapped():
    stock = Stock({"A": 10})
    first = stock.apply(order(item="shop-new", ordered=4, shipped=[(1, 2)], updated=2))
    assert (first.unresolved, first.entries) == (1, 0)
    assert [line.sku for line in stock.rows(order_lines)] == [None]
    stock.apply(order(item="shop-new", revision=2, ordered=4, cancelled=1, shipped=[(1, 2)], updated=3))
    result = stock.map(Listing(SHOP, "A", "shop-new"))
    assert result.lines == 1
    assert stock.balance() == (9, 2)
    assert stock.desired()[OTHER] == 7
    (line,) = stock.rows(order_lines)
    assert (line.sku, line.booked_reserved, line.booked_shipped) == ("A", 2, 1)
    stock.prove()
    assert stock.map(Listing(SHOP, "A", "shop-new")).lines == 0
    stock.apply(order(item="shop-new", revision=3, ordered=4, cancelled=1, shipped=[(1, 2), (2, 4)], updated=4))
    assert stock.balance() == (7, 0)


def test_a_line_keeps_the_sku_that_it_was_first_booked_on():
    stock = Stock({"A": 10, "B": 10})
    stock.apply(order(ordered=2))
    stock.map(Listing(SHOP, "B", "shop-A", platform_sku="A@shop"))
    stock.apply(order(revision=2, ordered=2, shipped=[(2, 1)]))
    assert (stock.balance("A"), stock.balance("B")) == ((8, 0), (10, 0))
    stock.apply(order("2", ordered=1))
    assert stock.balance("B") == (10, 1)


def test_a_late_order_of_a_retired_listing_still_counts():
    stock = Stock({"A": 10})
    listing = next(row for row in stock.rows(platform_mapping) if row.platform_item_id == "shop-A")
    with write_transaction(stock.engine) as connection:
        listings.set_status(connection, [listing.id], "retired", actor="test", reason="", now=START)
    stock.apply(order(ordered=2))
    assert stock.balance() == (10, 2)


def test_stock_that_the_platform_keeps_itself_is_left_alone():
    stock = Stock({"A": 10})
    stock.map(Listing(SHOP, "A", "fba-A", status="excluded"))
    applied = stock.apply(order(item="fba-A", ordered=2))
    assert (applied.ignored, applied.entries) == (1, 0)
    assert stock.balance() == (10, 0)
    assert "excluded" in stock.rows(order_lines)[0].ignored_reason


def test_one_item_at_two_locations_makes_both_levels_uncertain_and_expects_nothing_new():
    stock = Stock({"A": 10})
    stock.map(Listing(SHOP, "A", "two", "north"), Listing(SHOP, "A", "two", "south"))
    stock.in_step()
    stock.apply(order(item="two", ordered=1))
    from invsync_dagster.inventory.tables import inventory_levels

    both = [row for row in stock.rows(inventory_levels) if row.item_id == "two"]
    assert [(row.expected, row.uncertain) for row in both] == [(10, "own_sale")] * 2
    assert stock.rows(order_lines)[0].level_id is None


def test_an_order_from_before_the_cut_over_has_no_effect_now_or_later():
    stock = Stock({"A": 10})
    with write_transaction(stock.engine) as connection:
        channels.register(connection, SHOP, "shopify", "sandbox", True, Rules(), at(0), START)
    stock.in_step()
    assert stock.apply(order(ordered=2, created=-1)).ignored == 1
    assert stock.apply(order(revision=2, ordered=2, shipped=[(2, 5)], created=-1, updated=5)).ignored == 1
    assert stock.apply(order("2", ordered=3, created=0)).entries == 1
    assert stock.balance() == (10, 3)
    assert stock.level().expected == 7
    stock.prove()


def cut_over(stock: Stock, *documents: OrderDocument) -> Applied:
    """The channel's first poll lists its open orders."""
    return stock.apply(*documents, source="cut_over")


def test_an_order_that_is_open_at_the_cut_over_is_promised_and_ships_like_any_other():
    stock = Stock({"A": 10})
    with write_transaction(stock.engine) as connection:
        channels.register(connection, SHOP, "shopify", "sandbox", True, Rules(), at(0), START)
    stock.in_step()
    partly = order(ordered=5, cancelled=1, shipped=[(2, -60)], created=-90, updated=-60)
    assert cut_over(stock, partly).entries == 3
    # The count at minute -30 was taken after the two had left: on hand stays.
    assert stock.balance() == (10, 2)
    assert stock.level().expected == 10  # the shop had taken them off its number before
    assert stock.desired() == {SHOP: 8, OTHER: 8, ERP: 8}
    assert cut_over(stock, partly).entries == 0
    stock.apply(order(revision=2, ordered=5, cancelled=1, shipped=[(2, -60), (2, 5)], created=-90, updated=5))
    assert stock.balance() == (8, 0)
    assert stock.desired() == {SHOP: 8, OTHER: 8, ERP: 8}
    stock.prove()


def test_an_order_that_was_ignored_as_too_early_counts_once_it_is_listed_as_open():
    stock = Stock({"A": 10})
    with write_transaction(stock.engine) as connection:
        channels.register(connection, SHOP, "shopify", "sandbox", True, Rules(), at(0), START)
    stock.in_step()
    newer = order(revision=3, ordered=3, cancelled=1, created=-1, updated=4)
    assert stock.apply(newer).ignored == 1
    cut_over(stock, order(revision=2, ordered=3, created=-1, updated=3))  # listed before the cancel, applied after it
    assert stock.balance() == (10, 2)
    assert stock.apply(newer).entries == 0
    assert stock.level().expected == 10
    stock.prove()


def test_an_open_order_at_the_cut_over_leaves_a_count_of_what_is_available_as_it_was():
    stock = Stock()
    with write_transaction(stock.engine) as connection:
        channels.register(connection, SHOP, "shopify", "sandbox", True, Rules(), at(0), START)
    stock.count({"A": 10}, as_of=-30, source=CountSource("supplier", contains=(SHOP,)), basis="available")
    cut_over(stock, order(ordered=3, created=-90))
    assert stock.balance() == (13, 3)
    assert stock.desired()[OTHER] == 10
    stock.prove()


def test_an_unknown_channel_leaves_an_open_case_and_stops_nobody():
    stock = Stock({"A": 10})
    batch = [Inbound("gone", Content((order(),)), START), Inbound(SHOP, Content((order(),)), START)]
    applied = stock.apply_batch(batch)
    assert (applied.unresolved, applied.entries) == (1, 1)


def test_two_lines_of_one_order_with_the_same_sku_both_count():
    stock = Stock({"A": 10})
    lines = tuple(OrderLine(str(n), LineReference(item_id="shop-A"), n) for n in (1, 2))
    stock.in_step()
    stock.apply(OrderDocument("1", 1, START, START, lines))
    assert stock.balance() == (10, 3)
    assert stock.level().expected == 7


def whole(revision: int, **units: int) -> OrderDocument:
    """An order whose document names every line that it has: units by SKU."""
    lines = tuple(OrderLine(sku, LineReference(item_id=f"shop-{sku}"), count) for sku, count in units.items())
    return OrderDocument("1", revision, START, at(revision), lines, whole=True)


def test_a_line_that_a_whole_document_leaves_out_is_released():
    stock = Stock({"A": 10, "B": 10})
    stock.in_step()
    stock.apply(whole(1, A=2, B=3))
    assert (stock.balance("A"), stock.balance("B")) == ((10, 2), (10, 3))
    stock.apply(whole(2, A=2))
    assert (stock.balance("A"), stock.balance("B")) == ((10, 2), (10, 0))
    assert stock.level(sku="B").expected == 10


def test_a_whole_document_without_any_line_releases_all_and_an_older_one_nothing():
    stock = Stock({"A": 10})
    stock.apply(whole(2, A=2))
    stock.apply(whole(1))
    assert stock.balance() == (10, 2)
    stock.apply(whole(3))
    assert stock.balance() == (10, 0)


def test_a_line_that_comes_and_goes_in_one_batch_has_no_effect_in_any_order():
    for documents in ((whole(1, A=2, B=1), whole(2, B=1)), (whole(2, B=1), whole(1, A=2, B=1))):
        stock = Stock({"A": 10, "B": 10})
        stock.apply(*documents)
        assert (stock.balance("A"), stock.balance("B")) == ((10, 0), (10, 1))


def test_less_at_a_revision_that_may_stay_is_asked_for_and_then_counts():
    stock = Stock({"A": 10, "B": 10})
    edited = [
        whole(1, **units)._replace(revision_may_stay=True) for units in ({"A": 5, "B": 3}, {"A": 2, "B": 3}, {"A": 2})
    ]
    stock.apply(edited[0])
    for document in edited[1:]:
        before = stock.balance("A"), stock.balance("B")
        assert stock.apply(document).unclear == 1
        assert (stock.balance("A"), stock.balance("B")) == before
        stock.apply_batch([Inbound(SHOP, Content((document,)), at(2), source="order")])
    assert (stock.balance("A"), stock.balance("B")) == ((10, 2), (10, 0))
    assert stock.apply(edited[2]).unclear == 0
    # The line that was taken out is back.
    assert stock.apply(edited[1]).unclear == 1
    stock.prove()


def test_a_late_double_from_before_an_edit_that_left_the_revision_is_asked_about_and_holds_more_until_then():
    stock = Stock({"A": 10, "B": 10})
    before, edited = (whole(1, A=units)._replace(revision_may_stay=True) for units in (5, 2))
    stock.apply(before)
    stock.apply_batch([Inbound(SHOP, Content((edited,)), at(2), source="order")])
    assert stock.balance("A") == (10, 2)
    assert stock.apply(before).unclear == 1
    assert stock.balance("A") == (10, 5)
    stock.apply_batch([Inbound(SHOP, Content((edited,)), at(2), source="order")])
    assert stock.balance("A") == (10, 2)


def test_less_at_an_equal_revision_is_older_where_revisions_never_stay():
    stock = Stock({"A": 10, "B": 10})
    stock.apply(whole(1, A=5, B=3))
    applied = stock.apply(whole(1, A=2))
    assert (applied.unclear, applied.older) == (0, 1)
    assert (stock.balance("A"), stock.balance("B")) == ((10, 5), (10, 3))


def test_shipped_units_of_a_line_that_was_taken_out_stay_shipped():
    stock = Stock({"A": 10, "B": 10})
    shipped = OrderLine("A", LineReference(item_id="shop-A"), 3, 0, (Movement(2, START),))
    stock.apply(OrderDocument("1", 1, START, START, (shipped,), whole=True))
    assert stock.balance() == (8, 1)
    stock.apply(whole(2, B=1))
    assert stock.balance() == (8, 0)


def test_a_document_that_is_not_whole_says_nothing_of_other_lines():
    stock = Stock({"A": 10, "B": 10})
    stock.apply(whole(1, A=2))
    stock.apply(order(revision=5, item="shop-B"))
    assert stock.balance("A") == (10, 2)
