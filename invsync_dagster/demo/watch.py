"""What the demo reads of the stock's database: pushes as they happen, how long they took, and what is out of step."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import Connection, Engine, and_, func, or_, select

from invsync_dagster.inventory.changes import changes_by_channel
from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.tables import deliveries, inventory_levels, stock_ledger, sync_logs, unclear_orders
from invsync_dagster.settings import Home
from invsync_dagster.sync.levels import Doubt

KEPT = 500  # latencies a channel that the percentiles are of


@dataclass(frozen=True, slots=True)
class Push:
    """One attempt at a level, or the reading that acknowledged what an asynchronous platform had accepted.

    `seconds` from the webhook in the inbox to the acknowledgement, None without one.
    """

    at: datetime
    channel: str
    sku: str
    status: str
    old: int | None
    new: int | None
    code: str
    seconds: float | None


@dataclass
class ChannelFigures:
    """A channel's pushes since the demo began, and its levels that are out of step now."""

    acknowledged: int = 0
    accepted: int = 0
    failed: int = 0
    out_of_step: int = 0

    def __post_init__(self) -> None:
        self.latencies: deque[float] = deque(maxlen=KEPT)

    def latency(self, share: float) -> float | None:
        """Return the seconds below which `share` of the latest pushes lie."""
        return percentile(self.latencies, share)


class Watch:
    """Follows the database of a home; not for several threads at once."""

    def __init__(self, engine: Engine, channels: tuple[str, ...]) -> None:
        self._engine = engine
        self.figures = {name: ChannelFigures() for name in channels}
        with self._reading() as connection:
            self._last = connection.execute(select(func.coalesce(func.max(sync_logs.c.id), 0))).scalar_one()

    @classmethod
    def open(cls, home: Home, channels: tuple[str, ...]) -> Self:
        """Follow the database of `home` from now on."""
        return cls(open_database(home.database_url), channels)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def new_pushes(self) -> list[Push]:
        """Return the pushes since the last call, and count them."""
        with self._reading() as connection:
            pushes = self._pushes(connection)
        for push in pushes:
            figures = self.figures.setdefault(push.channel, ChannelFigures())
            figures.acknowledged += push.status == "acknowledged"
            figures.accepted += push.status == "accepted"
            figures.failed += push.status in ("rejected", "unknown")
            if push.seconds is not None:
                figures.latencies.append(push.seconds)
        return pushes

    def out_of_step(self, now: datetime) -> int:
        """Count the levels that are out of step or uncertain, of all channels together and of each in `figures`."""
        with self._reading() as connection:
            changes = {one.channel: one.changes for one in changes_by_channel(connection, now)}
        for name, figures in self.figures.items():
            figures.out_of_step = changes.get(name, 0)
        return sum(changes.values())

    def next_due(self) -> datetime | None:
        """Return when the first level that is out of step may be tried again; None if none is."""
        level = inventory_levels.c
        waits = and_(level.pushable.is_(True), level.out_of_step_since.is_not(None))
        with self._reading() as connection:
            return connection.execute(select(func.min(level.due_at)).where(waits)).scalar()

    def unclear_orders(self) -> int:
        """Count the orders that are still to be asked of their channel."""
        with self._reading() as connection:
            return connection.execute(select(func.count()).select_from(unclear_orders)).scalar_one()

    def _reading(self) -> Connection:
        connection = self._engine.connect()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
        return connection

    def _pushes(self, connection: Connection) -> list[Push]:
        log, entry, receipt = sync_logs.c, stock_ledger.c, deliveries.c
        confirmed = and_(log.action == "read", log.code == Doubt.ACCEPTED, log.error_message == "settled")
        # A push is computed from the SKU's last entry; where a webhook made that entry, its receipt says when it came.
        query = (
            select(sync_logs, receipt.received_at)
            .outerjoin(stock_ledger, and_(entry.sequence == log.ledger_sequence, entry.sku == log.sku))
            .outerjoin(deliveries, receipt.receipt_id == entry.reference)
            .where(log.id > self._last, or_(log.action == "push", confirmed))
            .order_by(log.id)
        )
        pushes = []
        for row in connection.execute(query):
            self._last = row.id
            status = row.status if row.action == "push" else "acknowledged"
            timed = status == "acknowledged" and row.received_at is not None
            seconds = (row.timestamp - row.received_at).total_seconds() if timed else None
            pushes.append(
                Push(
                    row.timestamp,
                    row.platform,
                    row.sku,
                    status,
                    row.old_quantity,
                    row.new_quantity,
                    row.code if row.action == "push" else "",
                    seconds,
                )
            )
        return pushes


def percentile(values: deque[float] | list[float], share: float) -> float | None:
    """Return the value below which `share` of `values` lie; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def by_channel(pushes: list[Push]) -> dict[str, list[Push]]:
    """Group pushes by their channel, in their order."""
    grouped: dict[str, list[Push]] = defaultdict(list)
    for push in pushes:
        grouped[push.channel].append(push)
    return dict(grouped)
