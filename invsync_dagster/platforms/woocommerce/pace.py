"""How much one call asks of a store's host, and how long it may take: less after slow and lost answers, more after quick ones."""

from __future__ import annotations

# A call that takes longer than this gets fewer rows next time: the shop's buyers wait for the same PHP workers.
AIM_SECONDS = 8.0
# Fewer rows a call than this save a slow host nothing: starting WordPress costs more.
FEWEST_ROWS = 5
STEP_ROWS = 10
# A call begins with this share of the longest deadline; after lost answers it may take up to all of it.
FIRST_SHARE = 0.5


class Pace:
    """The rows and seconds of the next calls of one channel, at most `most` rows and `longest` seconds.

    `kept` and `go_on_from` carry what was learned from process to process.
    """

    def __init__(self, most: int, longest: float) -> None:
        self._most = most
        self._longest = longest
        self.rows = most
        self.deadline = longest * FIRST_SHARE

    @property
    def kept(self) -> tuple[int, float]:
        """The rows and seconds that were learned."""
        return self.rows, self.deadline

    def go_on_from(self, rows: int, deadline: float) -> None:
        """Take over the rows and seconds that another process learned, within the limits of this one."""
        self.rows = self._bounded(rows)
        self.deadline = max(self._longest * FIRST_SHARE, min(deadline, self._longest))

    def answered(self, rows: int, seconds: float) -> None:
        """Note that a call with `rows` rows was answered after `seconds`."""
        if seconds > AIM_SECONDS:
            self.rows = self._bounded(min(self.rows, int(rows * AIM_SECONDS / seconds)))
            return
        self.deadline = max(self._longest * FIRST_SHARE, self.deadline / 2)
        if rows >= self.rows and seconds < AIM_SECONDS / 2:
            self.rows = self._bounded(self.rows + STEP_ROWS)

    def lost(self) -> None:
        """Note that no answer came: half the rows, and half as long again, so that the next one has a chance."""
        self.refused()
        self.deadline = min(self.deadline * 1.5, self._longest)

    def refused(self) -> None:
        """Note that the store refused a call for its size."""
        self.rows = self._bounded(self.rows // 2)

    def _bounded(self, rows: int) -> int:
        return max(min(FEWEST_ROWS, self._most), min(rows, self._most))
