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

from sqlalchemy import Connection, Engine, Row, ScalarSelect, Table, delete, func, select, text

from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import deliveries, polled_lines, sync_logs

# Rows that one transaction removes: sales wait for it no longer than about 50 ms.
ROWS_A_CHUNK = 5_000

# The operator action that says which rows went, and into which file.
ARCHIVED = "logs archived"

# The outcomes that a level's number rests on.
RESTED_ON = ("acknowledged", "accepted", "observed")


@dataclass(frozen=True, slots=True)
class Archived:
    """Rows of `sync_logs` that were moved to `path` (None: there were none)."""

    rows: int = 0
    path: Path | None = None


def archive_logs(engine: Engine, folder: Path, before: datetime, now: datetime) -> Archived:
    """Move the rows of `sync_logs` older than `before` to a gzipped CSV in `folder`, all but what levels rest on.

    Kept are each level's latest row, and its latest that was acknowledged, accepted or read, so that its number can always
    be explained. The file is whole and on disk before a row goes; columns as in the table. That they go is itself recorded,
    as an operator action with the file, its rows and ids. Called again after a crash it may archive rows twice, and loses
    none. Raises OSError.
    """
    log = sync_logs.c
    with engine.connect() as connection:
        # What is written from now on changes nothing in what goes: the file and the deletion must mean the same rows.
        ceiling = connection.execute(select(func.max(log.id))).scalar()
        if ceiling is None:
            return Archived()
        going = (log.timestamp < before) & (log.id < _latest(ceiling)) & (log.id != _latest(ceiling, RESTED_ON))
        query = select(sync_logs).where(log.id <= ceiling, going).order_by(log.id)
        path = folder / f"sync_logs-{now:%Y%m%dT%H%M%SZ}.csv.gz"
        rows = connection.execution_options(yield_per=ROWS_A_CHUNK).execute(query)
        written = _write(path, [column.name for column in log], rows.partitions())
        ends = query.with_only_columns(func.min(log.id), func.max(log.id)).order_by(None)
        first_id, last_id = connection.execute(ends).one()
    if not written:
        path.unlink()
        return Archived()
    last = 0
    while True:
        with engine.connect() as connection:
            chunk = query.with_only_columns(log.id).where(log.id > last).limit(ROWS_A_CHUNK)
            ids = list(connection.execute(chunk).scalars())
        if not ids:
            return Archived(written, path)
        with write_transaction(engine) as connection, _deletable(connection, sync_logs):
            if not last:
                record_action(
                    connection,
                    at=now,
                    actor="housekeeping",
                    action=ARCHIVED,
                    subject=sync_logs.name,
                    before=None,
                    after={
                        "file": path.name,
                        "rows": written,
                        "first_id": first_id,
                        "last_id": last_id,
                        "older_than": before.isoformat(),
                    },
                    reason="older than retention.logs_days",
                )
            connection.execute(delete(sync_logs).where(log.id.in_(ids)))
        last = ids[-1]


def _latest(ceiling: int, statuses: Sequence[str] = ()) -> ScalarSelect[int]:
    """The id of the latest row, up to `ceiling`, of the level that a row is of; 0 if there is none with the statuses."""
    newer = sync_logs.alias()
    conditions = [newer.c.level_id == sync_logs.c.level_id, newer.c.id <= ceiling]
    if statuses:
        conditions.append(newer.c.status.in_(statuses))
    return select(func.coalesce(func.max(newer.c.id), 0)).where(*conditions).scalar_subquery()


def forget_receipts(engine: Engine, before: datetime) -> int:
    """Remove the receipts of deliveries applied before `before`, whose files are gone too; return how many.

    A document that is delivered again after that books nothing: its totals are booked (invariant 1 rests on both).
    """
    receipt = deliveries.c
    old = (receipt.state == "applied") & (receipt.applied_at < before)
    last, total = "", 0
    while True:
        with engine.connect() as connection:
            chunk = select(receipt.receipt_id).where(old, receipt.receipt_id > last)
            ids = list(connection.execute(chunk.order_by(receipt.receipt_id).limit(ROWS_A_CHUNK)).scalars())
        if not ids:
            return total
        last = ids[-1]
        with write_transaction(engine) as connection:
            connection.execute(delete(deliveries).where(receipt.receipt_id.in_(ids)))
        total += len(ids)


def forget_polled(engine: Engine, before: datetime) -> int:
    """Remove what polls told of order lines before `before`; return how many rows. The audit says nothing of them any more."""
    told = polled_lines.c
    total = 0
    while True:
        with engine.connect() as connection:
            chunk = select(told.told_at).where(told.told_at < before).order_by(told.told_at).limit(ROWS_A_CHUNK)
            times = list(connection.execute(chunk).scalars())
        if not times:
            return total
        with write_transaction(engine) as connection:
            total += connection.execute(delete(polled_lines).where(told.told_at <= times[-1])).rowcount


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
