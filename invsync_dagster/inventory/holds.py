"""Levels that the breaker holds until a person decides: stopped at the number they had, less what is sold since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Connection, Text, Update, func, null, select, update

from invsync_dagster.inventory import levels
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.bulk import chunks, update_rows
from invsync_dagster.inventory.rules import least
from invsync_dagster.inventory.tables import inventory_levels, stock_ledger

# What the channel shows, as far as we know; NULL for a level that was neither written nor read.
NUMBER: Final[Any] = func.coalesce(
    inventory_levels.c.expected, inventory_levels.c.acknowledged_quantity, inventory_levels.c.observed_quantity
)

HELD: Final = "levels held"
APPROVED: Final = "levels approved"
DROPPED: Final = "levels dropped"

Held = tuple[str, int | None]  # a hold: its channel, and the action that held its levels


def subject_of(channel: str, number: int | None) -> str:
    """Return what a decision about a hold is recorded under."""
    return f"hold {number} of channel {channel}"


class Before(NamedTuple):
    """A level before the change that is held: the number that it showed, and the one that its rules wanted."""

    shown: int
    wanted: int


def hold(
    connection: Connection, before: Mapping[int, Before], *, zeroes: bool, reason: str, actor: str, now: datetime
) -> int:
    """Hold levels, in the caller's `write_transaction`, at what their channel shows but never above what they showed before a
    change that `zeroes` or else raises them; return how many were not held already.

    Those of a channel are one hold, named by the action that records it. What is held already stays at its number, for the
    new reason. A level whose number isn't known (never written, never read) has none to be held at, and is left out.
    """
    level = inventory_levels.c
    sequence = connection.execute(select(func.coalesce(func.max(stock_ledger.c.sequence), 0))).scalar_one()
    fitting = select(level.channel, level.id, level.central_sku, level.held_quantity).where(NUMBER.is_not(None))
    found: dict[str, dict[int, str]] = defaultdict(dict)
    again: set[int] = set()
    for part in chunks(before):
        for channel, level_id, sku, held in connection.execute(fitting.where(level.id.in_(part))):
            found[channel][level_id] = sku
            if held is not None:
                again.add(level_id)
    for channel, skus in found.items():
        revision = record_action(
            connection,
            at=now,
            actor=actor,
            action=HELD,
            subject=f"{len(skus)} levels of channel {channel}",
            before=None,
            after=list(skus),
            reason=reason,
        )
        because = (zeroes, reason, revision)
        first = [(one, *because, *before[one], sequence) for one in skus if one not in again]
        update_rows(connection, _hold, (*_BECAUSE, *_NUMBERS), first)
        update_rows(connection, _hold_again, _BECAUSE, [(one, *because) for one in skus if one in again])
        levels.recompute(connection, set(skus.values()), now, channel=channel)
    return sum(map(len, found.values())) - len(again)


_BECAUSE = (
    Column("key", BigInteger),
    Column("zeroes", Boolean),
    Column("reason", Text),
    Column("revision", BigInteger),
)
_NUMBERS = tuple(Column(name, BigInteger) for name in (*Before._fields, "sequence"))


def _hold_again(given: Mapping[str, ColumnElement[Any]]) -> Update:
    because = {"held_zeroes": given["zeroes"], "held_reason": given["reason"], "held_revision": given["revision"]}
    held = update(inventory_levels).where(inventory_levels.c.id == given["key"])
    return held.values(because | {"held_dropped_at": null()})


def _hold(given: Mapping[str, ColumnElement[Any]]) -> Update:
    numbers = {"held_quantity": least(NUMBER, given["shown"]), "held_limit": given["wanted"]}
    return _hold_again(given).values(numbers | {"held_sequence": given["sequence"]})


def approve(connection: Connection, level_ids: Collection[int], *, reason: str, actor: str, now: datetime) -> int:
    """Let held levels show what their rules say again, in the caller's `write_transaction`; return how many were held.

    What a person approved counts for no window.
    """
    level = inventory_levels.c
    freed: dict[Held, list[int]] = defaultdict(list)
    skus: set[str] = set()
    asked = select(level.channel, level.held_revision, level.id, level.central_sku).where(
        level.held_quantity.is_not(None)
    )
    for part in chunks(level_ids):
        for channel, number, level_id, sku in connection.execute(asked.where(level.id.in_(part))):
            freed[channel, number].append(level_id)
            skus.add(sku)
        connection.execute(
            update(inventory_levels)
            .where(level.id.in_(part), level.held_quantity.is_not(None))
            .values(
                held_quantity=None,
                held_limit=None,
                held_zeroes=None,
                held_sequence=None,
                held_desired=None,
                held_reason="",
            )
        )
    _record(connection, APPROVED, freed, actor, reason, now)
    levels.recompute(connection, skus, now)
    return sum(map(len, freed.values()))


def drop(connection: Connection, level_ids: Collection[int], *, reason: str, actor: str, now: datetime) -> int:
    """Decide that held levels stay at what they show, less what is sold, until what held them is taken back; return how
    many were undecided. In the caller's `write_transaction`."""
    level = inventory_levels.c
    dropped: dict[Held, list[int]] = defaultdict(list)
    for part in chunks(level_ids):
        statement = (
            update(inventory_levels)
            .where(level.id.in_(part), level.held_quantity.is_not(None), level.held_dropped_at.is_(None))
            .values(held_dropped_at=now)
            .returning(level.channel, level.held_revision, level.id)
        )
        for channel, number, level_id in connection.execute(statement):
            dropped[channel, number].append(level_id)
    _record(connection, DROPPED, dropped, actor, reason, now)
    return sum(map(len, dropped.values()))


def undecide(connection: Connection, skus: Collection[str]) -> None:
    """Have the dropped levels of SKUs wait for a person again: that they stay was decided about other statuses."""
    level = inventory_levels.c
    for part in chunks(skus):
        connection.execute(
            update(inventory_levels)
            .where(level.central_sku.in_(part), level.held_dropped_at.is_not(None))
            .values(held_dropped_at=None)
        )


def _record(
    connection: Connection,
    action: str,
    decided: Mapping[Held, list[int]],
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    for (channel, number), level_ids in decided.items():
        record_action(
            connection,
            at=now,
            actor=actor,
            action=action,
            subject=subject_of(channel, number),
            before=None,
            after=level_ids,
            reason=reason,
        )
