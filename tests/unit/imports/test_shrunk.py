"""A file that brings far fewer SKUs than the one of its name before is held until a person agrees."""

from __future__ import annotations

from datetime import timedelta

import pytest

from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.importing import approve, preview
from invsync_dagster.inventory.imports.undoing import undo
from tests.unit.imports.stock import NOW, drop, import_file, many

SAID = (
    "stock.csv brings 19 SKUs, and brought 40 on 2026-07-01 - if it was cut off or filtered, drop it and export it again; "
    "approve it if it is meant: what it doesn't name keeps its number (name what is gone with the quantity 0); if it is "
    "another list, give it a name of its own"
)


def bring(stock, count: int, hours: float, name: str = "stock.csv", quantity: int = 10):
    """Import a file of `count` SKUs, so many hours after noon; the numbers differ, so that it isn't the same file."""
    at = NOW + timedelta(hours=hours)
    return import_file(stock.at(hours=hours), stock.file(many(quantity, count), name, at=at))


def test_a_file_of_half_or_less_is_held_with_the_mend_also_in_its_preview_and_goes_in_once_approved(stock):
    assert bring(stock, 40, 0).state == "applied"
    path = stock.file(many(11, 19), at=NOW + timedelta(hours=1))
    assert preview(stock.at(hours=1), path).beyond == (SAID,)
    result = bring(stock, 19, 1, quantity=11)
    assert (result.state, result.reason) == ("held", SAID)
    assert stock.quantities() == {f"S{number}": 10 for number in range(40)}

    approve(stock.at(hours=2), result.import_id, "the others are gone")
    assert stock.quantities() == {f"S{number}": 11 if number < 19 else 10 for number in range(40)}
    assert bring(stock, 12, 3, quantity=12).state == "applied"


@pytest.mark.parametrize(
    ("before", "now", "state"),
    [(40, 21, "applied"), (40, 20, "held"), (20, 10, "held"), (19, 9, "held"), (18, 9, "applied"), (12, 3, "applied")],
)
def test_short_is_half_or_less_and_at_least_ten_fewer(stock, before, now, state):
    bring(stock, before, 0)
    assert bring(stock, now, 1, quantity=11).state == state


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        ("stock-2026-07-01.csv", "stock-2026-07-02.csv", "held"),
        ("stock_20260701_2300.csv", "stock_20260702_2301.csv", "held"),
        ("01.07.2026 Lager.csv", "02.07.2026 Lager.csv", "held"),
        ("stock.csv", "stock (2).csv", "held"),
        ("export-1024.csv", "export-1025.csv", "held"),
        ("warehouse1.csv", "warehouse2.csv", "applied"),
        ("20260701.csv", "20260702.csv", "applied"),
        ("stock.csv", "shelf.csv", "applied"),
    ],
)
def test_files_of_one_list_differ_in_dates_and_running_numbers_alone(stock, first, second, state):
    bring(stock, 40, 0, first)
    assert bring(stock, 15, 24, second, quantity=11).state == state


def test_a_list_that_is_cut_off_every_night_is_held_every_night_whatever_else_comes(stock):
    bring(stock, 40, 0, "stock-2026-07-01.csv")
    for night in (1, 2, 3):
        assert bring(stock, 15, night * 24, f"stock-2026-07-0{night + 1}.csv", quantity=10 + night).state == "held"
        assert bring(stock, 3, night * 24 + 1, "shelf.csv", quantity=13 + night).state == "applied"
    assert bring(stock, 38, 96, "stock-2026-07-05 (1).csv", quantity=14).state == "applied"


def test_after_35_days_nobody_remembers_the_longer_list(stock):
    bring(stock, 40, 0)
    assert bring(stock, 15, 35 * 24 - 1, quantity=11).state == "held"
    assert bring(stock, 15, 35 * 24 + 1, quantity=12).state == "applied"


def test_a_list_that_shrinks_little_by_little_is_held_once_it_is_half_and_asked_about_once(stock):
    for hours, (skus, state) in enumerate([(60, "applied"), (45, "applied"), (31, "applied"), (30, "held")]):
        result = bring(stock, skus, hours, quantity=10 + hours)
        assert result.state == state
    assert "brings 30 SKUs, and brought 60 on 2026-07-01" in result.reason
    approve(stock.at(hours=4), result.import_id, "the season is over")
    assert bring(stock, 28, 5, quantity=14).state == "applied"
    assert bring(stock, 29, 6, quantity=15).state == "applied"
    assert bring(stock, 14, 7, quantity=16).reason.startswith("stock.csv brings 14 SKUs, and brought 30 on 2026-07-01")


@pytest.mark.parametrize(("rejected", "blamed"), [(30, True), (1, False)])
def test_a_file_that_is_short_of_rejected_rows_says_what_is_wrong_with_them_first(stock, rejected, blamed):
    bring(stock, 40, 0)
    rows = "".join(f'S{number},"1,25{number % 10}"\n' for number in range(10, 10 + rejected))
    path = stock.file(many(10) + rows, at=NOW + timedelta(hours=1))
    held = import_file(stock.at(hours=1), path)
    said = SAID.replace("brings 19", "brings 10")
    if blamed:
        said = (
            "30 rows were rejected (30 of 30 rows are like line 12 column 'quantity': the ',' may be a thousands mark (1250) or "
            'a decimal mark (1,250) - declare the file\'s mark, as decimal_mark: "," in its sidecar or --decimal-mark, or write '
            f"digits only): drop it, mend that and give it again; without them {said}"
        )
    assert (held.state, held.reason) == ("held", said)
    assert preview(stock.at(hours=1), path).beyond == (said,)
    drop(stock.at(hours=2), held.import_id, "the mark")
    again = import_file(stock.at(hours=2), path, Declaration(decimal_mark="."))
    assert (again.state, "brings" in again.reason) == ("held", not blamed)  # at the least for 1,250 units where 10 were


def test_a_short_file_that_was_undone_is_compared_with_no_more(stock):
    bring(stock, 40, 0)
    short = bring(stock, 15, 1, quantity=11)
    approve(stock.at(hours=1), short.import_id, "meant")
    undo(stock.at(hours=2), short.import_id, "it was not")
    assert bring(stock, 14, 3, quantity=12).state == "held"


def test_a_short_file_beyond_the_limits_says_both(stock):
    bring(stock, 40, 0)
    at = NOW + timedelta(hours=1)
    held = import_file(stock.at(hours=1), stock.file(many(0, 15), at=at), Declaration(as_of=at))
    assert held.state == "held"
    assert held.reason.startswith("15 of 15 SKUs that can be sold would go to 0 (limit 20%)")
    assert "brings 15 SKUs, and brought 40" in held.reason
