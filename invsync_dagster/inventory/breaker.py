"""The breaker before the wire: what changes of rules, mapping or status zero or raise beyond the limits is held.

Orders never pass here: sales are not accidents. Counts have their own limits, before the ledger (`sources`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, case, delete, exists, func, select

from invsync_dagster.inventory import holds
from invsync_dagster.inventory.bulk import among, as_parameter, chunks, upsert_rows
from invsync_dagster.inventory.tables import channels, inventory_levels, moved_levels

BREAKER: Final = "breaker"  # who holds

ZEROED: Final = "zeroed"
RAISED: Final = "raised"

_DOES: Final = {ZEROED: "set to 0", RAISED: "raise"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a level with a number on its channel should show; a stopped one shows the number that it has there.

    Of a held level also what its rules want, and what they wanted before the change that is held.
    """

    channel: str
    number: int
    pushable: bool
    wanted: int | None
    wanted_before: int | None


class Move(NamedTuple):
    """What a level's rules want before and after a change, and what it shows before. `held`: it is, and stays so."""

    before: int
    after: int
    shown: int
    held: bool


Moves = dict[int, Move]  # by level id


def shown(connection: Connection, column: Any, values: Collection[Any], *conditions: Any) -> dict[int, Shown]:
    """Return by id what levels show that have a number on their channel, where `column` has one of the values."""
    level = inventory_levels.c
    number = case((level.pushable, level.desired), else_=holds.NUMBER)
    of_held = (case((level.held_quantity.is_not(None), column)) for column in (level.held_desired, level.held_limit))
    query = select(level.id, level.channel, number, level.pushable, *of_held)
    query = query.where(holds.NUMBER.is_not(None), among(column, "values"), *conditions)
    return {row[0]: Shown(*row[1:]) for row in connection.execute(query, {"values": as_parameter(values)})}


def moves(before: Mapping[int, Shown], after: Mapping[int, Shown]) -> dict[str, Moves]:
    """Compare what levels show before and after a change; returns by channel those that show another number, or would if
    they were not held. Stopped levels don't move."""
    found: dict[str, Moves] = defaultdict(dict)
    for level_id, was in before.items():
        now = after.get(level_id, was)
        stays_held = was.wanted is not None and now.wanted is not None
        to, of = (now.wanted, was.wanted) if stays_held else (now.number, was.number)
        if now.pushable and to is not None and to != of:
            base = was.number if was.wanted_before is None else was.wanted_before
            found[was.channel][level_id] = Move(base, to, was.number, stays_held)
    return dict(found)


def hold_moves(connection: Connection, channel: str, found: Moves, cause: str, now: datetime) -> list[int]:
    """Judge the moves of a channel, together with those of the window, and hold what may not pass, in the caller's
    `write_transaction`; return the level ids. What passes counts for the window.

    A level counts once, by what it should have shown before the window's first change of it: what is put back counts no
    more. `cause` names the change for whoever decides: "import 17", "change 3 of the rules".
    """
    if not found:
        return []
    limits = connection.execute(_LIMITS, {"channel": channel}).mappings().one()
    minimum, minutes = limits["moved_minimum"], limits["moved_window_minutes"]
    connection.execute(_FORGET, {"channel": channel, "begin": now - timedelta(minutes=minutes)})
    earlier = {
        row.level_id: row for part in chunks(found) for row in connection.execute(_EARLIER, {"ids": as_parameter(part)})
    }
    net: dict[str, Moves] = {ZEROED: {}, RAISED: {}}
    back: list[int] = []
    for level_id, move in found.items():
        base = earlier[level_id].base if level_id in earlier else move.before
        if move.after == 0 < base:
            net[ZEROED][level_id] = move
        elif move.after > max(base, move.before):
            net[RAISED][level_id] = move
        elif level_id in earlier:
            del earlier[level_id]
            if move.after <= base:
                back.append(level_id)
    for part in chunks(back):
        connection.execute(_PUT_BACK, {"ids": as_parameter(part)})
    counted = {row.direction: row for row in connection.execute(_IN_WINDOW, {"channel": channel})}
    bases = {key: row.base for key, row in earlier.items()}
    # Also what is only put back: at another location it may be what is held.
    rising = {level_id: move for level_id, move in found.items() if move.after > move.shown and not move.held}
    held: list[int] = []
    for direction, moved in net.items():
        if not moved and not (direction == RAISED and rising):
            continue
        others = counted[direction].levels if direction in counted else 0
        others -= sum(row.direction == direction for row in earlier.values())
        stopped = {level_id: move for level_id, move in moved.items() if move.held}
        why = ", which were held already"
        # The share is of all listings, which costs a look at each: not for a change of a few.
        few = len(moved) + others <= minimum
        listed = 0 if few else connection.execute(_LISTED, {"channel": channel}).scalar_one()
        allowed = max(minimum, int(listed * limits[f"{direction}_share"]))
        if len(moved) + others > allowed:
            stopped = dict(moved)
            why = f", after {others} since {counted[direction].since:%H:%M} UTC" if others else ""
            why += f"; {allowed} may pass unseen" + (f" within {minutes} minutes" if others else "")
        elif direction == RAISED:
            beside = _beside_held(connection, channel, rising)
            if beside:
                stopped |= {level_id: rising[level_id] for level_id in beside}
                why = ", which were held already or share an item's stock with what is held"
        if stopped:
            listed = listed or connection.execute(_LISTED, {"channel": channel}).scalar_one()
            reason = f"{cause} would {_DOES[direction]} {len(stopped)} of {listed} listings on {channel}{why}"
            # At what it shows, where its rules wanted more before: what only goes back to that would be free at once.
            before = {key: holds.Before(move.shown, min(move.shown, move.before)) for key, move in stopped.items()}
            holds.hold(connection, before, zeroes=direction == ZEROED, reason=reason, actor=BREAKER, now=now)
            held += stopped
        passing = {level_id: move for level_id, move in moved.items() if level_id not in stopped}
        _remember(connection, channel, direction, passing, bases, now)
    return held


