"""What a push leaves in its channel's row: when it was, what went wrong, how the host is reached, and how clocks differ."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, update

from invsync_dagster.inventory.clocks import beyond
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.cut_out import Reach
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace


def note_push(
    ws: Workspace, row: Row[Any], calls: Calls, report: PushReport, began: datetime, *, has_called: bool
) -> str:
    """Write the row of a channel after a push that began at `began`, when it said `row`; return the push's problem in words."""
    now, line, reach, problem = ws.clock.now(), calls.line, Reach.of(row), report.problem
    report.clock_ahead = row.clock_ahead
    if line.ahead is not None:
        overlap = timedelta(seconds=ws.configuration.settings.order_overlap_seconds)
        report.clock_ahead = beyond(line.ahead, overlap).total_seconds()
    if has_called:
        reach = reach.after(line, began, now)
        problem = reach.in_words(line, problem)
    values = {
        "channel": row.name,
        "at": now,
        "problem": problem,
        "in_a_row": reach.unanswered,
        "since": reach.since,
        "until": reach.until,
        "ahead": report.clock_ahead,
    }
    with write_transaction(ws.engine, row.name) as connection:
        connection.execute(_PUSHED if problem else _SUCCEEDED, values)
    return problem


_PUSHED = (
    update(channels)
    .where(channels.c.name == bindparam("channel"))
    .values(
        last_push_at=bindparam("at"),
        last_problem=bindparam("problem"),
        unanswered=bindparam("in_a_row"),
        unreachable_since=bindparam("since"),
        unreachable_until=bindparam("until"),
        clock_ahead=bindparam("ahead"),
    )
)
_SUCCEEDED = _PUSHED.values(last_success_at=bindparam("at"))
