"""How the stock of an item is parted among the locations of one shop that it is mapped at, to the last piece.

Each location has a percent of its own. Rounded down one by one they would lose pieces: of one piece, parted in halves, none
would be shown. So each gets what all up to it get, less what all before it get (`percent_before`): in sum that is all of
the stock that the percents name, and each is within a piece of its own share. The largest share comes last, which gets
the only piece. Where the shares don't fit together it is 0 for each; an item at one location has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, distinct, func, or_, select, update

from invsync_dagster.inventory.bulk import among, as_parameter
from invsync_dagster.inventory.tables import platform_mapping

_M = platform_mapping.c


class _Share(NamedTuple):
    """A listing as far as it has a share in its item's stock."""

    id: int
    level_id: int
    platform_item_id: str
    central_sku: str
    status: str
    buffer: int | None
    percent: int | None
    percent_before: int | None


_SEVERAL = (
    select(_M.platform_item_id)
    .where(_M.platform_name == bindparam("of_channel"), among(_M.platform_item_id, "items"))
    .group_by(_M.platform_item_id)
    .having(or_(func.count(distinct(_M.level_id)) > 1, func.count(_M.percent_before) > 0))
)
_LISTINGS = select(*(_M[name] for name in _Share._fields)).where(
    _M.platform_name == bindparam("of_channel"), among(_M.platform_item_id, "items")
)
_SET = update(platform_mapping).where(_M.id == bindparam("key")).values(percent_before=bindparam("before"))


def part(connection: Connection, channel: str, item_ids: Collection[str]) -> None:
    """Set `percent_before` of the items' listings; whoever changed them recomputes their SKUs afterwards."""
    keys = {"of_channel": channel, "items": as_parameter(item_ids)}
    several = list(connection.execute(_SEVERAL, keys).scalars())
    if not several:
        return
    keys["items"] = as_parameter(several)
    listings = [_Share(*row) for row in connection.execute(_LISTINGS, keys)]
    shares: dict[tuple[str, str], list[_Share]] = defaultdict(list)
    for row in listings:
        if row.status not in ("retired", "excluded"):
            shares[row.platform_item_id, row.central_sku].append(row)
    before: dict[int, int] = {}
    for rows in shares.values():
        if len({row.level_id for row in rows}) == 1:
            continue
        before |= dict.fromkeys((row.id for row in rows), 0)
        percents = _percents(rows)
        sum_before = 0
        for row in sorted(rows if percents else [], key=lambda one: (percents[one.id], -one.level_id)):
            before[row.id] = sum_before
            sum_before += percents[row.id]
    changed = [
        {"key": row.id, "before": before.get(row.id)} for row in listings if row.percent_before != before.get(row.id)
    ]
    if changed:
        connection.execute(_SET, changed)


def _percents(rows: list[_Share]) -> dict[int, int]:
    """Return the percents by listing where rounding can be shared: each location has one listing with a percent, and the
    channel's buffer. With buffers of their own the locations part different numbers, whose pieces don't fit together."""
    percents = {row.id: row.percent for row in rows if row.percent is not None and row.buffer is None}
    together = len(rows) == len(percents) == len({row.level_id for row in rows}) and sum(percents.values()) <= 100
    return percents if together else {}
