"""When channels were heard last: the time of each one's last delivery, and orders that no delivery told of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, or_, select, update

from invsync_dagster.inventory.tables import channels, order_lines

# Platforms' clocks and ours may differ by so much.
CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Unheard:
    """Orders that were created since the last delivery came, and how long ago the first of them was."""

    last_delivery_at: datetime | None
    orders: int
    since: datetime | None


_AT = bindparam("at", type_=channels.c.last_delivery_at.type)
_HEARD = (
    update(channels)
    .where(
        channels.c.name == bindparam("heard"),
        or_(channels.c.last_delivery_at.is_(None), channels.c.last_delivery_at < _AT),
    )
    .values(last_delivery_at=_AT, silent_since=None)
)
_LAST = select(channels.c.last_delivery_at).where(channels.c.name == bindparam("channel"))
_CREATED = select(func.count(func.distinct(order_lines.c.order_id)), func.min(order_lines.c.created_at)).where(
    order_lines.c.channel == bindparam("channel"),
    order_lines.c.created_at > bindparam("after", type_=order_lines.c.created_at.type),
    order_lines.c.created_at < bindparam("before", type_=order_lines.c.created_at.type),
)
_SET_SILENT = (
    update(channels)
    .where(channels.c.name == bindparam("silent"))
    .values(silent_since=bindparam("since", type_=channels.c.silent_since.type))
)


def note_deliveries(connection: Connection, deliveries: Iterable[tuple[str, datetime]]) -> None:
    """Note deliveries by channel and time of arrival; a replayed old one changes nothing."""
    last: dict[str, datetime] = {}
    for channel, at in deliveries:
        last[channel] = max(at, last.get(channel, at))
    if last:
        connection.execute(_HEARD, [{"heard": channel, "at": at} for channel, at in sorted(last.items())])


def look_for_silence(connection: Connection, channel: str, before: datetime) -> Unheard:
    """Return the channel's orders created before `before` and after its last delivery, and keep since when, for the status.

    Every platform notifies of a new order; so a quiet shop has none of them, and a channel that is silent has. Where no
    delivery ever came, nothing is expected.
    """
    last = connection.execute(_LAST, {"channel": channel}).scalar_one_or_none()
    orders, since = 0, None
    if last is not None:
        times = {"channel": channel, "after": last + CLOCKS_DIFFER, "before": before}
        orders, since = connection.execute(_CREATED, times).one()
    connection.execute(_SET_SILENT, {"silent": channel, "since": since})
    return Unheard(last, orders, since)
