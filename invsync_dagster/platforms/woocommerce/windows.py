"""Walking orders by time without a gap: each page goes on at the last second of the one before, whatever moves meanwhile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from invsync_dagster.platforms.woocommerce.settings import MOST_ROWS

_CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d))?\+(\d{1,6})x(\d{1,3})")
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Orders of the seconds from `since` to before `until` (None: no end), from the `page`th page of `size` orders on.

    Page numbers alone would lose an order for each one that leaves an earlier page while the list is walked. So a full
    page ends before its last second, and the next one begins with that. Where a whole page is of one second (orders
    changed in bulk), it is asked for again twice as large; only above the largest page does the page number go up.
    """

    since: datetime | None
    until: datetime | None
    size: int
    page: int = 1

    @property
    def after(self) -> str:
        """The time that lies before the window: WooCommerce's `…_after` leaves out its own second."""
        return "" if self.since is None else _told(self.since - _SECOND)

    @property
    def before(self) -> str:
        return "" if self.until is None else _told(self.until)

    def cut(self, times: Sequence[datetime]) -> tuple[list[int], str]:
        """Return which entries of a page (oldest first) count, and the cursor of the next page."""
        within = [
            index
            for index, at in enumerate(times)
            if (self.since is None or at >= self.since) and (self.until is None or at < self.until)
        ]
        if len(times) < self.size:
            return within, ""
        last = max(times)
        if last > min(times):
            return [index for index in within if times[index] < last], self._cursor(last, 1, 0)
        if self.page == 1 and self.size < MOST_ROWS:
            return [], self._cursor(last, 1, min(2 * self.size, MOST_ROWS))
        return within, self._cursor(last if self.since is None else self.since, self.page + 1, self.size)

    def _cursor(self, since: datetime, page: int, size: int) -> str:
        end = "" if self.until is None else f"/{_told(self.until)}"
        return f"{_told(since)}{end}+{page}x{size}"


def window_from(cursor: str, since: datetime | None, until: datetime | None, size: int) -> Window:
    """Return the window that a cursor goes on with, or without one the whole, in pages of `size` orders.

    A cursor may ask for another size. Raises `ValueError` for a foreign cursor.
    """
    if not cursor:
        return Window(_rounded(since), _rounded(until), size)
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ValueError("this cursor was never given")
    begin, end, page, asked = match.groups()
    return Window(_read(begin), None if end is None else _read(end), int(asked) or size, int(page))


def _rounded(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC).replace(microsecond=0)


def _told(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
