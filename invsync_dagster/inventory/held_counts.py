"""Counts that were held: a person lets them apply, or never."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.counts import Count, CountsApplied, CountSource, apply_counts
from invsync_dagster.inventory.tables import imports


def approve_held(
    connection: Connection, held_id: str, *, actor: str, reason: str, now: datetime, run_id: str
) -> CountsApplied:
    """Apply counts that were held; those that newer ones have overtaken change nothing. Raises LookupError."""
    row = _decide(connection, held_id, "applied", actor, reason, now)
    summary = row["summary"]
    counts = [Count.load(values) for values in summary["counts"]]
    source = CountSource(summary["source"], tuple(summary["contains"]), summary["lag_seconds"])
    result = apply_counts(connection, counts, source, now=now, run_id=run_id, reference=held_id, kind=summary["kind"])
    connection.execute(update(imports).where(imports.c.id == held_id).values(applied_rows=result.applied))
    return result


def drop_held(connection: Connection, held_id: str, *, actor: str, reason: str, now: datetime) -> None:
    """Decide that held counts never apply. Raises LookupError."""
    _decide(connection, held_id, "dropped", actor, reason, now)


def _decide(
    connection: Connection, held_id: str, state: str, actor: str, reason: str, now: datetime
) -> Mapping[str, Any]:
    row = (
        connection.execute(
            select(imports).where(imports.c.id == held_id, imports.c.kind == "counts", imports.c.state == "held")
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise LookupError(f"no held counts {held_id!r}")
    decision = {"state": state, "decided_at": now, "decided_by": actor, "reason": reason}
    connection.execute(update(imports).where(imports.c.id == held_id).values(decision))
    record_action(
        connection,
        at=now,
        actor=actor,
        action=f"counts {state}",
        subject=held_id,
        before={"state": "held"},
        after={"state": state},
        reason=reason,
    )
    return dict(row)