def _beside_held(connection: Connection, channel: str, raised: Collection[int]) -> list[int]:
    """Return which levels are of an item that is held at another location: what is held there can't be shown here as well."""
    if not raised or connection.execute(_ANY_HELD, {"channel": channel}).first() is None:
        return []
    return [
        level_id
        for part in chunks(raised)
        for level_id in connection.execute(_BESIDE_HELD, {"ids": as_parameter(part)}).scalars()
    ]


def hold_excess(connection: Connection, before: Mapping[int, Shown], cause: str, now: datetime) -> list[int]:
    """Hold what a change that is made has moved beyond the limits, in its transaction; return the level ids.

    `before` is what `shown` returned before the change.
    """
    found = moves(before, shown(connection, inventory_levels.c.id, before.keys()))
    return [level_id for channel, one in found.items() for level_id in hold_moves(connection, channel, one, cause, now)]


def _remember(
    connection: Connection, channel: str, direction: str, moved: Moves, bases: Mapping[int, int], now: datetime
) -> None:
    rows = [
        (level_id, channel, direction, bases.get(level_id, move.before), now)
        for level_id, move in sorted(moved.items())
    ]
    upsert_rows(connection, moved_levels, ("level_id",), tuple(moved_levels.c), rows)


_M = moved_levels.c
_LIMITS = select(
    channels.c.zeroed_share, channels.c.raised_share, channels.c.moved_minimum, channels.c.moved_window_minutes
).where(channels.c.name == bindparam("channel"))
_FORGET = delete(moved_levels).where(_M.channel == bindparam("channel"), _M.at <= bindparam("begin", type_=_M.at.type))
_EARLIER = select(_M.level_id, _M.direction, _M.base).where(among(_M.level_id, "ids"))
_PUT_BACK = delete(moved_levels).where(among(_M.level_id, "ids"))
# At most what the limits let pass: of what is held nothing is remembered.
_IN_WINDOW = (
    select(_M.direction, func.count().label("levels"), func.min(_M.at).label("since"))
    .where(_M.channel == bindparam("channel"))
    .group_by(_M.direction)
)
_LISTED = select(func.count()).where(inventory_levels.c.channel == bindparam("channel"), holds.NUMBER.is_not(None))
_L = inventory_levels.c
_ANY_HELD = select(_L.id).where(_L.channel == bindparam("channel"), _L.held_quantity.is_not(None)).limit(1)
_OTHER = inventory_levels.alias("other")
_BESIDE_HELD = select(_L.id).where(
    among(_L.id, "ids"),
    exists().where(
        _OTHER.c.channel == _L.channel,
        _OTHER.c.item_id == _L.item_id,
        _OTHER.c.id != _L.id,
        _OTHER.c.held_quantity.is_not(None),
    ),
)
