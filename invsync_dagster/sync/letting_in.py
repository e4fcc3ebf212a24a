"""A channel that is stopped, for dead credentials or another shop's, and one that is cut out: what lets it go on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.sync.another_shop import ANOTHER_SHOP
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.cut_out import Reach, ask_whether_there
from invsync_dagster.sync.recognition import recognise, require_our_shop
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
    _let_go_on(ws, row.name)
    return True


def require_right_shop(ws: Workspace, channel: Channel, calls: Calls) -> None:
    """Return once the channel's shop is recognised, for what isn't a push. One that is stopped as another shop is looked at anew,
    and goes on; one that is another shop is stopped. Raises `PlatformError`, `OutOfTimeError`."""
    with ws.engine.connect() as connection:
        row = connection.execute(
            select(channels.c.recognised, channels.c.stopped_reason).where(channels.c.name == channel.name)
        ).one_or_none()
    if row is None:
        return  # it isn't brought in yet, and so has no listings
    was_another = row.stopped_reason.startswith(ANOTHER_SHOP)
    try:
        (recognise if was_another else require_our_shop)(ws, channel, row.recognised, calls)
    except PlatformError as error:
        if error.code == ANOTHER_SHOP:
            stop_channel(ws, channel.name, str(error))
        raise
    if was_another:
        _let_go_on(ws, channel.name)


def _let_go_on(ws: Workspace, name: str) -> None:
    with write_transaction(ws.engine, name) as connection:
        connection.execute(update(channels).where(channels.c.name == name).values(stopped_reason="", stopped_at=None))
