"""The rate limit of a channel, shared by all processes: one reserved-time row (GCRA) in the database.

MEASURED: a reserved-time row is fair between processes (151 to 152 calls each of four in 6 s) and 14 times cheaper than
a bucket of rows. A reservation says when its call may start; the caller waits first and claims its work afterwards, so
that what it then sends is current.

Pushes go first: what reads a whole channel starts its calls behind them (docs/decisions/0015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Float, Row, bindparam, case, cast, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningUpdate

from invsync_dagster.inventory.database import committed_without_the_disk, side_transaction
from invsync_dagster.inventory.tables import rate_limits
from invsync_dagster.platforms.contract import Budget, Limits

# What calls in the background may take out of a full bucket, in seconds of the rate: with several processes each turn is
# found some milliseconds late, which at a call's cost alone is lost for good.
BACKGROUND_SECONDS = 0.25

# Times since the epoch are multiples of a quarter of this as floats (until the year 2242), so that adding such seconds is exact.
# A tenth of a second as it is loses 0.1 µs by rounding with each call: a platform that counts exactly refused one in a thousand.
GRAIN = 2.0**-20


# What a throttled platform gets when it doesn't say how long to wait: more with each refusal in a row, up to so many seconds.
UNTOLD_WAIT = 2.0
LONGEST_UNTOLD_WAIT = 300.0


# A process reserves one call, waits for it and makes it, so a queue is as long as there are processes. A row that is further
# ahead was reserved by a clock that was set back since, and counts no more: else no call would go until that time is there.
LONGEST_QUEUE = 60.0


@dataclass(slots=True)
class Limiter:
    """Reserves calls of one channel; times are seconds since the epoch, costs are the platform's points.

    `why`: the platform's words for what kept the latest reservation from being made, "" if that was the rate alone.
    """

    engine: Engine
    channel: str
    limits: Limits
    why: str = field(default="", init=False)
    _refusals: int = field(default=0, init=False)

    def reserve(self, cost: float, now: float, until: float) -> float | None:
        """Reserve a call of `cost` and return the seconds to wait before it, or None (nothing reserved) if it could
        not start by `until`."""
        start, reserved = self._reserve(cost, now, until, self.limits.burst / self.limits.rate)
        return start - now if reserved else None

    def start_behind(self, cost: float, now: float) -> float:
        """Reserve a call of `cost` in the background if it may start now, and return 0; else reserve nothing, and return
        the seconds after which it is worth asking again.

        It starts only where the bucket then lacks no more than its cost or `BACKGROUND_SECONDS` of the rate (at most half
        the burst). So it never stands in a queue, and nobody before it starts later by more than that.
        """
        slack = min(BACKGROUND_SECONDS, self.limits.burst / 2 / self.limits.rate)
        start, reserved = self._reserve(cost, now, now, slack)
        return 0.0 if reserved else start - now

    def _reserve(self, cost: float, now: float, until: float, slack: float) -> tuple[float, bool]:
        """Reserve a call of `cost` that starts by `until`, when the bucket lacks `slack` seconds of the rate, or what the call
        takes, if that is more; return when it starts, or would, and whether it is reserved.

        One statement, which changes nothing where it starts too late: on PostgreSQL a transaction of several waits for the server
        four times, which was a sixth of a comparison of 1,000,000 levels.
        """
        seconds = self._seconds(cost)
        slack = max(slack, seconds)
        longest = self.limits.burst / self.limits.rate + LONGEST_QUEUE
        values = {
            "key": self.channel,
            "now": now,
            "seconds": seconds,
            "slack": slack,
            "longest": longest,
            "until": until,
        }
        while True:
            with side_transaction(self.engine) as connection:
                row = connection.execute(_RESERVE, values).one_or_none()
                reserved = row is not None
                if row is None:
                    row = connection.execute(_WOULD_RESERVE, values).one_or_none()
                if row is None:
                    self._enter(connection)
                    continue
            start = max(now, row.blocked_until, row.ready_at - slack)
            self._refusals = row.refusals
            if reserved:
                return start, True
            if start > until:
                self.why = row.why if row.blocked_until > until else ""
                return start, False
            # Another process gave points back between the two statements.

    def _seconds(self, cost: float) -> float:
        """Return the time in which the platform restores `cost`, rounded up to a multiple of GRAIN."""
        return math.ceil(cost / self.limits.rate / GRAIN) * GRAIN

    def block(self, until: float, why: str) -> None:
        """Let no call start before `until`: what a throttled answer asked for, in its words."""
        with side_transaction(self.engine) as connection:
            self._change(connection, _BLOCK, until=until, words=why)

    def refused(self, now: float, why: str, jitter: float) -> None:
        """Let no call start for a while after a throttled answer that told no time: twice as long as after the one before it,
        times `jitter`. Answers that were on their way together count as one."""
        with side_transaction(self.engine) as connection:
            self._refusals = self._change(connection, _REFUSE, now=now, words=why, jitter=jitter).refusals

    def accepted(self) -> None:
        """Note that a call was not refused: the next refusal that tells no time is the first one again."""
        if self._refusals:
            self._refusals = 0
            with side_transaction(self.engine) as connection:
                self._change(connection, _ACCEPT)

    def learn(self, budget: Budget, reserved: float, now: float) -> None:
        """Give back what a call that reserved `reserved` points did not spend, take what it spent beyond them, and tighten
        the row where the platform has fewer points left than we thought. It is never loosened further: calls of other
        processes are on their way."""
        full_at = now + max(0.0, self.limits.burst - budget.available) / self.limits.rate
        unspent = 0.0 if budget.spent is None else self._seconds(reserved) - self._seconds(budget.spent)
        if not unspent and full_at <= now:
            return  # a bucket that is full by now, and nothing to give back: the row would mean the same
        with side_transaction(self.engine) as connection:
            self._change(connection, _LEARN, full_at=full_at, unspent=unspent)

    def pace(self) -> str:
        """Return what was kept of the channel's pace, "" if nothing was."""
        with self.engine.connect() as connection:
            return connection.execute(_PACE, {"key": self.channel}).scalar_one_or_none() or ""

    def keep_pace(self, pace: str) -> None:
        """Keep a channel's pace; the last process that learned something is right."""
        with side_transaction(self.engine) as connection:
            self._change(connection, _KEEP_PACE, pace=pace)

    def _change(
        self, connection: Connection, change: ReturningUpdate[Any], **values: float | str
    ) -> Row[float, float, int, str]:
        """Change the row in one statement, so that no other process changes it in between; return it as it is then."""
        row = connection.execute(change, {"key": self.channel, **values}).one_or_none()
        if row is not None:
            return row
        self._enter(connection)
        return connection.execute(change, {"key": self.channel, **values}).one()

    def _enter(self, connection: Connection) -> None:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(rate_limits).values(channel=self.channel).on_conflict_do_nothing())


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a channel's rate: `points` of `burst`, and the seconds for which a throttled answer let it wait."""

    points: float
    burst: float
    blocked_seconds: float


