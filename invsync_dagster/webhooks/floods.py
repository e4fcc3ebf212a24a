"""What a flood of one channel may take from the others: its share of the places, and its lines in the log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from invsync_dagster.clock import Clock
from invsync_dagster.webhooks.status.counts import Counts

log = logging.getLogger("invsync.receiver")

# Half of all connections, and half of what may wait for the disk: beyond it a channel is told to come again. The receiver
# takes thousands a second, so that only a flood, or a disk that stalls, has so many wait at once.
MOST_WAITING = 256
MOST_WAITING_BYTES = 32 * 1024 * 1024
# A reason that recurs is told once in this time, with how often it was: strangers don't fill the log.
TOLD_EVERY = timedelta(minutes=1)


class FullError(Exception):
    """A channel has all that it may at once."""


class Shares:
    """How many deliveries of each channel wait, for the disk or for a key, and how many bytes they have."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def of(self, channel: str, size: int) -> Iterator[None]:
        """Count a delivery of `size` bytes as waiting. Raises FullError where the channel has its share already."""
        held = self._bytes[channel]
        if self._waiting[channel] >= MOST_WAITING or (held and held + size > MOST_WAITING_BYTES):
            raise FullError
        self._waiting[channel] += 1
        self._bytes[channel] += size
        try:
            yield
        finally:
            self._waiting[channel] -= 1
            self._bytes[channel] -= size


class FoldedLog:
    """Tells of what was refused: the first time at once, then what comes in the same minute as a number."""

    def __init__(self, clock: Clock, counts: Counts) -> None:
        self._clock = clock
        self._counts = counts
        self._told: dict[tuple[str, str], tuple[datetime, int]] = {}

    def refused(self, channel: str, status: int, reason: str, detail: str = "") -> None:
        """Tell why a webhook of `channel` was answered `status`. Channels and reasons are ours, so they are few; a
        stranger's own words are a detail, of which the first is told."""
        self._counts.refusals[channel, reason] += 1
        self._tell(f"a webhook for {channel}", status, reason, detail)

    def refused_visitor(self, status: int, reason: str) -> None:
        """Tell why somebody who asked how all stands was answered `status`."""
        self._tell("the status to somebody", status, reason, "")

    def _tell(self, what: str, status: int, reason: str, detail: str) -> None:
        now = self._clock.now()
        before, times = self._told.get((what, reason), (None, 0))
        if before is not None and now - before < TOLD_EVERY:
            self._told[what, reason] = before, times + 1
            return
        more = f" ({times} times more since {before:%H:%M:%S} UTC)" if times else ""
        log.warning("refused %s with %d: %s%s%s", what, status, reason, detail, more)
        self._told[what, reason] = now, 0
