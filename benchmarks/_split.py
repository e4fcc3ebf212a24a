"""Where a delivery's time goes: the spans between what receiver, Dagster and the push each wrote down with its time."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime

import dagster as dg
from sqlalchemy import Engine, func, select

from invsync_dagster.inventory.tables import deliveries, sync_logs

NEEDED = ("DAGSTER_HOME", "INVSYNC_DAGSTER_STATE", "INVSYNC_DAGSTER_LOGS")
SPANS = (
    "received to run created",
    "run created to run started",
    "run started to ledger step",
    "ledger step to applied",
    "applied to push step",
    "push step to first claim",
    "first claim to last answer recorded",
)


def split(environ: Mapping[str, str], engine: Engine, receipts: Sequence[str]) -> dict[str, float]:
    """Return the median milliseconds of each span over deliveries, each of which a run of its own has applied."""
    os.environ.update({name: environ[name] for name in NEEDED})
    with dg.DagsterInstance.get() as instance:
        marks = [_marks(instance, engine, receipt) for receipt in receipts]
    return {
        name: round(1000 * statistics.median(each[place + 1] - each[place] for each in marks), 1)
        for place, name in enumerate(SPANS)
    }


def _marks(instance: dg.DagsterInstance, engine: Engine, receipt: str) -> list[float]:
    """Return the moments around the spans, in seconds since the epoch."""
    log, known = sync_logs.c, deliveries.c
    with engine.connect() as connection:
        row = connection.execute(select(deliveries).where(known.receipt_id == receipt)).one()
        first, last = connection.execute(
            select(func.min(log.started_at), func.max(log.timestamp)).where(
                log.run_id == row.run_id, log.action == "push", log.status.in_(("acknowledged", "accepted"))
            )
        ).one()
    events = [(entry.timestamp, entry.dagster_event) for entry in instance.all_logs(row.run_id) if entry.dagster_event]

    def at(kind: dg.DagsterEventType, step: str | None = None) -> float:
        return next(time for time, event in events if event.event_type == kind and step in (None, event.step_key))

    return [
        _seconds(row.received_at),
        at(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED),
        at(dg.DagsterEventType.RUN_START),
        at(dg.DagsterEventType.STEP_START, "stock_ledger"),
        _seconds(row.applied_at),
        at(dg.DagsterEventType.STEP_START, "push_results"),
        _seconds(first),
        _seconds(last),
    ]


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
