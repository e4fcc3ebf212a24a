"""The number of batches that full runs are cut into: the first one used stays in force until it is changed on purpose.

With another number the same batch means other levels, and what Dagster shows as done would not be.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, delete, func, select, true

from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.bulk import any_of
from invsync_dagster.inventory.tables import full_sync_batches, inventory_levels, operator_actions

_ACTION: Final = "batches set"


# Levels with neighbouring ids are read, and noted, together: as many as a page of the database holds. They were mapped together
# too, so a product's SKUs are mostly in one batch, and read in one call. Dealt out one by one, each batch would change a row of
# every page, and Alibaba.com's products would be read up to ten times.
NEIGHBOURS = 16


def batch_of(level_id: Any, batches: int) -> Any:
    """Return the batch of a level, of `batches`, by its id: a number, or the expression of a column."""
    return level_id // NEIGHBOURS % batches


def in_batch(batch: int, batches: int) -> ColumnElement[bool]:
    """The condition of the levels of a batch, of `batches`, found by their ids: among 5,000,000 levels the batch's number had
    to be worked out for each (2.4 s a batch on PostgreSQL, 0.7 s so)."""
    level_id = inventory_levels.c.id
    last = select(func.max(level_id)).scalar_subquery()
    # One by one, the ids took PostgreSQL three quarters of the time.
    first = select(cast(batch * NEIGHBOURS, BigInteger).label("id")).cte("first_neighbours", recursive=True)
    first = first.union_all(select(first.c.id + NEIGHBOURS * batches).where(first.c.id < last))
    place = select(cast(0, BigInteger).label("number")).cte("places_beside", recursive=True)
    place = place.union_all(select(place.c.number + 1).where(place.c.number < NEIGHBOURS - 1))
    return any_of(level_id, select(first.c.id + place.c.number).join_from(first, place, true()).scalar_subquery())


def batches_in_force(connection: Connection) -> int | None:
    """Return the number of batches, None before the first full run."""
    action = operator_actions.c
    query = select(action.after).where(action.action == _ACTION).order_by(action.id.desc()).limit(1)
    number = connection.execute(query).scalar_one_or_none()
    return None if number is None else int(number)


def set_batches(connection: Connection, number: int, *, actor: str, reason: str, now: datetime) -> None:
    """Put a number of batches in force, in the caller's `write_transaction`; the same number again changes nothing. With
    another one the same batch means other levels: what came of the former ones is forgotten."""
    before = batches_in_force(connection)
    if before != number:
        connection.execute(delete(full_sync_batches))
        record_action(
            connection,
            at=now,
            actor=actor,
            action=_ACTION,
            subject="full runs",
            before=before,
            after=number,
            reason=reason,
        )


def wrong_batches(configured: int, in_force: int | None) -> str:
    """Return what is wrong with the configured number and how to mend it, "" if it is the one in force."""
    if in_force is None or configured == in_force:
        return ""
    return (
        f"sku_batches is {configured} in channels.yaml, and {in_force} in force: full runs stand still. "
        f"Put {in_force} back, or change it on purpose: invsync channels batches --reason …, then reload the definitions"
    )
