"""The breaker before the wire: what a change of rules, mapping or status would zero or raise beyond the limits is held.

Orders never pass here: sales are not accidents. Counts have their own limits, before the ledger (`counts`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, case, func, select

from invsync_dagster.inventory import holds
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.tables import channels, inventory_levels

BREAKER: Final = "breaker"  # who holds


@dataclass(frozen=True, slots=True)
class Shown:
    """What a level with a number on its channel should show; a stopped one shows the number that it has there."""

    channel: str
    number: int
    pushable: bool


@dataclass(slots=True)
class Moves:
    """The levels of one channel that a change sets to 0, and those that it raises, with their numbers before."""

    zeroed: dict[int, int] = field(default_factory=dict)
    raised: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one channel: what is beyond the limits of a change, in words; "" for what may pass."""

    zeroed: str = ""
    raised: str = ""


def shown(connection: Connection, column: Any, values: Collection[Any], *conditions: Any) -> dict[int, Shown]:
    """Return by id what levels show that have a number on their channel, where `column` has one of the values."""
    level = inventory_levels.c
    number = case((level.pushable, level.desired), else_=holds.NUMBER)
    query = select(level.id, level.channel, number, level.pushable).where(holds.NUMBER.is_not(None), *conditions)
    return {
        row[0]: Shown(*row[1:]) for part in chunks(values) for row in connection.execute(query.where(column.in_(part)))
    }


def moves(before: Mapping[int, Shown], after: Mapping[int, Shown]) -> dict[str, Moves]:
    """Compare what levels show before and after a change; returns the moves by channel. Stopped levels don't move."""
    found: dict[str, Moves] = defaultdict(Moves)
    for level_id, was in before.items():
        now = after.get(level_id, was)
        if not now.pushable:
            continue
        if now.number == 0 < was.number:
            found[was.channel].zeroed[level_id] = was.number
        elif now.number > was.number:
            found[was.channel].raised[level_id] = was.number
    return dict(found)


def judge(connection: Connection, channel: str, found: Moves, cause: str) -> Verdict:
    """Say whether so many levels of a channel may be set to 0 or raised by one change."""
    level, limit = inventory_levels.c, channels.c
    query = select(limit.zeroed_share, limit.raised_share, limit.moved_minimum).where(limit.name == channel)
    limits = connection.execute(query).one()
    listed = select(func.count()).where(level.channel == channel, holds.NUMBER.is_not(None))
    total = connection.execute(listed).scalar_one()

    def beyond(moved: int, share: float, what: str) -> str:
        allowed = max(limits.moved_minimum, int(total * share))
        if moved <= allowed:
            return ""
        return f"{cause} would {what} {moved} of {total} listings on {channel}; {allowed} may pass unseen"

    return Verdict(
        beyond(len(found.zeroed), limits.zeroed_share, "set to 0"),
        beyond(len(found.raised), limits.raised_share, "raise"),
    )


def hold_moves(connection: Connection, channel: str, found: Moves, cause: str, now: datetime) -> list[int]:
    """Judge the moves of a channel and hold what may not pass, in the caller's `write_transaction`; return the level ids.

    `cause` names the change for whoever decides: "import 17", "change 3 of the rules".
    """
    verdict = judge(connection, channel, found, cause)
    held: list[int] = []
    for before, reason in ((found.zeroed, verdict.zeroed), (found.raised, verdict.raised)):
        if reason:
            holds.hold(connection, before, reason=reason, actor=BREAKER, now=now)
            held += before
    return held


def hold_excess(connection: Connection, before: Mapping[int, Shown], cause: str, now: datetime) -> list[int]:
    """Hold what a change that is made has moved beyond the limits, in its transaction; return the level ids.

    `before` is what `shown` returned before the change.
    """
    found = moves(before, shown(connection, inventory_levels.c.id, before.keys()))
    return [level_id for channel, one in found.items() for level_id in hold_moves(connection, channel, one, cause, now)]
