"""Recognises a shop: before a channel is worked with for the first time, or under another address, some listings are read; so
are others where most of what a push or a full run asks for is unknown.

What we know of a level is of the shop where it was read. In another one a certain number would be written unread, so the levels
of a shop that is recognised at another address are all in doubt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import (
    bulk_readings,
    bulk_submissions,
    channels,
    inventory_levels,
    operator_actions,
    platform_mapping,
    unclear_orders,
)
from invsync_dagster.platforms.contract import BulkLane, LevelReference, Limits, Platform, QuickReader, Reading
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync.another_shop import ANOTHER_SHOP, AT_LEAST, SHARE, another_shop, is_unknown
from invsync_dagster.sync.articles import told_apart
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.levels import SUBMISSION_LANDS_WITHIN, Doubt
from invsync_dagster.sync.readings import in_readings
from invsync_dagster.sync.workspace import Workspace

ELSEWHERE = "its settings in channels.yaml have changed: all else waits for a push that recognises the shop there"

# In the place of an address, while the levels of a channel that has moved are being put in doubt.
MOVING = "moving"

# The action that keeps until when the orders of the address that was left are known.
MOVED = "channel moved"

# Level ids that one transaction puts in doubt, so that sales wait for it no longer than some tenths of a second. By their ids: of
# the channel as it stands, SQLite would go through all of the channel's levels for each part.
IDS_AT_ONCE = 10_000


def require_our_shop(ws: Workspace, channel: Channel, recognised: str, calls: Calls) -> None:
    """Return if the channel's address is the one where its shop was `recognised`, else once it is recognised there.

    Raises as `recognise`.
    """
    if recognised != address_of(channel):
        recognise(ws, channel, recognised, calls)


def why_elsewhere(connection: Connection, channel: Channel) -> str:
    """Say why nothing may be concluded, booked or set up at the channel's address: it is another one than where its shop was
    recognised, and no push has been there yet. "" if that isn't so."""
    was = connection.execute(_RECOGNISED, {"of_channel": channel.name}).scalar_one_or_none()
    return ELSEWHERE if was and was != address_of(channel) else ""


def recognise(ws: Workspace, channel: Channel, recognised: str, calls: Calls) -> None:
    """Read some levels, and note that the shop is ours if it knows most of them by the names that they are mapped with.

    Of few listings none need be there, unless the shop was `recognised` at another address: at the first contact each level is
    read before it is written anyway. So is what comes to be listed where nothing is now: such a shop is met for the first time,
    or goes on at the new address. There every level is in doubt at first: it may be a copy of the shop, or one restored from an
    older state. Raises `PlatformError`, `OutOfTimeError`; then nothing may be written.
    """
    name, address = channel.name, address_of(channel)
    has_moved = recognised not in ("", address)
    least = 1 if has_moved else AT_LEAST
    with ws.engine.connect() as connection:
        some = connection.execute(_SAMPLE, {"of_channel": name, "most": _most(calls.platform.limits)}).all()
    if not (some or recognised):
        return
    missing = _unknown_of(ws, name, some, calls)
    if len(some) >= least and missing > len(some) * SHARE:
        raise PlatformError(Recovery.REVIEW, ANOTHER_SHOP, another_shop(name, missing, len(some)))
    if has_moved:
        _doubt_all(ws, name, address, _lands_within(calls.platform))
        with ws.engine.connect() as connection:
            require_still_here(connection, channel)  # else another run went on at an address of its own meanwhile
    else:
        with write_transaction(ws.engine, name) as connection:
            noted = _NOTE.where(channels.c.recognised == recognised)
            connection.execute(noted, {"of_channel": name, "to": address})
            require_still_here(connection, channel)


def require_still_here(connection: Connection, channel: Channel) -> None:
    """Return if the channel's address is in force: once its levels are in doubt, and in the transaction that claims some. Raises
    `OutOfTimeError`.

    At an address that isn't, the orders are of a shop that isn't ours, or is no more. And a push that began at the
    address before would else settle what is in doubt at the new one, by what the old shop shows.
    """
    if why_elsewhere(connection, channel):
        raise OutOfTimeError("the channel goes on at another address, which another run knows")


def _lands_within(platform: Platform) -> timedelta:
    """Return how long what was handed in at the address before may still land, should it lead to the same shop."""
    submits = isinstance(platform, BulkLane)
    return SUBMISSION_LANDS_WITHIN if submits else timedelta(seconds=platform.limits.write_linger)


