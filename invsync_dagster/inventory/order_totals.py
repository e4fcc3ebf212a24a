"""What the stock knows of a channel's orders: totals and revision of each line, and which orders changed last when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select

from invsync_dagster.inventory.bulk import among, as_parameter
from invsync_dagster.inventory.orders import Totals
from invsync_dagster.inventory.tables import order_lines


@dataclass(frozen=True, slots=True)
class KnownLine:
    """A line as it is stored."""

    revision: int
    totals: Totals


_LINE = order_lines.c
_KNOWN = select(_LINE.order_id, _LINE.line_id, _LINE.revision, *(_LINE[name] for name in Totals._fields)).where(
    _LINE.channel == bindparam("channel"), among(_LINE.order_id, "orders")
)
_last_change = func.max(_LINE.updated_at)
_CHANGED = (
    select(_LINE.order_id)
    .where(_LINE.channel == bindparam("channel"))
    .group_by(_LINE.order_id)
    .having(
        _last_change >= bindparam("since", type_=_LINE.updated_at.type),
        _last_change < bindparam("until", type_=_LINE.updated_at.type),
    )
)


def known_orders(connection: Connection, channel: str, order_ids: Collection[str]) -> dict[str, dict[str, KnownLine]]:
    """Return the known lines of orders by order and line; unknown orders are left out."""
    found: dict[str, dict[str, KnownLine]] = defaultdict(dict)
    asked = {"channel": channel, "orders": as_parameter(order_ids)}
    for order_id, line_id, revision, *totals in connection.execute(_KNOWN, asked):
        found[order_id][line_id] = KnownLine(revision, Totals(*totals))
    return dict(found)


def orders_changed_between(connection: Connection, channel: str, since: datetime, until: datetime) -> set[str]:
    """Return the orders whose last change at the channel, as far as we know, was in [since, until).

    Reads all of a channel's lines: 0.3 s a million of them on SQLite, once a day.
    """
    times = {"channel": channel, "since": since, "until": until}
    return set(connection.execute(_CHANGED, times).scalars())
