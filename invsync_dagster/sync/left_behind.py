"""Claims that ran out, or whose worker is dead: freed, their levels in doubt, their attempts logged."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, literal, not_, select

from invsync_dagster.inventory.bulk import as_parameter, found_by
from invsync_dagster.inventory.tables import channels, inventory_levels, sync_logs, work_queue
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.sync import levels
from invsync_dagster.sync.claims import BULK, READ
from invsync_dagster.sync.levels import SUBMISSION_LANDS_WITHIN, Doubt
from invsync_dagster.sync.worker import Worker

_QUEUED = work_queue.c
_CLAIMED = (
    select(inventory_levels.c.id, inventory_levels.c.claim_worker, inventory_levels.c.claim_until)
    .select_from(work_queue.join(inventory_levels, inventory_levels.c.id == _QUEUED.level_id))
    .where(_QUEUED.channel == bindparam("of_channel"), _QUEUED.claim.is_not(None))
)
ONE_CLAIMED = (
    select(_QUEUED.level_id)
    .where(_QUEUED.channel == channels.c.name, _QUEUED.claim.is_not(None))
    .limit(1)
    .scalar_subquery()
    .label("claimed_level_id")
)
"""A column beside a channel's: a level of it that somebody has claimed, None where there is none."""


def take_over(connection: Connection, channel: str, worker: Worker, limits: Limits, now: datetime) -> list[int]:
    """Free claims that ran out or whose worker is dead, and mark their levels uncertain: the write may have landed, or
    may land until the platform's linger time is over. The attempts are logged: nobody else may. Returns the level ids."""
    dead: dict[str, bool] = {}
    ids = []
    for row in connection.execute(_CLAIMED, {"of_channel": channel}):
        if row.claim_worker not in dead:
            dead[row.claim_worker] = not worker.is_alive(row.claim_worker)
        if dead[row.claim_worker] or row.claim_until <= now:
            ids.append(row.id)
    linger = timedelta(seconds=limits.request_deadline + limits.write_linger)
    if not ids:
        return []
    states = []
    for state in levels.load(connection, ids).values():
        was_read = state.claim is not None and state.claim.startswith(READ)
        in_queue = state.claim is not None and state.claim.startswith(BULK) and state.bulk_handle is None
        lands_within = max(linger, SUBMISSION_LANDS_WITHIN) if in_queue else linger
        freed = state if was_read else levels.doubted(state, Doubt.CLAIM_TAKEN_OVER, now, lands_within)
        states.append(freed._replace(due_at=now))
    connection.execute(_LOG_TAKEN_OVER, {"ids": as_parameter(ids), "taken_at": now})
    levels.save(connection, states, now)
    return ids


_LEVEL = inventory_levels.c
# What was sent, if it was, while the levels still say so.
_TAKEN_OVER: dict[str, ColumnElement[Any]] = {
    "timestamp": bindparam("taken_at", type_=sync_logs.c.timestamp.type),
    "platform": _LEVEL.channel,
    "sku": _LEVEL.central_sku,
    "action": literal("take_over"),
    "old_quantity": _LEVEL.acknowledged_quantity,
    "new_quantity": _LEVEL.sent_quantity,
    "status": literal("unknown"),
    "error_message": literal("the worker ended, or its claim ran out, before an answer was recorded"),
    "code": literal(str(Doubt.CLAIM_TAKEN_OVER)),
    "level_id": _LEVEL.id,
    "attempt": _LEVEL.attempt,
    "ledger_sequence": func.coalesce(_LEVEL.sent_sequence, 0),
    "rules_revision": _LEVEL.rules_revision,
    "started_at": _LEVEL.sent_at,
    "idempotency_key": literal(""),
    "run_id": literal(""),
}
_LOG_TAKEN_OVER = insert(sync_logs).from_select(
    list(_TAKEN_OVER),
    select(*_TAKEN_OVER.values())
    .where(found_by(_LEVEL.id, "ids"), not_(_LEVEL.claim.startswith(READ)))
    .order_by(_LEVEL.id),
)
