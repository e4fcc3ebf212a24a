"""Claims: which due changes this worker attempts now, numbered and committed before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, not_, or_, select, update

from invsync_dagster.inventory.tables import inventory_levels, is_change
from invsync_dagster.platforms.contract import LevelReference, Limits
from invsync_dagster.sync import levels
from invsync_dagster.sync.levels import Doubt
from invsync_dagster.sync.worker import Worker


# Claims of a reading carry this before their token: whoever takes one over need not doubt anything.
READ = "read:"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed level: what to send (computed at the claim, from the ledger), and the basis of it."""

    level_id: int
    sku: str
    reference: LevelReference
    quantity: int
    compare: int | None
    attempt: int
    touched: int
    expected: int | None
    ledger_sequence: int
    rules_revision: int
    out_of_step_since: datetime | None


def goes_at_once() -> ColumnElement[bool]:
    """The condition of a level that is written without reading: certain, or a decrease below what is expected."""
    level = inventory_levels.c
    return or_(level.uncertain.is_(None), and_(level.expected.is_not(None), level.desired < level.expected))


def due_changes(channel: str, now: datetime, skus: Collection[str] | None) -> ColumnElement[bool]:
    """The condition of a channel's changes that are worth an attempt now and that nobody has claimed."""
    level = inventory_levels.c
    condition = and_(level.channel == channel, is_change(), level.due_at <= now, level.claim.is_(None))
    return condition if skus is None else and_(condition, level.central_sku.in_(skus))


def count_changes(connection: Connection, channel: str, now: datetime) -> tuple[int, int]:
    """Return how many changes of a channel are due now, and how many wait for later or are claimed."""
    due = func.count().filter(and_(inventory_levels.c.due_at <= now, inventory_levels.c.claim.is_(None)))
    query = select(due, func.count()).where(inventory_levels.c.channel == channel, is_change())
    due_now, everything = connection.execute(query).one()
    return due_now, everything - due_now


def claim_writes(
    connection: Connection, worker: Worker, token: str, condition: ColumnElement[bool], limit: int, until: datetime, now: datetime
) -> list[Claim]:
    """Claim up to `limit` levels for a write, lowest desired first (zeros and low stock), each with a new attempt number."""
    level = inventory_levels.c
    values = {
        "attempt": level.attempt + 1,
        "touched": level.touched + 1,
        "sent_quantity": level.desired,
        "sent_at": now,
        "sent_sequence": level.desired_sequence,
    }
    return _claim(connection, worker, token, and_(condition, goes_at_once()), limit, until, values)


def claim_reads(
    connection: Connection, worker: Worker, token: str, condition: ColumnElement[bool], limit: int, until: datetime
) -> list[Claim]:
    """Claim up to `limit` uncertain levels for a reading; a reading is no attempt."""
    return _claim(connection, worker, READ + token, and_(condition, not_(goes_at_once())), limit, until, {})


def _claim(
    connection: Connection,
    worker: Worker,
    token: str,
    condition: ColumnElement[bool],
    limit: int,
    until: datetime,
    values: dict[str, Any],
) -> list[Claim]:
    level = inventory_levels.c
    chosen = select(level.id).where(condition).order_by(level.desired, level.due_at).limit(limit).scalar_subquery()
    statement = (
        update(inventory_levels)
        .where(level.id.in_(chosen))
        .values({"claim": token, "claim_until": until, "claim_worker": worker.name, **values})
        .returning(
            level.id,
            level.central_sku,
            level.item_id,
            level.location_id,
            level.desired,
            level.attempt,
            level.touched,
            level.expected,
            level.effective_quantity,
            level.uncertain,
            level.desired_sequence,
            level.rules_revision,
            level.out_of_step_since,
        )
    )
    claims = []
    for row in connection.execute(statement):
        known = row.expected if row.uncertain is not None else row.effective_quantity
        claims.append(
            Claim(
                level_id=row.id,
                sku=row.central_sku,
                reference=LevelReference(row.item_id, row.location_id),
                quantity=row.desired,
                compare=known if known is not None and known >= 0 else None,
                attempt=row.attempt,
                touched=row.touched,
                expected=row.expected,
                ledger_sequence=row.desired_sequence,
                rules_revision=row.rules_revision,
                out_of_step_since=row.out_of_step_since,
            )
        )
    return sorted(claims, key=lambda claim: (claim.quantity, claim.level_id))


def release(connection: Connection, claims: Sequence[Claim], token: str) -> None:
    """Give claims back untouched: a reading that did not happen."""
    statement = (
        update(inventory_levels)
        .where(inventory_levels.c.id.in_([claim.level_id for claim in claims]), inventory_levels.c.claim == READ + token)
        .values(claim=None, claim_until=None, claim_worker=None)
    )
    connection.execute(statement)


def take_over(connection: Connection, channel: str, worker: Worker, limits: Limits, now: datetime) -> list[int]:
    """Free claims that ran out or whose worker is dead, and mark their levels uncertain: the write may have landed, or
    may land until the platform's linger time is over. Returns the level ids."""
    level = inventory_levels.c
    query = select(level.id, level.claim_worker, level.claim_until).where(level.channel == channel, level.claim.is_not(None))
    dead: dict[str, bool] = {}
    ids = []
    for row in connection.execute(query):
        if row.claim_worker not in dead:
            dead[row.claim_worker] = not worker.is_alive(row.claim_worker)
        if dead[row.claim_worker] or row.claim_until <= now:
            ids.append(row.id)
    linger = timedelta(seconds=limits.request_deadline + limits.write_linger)
    states = []
    for state in levels.load(connection, ids).values():
        was_read = state.claim is not None and state.claim.startswith(READ)
        freed = state if was_read else levels.doubted(state, Doubt.CLAIM_TAKEN_OVER, now, linger)
        states.append(replace(freed, due_at=now))
    levels.save(connection, states, now)
    return ids
