"""What came of the batches of full runs, the last time that each was run: kept one by one, read as a channel's whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select

from invsync_dagster.inventory.batches import batches_in_force
from invsync_dagster.inventory.bulk import upsert_rows
from invsync_dagster.inventory.tables import full_sync_batches


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch that was run; counts are levels, `problem` is "" where it came to its end."""

    channel: str
    batch: int
    run_id: str
    ended_at: datetime
    levels: int
    drift: int
    failed_rows: int
    missing: int
    problem: str


@dataclass(frozen=True, slots=True)
class FullRuns:
    """A channel's batches together, each as it was run last.

    `since` is when the one looked at longest ago was: all levels were read back since then, but those of the `failed` ones.
    It is None as long as some batch was never run.
    """

    batches: int
    levels: int
    drift: int
    failed_rows: int
    missing: int
    failed: tuple[int, ...]
    since: datetime | None


NEVER_RUN = FullRuns(0, 0, 0, 0, 0, (), None)

_COLUMNS = tuple(full_sync_batches.c)


def keep_batch(connection: Connection, done: BatchDone) -> None:
    """Keep what came of a batch in the place of what came of it before, in the caller's `write_transaction`.

    One that failed has looked at a part alone, and makes nothing better: what was found before stays.
    """
    _keep(connection, _with_findings(done, _before(connection, done)) if done.problem else done)


def keep_findings(connection: Connection, done: BatchDone) -> None:
    """Keep what a batch has found that was passed over before its end; all else of it stays as it was run last, or unknown where
    it never was. In the caller's `write_transaction`."""
    if (before := _before(connection, done)) is not None:
        _keep(connection, _with_findings(before, done))


def _before(connection: Connection, done: BatchDone) -> BatchDone | None:
    table = full_sync_batches.c
    query = select(full_sync_batches).where(table.channel == done.channel, table.batch == done.batch)
    row = connection.execute(query).first()
    return None if row is None else BatchDone(**row._mapping)


def _with_findings(done: BatchDone, other: BatchDone | None) -> BatchDone:
    """Return what came of a batch with no count less than what came of it another time."""
    if other is None:
        return done
    return replace(
        done,
        levels=max(done.levels, other.levels),
        drift=max(done.drift, other.drift),
        failed_rows=max(done.failed_rows, other.failed_rows),
        missing=max(done.missing, other.missing),
    )


def _keep(connection: Connection, done: BatchDone) -> None:
    row = tuple(getattr(done, column.name) for column in _COLUMNS)
    upsert_rows(connection, full_sync_batches, ("channel", "batch"), _COLUMNS, [row])


def full_runs(connection: Connection) -> dict[str, FullRuns]:
    """Return each channel's full runs."""
    in_force = batches_in_force(connection)
    table = full_sync_batches.c
    query = select(full_sync_batches).order_by(table.channel, table.batch)
    if in_force is not None:
        # Run with another number in the settings, a batch beyond these fails, and no later run would end that.
        query = query.where(table.batch < in_force)
    by_channel: dict[str, list[BatchDone]] = {}
    for row in connection.execute(query):
        by_channel.setdefault(row.channel, []).append(BatchDone(**row._mapping))
    return {channel: _together(rows, in_force) for channel, rows in by_channel.items()}


def _together(rows: list[BatchDone], in_force: int | None) -> FullRuns:
    whole = [row.ended_at for row in rows if not row.problem]
    return FullRuns(
        batches=len(rows),
        levels=sum(row.levels for row in rows),
        drift=sum(row.drift for row in rows),
        failed_rows=sum(row.failed_rows for row in rows),
        missing=sum(row.missing for row in rows),
        failed=tuple(row.batch for row in rows if row.problem),
        since=min(whole) if whole and len(rows) == in_force else None,
    )
