"""The levels of a restored stock: all in doubt, what was under way is void, and what it may still land counts."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, func, null, select, update

from invsync_dagster.inventory.tables import bulk_readings, bulk_submissions, inventory_levels
from invsync_dagster.platforms.contract import BulkLane
from invsync_dagster.sync.levels import SUBMISSION_LANDS_WITHIN, Doubt
from invsync_dagster.sync.workspace import Workspace

# More attempts than a level can have had between a backup and its restore: their numbers are not used again.
ATTEMPTS_SINCE = 1_000_000

# Levels that one statement looks at: with SQLite it keeps a copy of what it changes in memory. By their ids: of the channel as
# it stands, SQLite would go through all of the channel's levels for each part.
IDS_AT_ONCE = 100_000

_LEVEL = inventory_levels.c
_NOW = bindparam("now", type_=_LEVEL.due_at.type)
# Nothing is expected, so that even a decrease is read first: beside what was sold and written since the backup, a number below
# what we knew then may be far above what the shop shows now.
_DOUBT = (
    update(inventory_levels)
    .where(
        _LEVEL.channel.concat("") == bindparam("of_channel"), _LEVEL.id.between(bindparam("first"), bindparam("last"))
    )
    .values(
        dict.fromkeys(("claim", "claim_until", "claim_worker", "bulk_handle", "expected"), null())
        | dict.fromkeys(("accepted_quantity", "accepted_handle", "accepted_check_after"), null())
        | {
            "uncertain": str(Doubt.RESTORE),
            "uncertain_since": _NOW,
            "out_of_step_since": func.coalesce(_LEVEL.out_of_step_since, _NOW),
            "linger_until": bindparam("until", type_=_LEVEL.linger_until.type),
            "attempt": _LEVEL.attempt + ATTEMPTS_SINCE,
            "touched": _LEVEL.touched + 1,
            "due_at": _NOW,
            "failures": 0,
        }
    )
)


def doubt_all(ws: Workspace, connection: Connection, now: datetime) -> int:
    """Mark every level uncertain since `now`, with nothing expected, and return how many there are.

    Its claim, what was accepted of it and the submission that it is in are of a time that is gone. What the system of before
    has sent may land until the channel's linger time is over: until then a reading may lower a level and settles none. A
    channel whose limits can't be had waits for the longest. The numbers of its attempts go on behind those that are lost.
    """
    connection.execute(delete(bulk_submissions))
    connection.execute(delete(bulk_readings))
    levels = 0
    per_channel = select(_LEVEL.channel, func.count(), func.min(_LEVEL.id), func.max(_LEVEL.id)).group_by(
        _LEVEL.channel
    )
    for name, count, lowest, highest in connection.execute(per_channel).all():
        doubted = {"of_channel": name, "now": now, "until": now + _linger(ws, name)}
        for first in range(lowest, highest + 1, IDS_AT_ONCE):
            connection.execute(_DOUBT, doubted | {"first": first, "last": first + IDS_AT_ONCE - 1})
        levels += count
    return levels


def _linger(ws: Workspace, name: str) -> timedelta:
    known = {channel.name: channel for channel in ws.configuration.channels if not channel.disabled_reason}
    if name not in known:
        return SUBMISSION_LANDS_WITHIN
    platform = ws.platform(known[name])
    limits = platform.limits
    linger = timedelta(seconds=limits.request_deadline + limits.write_linger + limits.read_lag)
    return max(linger, SUBMISSION_LANDS_WITHIN) if isinstance(platform, BulkLane) else linger
