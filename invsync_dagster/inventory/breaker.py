"""The breaker before the wire: what changes of rules, mapping or status zero or raise beyond the limits is held.

Orders never pass here: sales are not accidents. Counts have their own limits, before the ledger (`sources`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, case, delete, func, select

from invsync_dagster.inventory import holds
from invsync_dagster.inventory.bulk import among, as_parameter, chunks, upsert_rows
from invsync_dagster.inventory.tables import channels, inventory_levels, moved_levels

BREAKER: Final = "breaker"  # who holds

ZEROED: Final = "zeroed"
RAISED: Final = "raised"

_DOES: Final = {ZEROED: "set to 0", RAISED: "raise"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a level with a number on its channel should show; a stopped one shows the number that it has there."""

    channel: str
    number: int
    pushable: bool


class Move(NamedTuple):
    """What a level should show before and after a change."""

    before: int
    after: int


Moves = dict[int, Move]  # by level id


def shown(connection: Connection, column: Any, values: Collection[Any], *conditions: Any) -> dict[int, Shown]:
    """Return by id what levels show that have a number on their channel, where `column` has one of the values."""
    level = inventory_levels.c
    number = case((level.pushable, level.desired), else_=holds.NUMBER)
    query = select(level.id, level.channel, number, level.pushable).where(holds.NUMBER.is_not(None), *conditions)
    return {
        row[0]: Shown(*row[1:]) for part in chunks(values) for row in connection.execute(query.where(column.in_(part)))
    }


def moves(before: Mapping[int, Shown], after: Mapping[int, Shown]) -> dict[str, Moves]:
    """Compare what levels show before and after a change; returns by channel those that show another number. Stopped levels
    don't move."""
    found: dict[str, Moves] = defaultdict(dict)
    for level_id, was in before.items():
        now = after.get(level_id, was)
        if now.pushable and now.number != was.number:
            found[was.channel][level_id] = Move(was.number, now.number)
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
    held: list[int] = []
    for direction, moved in net.items():
        others = counted[direction].levels if direction in counted else 0
        others -= sum(row.direction == direction for row in earlier.values())
        reason = ""
        if moved and len(moved) + others > minimum:
            listed = connection.execute(_LISTED, {"channel": channel}).scalar_one()
            allowed = max(minimum, int(listed * limits[f"{direction}_share"]))
            if len(moved) + others > allowed:
                before = f", after {others} since {counted[direction].since:%H:%M} UTC" if others else ""
                window = f" within {minutes} minutes" if others else ""
                reason = (
                    f"{cause} would {_DOES[direction]} {len(moved)} of {listed} listings on {channel}{before};"
                    f" {allowed} may pass unseen{window}"
                )
        if reason:
            numbers = {level_id: move.before for level_id, move in moved.items()}
            holds.hold(connection, numbers, reason=reason, actor=BREAKER, now=now)
            held += moved
        else:
            _remember(connection, channel, direction, moved, {key: row.base for key, row in earlier.items()}, now)
    return held


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
