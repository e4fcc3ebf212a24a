"""The time source that every room takes as an argument, so that all of it runs on a virtual clock too; how times are said."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits; `sandbox.clock.VirtualClock` is the simulated one."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`; zero and negative values return at once."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)


def parse_moment(text: str) -> datetime:
    """Return the moment that a person wrote, in UTC. Raises ValueError for no time, and for one without its zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it as 2026-07-01T06:00:00+00:00") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as {moment.isoformat()}+00:00 if it is UTC")
    return moment.astimezone(UTC)


def age_in_words(seconds: float | None) -> str:
    """`4 s`, `12 min`, `3 h`, `2 d`; `-` for none."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
