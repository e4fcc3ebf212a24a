"""The safety net under the webhooks: a channel's orders changed since the last poll, in overlapping half-open windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row, bindparam, delete, select, update

from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.clocks import NO_TIME, beyond
from invsync_dagster.inventory.database import NOT_STORABLE, write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.tables import channels, unclear_orders
from invsync_dagster.platforms.contract import OrdersPage
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.recognition import require_still_here
from invsync_dagster.sync.workspace import Workspace

# Orders asked for by id in one call: a Shopify order with its lines costs up to 20 points of a 1,000 point bucket.
UNCLEAR_PER_CALL = 10


@dataclass
class PollReport:
    """Documents seen and ledger entries booked (duplicates of webhooks book nothing).

    `refused` are unclear orders that the platform refused to tell, with its words; they are asked for again.
    """

    documents: int = 0
    counts: int = 0
    entries: int = 0
    known_until: datetime | None = None
    refused: list[str] = field(default_factory=list)


_KNOWN = select(channels.c.orders_known_until, channels.c.cut_over_at, channels.c.clock_ahead).where(
    channels.c.name == bindparam("channel")
)
_SET_KNOWN = (
    update(channels).where(channels.c.name == bindparam("channel")).values(orders_known_until=bindparam("known_until"))
)
_UNCLEAR = (
    select(unclear_orders.c.order_id, unclear_orders.c.since)
    .where(unclear_orders.c.channel == bindparam("channel"))
    .order_by(unclear_orders.c.since, unclear_orders.c.order_id)
)
# One that was named again while it was asked for is asked for again: the answer may be from before.
_ANSWERED = delete(unclear_orders).where(
    unclear_orders.c.channel == bindparam("channel"),
    unclear_orders.c.order_id == bindparam("order"),
    unclear_orders.c.since == bindparam("named"),
)
_REFUSED = (
    update(unclear_orders)
    .where(unclear_orders.c.channel == bindparam("named_at"), unclear_orders.c.order_id == bindparam("order"))
    .values(reason=bindparam("why"))
)


def poll_orders(ws: Workspace, name: str, calls: Calls, report: PollReport, *, run_id: str) -> None:
    """List and apply what changed at a channel since it was last known, then the whole documents of unclear orders; `report`
    says what, also where it breaks off.

    A channel's first poll lists the orders that are still open too: older than its cut-over, they are promised units.

    The window reaches back and ahead by the overlap: an order may become visible late, and the platform's clock may be
    ahead of ours. Known until is when the request began, or how far the platform says that its list reaches; where less
    than its `orders_every` is unknown, only the unclear ones are asked for. Raises `PlatformError`, `OutOfTimeError`.

    Where the clocks differ by more than the overlap, the window is of the platform's time, and what is kept as known is the
    earlier of both (docs/decisions/0030): a clock that is set right in between loses no order.
    """
    overlap = timedelta(seconds=ws.configuration.settings.order_overlap_seconds)
    began = ws.clock.now()
    with ws.engine.connect() as connection:
        row = connection.execute(_KNOWN, {"channel": name}).one()
    known_ahead = timedelta(seconds=row.clock_ahead)
    ahead = known_ahead if calls.line.ahead is None else beyond(calls.line.ahead, overlap)
    if row.orders_known_until is None:
        _take_over(ws, name, calls, report, run_id=run_id)
    every = timedelta(seconds=calls.platform.limits.orders_every)
    if row.orders_known_until is not None and began - row.orders_known_until < every:
        _ask_unclear(ws, name, calls, report, run_id=run_id)
        report.known_until = row.orders_known_until
        return
    since = (row.orders_known_until or row.cut_over_at or began) - overlap
    until = began + max(ahead, NO_TIME) + overlap
    reaches: datetime | None = None  # by the platform's clock
    cursor = ""
    while True:
        page = calls.ask_orders(
            lambda at=cursor: calls.platform.orders_changed(since, until, at),  # type: ignore[misc]
        )
        apply_page(ws, name, page, report, source="poll", run_id=run_id)
        if page.known_until is not None:
            reaches = min(reaches or page.known_until, page.known_until)
        cursor = page.cursor
        if not cursor:
            break
    _ask_unclear(ws, name, calls, report, run_id=run_id)
    ahead = beyond(calls.line.ahead or NO_TIME, overlap)
    there = min(began + ahead, until - overlap)  # where the list ends, by the platform's clock
    there = min(there, reaches) if reaches is not None else there
    with write_transaction(ws.engine, name) as connection:
        require_still_here(connection, ws.channel(name))
        connection.execute(_SET_KNOWN, {"channel": name, "known_until": min(began, there)})
    report.known_until = min(began, there - ahead)


def _take_over(ws: Workspace, name: str, calls: Calls, report: PollReport, *, run_id: str) -> None:
    """Apply the orders that are open at the cut-over. A poll that dies amid it does it again, and books nothing twice."""
    cursor = ""
    while True:
        page = calls.ask_orders(lambda at=cursor: calls.platform.open_orders(at))  # type: ignore[misc]
        apply_page(ws, name, page, report, source="cut_over", run_id=run_id)
        large = page.content.unclear_orders
        for start in range(0, len(large), UNCLEAR_PER_CALL):
            some = large[start : start + UNCLEAR_PER_CALL]
            whole = calls.ask_orders(lambda ids=some: calls.platform.orders(ids))  # type: ignore[misc]
            apply_page(ws, name, whole, report, source="cut_over", run_id=run_id)
        cursor = page.cursor
        if not cursor:
            return


def _ask_unclear(ws: Workspace, name: str, calls: Calls, report: PollReport, *, run_id: str) -> None:
    with ws.engine.connect() as connection:
        named = connection.execute(_UNCLEAR, {"channel": name}).all()
    for start in range(0, len(named), UNCLEAR_PER_CALL):
        _ask_some(ws, name, calls, named[start : start + UNCLEAR_PER_CALL], report, run_id=run_id)


def _ask_some(
    ws: Workspace, name: str, calls: Calls, some: Sequence[Row[Any, Any]], report: PollReport, *, run_id: str
) -> None:
    """Ask for whole orders; where the platform refuses the call for good, for each alone, so that one stops no other."""
    try:
        page = calls.ask_orders(lambda: calls.platform.orders([row.order_id for row in some]))
        apply_page(ws, name, page, report, source="order", run_id=run_id)
    except PlatformError as error:
        if error.recovery not in (Recovery.REJECT, Recovery.REVIEW):
            raise
        if len(some) > 1:
            for row in some:
                _ask_some(ws, name, calls, [row], report, run_id=run_id)
        else:
            why = str(error)
            report.refused.append(f"order {some[0].order_id} can't be asked for: {why}")
            with write_transaction(ws.engine) as connection:
                require_still_here(connection, ws.channel(name))
                connection.execute(_REFUSED, {"named_at": name, "order": some[0].order_id, "why": why})
        return
    with write_transaction(ws.engine) as connection:
        require_still_here(connection, ws.channel(name))
        connection.execute(_ANSWERED, [{"channel": name, "order": row.order_id, "named": row.since} for row in some])


def apply_page(
    ws: Workspace,
    name: str,
    page: OrdersPage,
    report: PollReport,
    *,
    source: Literal["poll", "order", "cut_over"],
    run_id: str,
) -> None:
    """Apply a page of orders and counts in one transaction. Raises `PlatformError` for a value that can't be stored."""
    content = page.content
    report.documents += len(content.documents)
    report.counts += len(content.counts)
    if not (content.documents or content.counts or content.unclear_orders):
        return
    try:
        with write_transaction(ws.engine) as connection:
            require_still_here(connection, ws.channel(name))
            # Once it is the writer's turn: what is claimed before has not seen this.
            now = ws.clock.now()
            inbound = Inbound(channel=name, content=content, received_at=now, source=source)
            applied = ledger.apply(connection, [inbound], now=now, run_id=run_id)
    except NOT_STORABLE as error:
        # The error's own text may hold the whole page.
        words = f"the answer holds a value that can't be stored ({type(error).__name__})"
        raise PlatformError(Recovery.REJECT, "not_storable", words) from error
    report.entries += applied.entries
