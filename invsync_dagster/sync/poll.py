"""The safety net under the webhooks: a channel's orders changed since the last poll, in overlapping half-open windows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import bindparam, delete, select, update

from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.tables import channels, unclear_orders
from invsync_dagster.platforms.contract import OrdersPage
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.workspace import Workspace

# Orders asked for by id in one call: a Shopify order with its lines costs up to 20 points of a 1,000 point bucket.
UNCLEAR_PER_CALL = 10


@dataclass
class PollReport:
    """Documents seen and ledger entries booked (duplicates of webhooks book nothing)."""

    documents: int = 0
    counts: int = 0
    entries: int = 0
    known_until: datetime | None = None


_KNOWN = select(channels.c.orders_known_until, channels.c.cut_over_at).where(channels.c.name == bindparam("channel"))
_SET_KNOWN = (
    update(channels).where(channels.c.name == bindparam("channel")).values(orders_known_until=bindparam("known_until"))
)
_UNCLEAR = (
    select(unclear_orders.c.order_id)
    .where(unclear_orders.c.channel == bindparam("channel"))
    .order_by(unclear_orders.c.since)
)


def poll_orders(ws: Workspace, name: str, calls: Calls, *, run_id: str) -> PollReport:
    """List and apply what changed at a channel since it was last known, then the whole documents of unclear orders.

    The window reaches back and ahead by the overlap: an order may become visible late, and the platform's clock may be
    ahead of ours. Known until is when the request began. Raises `PlatformError`, `OutOfTimeError`.
    """
    overlap = timedelta(seconds=ws.configuration.settings.order_overlap_seconds)
    report = PollReport()
    began = ws.clock.now()
    with ws.engine.connect() as connection:
        row = connection.execute(_KNOWN, {"channel": name}).one()
    since = (row.orders_known_until or row.cut_over_at or began) - overlap
    cursor = ""
    while True:
        page = calls.ask(
            calls.platform.limits.orders_cost,
            lambda at=cursor: calls.platform.orders_changed(since, began + overlap, at),  # type: ignore[misc]
        )
        _apply(ws, name, page, report, source="poll", run_id=run_id)
        cursor = page.cursor
        if not cursor:
            break
    _ask_unclear(ws, name, calls, report, run_id=run_id)
    with write_transaction(ws.engine) as connection:
        connection.execute(_SET_KNOWN, {"channel": name, "known_until": began})
    report.known_until = began
    return report


def _ask_unclear(ws: Workspace, name: str, calls: Calls, report: PollReport, *, run_id: str) -> None:
    with ws.engine.connect() as connection:
        order_ids = list(connection.execute(_UNCLEAR, {"channel": name}).scalars())
    for start in range(0, len(order_ids), UNCLEAR_PER_CALL):
        some = order_ids[start : start + UNCLEAR_PER_CALL]
        page = calls.ask(
            calls.platform.limits.orders_cost,
            lambda ids=some: calls.platform.orders(ids),  # type: ignore[misc]
        )
        _apply(ws, name, page, report, source="order", run_id=run_id)
        with write_transaction(ws.engine) as connection:
            connection.execute(
                delete(unclear_orders).where(unclear_orders.c.channel == name, unclear_orders.c.order_id.in_(some))
            )


def _apply(
    ws: Workspace, name: str, page: OrdersPage, report: PollReport, *, source: Literal["poll", "order"], run_id: str
) -> None:
    content = page.content
    report.documents += len(content.documents)
    report.counts += len(content.counts)
    if not (content.documents or content.counts or content.unclear_orders):
        return
    now = ws.clock.now()
    with write_transaction(ws.engine) as connection:
        applied = ledger.apply(
            connection, [Inbound(channel=name, content=content, received_at=now, source=source)], now=now, run_id=run_id
        )
    report.entries += applied.entries
