"""A channel that is stopped, for dead credentials or another shop's, and one that is cut out: what lets it go on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.sync.another_shop import ANOTHER_SHOP
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.cut_out import Reach, ask_whether_there
from invsync_dagster.sync.recognition import recognise
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace


def stop_channel(ws: Workspace, name: str, reason: str) -> None:
    """Stop a channel whose credentials are dead or another shop's: each later push checks them, and goes on if they work."""
    with write_transaction(ws.engine, name) as connection:
        connection.execute(
            update(channels).where(channels.c.name == name).values(stopped_reason=reason, stopped_at=ws.clock.now())
        )


def lets_us_in(ws: Workspace, row: Row[Any], calls: Calls, report: PushReport, *, by_hand: bool) -> bool:
    """Say whether the channel of `row` takes calls, else why not in the report. One that is stopped is asked first, one that is
    cut out once that is over, or at once where a push is made `by_hand`. Raises `PlatformError`, `OutOfTimeError`."""
    reach = Reach.of(row)
    if reach.lasts(ws.clock.now()) and not by_hand:
        report.problem = row.last_problem
        return False
    if reach.until is not None and not row.stopped_reason:
        ask_whether_there(calls)
    return not row.stopped_reason or _recovered(ws, row, calls, report)


def _recovered(ws: Workspace, row: Row[Any], calls: Calls, report: PushReport) -> bool:
    """Check the credentials of a stopped channel; it goes on once they work, and open the shop that was mapped."""
    calls.wait(calls.platform.limits.read_cost)
    try:
        calls.platform.check_credentials()
        if row.stopped_reason.startswith(ANOTHER_SHOP):
            recognise(ws, ws.channel(row.name), row.recognised, calls)
    except PlatformError as error:
        report.problem = str(error)
        report.stopped = True
        return False
    with write_transaction(ws.engine, row.name) as connection:
        connection.execute(
            update(channels).where(channels.c.name == row.name).values(stopped_reason="", stopped_at=None)
        )
    return True
