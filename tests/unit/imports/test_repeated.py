"""The same file given again: known, read anew where it is declared otherwise, or refused while it is held as it was declared."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.importing import preview
from invsync_dagster.inventory.imports.undoing import undo
from invsync_dagster.inventory.tables import central_inventory, imports
from invsync_dagster.settings import ImportSource
from tests.unit.imports.stock import MAPPING_HEADER, NOW, approve, drop, import_file, many, process_file

DOT, COMMA = Declaration(decimal_mark="."), Declaration(decimal_mark=",")
TWO_LOCATIONS = "Handle,SKU,Location,Available\n" + "".join(
    f"s{number},S{number},Hall,0\ns{number},S{number},Shop,10\n" for number in range(10)
)
HALL = Declaration(contains=("shop",), locations=("Hall",))
SHOP = Declaration(contains=("shop",), locations=("Shop",))


def test_a_row_that_a_declaration_makes_readable_goes_in_as_its_preview_said(stock):
    path = stock.file('sku,quantity\nR-1,"1,500"\nR-2,6\n')
    assert (import_file(stock.basis, path).state, stock.quantities()) == ("applied", {"R-2": 6})
    shown = preview(stock.at(minutes=1), path, DOT)
    result = import_file(stock.at(minutes=1), path, DOT)
    assert (result.state, result.preview) == ("applied", shown)
    assert (shown.rows, shown.added, shown.unchanged, shown.older, shown.known) == (2, 1, 1, 0, "")
    assert stock.quantities() == {"R-1": 1500, "R-2": 6}
    stock.prove()


def test_what_was_read_wrongly_is_corrected_and_sales_since_are_kept(stock):
    path = stock.file('sku,quantity\nA,"1,500"\nB,"2,000"\n', at=NOW - timedelta(hours=1))
    import_file(stock.basis, path, COMMA)
    assert stock.quantities() == {"B": 2}  # and 1.5 units are none
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nB,shop,B,i1,\n", "mapping.csv"))
    stock.sell("i1", 1, NOW - timedelta(minutes=30), shipped=True)
    # A copy of it, made after the sale, is no later count.
    copy = stock.file(path.read_text(), at=NOW)
    shown = preview(stock.at(minutes=1), copy, DOT)
    result = import_file(stock.at(minutes=1), copy, DOT)
    assert result.state == "held"  # 1,998 units of a SKU that had 1
    assert (shown.beyond, shown.units_moved) == (result.preview.beyond, 1998)
    approve(stock.at(minutes=2), result.import_id, "the mark was wrong")
    assert stock.quantities() == {"A": 1500, "B": 1999}
    assert import_file(stock.at(minutes=3), copy, DOT).state == "already_imported"
    stock.prove()


def test_the_same_declaration_again_is_known_and_its_preview_says_so(stock):
    path = stock.file('sku,quantity\nA,"1,500"\nB,2\n')
    first = import_file(stock.basis, path, DOT)
    for again in (DOT, replace(DOT, as_of=NOW), replace(DOT, as_of=NOW, basis="on_hand")):
        shown = preview(stock.at(minutes=1), path, again)
        result = import_file(stock.at(minutes=1), path, again)
        assert (result.state, result.import_id, result.rejections) == ("already_imported", first.import_id, ())
        assert (shown.known, shown.changed) == (result.reason, 0)
        assert shown.render().startswith("already_imported: already imported at 2026-07-01 12:00:00 UTC")
    assert len(stock.states()) == 1


def test_a_known_file_says_which_of_its_rows_never_went_in(stock):
    path = stock.file('sku,quantity\nA,"1,500"\nB,2\n')
    import_file(stock.basis, path)
    again = import_file(stock.at(minutes=1), path)
    assert (again.state, len(again.rejections)) == ("already_imported", 1)
    assert again.reason.startswith(
        "already imported at 2026-07-01 12:00:00 UTC, without the rows that can't go in now either: 1 of 1 rows are like line 2 "
        "column 'quantity': the ',' may be a thousands mark (1500) or a decimal mark (1,500) - declare the file's mark"
    )


@pytest.mark.parametrize(
    ("shipped", "declared", "after"),
    [
        (False, Declaration("available", contains=("shop",)), 14),  # 4 are promised by an order that it has booked
        (True, Declaration(contains=("shop",), lag_seconds=7200), 6),  # 4 have left that it hasn't booked yet
    ],
)
def test_what_the_numbers_mean_can_be_declared_afterwards(stock, shipped, declared, after):
    stock.load("sku,quantity\nA,99\n")
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,A,i1,\n", "mapping.csv"))
    stock.sell("i1", 4, NOW - timedelta(minutes=30), shipped=shipped)
    path = stock.file("sku,quantity\nA,10\n")
    import_file(stock.basis, path)
    assert stock.quantities() == {"A": 10}
    result = import_file(stock.at(minutes=1), path, declared)
    assert (result.state, stock.quantities()) == ("applied", {"A": after})
    stock.prove()


def test_columns_that_are_named_anew_in_channels_yaml_make_it_a_new_import(stock):
    def sources(quantity: str) -> dict[str, ImportSource]:
        return {"acme": ImportSource(columns={"sku": "Art", "quantity": quantity})}

    path = stock.file("Art,Ordered,Stock\nA,1,10\nB,2,20\nC,x,30\n")
    wrong = replace(stock.basis, sources=sources("Ordered"))
    right = replace(stock.at(minutes=1), sources=sources("Stock"))
    first = import_file(wrong, path)
    assert stock.quantities() == {"A": 1, "B": 2}
    second = import_file(right, path)
    assert (second.state, stock.quantities()) == ("applied", {"A": 10, "B": 20, "C": 30})
    assert import_file(replace(right, now=NOW + timedelta(minutes=2)), path).state == "already_imported"
    # The correction taken back, the first reading is in force again, and that one after it.
    undo(stock.at(minutes=3), second.import_id, "no")
    assert stock.quantities() == {"A": 1, "B": 2, "C": 0}
    undo(stock.at(minutes=4), first.import_id, "no")
    assert stock.quantities() == {"A": 0, "B": 0, "C": 0}
    stock.prove()


def test_skus_that_only_the_wrong_reading_had_keep_their_number_and_are_told_with_the_mend(stock):
    path = stock.file("sku,quantity\nX,1\n", "other.csv")
    import_file(stock.basis, path)
    rows = "".join(f"m{number},M{number},{place},3\n" for number, place in enumerate(("Hall", "Hall", "Shop")))
    path = stock.file(f"Handle,SKU,Location,Available\n{rows}")
    first = import_file(stock.at(minutes=1), path, HALL)
    second = import_file(stock.at(minutes=2), path, SHOP)
    assert second.preview.left_behind == ((first.import_id, 2),)
    assert json.loads(json.dumps(second.to_dict()))["preview"]["left_behind"] == {first.import_id: 2}
    assert (
        f"2 SKUs keep what import {first.import_id} made of the same file, of which no row sets them as it is read now: "
        f"`invsync imports undo {first.import_id}` shows what taking that back would change"
    ) in second.render()
    assert stock.quantities() == {"X": 1, "M0": 3, "M1": 3, "M2": 3}
    undo(stock.at(minutes=3), first.import_id, "the wrong place")
    assert stock.quantities() == {"X": 1, "M0": 0, "M1": 0, "M2": 3}


def test_a_name_in_a_wrong_encoding_is_corrected(stock):
    path = stock.files / "stock.csv"
    path.write_bytes("sku,product_name,quantity\nA,Größe,1\n".encode("windows-1252"))
    import_file(stock.basis, path, Declaration(as_of=NOW, encoding="gb18030"))
    import_file(stock.at(minutes=1), path, Declaration(encoding="windows-1252"))
    assert stock.rows(central_inventory.c.sku, central_inventory.c.product_name) == [("A", "Größe")]


def test_lists_of_other_skus_that_take_turns_leave_each_other_known_and_bring_nothing_sold_back(stock):
    texts = {"a.csv": "sku,quantity\nA,10\nC,1\n", "b.csv": "sku,quantity\nB,10\n"}
    counted = NOW - timedelta(hours=5)
    for name, text in texts.items():
        import_file(stock.basis, stock.file(text, name, at=counted))
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,A,i1,\n", "mapping.csv"))
    stock.sell("i1", 4, NOW - timedelta(hours=4), shipped=True)
    for name, text in texts.items():  # fetched anew, with the numbers of before
        copy = stock.file(text, name, at=NOW - timedelta(hours=1))
        assert import_file(stock.at(minutes=1), copy).state == "already_imported"
    copy = stock.file(texts["a.csv"], "a.csv", at=NOW - timedelta(hours=1))
    assert import_file(stock.at(minutes=2), copy, Declaration("available", contains=("shop",))).state == "applied"
    assert stock.quantities() == {"A": 6, "B": 10, "C": 1}  # read anew, as of the same time
    later = Declaration("available", NOW - timedelta(hours=1), ("shop",))
    assert import_file(stock.at(minutes=3), copy, later).state == "applied"
    assert stock.quantities() == {"A": 10, "B": 10, "C": 1}
    stock.prove()


def test_a_file_over_which_another_came_is_a_count_of_its_own_time(stock):
    text, hour = "sku,quantity\nA,10\nB,1\n", timedelta(hours=1)
    import_file(stock.basis, stock.file(text, at=NOW - 5 * hour))
    import_file(stock.at(minutes=1), stock.file("sku,quantity\nA,7\n", "shelf.csv", at=NOW - 3 * hour))
    result = import_file(stock.at(minutes=2), stock.file(text, at=NOW - hour))
    assert (result.state, stock.quantities()) == ("applied", {"A": 10, "B": 1})


def test_a_file_declared_as_of_an_earlier_time_than_it_went_in_names_the_import_to_undo_and_then_goes_in(stock):
    stock.load("sku,quantity\nA,20\n", NOW - timedelta(days=1))
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,A,i1,\n", "mapping.csv"))
    stock.sell("i1", 4, NOW - timedelta(hours=4), shipped=True)
    path = stock.file("sku,quantity\nA,10\n", at=NOW - timedelta(hours=1))
    first = import_file(stock.basis, path)
    counted = NOW - timedelta(hours=6)
    for declared in (Declaration(as_of=counted), Declaration("available", counted, ("shop",))):
        result, shown = import_file(stock.at(minutes=1), path, declared), preview(stock.at(minutes=1), path, declared)
        assert (result.state, result.reason, stock.quantities()) == ("rejected", shown.refused, {"A": 10})
        assert f"as of 2026-07-01T11:00:00+00:00, and is declared as of {counted.isoformat()} now" in result.reason
        assert f"`invsync imports undo {first.import_id} --reason …`" in result.reason
    undo(stock.at(minutes=2), first.import_id, "of six o'clock")
    assert stock.quantities() == {"A": 16}
    assert import_file(stock.at(minutes=3), path, Declaration(as_of=counted)).state == "applied"
    assert stock.quantities() == {"A": 6}
    stock.prove()


def test_another_file_of_the_same_time_corrects_nothing(stock):
    import_file(stock.basis, stock.file("sku,quantity\nA,10\n"), Declaration(as_of=NOW))
    import_file(stock.at(minutes=1), stock.file("sku,quantity\nB,5\n", "b.csv"), Declaration(as_of=NOW))
    path = stock.file("sku,quantity\nB,6\n", "c.csv")
    result = import_file(stock.at(minutes=2), path, Declaration(as_of=NOW))
    assert (result.preview.older, stock.quantities()) == (1, {"A": 10, "B": 5})
    assert import_file(stock.at(minutes=3), path, Declaration("available", NOW)).preview.older == 1
    assert stock.quantities() == {"A": 10, "B": 5}


@pytest.mark.parametrize("through_folder", [False, True])
def test_a_held_file_that_is_declared_otherwise_is_refused_until_that_one_is_dropped(stock, through_folder):
    stock.load(many(10))

    def give(declaration: Declaration, minutes: float):
        if not through_folder:
            return import_file(stock.at(minutes=minutes), stock.file(TWO_LOCATIONS), declaration)
        said = f"contains: [shop]\nlocations: [{declaration.locations[0]}]\n"
        stock.file(said, "stock.csv.yaml", folder=stock.basis.folder)
        return process_file(stock.at(minutes=minutes), stock.file(TWO_LOCATIONS, folder=stock.basis.folder))

    held = give(HALL, 1)
    assert (held.state, give(HALL, 2).import_id) == ("held", held.import_id)
    refused = give(SHOP, 3)
    assert refused.state == "rejected"
    assert refused.reason == (
        f"stock.csv is held as import {held.import_id}, read in another way: locations Hall, now Shop - drop that one first "
        f"(`invsync imports drop {held.import_id} --reason …`), then give the file again"
    )
    assert preview(stock.at(minutes=3), stock.file(TWO_LOCATIONS), SHOP).refused == refused.reason
    assert [state for _, state in stock.states()] == ["applied", "held", "rejected"]
    drop(stock.at(minutes=4), held.import_id, "the wrong place")
    assert give(SHOP, 5).state == "applied"
    assert stock.quantities() == {f"S{number}": 10 for number in range(10)}
    stock.prove()


def test_a_held_file_with_a_later_time_declared_is_refused_too_and_a_copy_of_it_is_the_held_one(stock):
    stock.load(many(10))
    held = import_file(stock.at(minutes=1), stock.file(many(0)))
    copy = stock.file(many(0), "copy.csv", at=NOW + timedelta(hours=1))
    assert import_file(stock.at(hours=1), copy).import_id == held.import_id
    later = import_file(stock.at(hours=1), copy, Declaration(as_of=NOW + timedelta(minutes=30)))
    assert later.state == "rejected"
    assert "as of 2026-07-01 12:00:00+00:00, now 2026-07-01 12:30:00+00:00" in later.reason
    assert stock.rows(imports.c.created_at, imports.c.state)[1:] == [
        (NOW + timedelta(minutes=1), "held"),
        (NOW + timedelta(hours=1), "rejected"),
    ]
