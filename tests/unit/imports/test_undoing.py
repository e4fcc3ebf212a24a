"""An import is undone: the stock is as it would be without it, and what came since stays."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.results import SHOWN
from invsync_dagster.inventory.imports.undoing import preview_undo, undo
from invsync_dagster.inventory.listings import send_to_review, set_status
from invsync_dagster.inventory.looks import DecisionError
from invsync_dagster.inventory.tables import central_inventory, operator_actions, platform_mapping, stock_ledger
from tests.unit.imports.stock import MAPPING_HEADER, NOW, Stock, import_file

HOUR = timedelta(hours=1)


def mapped(stock: Stock) -> None:
    rows = "A,shop,a,i1,\nB,shop,b,i2,\n"
    assert import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\n{rows}", "mapping.csv")).state == "applied"


def taken_in(stock: Stock, text: str, after: timedelta = timedelta(), **declared: Any) -> str:
    basis = stock.at(seconds=after.total_seconds())
    path = stock.file(text, f"stock-{after.total_seconds():.0f}.csv", at=NOW + after)
    result = import_file(basis, path, Declaration(**declared))
    assert result.state == "applied", result.render()
    return str(result.import_id)


def listed(stock: Stock, buffer: int, *, at: int, sku: str = "A") -> str:
    text = f"{MAPPING_HEADER},buffer\n{sku},shop,a,i1,,{buffer}\n"
    result = import_file(stock.at(hours=at), stock.file(text, f"mapping-{at}.csv"))
    assert result.state == "applied", result.render()
    return str(result.import_id)


def test_the_count_before_is_in_force_again_and_sales_since_stay(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\nB,5\n")
    mapped(stock)
    wrong = taken_in(stock, "sku,quantity\nA,100\nB,5\n", HOUR)
    stock.sell("i1", 3, NOW + 2 * HOUR, shipped=True)
    assert stock.quantities() == {"A": 97, "B": 5}
    basis = stock.at(hours=3)
    shown = preview_undo(basis, wrong)
    assert (shown.restored, shown.kept, shown.units_before, shown.units_after) == (2, 0, 102, 12)
    assert [(one.sku, one.before, one.after) for one in shown.largest] == [("A", 97, 7), ("B", 5, 5)]
    assert stock.quantities() == {"A": 97, "B": 5}
    assert undo(basis, wrong, "a zero too many") == shown
    assert stock.quantities() == {"A": 7, "B": 5}
    assert stock.desired() == {"A": 7, "B": 5}
    kinds = [kind for _, kind in stock.rows(stock_ledger.c.sequence, stock_ledger.c.kind)]
    assert kinds == ["import", "import", "import", "reserve", "ship", "undo"]
    stock.prove()


def test_a_sale_that_the_undone_count_contained_is_booked_after_all(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\n")
    mapped_a = stock.file(f"{MAPPING_HEADER}\nA,shop,a,i1,\n", "mapping.csv")
    import_file(stock.basis, mapped_a)
    wrong = taken_in(stock, "sku,quantity\nA,50\n", 2 * HOUR)
    # Shipped before that count was made, and told of after it: the count contained it.
    stock.sell("i1", 4, NOW + HOUR, shipped=True)
    assert stock.quantities() == {"A": 50}
    undo(stock.at(hours=3), wrong, "")
    assert stock.quantities() == {"A": 6}
    stock.prove()


def test_skus_that_an_import_brought_have_nothing_left(stock: Stock) -> None:
    first = taken_in(stock, "sku,quantity,reserved_quantity\nA,10,4\n")
    assert stock.rows(central_inventory.c.sku, central_inventory.c.reserved_quantity) == [("A", 4)]
    undo(stock.at(hours=1), first, "not ours")
    columns = central_inventory.c
    assert stock.rows(columns.sku, columns.quantity, columns.reserved_quantity, columns.count_id) == [("A", 0, 0, None)]
    stock.prove()
    again = taken_in(stock, "sku,quantity,reserved_quantity\nA,10,4\n", -HOUR)
    assert again != first
    assert stock.quantities() == {"A": 10}


def test_a_file_of_several_parts_is_undone_as_a_whole(stock: Stock) -> None:
    skus = [f"S{number:04}" for number in range(2_345)]
    stock.load("sku,quantity\n" + "".join(f"{sku},10\n" for sku in skus))
    moved = dict.fromkeys(skus, 10) | {"S0007": 12, "S1500": 15, "S2300": 13}
    wrong = taken_in(stock, "sku,quantity\n" + "".join(f"{sku},{units}\n" for sku, units in moved.items()), HOUR)
    found = undo(stock.at(hours=2), wrong, "")
    assert (found.restored, found.kept, found.units_before, found.units_after) == (
        2_345,
        0,
        sum(moved.values()),
        23_450,
    )
    largest = sorted(moved.items(), key=lambda one: (-one[1], one[0]))[: len(found.largest)]
    assert [(one.sku, one.before, one.after) for one in found.largest] == [(sku, units, 10) for sku, units in largest]
    assert len(found.largest) == SHOWN
    assert set(stock.quantities().values()) == {10}
    stock.prove()


def test_what_was_counted_again_since_stays(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\nB,5\n")
    wrong = taken_in(stock, "sku,quantity\nA,50\nB,25\n", HOUR)
    taken_in(stock, "sku,quantity\nA,12\n", 2 * HOUR)
    found = undo(stock.at(hours=3), wrong, "")
    assert (found.restored, found.kept) == (1, 1)
    assert stock.quantities() == {"A": 12, "B": 5}
    stock.prove()


def test_two_imports_are_undone_in_either_order(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\nB,10\n")
    one = taken_in(stock, "sku,quantity\nA,20\nB,20\n", HOUR)
    two = taken_in(stock, "sku,quantity\nA,30\n", 2 * HOUR)
    undo(stock.at(hours=3), one, "the older first: A was counted again")
    assert stock.quantities() == {"A": 30, "B": 10}
    undo(stock.at(hours=4), two, "")
    assert stock.quantities() == {"A": 10, "B": 10}
    newest = taken_in(stock, "sku,quantity\nA,40\n", 5 * HOUR)
    newer = taken_in(stock, "sku,quantity\nA,50\n", 6 * HOUR)
    for import_id in (newer, newest):
        undo(stock.at(hours=7), import_id, "")
    assert stock.quantities() == {"A": 10, "B": 10}
    stock.prove()


def test_a_count_of_what_is_available_is_put_back_as_one(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\n")
    mapped_a = stock.file(f"{MAPPING_HEADER}\nA,shop,a,i1,\n", "mapping.csv")
    import_file(stock.basis, mapped_a)
    stock.sell("i1", 2, NOW + HOUR)
    taken_in(stock, "sku,quantity\nA,8\n", 2 * HOUR, basis="available", contains=("shop",))
    assert stock.quantities() == {"A": 10}
    wrong = taken_in(stock, "sku,quantity\nA,80\n", 3 * HOUR)
    stock.sell("i1", 1, NOW + 4 * HOUR, shipped=True)
    undo(stock.at(hours=5), wrong, "")
    columns = central_inventory.c
    assert stock.rows(columns.sku, columns.quantity, columns.reserved_quantity) == [("A", 9, 2)]
    stock.prove()


def test_statuses_are_put_back_unless_they_were_changed_again(stock: Stock) -> None:
    stock.load("sku,quantity,status\nA,10,active\nB,5,active\n")
    mapped(stock)
    wrong = taken_in(stock, "sku,quantity,status\nA,10,inactive\nB,5,inactive\n", HOUR)
    taken_in(stock, "sku,quantity,status\nB,5,active\n", 2 * HOUR)
    taken_in(stock, "sku,quantity,status\nB,5,inactive\n", 3 * HOUR)
    assert stock.desired() == {"A": 0, "B": 0}
    found = undo(stock.at(hours=4), wrong, "")
    assert (found.statuses, found.restored, found.kept) == (1, 1, 1)
    assert stock.desired() == {"A": 10, "B": 0}


def test_listings_get_their_rules_and_skus_back_and_new_ones_are_retired(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\nB,8\n")
    header = MAPPING_HEADER + ",buffer,maximum"
    import_file(stock.basis, stock.file(f"{header}\nA,shop,a,i1,,2,\nB,shop,b,i2,,,\nA,erp,A,A,,,\n", "before.csv"))
    text = f"{header}\nB,shop,a,i1,,9,1\nB,shop,b,i2,,4,\nB,erp,B,B,,,\nA,erp,A,A,,1,\n"
    wrong = str(import_file(stock.at(hours=1), stock.file(text, "wrong.csv")).import_id)
    later = stock.file(f"{header}\nA,erp,A,A,,3,\n", "later.csv")
    import_file(stock.at(hours=2), later)
    found = undo(stock.at(hours=3), wrong, "columns mixed up")
    assert (found.restored, found.retired, found.kept) == (2, 1, 1)
    listing = platform_mapping.c
    assert stock.rows(
        listing.platform_item_id, listing.central_sku, listing.buffer, listing.maximum, listing.status
    ) == [
        ("A", "A", 3, None, "active"),
        ("B", "B", None, None, "retired"),
        ("i1", "A", 2, None, "active"),
        ("i2", "B", None, None, "active"),
    ]


@pytest.mark.parametrize("newest_first", [True, False])
def test_nothing_is_left_of_two_imports_undone_in_either_order(stock: Stock, newest_first: bool) -> None:
    stock.load("sku,quantity,status\nA,10,active\n")
    listed(stock, 1, at=0)
    one = taken_in(stock, "sku,quantity,reserved_quantity,status\nA,20,5,inactive\n", HOUR)
    two = taken_in(stock, "sku,quantity,reserved_quantity,status\nA,30,7,active\n", 2 * HOUR)
    three, four = listed(stock, 2, at=3), listed(stock, 3, at=4)
    order = (four, three, two, one) if newest_first else (one, two, three, four)
    for hour, import_id in enumerate(order, start=5):
        undo(stock.at(hours=hour), import_id, "")
    stocked, listing = central_inventory.c, platform_mapping.c
    external = stocked.reserved_external
    assert stock.rows(stocked.quantity, stocked.reserved_quantity, external, stocked.status) == [(10, 0, 0, "active")]
    assert stock.rows(listing.buffer, listing.status) == [(1, "active")]
    stock.prove()


def test_a_listing_that_came_with_an_import_undone_before_is_retired_with_the_next(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\n")
    one, two = listed(stock, 1, at=0), listed(stock, 2, at=1)
    assert undo(stock.at(hours=2), one, "").kept == 1
    found = undo(stock.at(hours=3), two, "")
    assert (found.restored, found.retired, found.kept) == (0, 1, 0)
    assert stock.rows(platform_mapping.c.status) == [("retired",)]


def test_only_the_variations_without_sku_that_came_with_an_import_are_retired(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\n")
    header = f"{MAPPING_HEADER},platform_variant_id"
    import_file(stock.basis, stock.file(f"{header}\nA,shop,,300,,301\n", "before.csv"))
    text = f"{header}\nA,shop,,300,,302\nA,shop,,300,,303\n"
    came = str(import_file(stock.at(hours=1), stock.file(text, "came.csv")).import_id)
    found = undo(stock.at(hours=2), came, "")
    assert (found.restored, found.retired, found.kept) == (0, 2, 0)
    listing = platform_mapping.c
    assert stock.rows(listing.platform_variant_id, listing.status) == [
        ("301", "active"), ("302", "retired"), ("303", "retired"),
    ]  # fmt: skip


def test_a_listing_that_the_shop_refused_as_mapped_wrongly_is_put_back(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\nB,5\n")
    listed(stock, 1, at=0)
    wrong = listed(stock, 9, at=1, sku="B")
    with write_transaction(stock.basis.engine) as connection:
        level = connection.execute(select(platform_mapping.c.level_id)).scalar_one()
        send_to_review(connection, level, reason="not found", actor="push", now=stock.at(hours=2).now)
    assert undo(stock.at(hours=3), wrong, "").restored == 1
    listing = platform_mapping.c
    assert stock.rows(listing.central_sku, listing.buffer, listing.status) == [("A", 1, "active")]


def test_what_a_person_changed_between_two_imports_stays_when_both_are_undone(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\n")
    one = listed(stock, 1, at=0)
    with write_transaction(stock.basis.engine) as connection:
        number = connection.execute(select(platform_mapping.c.id)).scalar_one()
        set_status(connection, [number], "paused", actor="ann", reason="sold out", now=stock.at(hours=1).now)
    two = listed(stock, 2, at=2)
    listing = platform_mapping.c
    for hour, (import_id, kept) in enumerate(((two, 0), (one, 1)), start=3):
        assert undo(stock.at(hours=hour), import_id, "").kept == kept
        assert stock.rows(listing.buffer, listing.status) == [(1, "paused")]


def test_the_undoing_is_recorded_and_told(stock: Stock) -> None:
    stock.load("sku,quantity\nA,10\n")
    wrong = taken_in(stock, "sku,quantity\nA,100\n", HOUR)
    found = undo(stock.at(hours=2), wrong, "a zero too many")
    assert "1 SKUs get the count before it: 100 -> 10 units on hand" in found.render()
    assert json.loads(json.dumps(found.to_dict()))["largest"] == [{"sku": "A", "before": 100, "after": 10}]
    assert stock.states()[-1] == ("inventory", "undone")
    action = operator_actions.c
    assert ("import undone", "ann", "a zero too many") in [
        row[1:] for row in stock.rows(action.id, action.action, action.actor, action.reason)
    ]


def test_what_can_not_be_undone_says_why(stock: Stock) -> None:
    with pytest.raises(DecisionError, match="there is no import 'x'"):
        undo(stock.basis, "x", "")
    stock.load("sku,quantity\nA,10\n")
    wrong = taken_in(stock, "sku,quantity\nA,100\n", HOUR)
    undo(stock.at(hours=2), wrong, "")
    with pytest.raises(DecisionError, match="is undone, not applied: there is nothing to undo"):
        undo(stock.at(hours=2), wrong, "")
