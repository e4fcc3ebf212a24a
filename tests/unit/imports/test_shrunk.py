"""A file that brings far fewer SKUs than before goes in, and is told of until it comes whole again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.importing import preview
from invsync_dagster.inventory.imports.shrunk import shrunk_files
from invsync_dagster.inventory.imports.undoing import undo
from tests.unit.imports.stock import NOW, import_file, many

SAID = (
    "stock.csv brings 19 SKUs, and brought 40 on 2026-07-01: those that it doesn't name keep a number that nobody states any "
    "more - if it was cut off or filtered, export it again and import it whole; if they are gone, name them with the quantity 0; "
    "if it is another list, give it a name of its own"
)


def bring(stock, count: int, hours: float, name: str = "stock.csv", quantity: int = 10):
    """Import a file of `count` SKUs, so many hours after noon; the numbers differ, so that it isn't the same file."""
    at = NOW + timedelta(hours=hours)
    result = import_file(stock.at(hours=hours), stock.file(many(quantity, count), name, at=at))
    assert result.state == "applied", result.render()
    return result


def told(stock, hours: float) -> list[tuple[str, int, int]]:
    with stock.basis.engine.connect() as connection:
        found = shrunk_files(connection, NOW + timedelta(hours=hours))
    return [(one.file, one.skus, one.before) for one in found]


def test_a_file_of_less_than_half_goes_in_and_says_so_with_the_mend_also_in_its_preview(stock):
    bring(stock, 40, 0)
    path = stock.file(many(11, 19), at=NOW + timedelta(hours=1))
    assert preview(stock.at(hours=1), path).shrunk == SAID
    result = bring(stock, 19, 1, quantity=11)
    assert SAID in result.render().splitlines()
    assert result.preview.to_dict()["shrunk"] == SAID
    assert stock.quantities() == {f"S{number}": 11 if number < 19 else 10 for number in range(40)}


@pytest.mark.parametrize(
    ("before", "now", "short"),
    [(40, 20, False), (40, 19, True), (19, 9, True), (18, 8, True), (18, 9, False), (9, 0, False)],
)
def test_short_is_less_than_half_and_at_least_ten_fewer(stock, before, now, short):
    bring(stock, before, 0)
    if now:
        assert bool(bring(stock, now, 1, quantity=11).preview.shrunk) == short
    assert told(stock, 2) == ([("stock.csv", now, before)] if short else [])


def test_a_list_that_is_cut_off_every_night_is_told_of_until_it_is_whole_whatever_else_comes(stock):
    bring(stock, 40, 0, "stock-2026-07-01.csv")
    for night in (1, 2, 3):
        name = f"stock-2026-07-0{night + 1}.csv"
        assert bring(stock, 15, night * 24, name, quantity=10 + night).preview.shrunk
        bring(stock, 3, night * 24 + 1, "shelf.csv", quantity=13 + night)
        assert told(stock, night * 24 + 2) == [(name, 15, 40)]
    bring(stock, 38, 96, "stock-2026-07-05 (1).csv", quantity=14)
    assert told(stock, 97) == []


def test_after_35_days_the_shorter_list_is_what_is_usual(stock):
    bring(stock, 40, 0)
    bring(stock, 15, 34 * 24, quantity=11)
    assert told(stock, 35 * 24 - 1) == [("stock.csv", 15, 40)]
    assert told(stock, 35 * 24 + 1) == []
    assert bring(stock, 14, 35 * 24 + 1, quantity=12).preview.shrunk == ""


def test_a_short_file_that_was_undone_is_no_case_any_more(stock):
    bring(stock, 40, 0)
    short = bring(stock, 15, 1, quantity=11)
    undo(stock.at(hours=2), short.import_id, "cut off")
    assert told(stock, 3) == []
    assert stock.quantities() == {f"S{number}": 10 for number in range(40)}


def test_a_short_file_beyond_the_limits_is_held_for_them_and_says_both(stock):
    bring(stock, 40, 0)
    at = NOW + timedelta(hours=1)
    held = import_file(stock.at(hours=1), stock.file(many(0, 15), at=at), Declaration(as_of=at))
    assert held.state == "held"
    assert held.reason.startswith("15 of 15 SKUs that can be sold would go to 0 (limit 20%)")
    assert "brings 15 SKUs, and brought 40" in held.render()
    assert told(stock, 2) == []