def left(connection: Connection, limits: Mapping[str, Limits], now: float) -> dict[str, Left]:
    """Return what is left now (seconds since the epoch) of each channel that `limits` has."""
    rows = {row.channel: row for row in connection.execute(select(rate_limits))}
    result = {}
    for channel, limit in limits.items():
        row = rows.get(channel)
        lacking = max(0.0, row.ready_at - now) * limit.rate if row else 0.0
        blocked = max(0.0, row.blocked_until - now) if row else 0.0
        result[channel] = Left(max(0.0, limit.burst - lacking), limit.burst, blocked)
    return result


def _change(**values: Any) -> ReturningUpdate[Any]:
    row = rate_limits.c
    changed = update(rate_limits).where(row.channel == bindparam("key")).values(values)
    return changed.returning(row.ready_at, row.blocked_until, row.refusals, row.why, committed_without_the_disk())


def _given(name: str) -> ColumnElement[float]:
    return bindparam(name, type_=Float)


def _later(one: ColumnElement[float], other: ColumnElement[float]) -> ColumnElement[float]:
    return case((one > other, one), else_=other)


_READY_AT, _BLOCKED_UNTIL, _REFUSALS = rate_limits.c.ready_at, rate_limits.c.blocked_until, rate_limits.c.refusals
_FREE = _later(_BLOCKED_UNTIL, _given("now"))
_RESERVED = case((_FREE + _given("longest") < _READY_AT, _FREE), else_=_later(_READY_AT, _FREE)) + _given("seconds")
_RESERVE = _change(ready_at=_RESERVED).where(_later(_FREE, _RESERVED - _given("slack")) <= _given("until"))
_WOULD_RESERVE = select(_RESERVED.label("ready_at"), _BLOCKED_UNTIL, _REFUSALS, rate_limits.c.why).where(
    rate_limits.c.channel == bindparam("key")
)
_BLOCK = _change(blocked_until=_later(_BLOCKED_UNTIL, _given("until")), why=bindparam("words"))
_NOW_REFUSED = case((or_(_REFUSALS == 0, _given("now") >= _BLOCKED_UNTIL), _REFUSALS + 1), else_=_REFUSALS)
_UNTOLD = case(
    {number: wait for number in range(1, 30) if (wait := UNTOLD_WAIT * 2.0 ** (number - 1)) < LONGEST_UNTOLD_WAIT},
    value=_NOW_REFUSED,
    else_=LONGEST_UNTOLD_WAIT,
)
# One statement: of two refusals that were on their way together the second one finds the channel blocked, and isn't counted.
_REFUSE = _change(
    refusals=_NOW_REFUSED,
    blocked_until=_later(_BLOCKED_UNTIL, _given("now") + cast(_UNTOLD, Float) * _given("jitter")),
    why=bindparam("words"),
)
_ACCEPT = _change(refusals=0)
_LEARN = _change(ready_at=_later(_READY_AT - _given("unspent"), _given("full_at")))
_PACE = select(rate_limits.c.pace).where(rate_limits.c.channel == bindparam("key"))
_KEEP_PACE = _change(pace=bindparam("pace", type_=rate_limits.c.pace.type))
