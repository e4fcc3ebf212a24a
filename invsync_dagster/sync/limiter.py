"""The rate limit of a channel, shared by all processes: one reserved-time row (GCRA) in the database.

MEASURED: a reserved-time row is fair between processes (151 to 152 calls each of four in 6 s) and 14 times cheaper than
a bucket of rows. A reservation says when its call may start; the caller waits first and claims its work afterwards, so
that what it then sends is current.

Pushes go first: what reads a whole channel starts its calls behind them (docs/decisions/0015).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import rate_limits
from invsync_dagster.platforms.contract import Budget, Limits

# What calls in the background may take out of a full bucket, in seconds of the rate: with several processes each turn is
# found some milliseconds late, which at a call's cost alone is lost for good.
BACKGROUND_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Limiter:
    """Reserves calls of one channel; times are seconds since the epoch, costs are the platform's points."""

    engine: Engine
    channel: str
    limits: Limits

    def reserve(self, cost: float, now: float, until: float) -> float | None:
        """Reserve a call of `cost` and return the seconds to wait before it, or None (nothing reserved) if it could
        not start by `until`."""
        with write_transaction(self.engine) as connection:
            ready_at, blocked_until = self._row(connection)
            earliest = max(now, blocked_until)
            full_at = max(ready_at, earliest) + cost / self.limits.rate
            start = max(earliest, full_at - max(self.limits.burst, cost) / self.limits.rate)
            if start > until:
                return None
            self._write(connection, ready_at=full_at)
        return start - now

    def start_behind(self, cost: float, now: float) -> float:
        """Reserve a call of `cost` in the background if it may start now, and return 0; else reserve nothing, and return
        the seconds after which it is worth asking again.

        It starts only where the bucket then lacks no more than its cost or `BACKGROUND_SECONDS` of the rate (at most half
        the burst). So it never stands in a queue, and nobody before it starts later by more than that.
        """
        slack = min(BACKGROUND_SECONDS * self.limits.rate, self.limits.burst / 2)
        with write_transaction(self.engine) as connection:
            ready_at, blocked_until = self._row(connection)
            full_at = max(ready_at, now) + cost / self.limits.rate
            start = max(blocked_until, full_at - max(slack, cost) / self.limits.rate)
            if start > now:
                return start - now
            self._write(connection, ready_at=full_at)
        return 0.0

    def block(self, until: float) -> None:
        """Let no call start before `until`: what a throttled answer asked for."""
        with write_transaction(self.engine) as connection:
            _, blocked_until = self._row(connection)
            if until > blocked_until:
                self._write(connection, blocked_until=until)

    def learn(self, budget: Budget, reserved: float, now: float) -> None:
        """Give back what a call that reserved `reserved` points did not spend, and tighten the row where the platform has
        fewer points left than we thought. It is never loosened further: calls of other processes are on their way."""
        full_at = now + max(0.0, self.limits.burst - budget.available) / self.limits.rate
        unspent = 0.0 if budget.spent is None else max(0.0, reserved - budget.spent)
        with write_transaction(self.engine) as connection:
            ready_at, _ = self._row(connection)
            learned = max(full_at, ready_at - unspent / self.limits.rate)
            if learned != ready_at:
                self._write(connection, ready_at=learned)

    def _row(self, connection: Connection) -> tuple[float, float]:
        row = connection.execute(_ROW, {"key": self.channel}).one_or_none()
        if row is None:
            connection.execute(insert(rate_limits).values(channel=self.channel, ready_at=0.0, blocked_until=0.0))
            return 0.0, 0.0
        return row.ready_at, row.blocked_until

    def _write(self, connection: Connection, **values: float) -> None:
        connection.execute(_SET, {"key": self.channel, **values})


_THE_ROW = rate_limits.c.channel == bindparam("key")
_SET = update(rate_limits).where(_THE_ROW)
_ROW = select(rate_limits.c.ready_at, rate_limits.c.blocked_until).where(_THE_ROW)
