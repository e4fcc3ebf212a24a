"""Exports of the records for a period, as CSV for spreadsheets and as Parquet for programs, a chunk at a time."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from sqlalchemy import JSON, Column, Connection, Select, Table, func, select

from invsync_dagster.inventory.retention import ARCHIVED
from invsync_dagster.inventory.tables import UtcDateTime, operator_actions, order_lines, stock_ledger, sync_logs

if TYPE_CHECKING:
    import pyarrow as pa

# Rows in memory at once.
ROWS_A_CHUNK = 20_000

Format = Literal["csv", "parquet"]

# A spreadsheet takes a cell that begins so for a formula (OWASP, CSV Injection). SKUs, orders' ids and messages are other
# people's words.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be exported: a table, the time that puts a row into a period, and the order of the rows."""

    table: Table
    time: Column[datetime]
    order: tuple[Column[Any], ...]


# By the time at which we wrote them, so that a month that is over never changes; orders by the time of the order.
KINDS = {
    "ledger": Kind(stock_ledger, stock_ledger.c.applied_at, (stock_ledger.c.sequence,)),
    "attempts": Kind(sync_logs, sync_logs.c.timestamp, (sync_logs.c.id,)),
    "actions": Kind(operator_actions, operator_actions.c.at, (operator_actions.c.id,)),
    "orders": Kind(order_lines, order_lines.c.created_at, tuple(order_lines.primary_key.columns)),
}

_Writer = Callable[[Sequence[Any]], None]


def export(connection: Connection, kind: str, since: datetime, until: datetime, path: Path, form: Format) -> int:
    """Write the rows of a period, from `since` to before `until`, to `path`; return how many.

    The columns are the table's, in its order. In CSV, times are ISO 8601 in UTC, NULL is empty, and a text that a
    spreadsheet would take for a formula has an apostrophe before it; Parquet has every value as it is, with its type. The
    file is for its owner only, and there is none unless it is whole. Raises FileExistsError if `path` is there, OSError.
    """
    chosen = KINDS[kind]
    # Not the column itself: by its index SQLite would sort the rows of the period, in memory.
    time = func.coalesce(chosen.time, until)
    query = select(chosen.table).where(time >= since, time < until).order_by(*chosen.order)
    with _whole(path) as file:
        opened = _csv_writer(file, chosen.table) if form == "csv" else _parquet_writer(file, chosen.table)
        with opened as write:
            return _copy(connection, query, write)


def archived_files(connection: Connection, since: datetime) -> list[str]:
    """Return the files of data/archive/ that hold attempts from `since` on, which are no longer in the database."""
    action = operator_actions.c
    rows = connection.execute(select(action.after).where(action.action == ARCHIVED).order_by(action.id)).scalars()
    return [row["file"] for row in rows if datetime.fromisoformat(row["older_than"]) > since]


def _copy(connection: Connection, query: Select[Any], write: _Writer) -> int:
    rows = 0
    for part in connection.execution_options(yield_per=ROWS_A_CHUNK).execute(query).partitions():
        write(part)
        rows += len(part)
    return rows


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its name once it is whole and on disk."""
    if path.exists():
        raise FileExistsError("it is there already, and is kept: name another file")
    partial = path.with_name(f"{path.name}.part")
    descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _csv_writer(file: IO[bytes], table: Table) -> Iterator[_Writer]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    lines = csv.writer(text)
    lines.writerow([column.name for column in table.c])
    cells = [_cell_of(column) for column in table.c]

    def write(rows: Sequence[Any]) -> None:
        lines.writerows([cell(value) for cell, value in zip(cells, row, strict=True)] for row in rows)

    try:
        yield write
    finally:
        text.detach()


def _cell_of(column: Column[Any]) -> Callable[[Any], Any]:
    if isinstance(column.type, UtcDateTime):
        return _time
    if isinstance(column.type, JSON):
        return _json
    return _text if column.type.python_type is str else _number


def _time(value: datetime | None) -> str:
    return "" if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _json(value: Any) -> str:
    return "" if value is None else _text(json.dumps(value, ensure_ascii=False))


def _number(value: Any) -> Any:
    return value


def _text(value: str | None) -> str:
    if not value:
        return ""
    return f"'{value}" if value.startswith(_FORMULA) else value


@contextmanager
def _parquet_writer(file: IO[bytes], table: Table) -> Iterator[_Writer]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(column.name, _arrow_type(column)) for column in table.c])
    as_text = [isinstance(column.type, JSON) for column in table.c]

    def write(rows: Sequence[Any]) -> None:
        columns = [
            [None if value is None else json.dumps(value, ensure_ascii=False) for value in values] if texts else values
            for texts, values in zip(as_text, zip(*rows, strict=True), strict=True)
        ]
        arrays = [pa.array(values, type=one.type) for values, one in zip(columns, schema, strict=True)]
        writer.write_batch(pa.record_batch(arrays, schema=schema))

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield write


def _arrow_type(column: Column[Any]) -> pa.DataType:
    import pyarrow as pa

    if isinstance(column.type, UtcDateTime):
        return pa.timestamp("us", tz="UTC")
    if isinstance(column.type, JSON) or column.type.python_type is str:
        return pa.string()
    return pa.int64()
