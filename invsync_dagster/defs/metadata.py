"""What runs show of themselves: column schemas, tables of the worst rows, whole reports as CSV, and the run's cause."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from sqlalchemy import Table

from invsync_dagster.defs.names import BY_HAND, CAUSE, REASON, WEBHOOK, failed_channel_tag
from invsync_dagster.settings import Home

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Dagster indexes the values of tags, and PostgreSQL's index takes 2,704 bytes.
LONGEST_TAG = 500

# A report of what is out of order now is written so often while it is.
WRITTEN_EVERY = timedelta(minutes=30)

SHOWN = 20  # rows of a table in metadata: the event log is no place for a report


def column_schema(table: Table) -> dg.TableSchema:
    """Describe a table of ours with the columns, types and keys that its definition has."""
    columns = [
        dg.TableColumn(
            column.name,
            type=str(column.type.compile()).lower(),
            constraints=dg.TableColumnConstraints(nullable=bool(column.nullable), unique=bool(column.unique)),
        )
        for column in table.columns
    ]
    return dg.TableSchema(columns=columns)


def plain(row: DataclassInstance) -> dict[str, str | int | float | bool | None]:
    """Return a row of a report with values that a table and a CSV take; times as ISO text."""
    return {field.name: _plain_value(getattr(row, field.name)) for field in fields(row)}


def _plain_value(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, int | float | bool):
        return value
    if isinstance(value, tuple):  # a listing's rules, each of which may be unset
        return ", ".join("-" if one is None else str(one) for one in value) if any(value) else ""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def worst_rows(rows: Sequence[DataclassInstance]) -> dict[str, Any]:
    """Return the metadata `worst` with the first rows as a table, nothing where there are none."""
    if not rows:
        return {}
    return {"worst": dg.MetadataValue.table([dg.TableRecord(plain(row)) for row in rows[:SHOWN]])}


def report_file(home: Home, run_id: str, name: str, rows: Sequence[DataclassInstance]) -> dict[str, Any]:
    """Write all rows to `data/reports/<run>/<name>.csv`; return its path as metadata, {} without rows."""
    if not rows:
        return {}
    path = home.reports / run_id / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(path, (plain(row) for row in rows))
    return {"report": dg.MetadataValue.path(path)}


def latest_report(
    home: Home, name: str, rows: Iterable[DataclassInstance], now: datetime, changed_at: datetime | None = None
) -> dict[str, Any]:
    """Write all rows to `data/reports/latest/<name>.csv`, one at a time, and return its path as metadata.

    One file, whichever run wrote it, and no younger one is written over: 100,000 levels out of step are 15 MB, and a channel
    that is down for a night would have them in every cycle. One of before `changed_at` is written over all the same.
    """
    path = home.reports / "latest" / f"{name}.csv"
    old = max(now - WRITTEN_EVERY, changed_at or now - WRITTEN_EVERY)
    if not (path.exists() and path.stat().st_mtime > old.timestamp()):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        _write_csv(partial, (plain(row) for row in rows))
        os.utime(partial, (now.timestamp(), now.timestamp()))
        partial.replace(path)
    return {"report": dg.MetadataValue.path(path)}


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)


def in_short(cause: str, figures: dict[str, int | float]) -> dict[str, int | float]:
    """Return the figures of a run without those that are 0, if a webhook caused it: each figure is 170 bytes in three places of
    Dagster's storage, with every sale and channel, and the cycles' plots have the zeros."""
    return {name: value for name, value in figures.items() if value} if cause == WEBHOOK else figures


@contextmanager
def failing(context: dg.OpExecutionContext | dg.AssetExecutionContext, channel: str) -> Iterator[None]:
    """Tag the run with the channel if what is done here for it fails: the Runs page finds such runs by the tag."""
    try:
        yield
    except Exception:
        tag_failed(context, [channel])
        raise


def tag_failed(context: dg.OpExecutionContext | dg.AssetExecutionContext, channels: Iterable[str]) -> None:
    """Tag the run with the channels that failed in it."""
    context.instance.add_run_tags(context.run.run_id, {failed_channel_tag(name): "true" for name in channels})


def keep_reason(context: dg.OpExecutionContext | dg.AssetExecutionContext, reason: str) -> None:
    """Keep why a person started the run as its tag: it stays whatever becomes of the run."""
    if reason:
        context.instance.add_run_tags(context.run.run_id, {REASON: reason[:LONGEST_TAG]})


def cause_of(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> str:
    """Return what caused the run. One that carries no cause was started by a person: it gets the tag now."""
    cause = context.run.tags.get(CAUSE)
    if cause is None:
        cause = BY_HAND
        context.instance.add_run_tags(context.run.run_id, {CAUSE: cause})
    return cause
