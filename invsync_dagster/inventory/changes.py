"""The work queue read as figures: how much is out of step per channel, since when, and which levels are worst."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, select

from invsync_dagster.inventory.tables import CHANGES, inventory_levels, work_queue

ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ChannelChanges:
    """A channel's levels that are out of step or uncertain; `due` of them are worth an attempt now."""

    channel: str
    changes: int
    due: int
    uncertain: int
    zeros: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Change:
    """One level that is a change; `shown` is what is on its way, else acknowledged (None: nothing of ours yet)."""

    channel: str
    sku: str
    item_id: str
    location_id: str
    shown: int | None
    desired: int
    uncertain: str
    since: datetime | None
    due_at: datetime
    failures: int
    last_error: str


def changes_by_channel(connection: Connection, now: datetime) -> list[ChannelChanges]:
    """Count the changes of each channel that has any; costs as much as there are changes (the work queue)."""
    queued = work_queue.c
    query = (
        select(
            queued.channel,
            func.count(),
            func.count().filter(queued.due_at <= now, queued.claim.is_(None)),
            func.count(queued.uncertain),
            func.count().filter(queued.desired == 0),
            func.min(inventory_levels.c.out_of_step_since),
        )
        .select_from(CHANGES)
        .group_by(queued.channel)
        .order_by(queued.channel)
    )
    return [ChannelChanges(*row) for row in connection.execute(query)]


def oldest_changes(
    connection: Connection, limit: int | None = None, *, channel: str = "", skus: Collection[str] = ()
) -> list[Change]:
    """Return changes, longest out of step first, of all channels or one, of all SKUs or some."""
    return list(each_change(connection, limit, channel=channel, skus=skus))


def each_change(
    connection: Connection, limit: int | None = None, *, channel: str = "", skus: Collection[str] = ()
) -> Iterator[Change]:
    """Yield what `oldest_changes` returns, some rows in memory at a time."""
    level = inventory_levels.c
    query = select(
        level.channel,
        level.central_sku,
        level.item_id,
        level.location_id,
        case((level.effective_quantity >= 0, level.effective_quantity)),
        level.desired,
        func.coalesce(level.uncertain, ""),
        level.out_of_step_since,
        level.due_at,
        level.failures,
        level.last_error,
    ).select_from(CHANGES)
    if channel:
        query = query.where(work_queue.c.channel == channel)
    if skus:
        query = query.where(level.central_sku.in_(skus))
    query = query.order_by(level.out_of_step_since, level.id).limit(limit)
    for row in connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
        yield Change(*row)
