"""Keeps the logs bounded: old attempts and readings go to archive files, old receipts go; the ledger stays for good."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, Row, Table, delete, func, select, text

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import deliveries, sync_logs

# Rows that one transaction removes: sales wait for it no longer than about 50 ms.
ROWS_A_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class Archived:
    """Rows of `sync_logs` that were moved to `path` (None: there were none)."""

    rows: int = 0
    path: Path | None = None


def archive_logs(engine: Engine, folder: Path, before: datetime, now: datetime) -> Archived:
    """Move the rows of `sync_logs` older than `before` to a gzipped CSV in `folder`, all but the latest of each level.

    The file is whole and on disk before a row goes; columns as in the table. What the latest number of a level rests on
    stays, so that it can always be explained. Called again after a crash it may archive rows twice, and loses none.
    Raises OSError.
    """
    newer = sync_logs.alias()
    latest = select(func.max(newer.c.id)).where(newer.c.level_id == sync_logs.c.level_id).scalar_subquery()
    query = select(sync_logs).where(sync_logs.c.timestamp < before, sync_logs.c.id < latest).order_by(sync_logs.c.id)
    path = folder / f"sync_logs-{now:%Y%m%dT%H%M%SZ}.csv.gz"
    with engine.connect() as connection:
        last = connection.execute(select(func.max(sync_logs.c.id)).where(sync_logs.c.timestamp < before)).scalar()
        if last is None:
            return Archived()
        rows = connection.execution_options(yield_per=ROWS_A_CHUNK).execute(query.where(sync_logs.c.id <= last))
        written = _write(path, [column.name for column in sync_logs.c], rows.partitions())
    if not written:
        path.unlink()
        return Archived()
    while True:
        with write_transaction(engine) as connection, _deletable(connection, sync_logs):
            ids = list(
                connection.execute(
                    query.with_only_columns(sync_logs.c.id).where(sync_logs.c.id <= last).limit(ROWS_A_CHUNK)
                ).scalars()
            )
            if not ids:
                return Archived(written, path)
            connection.execute(delete(sync_logs).where(sync_logs.c.id.in_(ids)))


def forget_receipts(engine: Engine, before: datetime) -> int:
    """Remove the receipts of deliveries applied before `before`, whose files are gone too; return how many.

    A document that is delivered again after that books nothing: its totals are booked (invariant 1 rests on both).
    """
    old = (deliveries.c.state == "applied") & (deliveries.c.applied_at < before)
    total = 0
    while True:
        with write_transaction(engine) as connection:
            receipts = list(
                connection.execute(select(deliveries.c.receipt_id).where(old).limit(ROWS_A_CHUNK)).scalars()
            )
            connection.execute(delete(deliveries).where(deliveries.c.receipt_id.in_(receipts)))
        total += len(receipts)
        if len(receipts) < ROWS_A_CHUNK:
            return total


def _write(path: Path, header: list[str], parts: Iterator[Sequence[Row[tuple[object, ...]]]]) -> int:
    """Write a CSV for the owner only, whole or not at all, on disk on return; returns the rows."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    rows = 0
    descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with gzip.open(file, "wt", newline="", encoding="utf-8") as packed:
            lines = csv.writer(packed)
            lines.writerow(header)
            for part in parts:
                lines.writerows(part)
                rows += len(part)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return rows


@contextmanager
def _deletable(connection: Connection, table: Table) -> Iterator[None]:
    """Lift the database's refusal to delete from an append-only table, inside the caller's transaction only."""
    if connection.dialect.name == "postgresql":
        trigger = f"TRIGGER {table.name}_append_only"
        connection.execute(text(f"ALTER TABLE {table.name} DISABLE {trigger}"))
        yield
        connection.execute(text(f"ALTER TABLE {table.name} ENABLE {trigger}"))
        return
    trigger = f"{table.name}_no_delete"
    refusal = connection.execute(
        text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": trigger}
    ).scalar_one()
    connection.execute(text(f"DROP TRIGGER {trigger}"))
    yield
    connection.exec_driver_sql(refusal)
