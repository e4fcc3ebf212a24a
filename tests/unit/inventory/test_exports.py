"""Exports: a period's rows and no others, whole or not at all, exact in Parquet and harmless in a spreadsheet."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert

from invsync_dagster.inventory import exports
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.exports import KINDS, archived_files, export
from invsync_dagster.inventory.retention import archive_logs
from invsync_dagster.inventory.tables import sync_logs
from tests.unit.inventory.stock import START, Stock, order

pytestmark = pytest.mark.usefixtures("each_database")

LATER = START + timedelta(days=1)
END = START + timedelta(days=2)
NASTY = ["=cmd|' /C calc'!A0", "+1", "-2", "@SUM(A1)", "\tx", "\rx", "0071", 'a "b", c\nd', "键", ""]


def logged(stock: Stock, texts: list[str], when: datetime = START) -> None:
    rows = [
        {
            "timestamp": when,
            "platform": "shop",
            "sku": text,
            "action": "push",
            "new_quantity": number,
            "status": "rejected",
            "level_id": 1,
            "error_message": text,
        }
        for number, text in enumerate(texts)
    ]
    with write_transaction(stock.engine) as connection:
        connection.execute(insert(sync_logs), rows)


def exported(
    stock: Stock, kind: str, path: Path, form: Any = "csv", since: datetime = START, until: datetime = END
) -> int:
    with stock.engine.connect() as connection:
        return export(connection, kind, since, until, path, form)


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_parquet_has_every_value_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS_A_CHUNK", 3)
    stock = Stock()
    logged(stock, NASTY)
    path = tmp_path / "attempts.parquet"
    assert exported(stock, "attempts", path, "parquet") == len(NASTY)
    table = pq.read_table(path)
    assert table["sku"].to_pylist() == table["error_message"].to_pylist() == NASTY
    assert table["new_quantity"].to_pylist() == list(range(len(NASTY)))
    assert table["old_quantity"].null_count == len(NASTY)
    assert set(table["timestamp"].to_pylist()) == {START}
    assert (str(table.schema.field("timestamp").type), str(table.schema.field("id").type)) == (
        "timestamp[us, tz=UTC]",
        "int64",
    )


def test_a_spreadsheet_takes_no_cell_of_the_csv_for_a_formula(tmp_path: Path) -> None:
    stock = Stock()
    logged(stock, NASTY)
    path = tmp_path / "attempts.csv"
    assert exported(stock, "attempts", path) == len(NASTY)
    rows = lines(path)
    assert not [row for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert [row["sku"].removeprefix("'") for row in rows] == NASTY
    assert [row["sku"] for row in rows[6:]] == NASTY[6:]
    assert rows[0]["timestamp"] == START.isoformat().replace("+00:00", "Z")
    assert (rows[0]["old_quantity"], rows[0]["new_quantity"]) == ("", "0")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_each_kind_has_the_columns_of_its_table_and_the_rows_of_its_period(tmp_path: Path, form: str) -> None:
    stock = Stock({"A": 10})
    stock.apply(order("1", ordered=2))
    stock.now = LATER
    stock.apply(order("2", ordered=3, created=1440))
    with write_transaction(stock.engine) as connection:
        for at in (START, LATER):
            record_action(
                connection, at=at, actor="=ann", action="b", subject="c", before=None, after={"x": [1, "键"]}, reason=""
            )
    logged(stock, ["A"])
    logged(stock, ["B"], LATER)
    for kind, chosen in KINDS.items():
        paths = [tmp_path / f"{kind}-{number}.{form}" for number in range(3)]
        whole = exported(stock, kind, paths[0], form, START - timedelta(days=9), END)
        first = exported(stock, kind, paths[1], form, START - timedelta(days=9), LATER)
        second = exported(stock, kind, paths[2], form, LATER, END)
        assert first > 0 and second > 0 and first + second == whole
        names = [column.name for column in chosen.table.c]
        if form == "csv":
            assert list(lines(paths[0])[0]) == names
            assert lines(paths[1]) + lines(paths[2]) == lines(paths[0])
        else:
            assert pq.read_schema(paths[0]).names == names
            assert pq.read_table(paths[2]).num_rows == second
    if form == "csv":
        assert lines(tmp_path / "actions-2.csv")[0]["after"] == '{"x": [1, "键"]}'
        assert lines(tmp_path / "ledger-2.csv")[0]["order_id"] == "2"


def test_an_empty_period_is_a_file_with_its_columns(tmp_path: Path) -> None:
    stock = Stock()
    assert exported(stock, "ledger", tmp_path / "a.csv") == 0
    assert exported(stock, "ledger", tmp_path / "a.parquet", "parquet") == 0
    assert lines(tmp_path / "a.csv") == []
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0


def test_the_file_is_its_owners_alone_and_no_other_file_is_overwritten(tmp_path: Path) -> None:
    stock = Stock({"A": 10})
    path = tmp_path / "a.csv"
    exported(stock, "ledger", path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        exported(stock, "ledger", path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


def test_a_full_disk_leaves_no_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    stock = Stock({"A": 10})
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        exported(stock, "ledger", tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_attempts_that_were_archived_are_named_by_their_files(tmp_path: Path) -> None:
    stock = Stock()
    logged(stock, ["A", "B", "C"])
    archived = archive_logs(stock.engine, tmp_path, LATER, END)
    assert archived.path is not None
    with stock.engine.connect() as connection:
        assert archived_files(connection, START) == [archived.path.name]
        assert archived_files(connection, LATER) == []
    assert datetime(2026, 1, 1, tzinfo=UTC) < START
