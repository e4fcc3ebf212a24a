"""What the channels that one run pushes side by side tell each other: that one has heard of its orders."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from threading import Condition

from invsync_dagster.clock import Clock


class SideBySide:
    """The channels of a run, each pushed by a thread of its own.

    What one sold is often heard only within the run: by its order list, or by asking for an order that a webhook merely
    named. The others may have nothing left to do by then, and would show it with the next cycle, minutes later.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._listening = set(names)
        self._heard = Condition()
        self.gave_up = False  # somebody went without having waited for all

    def heard(self, name: str) -> None:
        """Say that a channel has applied what it heard, or won't in this run."""
        with self._heard:
            self._listening.discard(name)
            self._heard.notify_all()

    def wait(self, clock: Clock, until: datetime) -> timedelta:
        """Wait until all channels have heard, in real time at most as long as it is until then; return how long it took."""
        began = clock.now()
        with self._heard:
            if not self._heard.wait_for(lambda: not self._listening, max(0.0, (until - began).total_seconds())):
                self.gave_up = True
        return clock.now() - began
