"""The cut-out of a channel whose host doesn't answer: when it is asked again, and what its row says of the host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.errors import PlatformError, Recovery, with_class
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.line import Line

# So many calls in a row without an answer, over pushes: one that is answered after its retries is none of them.
UNANSWERED = 3

# The cut-out lasts as long as the trouble has lasted: 15 s at first, then about twice as long each time, up to five minutes.
SHORTEST = timedelta(seconds=15)
LONGEST = timedelta(minutes=5)

# How long a host that did not answer gets to answer whether it is there.
PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How a channel's host is reached. `unanswered`: calls in a row that it left without an answer; `since` and `until` are of
    the cut-out, None where there is none."""

    unanswered: int
    since: datetime | None
    until: datetime | None

    @classmethod
    def of(cls, row: Row[Any]) -> Reach:
        """Return what a channel's row says."""
        return cls(row.unanswered, row.unreachable_since, row.unreachable_until)

    def lasts(self, now: datetime) -> bool:
        """Say whether the channel is to be left alone at `now`."""
        return self.until is not None and now < self.until

    def after(self, line: Line, began: datetime, now: datetime) -> Reach:
        """Return how it is reached after a push that began at `began` and made calls."""
        if not line.unanswered:
            return Reach(0, None, None)
        if self.since is None and line.unanswered < UNANSWERED:
            return Reach(line.unanswered, None, None)
        since = self.since or began
        return Reach(line.unanswered, since, now + min(max(now - since, SHORTEST), LONGEST))

    def in_words(self, line: Line, problem: str) -> str:
        """Return the problem of a push, with since when nothing is answered."""
        if self.since is None:
            return problem
        return f"no answer since {in_utc(self.since)}: {problem or with_class(line.words, Recovery.RETRY)}"


def ask_whether_there(calls: Calls) -> None:
    """Make the cheapest call to a host that left calls unanswered. Raises `OutOfTimeError`, and `PlatformError` where it does so
    again or refuses us."""
    calls.wait(calls.platform.limits.read_cost)
    try:
        with calls.line.within(calls.clock.now() + timedelta(seconds=PROBE_SECONDS)):
            calls.platform.check_credentials()
    except PlatformError as error:
        if calls.line.unanswered or error.recovery is Recovery.REAUTHENTICATE:
            raise
        if error.recovery is Recovery.WAIT:
            calls.throttled(error)


_CUT_OUT = select(channels.c.last_problem).where(
    channels.c.name == bindparam("channel"), channels.c.unreachable_until > bindparam("now")
)


def why_cut_out(connection: Connection, name: str, now: datetime) -> str:
    """Return the problem of a channel that is cut out at `now`, "" for one that isn't."""
    return connection.execute(_CUT_OUT, {"channel": name, "now": now}).scalar() or ""
