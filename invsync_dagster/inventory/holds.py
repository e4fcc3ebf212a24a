"""Levels that the breaker holds until a person decides: stopped at the number they had, less what is sold since."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, select, update

from invsync_dagster.inventory import levels
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.rules import least
from invsync_dagster.inventory.tables import inventory_levels, stock_ledger

# What the channel shows, as far as we know; NULL for a level that was neither written nor read.
NUMBER: Final[Any] = func.coalesce(
    inventory_levels.c.expected, inventory_levels.c.acknowledged_quantity, inventory_levels.c.observed_quantity
)


def hold(connection: Connection, at_most: Mapping[int, int], *, reason: str, actor: str, now: datetime) -> int:
    """Hold levels, in the caller's `write_transaction`, at what their channel shows but never above the number given for
    each (what it should show before); return how many were not held already.

    A level whose number isn't known (never written, never read) has none to be held at, and is left out.
    """
    level = inventory_levels.c
    sequence = connection.execute(select(func.coalesce(func.max(stock_ledger.c.sequence), 0))).scalar_one()
    held: dict[int, str] = {}
    for part in chunks(at_most):
        fitting = select(level.id, level.central_sku).where(
            level.id.in_(part), level.held_quantity.is_(None), NUMBER.is_not(None)
        )
        held |= {row.id: row.central_sku for row in connection.execute(fitting)}
    if held:
        statement = (
            update(inventory_levels)
            .where(level.id == bindparam("key"))
            .values(held_quantity=least(NUMBER, bindparam("most")), held_sequence=sequence, held_reason=reason)
        )
        connection.execute(statement, [{"key": level_id, "most": at_most[level_id]} for level_id in held])
        _record(connection, "levels held", list(held), actor, reason, now)
        levels.recompute(connection, set(held.values()), now)
    return len(held)


def approve(connection: Connection, level_ids: Collection[int], *, reason: str, actor: str, now: datetime) -> int:
    """Let held levels show what their rules say again, in the caller's `write_transaction`; return how many were held."""
    level = inventory_levels.c
    freed: list[Row[tuple[int, str]]] = []
    for part in chunks(level_ids):
        statement = (
            update(inventory_levels)
            .where(level.id.in_(part), level.held_quantity.is_not(None))
            .values(held_quantity=None, held_sequence=None, held_desired=None, held_reason="")
            .returning(level.id, level.central_sku)
        )
        freed += connection.execute(statement).all()
    if freed:
        _record(connection, "levels approved", [row.id for row in freed], actor, reason, now)
        levels.recompute(connection, {row.central_sku for row in freed}, now)
    return len(freed)


def _record(connection: Connection, action: str, level_ids: list[int], actor: str, reason: str, now: datetime) -> None:
    record_action(
        connection,
        at=now,
        actor=actor,
        action=action,
        subject=f"{len(level_ids)} levels",
        before=None,
        after=level_ids,
        reason=reason,
    )