def _doubt_all(ws: Workspace, name: str, address: str, lands_within: timedelta) -> None:
    """Put every level of the channel in doubt, in short transactions, and note the new address then.

    Meanwhile none is in force: whoever dies halfway leaves the channel to be recognised anew. Ends where another push was
    faster.
    """
    with write_transaction(ws.engine, name) as connection:
        if connection.execute(_RECOGNISED, {"of_channel": name}).scalar_one() == address:
            return
        _leave(connection, name, ws.clock.now())
        connection.execute(delete(bulk_readings).where(bulk_readings.c.channel == name))
        # Asked for there at once: it may be the same account, where they land, or one that knows nothing of them.
        open_ones = update(bulk_submissions).where(bulk_submissions.c.channel == name)
        connection.execute(open_ones.values(check_after=ws.clock.now()))
        connection.execute(_NOTE, {"of_channel": name, "to": MOVING})
        lowest, highest = connection.execute(_ENDS, {"of_channel": name}).one()
    for first in range(lowest or 0, (highest or -1) + 1, IDS_AT_ONCE):
        with write_transaction(ws.engine, name) as connection:
            if connection.execute(_RECOGNISED, {"of_channel": name}).scalar_one() != MOVING:
                return
            part = {"first": first, "last": first + IDS_AT_ONCE - 1}
            now = ws.clock.now()
            connection.execute(_DOUBT, {"of_channel": name, "now": now, "until": now + lands_within, **part})
    with write_transaction(ws.engine, name) as connection:
        here = connection.execute(_NOTE.where(channels.c.recognised == MOVING), {"of_channel": name, "to": address})
        if here.rowcount:
            _list_orders_from_when_it_was_left(connection, name, address, ws.clock.now())


def _leave(connection: Connection, name: str, now: datetime) -> None:
    """Keep until when the orders are known at the address that is left: its shop may go on selling."""
    was, known = connection.execute(_KNOWN_UNTIL, {"of_channel": name}).one()
    if was == MOVING:
        return
    record_action(
        connection,
        at=now,
        actor="configuration",
        action=MOVED,
        subject=f"channel {name}",
        before={
            "address": was,
            "orders_known_until": known.isoformat() if known else "",
            "unclear_orders": list(connection.execute(_UNCLEAR, {"of_channel": name}).scalars()),
        },
        after=None,
        reason="its settings lead to another address",
    )


def _list_orders_from_when_it_was_left(connection: Connection, name: str, address: str, now: datetime) -> None:
    """Where the channel was at an address before, its orders there are known only until it was left."""
    for before in connection.execute(_LEFT, {"of_subject": f"channel {name}"}).scalars():
        if before["address"] == address:
            if known := before["orders_known_until"]:
                connection.execute(_BACK_TO, {"of_channel": name, "left": datetime.fromisoformat(known)})
            else:  # they were never listed there
                connection.execute(update(channels).where(channels.c.name == name).values(orders_known_until=None))
            # Elsewhere nobody knew them.
            again = set(before["unclear_orders"]).difference(
                connection.execute(_UNCLEAR, {"of_channel": name}).scalars()
            )
            if again:
                rows = [{"channel": name, "order_id": one, "reason": MOVED, "since": now} for one in sorted(again)]
                connection.execute(insert(unclear_orders), rows)
            return


