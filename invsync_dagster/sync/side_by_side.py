"""What the channels that one run pushes side by side tell each other: that what one of them sold was booked."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from threading import Condition

from invsync_dagster.clock import Clock


class SideBySide:
    """The channels of a run, each pushed by a thread of its own.

    What one sold is often heard only within the run: by its order list, or by asking for an order that a webhook merely
    named. The others may have nothing left to do by then, and would show it with the next cycle, minutes later. `news` counts
    what was booked so.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.news = 0
        self._listening = set(names)
        self._looked: dict[str, int] = {}  # by channel that writes: the news that it has looked at
        self._told = Condition()

    def tell(self, entries: int) -> None:
        """Say that what a channel heard made so many ledger entries."""
        with self._told:
            self.news += entries > 0
            self._told.notify_all()

    def heard(self, name: str) -> None:
        """Say that a channel has applied what it heard of its orders, or won't in this run."""
        with self._told:
            self._listening.discard(name)
            self._told.notify_all()

    def looks(self, name: str, news: int = 0) -> None:
        """Say that a channel has brought all in step that was due by these `news`."""
        with self._told:
            self._looked[name] = news

    def leaves(self, name: str) -> None:
        """Say that a channel broke off, and is for the next cycle."""
        with self._told:
            self._looked.pop(name, None)

    def wait(self, seen: int, clock: Clock, until: datetime) -> tuple[bool, timedelta]:
        """Wait for more news than were `seen`, in real time at most as long as it is until then; return whether there are any
        and how long it took. There are none where all have heard, or the time is over."""
        began = clock.now()
        with self._told:
            self._told.wait_for(
                lambda: self.news > seen or not self._listening, max(0.0, (until - began).total_seconds())
            )
            return self.news > seen, clock.now() - began

    @property
    def missed(self) -> bool:
        """Whether a channel had no time left to look at the latest news."""
        with self._told:
            return any(looked < self.news for looked in self._looked.values())
