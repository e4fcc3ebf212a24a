"""What runs show of themselves: column schemas, tables of the worst rows, whole reports as CSV, and the run's cause."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from sqlalchemy import Table

from invsync_dagster.defs.names import BY_HAND, CAUSE
from invsync_dagster.settings import Home

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

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
    return {name: _plain_value(value) for name, value in asdict(row).items()}


def _plain_value(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, int | float | bool):
        return value
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


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)


def cause_of(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> str:
    """Return what caused the run. One that carries no cause was started by a person: it gets the tag now."""
    cause = context.run.tags.get(CAUSE)
    if cause is None:
        cause = BY_HAND
        context.instance.add_run_tags(context.run.run_id, {CAUSE: cause})
    return cause
