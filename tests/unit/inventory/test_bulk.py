"""Rows by the driver itself: few and many go in alike, on both databases."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from invsync_dagster.inventory.bulk import COPIED_ROWS, ROWS_A_STATEMENT, collector_paused, insert_rows, upsert_rows
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.tables import inventory_levels, moved_levels, stock_counts
from tests import databases

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LEVEL = inventory_levels.c
COUNT = tuple(stock_counts.c)


@pytest.fixture
def stock_engine(each_database: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(databases.fresh_url(tmp_path))
    yield engine
    engine.dispose()


def _new(item_id: str) -> tuple[str, str, str, bool, datetime]:
    return ("shop", item_id, "A\tB\\N\n'\"c", False, NOW)


@pytest.mark.parametrize(
    "rows",
    [1, ROWS_A_STATEMENT - 1, ROWS_A_STATEMENT, ROWS_A_STATEMENT + 1, COPIED_ROWS - 1, COPIED_ROWS, 3 * COPIED_ROWS],
)
def test_rows_go_in_as_they_are_and_what_is_not_given_gets_its_default(stock_engine: Engine, rows: int) -> None:
    columns = (LEVEL.channel, LEVEL.item_id, LEVEL.central_sku, LEVEL.pushable, LEVEL.due_at)
    with write_transaction(stock_engine) as connection:
        insert_rows(connection, inventory_levels, columns, [_new(f"i{number}") for number in range(rows)])
    with stock_engine.connect() as connection:
        stored = connection.execute(select(inventory_levels).order_by(LEVEL.id)).mappings().all()
    assert [row["item_id"] for row in stored] == [f"i{number}" for number in range(rows)]
    one = stored[-1]
    assert (one["channel"], one["central_sku"], one["pushable"], one["due_at"]) == ("shop", "A\tB\\N\n'\"c", False, NOW)
    assert (one["location_id"], one["shared"], one["effective_quantity"], one["touched"]) == ("", False, -1, 0)
    assert (one["expected"], one["claim"]) == (None, None)


@pytest.mark.parametrize("rows", [2, 2 * COPIED_ROWS])
def test_lists_go_in_as_lists_and_a_row_that_is_there_takes_all_of_them_back(stock_engine: Engine, rows: int) -> None:
    made = [
        (number, f"S{number}", "file", "on_hand", number, NOW, 0, ["shop", "erp"], 1.5, 7)
        for number in range(1, rows + 1)
    ]
    with write_transaction(stock_engine) as connection:
        insert_rows(connection, stock_counts, COUNT, made)
    with stock_engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(select(stock_counts).order_by(stock_counts.c.id))] == made
    again = [(number + rows, *rest) for number, *rest in made[:-1]] + [made[0]]
    with pytest.raises(IntegrityError), write_transaction(stock_engine) as connection:
        insert_rows(connection, stock_counts, COUNT, again)
    with stock_engine.connect() as connection:
        assert len(connection.execute(select(stock_counts.c.id)).all()) == rows


@pytest.mark.parametrize("rows", [1, ROWS_A_STATEMENT, 2 * ROWS_A_STATEMENT + 3])
def test_rows_that_are_there_are_changed_and_the_others_go_in(stock_engine: Engine, rows: int) -> None:
    def put(numbers: range, base: int) -> None:
        made = [(number, "shop", "zeroed", base + number, NOW) for number in numbers]
        with write_transaction(stock_engine) as connection:
            upsert_rows(connection, moved_levels, ("level_id",), tuple(moved_levels.c), made)

    put(range(1, rows + 1), 0)
    put(range(rows, 2 * rows), 100)
    with stock_engine.connect() as connection:
        stored = connection.execute(select(moved_levels.c.level_id, moved_levels.c.base)).all()
    kept = [(number, number) for number in range(1, rows)]
    assert sorted(map(tuple, stored)) == kept + [(number, 100 + number) for number in range(rows, 2 * rows)]


def test_the_collector_stays_off_until_the_last_who_wants_it_off_is_done():
    assert gc.isenabled()
    with pytest.raises(KeyError), collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    first, second = collector_paused(), collector_paused()  # as two threads have it: who came first is done first
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