def require_same_shop(
    ws: Workspace,
    name: str,
    mine: ColumnElement[bool],
    parameters: Mapping[str, str],
    unknown: int,
    asked: int,
    calls: Calls,
) -> None:
    """Return if `unknown` listings of the `asked` ones are no sign of another shop; most of them are unknown. `mine` is the
    condition of their levels, with its parameters.

    A product that was deleted takes all its variants along, which are mostly asked for together. So some of the other listings
    are read, from all over the channel, and the rest is taken to be as they are. Raises `PlatformError` if more than half of
    the channel's listings are likely unknown then, `OutOfTimeError`.
    """
    with ws.engine.connect() as connection:
        values = {"of_channel": name, **parameters}
        beside = connection.execute(_BESIDE.where(~mine), values).scalar_one()
        step = max(beside // _most(calls.platform.limits), 1)
        spread = _PLACED.where(~mine).subquery()
        query = select(spread).where(spread.c.place % step == 0).limit(_most(calls.platform.limits))
        some: Sequence[Any] = connection.execute(query, values).all()
    others = _unknown_of(ws, name, some, calls)
    likely = unknown + (beside * others / len(some) if some else 0)
    if asked + len(some) >= AT_LEAST and likely > (asked + beside) * SHARE:
        told = another_shop(name, unknown + others, asked + len(some))
        raise PlatformError(Recovery.REVIEW, ANOTHER_SHOP, told)


def _most(limits: Limits) -> int:
    # A location may be a call of its own.
    return max(limits.read_locations or limits.read_batch, AT_LEAST)


def _unknown_of(ws: Workspace, name: str, some: Sequence[Row[Any, Any, Any]], calls: Calls) -> int:
    """Read levels, and return how many of them the platform doesn't know by the names that they are mapped with."""
    platform = calls.platform
    limits = platform.limits
    read = platform.read_quickly if isinstance(platform, QuickReader) else platform.read
    by_level: dict[int, Reading] = {}
    for part in in_readings(some, limits):
        references = [LevelReference(row.item_id, row.location_id) for row in part]
        answer = calls.ask(limits.read_cost, lambda asked=references: read(asked))  # type: ignore[misc]
        by_level |= {row.id: reading for row, reading in zip(part, answer.readings, strict=True)}
    with ws.engine.connect() as connection:
        readings = told_apart(connection, name, by_level).values()
    return sum(is_unknown(reading.problem) for reading in readings)


def address_of(channel: Channel) -> str:
    """Return what stands for the shop that a channel's settings lead to; the names of its credentials' variables are among them,
    their values are not.

    16 hexadecimal digits. Another version must not return others: every level would be in doubt.
    """
    values = {**channel.settings.place(), "": [channel.platform, channel.environment]}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


_RECOGNISED = select(channels.c.recognised).where(channels.c.name == bindparam("of_channel"))
_KNOWN_UNTIL = select(channels.c.recognised, channels.c.orders_known_until).where(
    channels.c.name == bindparam("of_channel")
)
_UNCLEAR = select(unclear_orders.c.order_id).where(unclear_orders.c.channel == bindparam("of_channel"))
_LEFT = (
    select(operator_actions.c.before)
    .where(operator_actions.c.action == MOVED, operator_actions.c.subject == bindparam("of_subject"))
    .order_by(operator_actions.c.id.desc())
)
_BACK_TO = (
    update(channels)
    .where(channels.c.name == bindparam("of_channel"), channels.c.orders_known_until > bindparam("left"))
    .values(orders_known_until=bindparam("left", type_=channels.c.orders_known_until.type))
)
_NOTE = update(channels).where(channels.c.name == bindparam("of_channel")).values(recognised=bindparam("to"))
_LEVEL = inventory_levels.c
_NOW = bindparam("now", type_=_LEVEL.due_at.type)
_ENDS = select(func.min(_LEVEL.id), func.max(_LEVEL.id)).where(_LEVEL.channel == bindparam("of_channel"))
_LANDS_LATER = and_(
    or_(_LEVEL.accepted_quantity.is_not(None), _LEVEL.bulk_handle.is_not(None)),
    or_(_LEVEL.linger_until.is_(None), _LEVEL.linger_until < bindparam("until", type_=_LEVEL.due_at.type)),
)
# What is expected stays, so that what is sold elsewhere lowers the level at once, unread: the new number is no more than there
# is, and the channel's orders are known. All else is read first. What is under way counts as raced, by `touched`: its answer may
# be of the shop before, and leaves the level in doubt.
_DOUBT = (
    update(inventory_levels)
    .where(
        _LEVEL.channel.concat("") == bindparam("of_channel"), _LEVEL.id.between(bindparam("first"), bindparam("last"))
    )
    .values(
        uncertain=case((_LEVEL.uncertain == Doubt.RESTORE, _LEVEL.uncertain), else_=str(Doubt.NEW_ADDRESS)),
        uncertain_since=func.coalesce(_LEVEL.uncertain_since, _NOW),
        out_of_step_since=case((_LEVEL.pushable, func.coalesce(_LEVEL.out_of_step_since, _NOW))),
        touched=_LEVEL.touched + 1,
        due_at=_NOW,
        read_whole_at=null(),
        # What is on its way at the address before isn't expected here: a reading lowers at once. Of a submission only the
        # handle stays, which is asked for here, too.
        linger_until=case((_LANDS_LATER, bindparam("until", type_=_LEVEL.due_at.type)), else_=_LEVEL.linger_until),
        accepted_quantity=null(),
        accepted_handle=null(),
        accepted_check_after=null(),
    )
)

# Once a suspicion: of 100,000 levels it takes 0.3 s with SQLite, and 0.1 s on PostgreSQL.
_COMPARED = (inventory_levels.c.channel == bindparam("of_channel"), inventory_levels.c.pushable.is_(True))
_BESIDE = select(func.count()).select_from(inventory_levels).where(*_COMPARED)
_PLACED = select(
    inventory_levels.c.id,
    inventory_levels.c.item_id,
    inventory_levels.c.location_id,
    func.row_number().over(order_by=(inventory_levels.c.item_id, inventory_levels.c.location_id)).label("place"),
).where(*_COMPARED)

_SAMPLE = (
    select(inventory_levels.c.id, inventory_levels.c.item_id, inventory_levels.c.location_id)
    .where(
        inventory_levels.c.channel == bindparam("of_channel"),
        # Not `pushable`: no level of a paused channel is, whose orders are heard.
        exists().where(platform_mapping.c.level_id == inventory_levels.c.id, platform_mapping.c.status == "active"),
    )
    # As their index has them: of a million levels that takes 1 ms, and sorting them by id 0.7 s.
    .order_by(inventory_levels.c.item_id, inventory_levels.c.location_id)
    .limit(bindparam("most"))
)
