from __future__ import annotations

import csv
import gzip
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert
from sqlalchemy.exc import DBAPIError

from invsync_dagster.inventory import retention
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.retention import archive_logs, forget_polled, forget_receipts
from invsync_dagster.inventory.tables import deliveries, operator_actions, polled_lines, sync_logs
from tests.unit.inventory.stock import START, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")


def log(stock: Stock, level_id: int, days_ago: float, quantity: int, status: str = "acknowledged") -> None:
    row = {
        "timestamp": START - timedelta(days=days_ago),
        "platform": "shop",
        "sku": "A",
        "action": "push",
        "new_quantity": quantity,
        "status": status,
        "level_id": level_id,
        "error_message": 'it said: 7, "no"\n',
    }
    with write_transaction(stock.engine) as connection:
        connection.execute(insert(sync_logs), row)


def quantities(stock: Stock) -> list[int]:
    return [row.new_quantity for row in stock.rows(sync_logs)]


def test_old_rows_go_to_a_file_and_the_latest_of_each_level_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invsync_dagster.inventory.retention.ROWS_A_CHUNK", 2)
    stock = Stock()
    for level_id, days_ago, quantity in ((1, 9, 1), (1, 8, 2), (2, 8, 3), (1, 7, 4), (1, 6, 5), (3, 7, 6), (3, 1, 7)):
        log(stock, level_id, days_ago, quantity)
    archived = archive_logs(stock.engine, tmp_path / "archive", START - timedelta(days=5), START)
    assert archived.rows == 4
    assert quantities(stock) == [3, 5, 7]
    assert archived.path is not None
    with gzip.open(archived.path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["new_quantity"] for row in rows] == ["1", "2", "4", "6"]
    assert rows[0]["error_message"] == 'it said: 7, "no"\n'
    assert archived.path.stat().st_mode & 0o777 == 0o600
    assert list(archived.path.parent.iterdir()) == [archived.path]


def test_what_a_levels_number_rests_on_stays_behind_later_failures(tmp_path: Path) -> None:
    stock = Stock()
    for days_ago, quantity, status in (
        (9, 1, "acknowledged"),
        (8, 2, "acknowledged"),
        (7, 3, "rejected"),
        (6, 4, "unknown"),
    ):
        log(stock, 1, days_ago, quantity, status)
    assert archive_logs(stock.engine, tmp_path, START, START).rows == 2
    assert quantities(stock) == [2, 4]


def test_a_row_that_comes_while_the_file_is_written_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = Stock()
    log(stock, 1, 9, 1)
    log(stock, 1, 8, 2)

    def meanwhile(engine: Engine) -> Any:
        log(stock, 1, 0, 3)
        return write_transaction(engine)

    monkeypatch.setattr(retention, "write_transaction", meanwhile)
    assert archive_logs(stock.engine, tmp_path, START - timedelta(days=5), START).rows == 1
    assert quantities(stock) == [2, 3]


def test_nothing_old_leaves_no_file(tmp_path: Path) -> None:
    stock = Stock()
    log(stock, 1, 9, 1)
    archived = archive_logs(stock.engine, tmp_path, START - timedelta(days=5), START)
    assert (archived.rows, archived.path) == (0, None)
    assert list(tmp_path.iterdir()) == []
    assert quantities(stock) == [1]


def test_the_database_refuses_to_delete_logs_again_once_they_are_archived(tmp_path: Path) -> None:
    stock = Stock()
    log(stock, 1, 9, 1)
    log(stock, 1, 8, 2)
    assert archive_logs(stock.engine, tmp_path, START, START).rows == 1
    with pytest.raises(DBAPIError, match="append-only"), write_transaction(stock.engine) as connection:
        connection.execute(delete(sync_logs))
    assert quantities(stock) == [2]


def test_that_rows_went_is_itself_recorded_with_their_file(tmp_path: Path) -> None:
    stock = Stock()
    for days_ago in (9, 8, 7):
        log(stock, 1, days_ago, 1)
    archived = archive_logs(stock.engine, tmp_path, START - timedelta(days=5), START)
    assert archived.path is not None
    [action] = [row for row in stock.rows(operator_actions) if row.action == "logs archived"]
    assert (action.actor, action.subject, action.at) == ("housekeeping", "sync_logs", START)
    assert action.after == {
        "file": archived.path.name,
        "rows": 2,
        "first_id": 1,
        "last_id": 2,
        "older_than": (START - timedelta(days=5)).isoformat(),
    }


def test_a_full_disk_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = Stock()
    log(stock, 1, 9, 1)
    log(stock, 1, 8, 2)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        archive_logs(stock.engine, tmp_path, START, START)
    assert quantities(stock) == [1, 2]


def test_old_receipts_go_and_a_document_that_comes_again_books_nothing() -> None:
    stock = Stock({"A": 10})
    stock.apply(order("1", ordered=2), receipt="old:0")
    stock.now = at(60)
    stock.apply(order("2", ordered=1), receipt="new:0")
    assert forget_receipts(stock.engine, at(30)) == 1
    assert [row.receipt_id for row in stock.rows(deliveries)] == ["new:0"]
    stock.apply(order("1", ordered=2), receipt="old:0")
    assert stock.balance() == (10, 3)
    stock.prove()


def test_what_polls_told_goes_in_its_time_and_the_lines_stay() -> None:
    stock = Stock({"A": 10})
    stock.apply(order("1", ordered=2), source="poll")
    stock.now = at(60)
    stock.apply(order("2", ordered=1), source="poll")
    assert forget_polled(stock.engine, at(30)) == 1
    assert [row.order_id for row in stock.rows(polled_lines)] == ["2"]
    assert forget_polled(stock.engine, at(30)) == 0
    assert stock.balance() == (10, 3)
