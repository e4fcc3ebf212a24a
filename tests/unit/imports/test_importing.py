"""Files go into the stock as they were previewed, or are held as a whole until a person decides."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from datetime import timedelta

import pytest

from invsync_dagster.events import Content, StockCount
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explain import explain
from invsync_dagster.inventory.imports import importing
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.importing import look_again, preview
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.imports.results import Move, Tally
from invsync_dagster.inventory.looks import DecisionError
from invsync_dagster.inventory.status import status
from invsync_dagster.inventory.tables import (
    central_inventory,
    imports,
    operator_actions,
)
from invsync_dagster.settings import ImportLimits
from tests.unit.imports.stock import LIMITS, MAPPING_HEADER, NOW, approve, drop, import_file, many


def test_the_first_import_fills_an_empty_stock_and_is_not_held(stock):
    text = "sku,product_name,quantity,reserved_quantity,status\n007,Mug,12,2,active\nB,Cup,5,,inactive\n"
    result = import_file(stock.basis, stock.file(text))
    assert (result.state, result.preview.added, result.preview.units_after) == ("applied", 2, 17)
    columns = central_inventory.c
    assert stock.rows(
        columns.sku, columns.product_name, columns.quantity, columns.reserved_quantity, columns.status
    ) == [
        ("007", "Mug", 12, 2, "active"),
        ("B", "Cup", 5, 0, "inactive"),
    ]
    assert result.rejects_file is None
    assert result.kept_file.read_text(encoding="utf-8") == text
    assert result.kept_file.parent == stock.basis.folder / "done"
    stock.prove()


def test_a_preview_says_what_the_import_then_does_and_writes_nothing(stock):
    stock.load("sku,quantity\nA,10\nB,5\nC,7\nD,1\n")
    path = stock.file("sku,quantity\nA,12\nB,0\nC,7\nE,4\n,9\n")
    before = (stock.quantities(), stock.entries(), stock.states(), sorted(stock.files.iterdir()))
    found = preview(stock.basis, path)
    assert (stock.quantities(), stock.entries(), stock.states(), sorted(stock.files.iterdir())) == before
    assert (found.rows, found.added, found.changed, found.unchanged, found.rejected) == (4, 1, 2, 1, 1)
    assert (found.zeroed, found.stocked, found.units_before, found.units_after, found.units_moved) == (1, 3, 22, 23, 7)
    assert [(move.sku, move.quantity_before, move.quantity_after) for move in found.largest] == [
        ("B", 5, 0),
        ("E", 0, 4),
        ("A", 10, 12),
    ]
    result = import_file(stock.basis, path)
    assert result.preview == found
    assert stock.quantities() == {"A": 12, "B": 0, "C": 7, "D": 1, "E": 4}
    stock.prove()


def test_a_preview_names_the_twenty_largest_moves(stock):
    text = "sku,quantity\n" + "".join(f"S{number},{number + 1}\n" for number in range(30))
    found = preview(stock.basis, stock.file(text))
    assert [move.quantity_after for move in found.largest] == list(range(30, 10, -1))


def test_absent_rows_are_not_zeroed(stock):
    stock.load("sku,quantity\nA,10\nB,5\n")
    import_file(stock.basis, stock.file("sku,quantity\nA,11\n"))
    assert stock.quantities() == {"A": 11, "B": 5}


def test_good_rows_go_in_and_bad_ones_are_written_beside_the_file(stock):
    path = stock.file("sku,quantity\nA,10\nB,-1\nC,1.5\n,3\n")
    result = import_file(stock.basis, path)
    assert (result.state, stock.quantities()) == ("applied", {"A": 10})
    assert result.rejects_file == path.with_name("stock.csv.rejects.csv")
    with result.rejects_file.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["line"], row["column"], row["value"]) for row in rows] == [
        ("stock.csv", "3", "quantity", "-1"),
        ("stock.csv", "4", "quantity", "1.5"),
        ("stock.csv", "5", "sku", ""),
    ]
    assert all(row["reason"] and row["mend"] for row in rows)
    import_file(stock.basis, stock.file("sku,quantity\nA,10\nB,1\n"))
    assert not result.rejects_file.exists()


@pytest.mark.parametrize("text", ["", "sku,quantity\n", "sku,quantity\nA,x\n", "sku,amount\nA,1\n"])
def test_a_file_of_which_nothing_can_go_in_is_rejected_and_zeroes_nothing(stock, text):
    stock.load("sku,quantity\nA,10\n")
    result = import_file(stock.basis, stock.file(text))
    assert result.state == "rejected"
    assert result.reason.startswith("stock.csv")
    assert result.kept_file.parent == stock.basis.folder / "rejected"
    assert stock.quantities() == {"A": 10}
    assert [state for _, state in stock.states()] == ["applied", "rejected"]


@pytest.mark.parametrize(
    ("quantity", "words"), [(0, "10 of 10 SKUs that can be sold would go to 0"), (60, "500 units would move, of 100")]
)
def test_a_file_beyond_the_limits_is_held_as_a_whole_until_approved(stock, quantity, words):
    stock.load(many(10))
    entries = stock.entries()
    result = import_file(stock.basis, stock.file(many(quantity) + "NEW,4\n"))
    assert result.state == "held"
    assert words in result.reason
    assert set(stock.quantities().values()) == {10}
    assert (len(stock.quantities()), stock.entries()) == (10, entries)
    assert result.kept_file.parent == stock.basis.folder / "held"
    with stock.basis.engine.connect() as connection:
        (waiting,) = status(connection, NOW, 0).held_imports
    assert (waiting.import_id, waiting.reason) == (result.import_id, result.reason)

    approved = approve(stock.at(hours=1), result.import_id, "stocktaking")
    assert approved.state == "applied"
    assert stock.quantities() == {f"S{number}": quantity for number in range(10)} | {"NEW": 4}
    assert approved.kept_file.exists() and not result.kept_file.exists()
    kinds = stock.rows(
        operator_actions.c.id, operator_actions.c.actor, operator_actions.c.action, operator_actions.c.reason
    )
    assert ("ann", "import approved", "stocktaking") in [row[1:] for row in kinds]
    stock.prove()


def test_a_dropped_import_never_goes_in(stock):
    stock.load(many(10))
    result = import_file(stock.basis, stock.file(many(0)))
    dropped = drop(stock.basis, result.import_id, "wrong export")
    assert (dropped.state, dropped.kept_file.parent) == ("dropped", stock.basis.folder / "rejected")
    assert set(stock.quantities().values()) == {10}
    with pytest.raises(DecisionError, match="is dropped, not held"):
        approve(stock.basis, result.import_id, "after all")
    with pytest.raises(DecisionError, match="there is no import 'nope'"):
        drop(stock.basis, "nope", "why")


def test_a_held_file_that_comes_again_waits_once(stock):
    stock.load(many(10))
    first = import_file(stock.basis, stock.file(many(0)))
    again = import_file(stock.at(minutes=5), stock.file(many(0), "other.csv"))
    assert (again.state, again.import_id) == ("held", first.import_id)
    assert [state for _, state in stock.states()] == ["applied", "held"]


def test_a_kept_copy_that_was_changed_can_not_be_approved(stock):
    stock.load(many(10))
    result = import_file(stock.basis, stock.file(many(0)))
    result.kept_file.write_text(many(1), encoding="utf-8")
    with pytest.raises(DecisionError, match="missing or was changed"):
        approve(stock.basis, result.import_id, "why")
    assert set(stock.quantities().values()) == {10}


def test_sales_go_on_while_an_import_is_held_and_are_kept_by_its_approval(stock):
    stock.load(many(10))
    mapping = stock.file(f"{MAPPING_HEADER}\nS1,shop,S1,i1,\n", "mapping.csv")
    assert import_file(stock.basis, mapping).state == "applied"
    held = import_file(stock.basis, stock.file(many(200), at=NOW - timedelta(minutes=30)))
    assert held.state == "held"
    stock.sell("i1", 3, NOW - timedelta(minutes=10), shipped=True)
    assert stock.quantities()["S1"] == 7
    approve(stock.basis, held.import_id, "yes")
    assert stock.quantities()["S1"] == 197
    assert stock.quantities()["S2"] == 200
    stock.prove()


def test_a_source_that_makes_all_inactive_is_held_like_one_that_zeroes_all(stock):
    stock.load(many(10))
    text = "sku,quantity,status\n" + "".join(f"S{number},10,inactive\n" for number in range(10))
    result = import_file(stock.basis, stock.file(text))
    assert (result.state, result.preview.zeroed) == ("held", 10)


def moves(count: int, before: int, after: int) -> list[Move]:
    return [Move(str(number), "", before, after, before, after) for number in range(count)]


def judge(found: list[Move], limits: ImportLimits) -> tuple[str, ...]:
    tally = Tally(limits)
    for move in found:
        tally.add(move, new=False)
    return tally.beyond()


def test_limits_are_exceeded_only_beyond_share_and_minimum():
    assert judge(moves(2, 1, 0), LIMITS) == ()  # the minimum
    assert judge(moves(2, 1, 0) + moves(8, 1, 1), LIMITS) == ()  # the share, exactly
    assert judge(moves(3, 1, 0) + moves(12, 1, 1), LIMITS) == ()
    assert len(judge(moves(3, 1, 0) + moves(11, 1, 1), LIMITS)) == 1
    assert judge(moves(1, 100, 0), LIMITS) == ()
    assert judge(moves(1, 204, 102), LIMITS) == ()
    assert len(judge(moves(1, 200, 99), LIMITS)) == 1
    assert judge([], LIMITS) == ()


def test_an_all_zero_file_of_one_shelf_is_held_though_the_others_are_full(stock):
    stock.load(many(10, count=500))
    assert import_file(stock.basis, stock.file(many(0, count=3))).state == "held"


def test_the_same_file_again_is_known_and_changes_nothing(stock):
    first = import_file(stock.basis, stock.file(many(10)))
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nS1,shop,S1,i1,\n", "mapping.csv"))
    stock.sell("i1", 3, NOW - timedelta(minutes=10), shipped=True)
    entries = stock.entries()
    again = import_file(stock.at(hours=2), stock.file(many(10), "copy.csv", at=NOW + timedelta(hours=1)))
    assert (again.state, again.import_id) == ("already_imported", first.import_id)
    assert "declare a later as_of" in again.reason
    assert stock.entries() == entries


def test_the_same_numbers_with_a_later_as_of_are_a_new_count(stock):
    import_file(stock.basis, stock.file("sku,quantity\nA,10\n"), Declaration(as_of=NOW - timedelta(hours=3)))
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,A,i1,\n", "mapping.csv"))
    stock.sell("i1", 3, NOW - timedelta(hours=2), shipped=True)
    assert stock.quantities() == {"A": 7}
    result = import_file(stock.basis, stock.file("sku,quantity\nA,10\n"), Declaration(as_of=NOW - timedelta(hours=1)))
    assert (result.state, stock.quantities()) == ("applied", {"A": 10})
    stock.prove()


def test_the_file_applied_last_counts_from_its_approval(stock):
    stock.load(many(10))
    held = import_file(stock.at(minutes=1), stock.file(many(0), at=NOW + timedelta(minutes=1)))
    import_file(stock.at(minutes=2), stock.file(many(11)))
    _, seen = look_again(stock.at(minutes=3), held.import_id)
    approve(stock.at(minutes=3), held.import_id, "yes", str(seen))
    assert import_file(stock.at(minutes=4), stock.file(many(0))).state == "already_imported"
    assert import_file(stock.at(minutes=5), stock.file(many(11))).state == "applied"


def test_an_older_count_changes_nothing_not_even_the_name(stock):
    import_file(stock.basis, stock.file("sku,product_name,quantity\nA,New,10\n"), Declaration(as_of=NOW))
    result = import_file(
        stock.basis,
        stock.file("sku,product_name,quantity,status\nA,Old,3,inactive\n"),
        Declaration(as_of=NOW - timedelta(days=1)),
    )
    assert (result.state, result.preview.older, result.preview.changed) == ("applied", 1, 0)
    assert stock.rows(central_inventory.c.product_name, central_inventory.c.quantity, central_inventory.c.status) == [
        ("New", 10, "active")
    ]


def test_a_count_of_what_is_available_keeps_the_reservations_that_it_contains(stock):
    stock.load("sku,quantity\nA,10\n")
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,A,i1,\n", "mapping.csv"))
    stock.sell("i1", 4, NOW - timedelta(minutes=30))
    declared = Declaration("available", NOW - timedelta(minutes=10), ("shop",))
    result = import_file(stock.basis, stock.file("sku,quantity\nA,20\n"), declared)
    assert result.state == "applied"
    with stock.basis.engine.connect() as connection:
        found = explain(connection, "A")
    assert (found.quantity, found.reserved_quantity, found.available) == (24, 4, 20)
    assert found.entries[0].origin == f"import {result.import_id} of stock.csv"
    stock.prove()


def test_a_declaration_that_can_not_be_true_rejects_the_file(stock):
    future = Declaration(as_of=NOW + timedelta(seconds=1))
    result = import_file(stock.basis, stock.file("sku,quantity\nA,1\n"), future)
    assert (result.state, "in the future" in result.reason) == ("rejected", True)
    unknown = import_file(stock.basis, stock.file("sku,quantity\nA,1\n"), Declaration(contains=("shopp",)))
    assert (unknown.state, "unknown channel 'shopp'" in unknown.reason) == ("rejected", True)
    assert stock.quantities() == {}


def test_the_files_own_time_is_its_as_of_and_never_in_the_future(stock):
    import_file(stock.basis, stock.file("sku,quantity\nA,1\n", at=NOW - timedelta(hours=5)))
    import_file(stock.basis, stock.file("sku,quantity\nB,1\n", at=NOW + timedelta(hours=5)))
    summaries = [row[1]["declaration"]["as_of"] for row in stock.rows(imports.c.id, imports.c.summary)]
    assert sorted(summaries) == ["2026-07-01T07:00:00+00:00", "2026-07-01T12:00:00+00:00"]


def test_results_are_told_in_words_and_as_json(stock):
    stock.load(many(10))
    held = import_file(stock.basis, stock.file(many(0) + "X,-1\n"))
    words = held.render()
    for part in (
        "held: 10 of 10 SKUs",
        "0 added, 10 changed, 0 unchanged; 1 rows rejected",
        "S0: 10 -> 0",
        "line 12 column 'quantity'",
    ):
        assert part in words
    plain = json.loads(json.dumps(held.to_dict()))
    assert (plain["state"], plain["preview"]["zeroed"], plain["preview"]["rejected"]) == ("held", 10, 1)


def test_held_counts_of_a_channel_are_decided_the_same_way(stock):
    stock.load(many(10))
    text = MAPPING_HEADER + "\n" + "".join(f"S{number},erp,S{number},S{number},\n" for number in range(10))
    assert import_file(stock.basis, stock.file(text, "mapping.csv")).state == "applied"

    def count(quantity: int) -> str:
        counts = tuple(StockCount(f"e{quantity}{number}", f"S{number}", quantity, NOW) for number in range(10))
        with write_transaction(stock.basis.engine) as connection:
            inbound = ledger.Inbound("erp", Content(counts=counts), NOW)
            ledger.apply(connection, [inbound], now=NOW, run_id="", limits=LIMITS)
        with stock.basis.engine.connect() as connection:
            (held,) = status(connection, NOW, 0).held_imports
        return held.import_id

    assert drop(stock.basis, count(0), "no").state == "dropped"
    assert set(stock.quantities().values()) == {10}
    assert approve(stock.basis, count(90), "yes").state == "applied"
    assert set(stock.quantities().values()) == {90}


def test_a_file_that_is_gone_raises(stock):
    with pytest.raises(FileError, match="can't be read"):
        import_file(stock.basis, stock.files / "gone.csv")
    assert stock.states() == []


def test_what_changes_between_the_preview_and_the_hold_was_not_seen(stock, monkeypatch):
    stock.load(many(10))
    opened = write_transaction
    times = []

    @contextmanager
    def interrupted(engine):
        times.append(1)
        if len(times) == 2:  # the file was tried and rolled back, and isn't entered yet
            import_file(stock.at(minutes=1), stock.file("sku,quantity\nZ,1\n", "other.csv"))
        with opened(engine) as connection:
            yield connection

    monkeypatch.setattr(importing, "write_transaction", interrupted)
    held = import_file(stock.at(minutes=1), stock.file(many(0)))
    assert held.state == "held"
    with pytest.raises(DecisionError, match="isn't what was seen any more: import "):
        approve(stock.at(minutes=2), held.import_id, "yes")
    _, seen = look_again(stock.at(minutes=3), held.import_id)
    assert approve(stock.at(minutes=3), held.import_id, "yes", str(seen)).state == "applied"
