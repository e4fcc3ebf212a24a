"""The breaker before the wire: what a change of rules, mapping or status would zero or raise beyond the limits is held.

Orders never pass here: sales are not accidents. Counts have their own limits, before the ledger (`counts`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select

from invsync_dagster.inventory import holds
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.tables import channels, inventory_levels

BREAKER: Final = "breaker"  # who holds


@dataclass(frozen=True, slots=True)
class Shown:
    """What a level that has a number on its channel should show."""

    channel: str
    desired: int


@dataclass(slots=True)
class Moves:
    """The levels of one channel that a change sets to 0, and those that it raises."""

    zeroed: list[int] = field(default_factory=list)
    raised: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one channel: what is beyond the limits of a change, in words; "" for what may pass."""

    zeroed: str = ""
    raised: str = ""


def shown(connection: Connection, column: Any, values: Collection[Any], *conditions: Any) -> dict[int, Shown]:
    """Return, by id, the levels that are pushed, not held, and have a number on their channel, where `column` has a value."""
    level = inventory_levels.c
    query = select(level.id, level.channel, level.desired).where(
        level.pushable.is_(True), level.held_quantity.is_(None), holds.NUMBER.is_not(None), *conditions
    )
    return {
        row.id: Shown(row.channel, row.desired)
        for part in chunks(values)
        for row in connection.execute(query.where(column.in_(part)))
    }


def moves(before: dict[int, Shown], after: dict[int, Shown]) -> dict[str, Moves]:
    """Compare what levels should show before and after a change; returns the moves by channel."""
    found: dict[str, Moves] = defaultdict(Moves)
    for level_id, was in before.items():
        now = after.get(level_id, was).desired
        if now == 0 < was.desired:
            found[was.channel].zeroed.append(level_id)
        elif now > was.desired:
            found[was.channel].raised.append(level_id)
    return dict(found)


def judge(connection: Connection, channel: str, zeroed: int, raised: int, cause: str) -> Verdict:
    """Say whether so many levels may be set to 0 or raised by one change on this channel.

    What is held already for the same cause counts: a job that died amid it goes on with the verdict it had.
    """
    level = inventory_levels.c
    limits = connection.execute(
        select(channels.c.zeroed_share, channels.c.raised_share, channels.c.moved_minimum).where(
            channels.c.name == channel
        )
    ).one()
    active = connection.execute(
        select(func.count()).where(level.channel == channel, level.pushable.is_(True))
    ).scalar_one()
    held = connection.execute(
        select(func.count()).where(
            level.channel == channel,
            level.held_quantity.is_not(None),
            level.held_reason.startswith(f"{cause} would ", autoescape=True),
        )
    ).scalar_one()

    def beyond(moved: int, share: float, what: str) -> str:
        allowed = max(limits.moved_minimum, int(active * share))
        if not moved or moved + held <= allowed:
            return ""
        return f"{cause} would {what} {moved + held} of {active} listings on {channel}; {allowed} may pass unseen"

    return Verdict(beyond(zeroed, limits.zeroed_share, "set to 0"), beyond(raised, limits.raised_share, "raise"))


def hold_moves(connection: Connection, found: Moves, verdict: Verdict, now: datetime) -> int:
    """Hold what a verdict lets not pass, in the caller's `write_transaction`; return how many levels."""
    held = 0
    for ids, reason in ((found.zeroed, verdict.zeroed), (found.raised, verdict.raised)):
        if ids and reason:
            held += holds.hold(connection, ids, reason=reason, actor=BREAKER, now=now)
    return held


def hold_excess(connection: Connection, before: dict[int, Shown], cause: str, now: datetime) -> int:
    """Hold what a change that is made has moved beyond the limits, in its transaction; return how many levels.

    `before` is what `shown` returned before the change; `cause` names it for whoever decides: "import 17", "change 3".
    """
    level = inventory_levels.c
    found = moves(before, shown(connection, level.id, before.keys()))
    return sum(
        hold_moves(connection, one, judge(connection, channel, len(one.zeroed), len(one.raised), cause), now)
        for channel, one in found.items()
    )
