"""The virtual clock of simulations and tests: time passes only when somebody waits or moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class VirtualClock:
    """A `Clock` whose `sleep` returns at once and moves the time instead; it never goes back."""

    def __init__(self, start: datetime) -> None:
        """Start at `start` (timezone-aware). Raises `ValueError` for a naive time."""
        self._now = _utc(start)

    def now(self) -> datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._now += timedelta(seconds=seconds)

    def advance(self, seconds: float) -> datetime:
        """Let `seconds` pass and return the new time. Raises `ValueError` if negative."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._now += timedelta(seconds=seconds)
        return self._now

    def advance_to(self, moment: datetime) -> datetime:
        """Move to `moment` unless it has passed already, and return the current time."""
        self._now = max(self._now, _utc(moment))
        return self._now


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment.astimezone(UTC)
