"""Walking a list of orders by offset without a gap: what leaves the list while it is walked moves the rest forward."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# getOrders gives up to 200 orders a page.
ORDERS_A_PAGE = 200

# An end of now is in the future of an eBay whose clock is behind ours.
_CLOCKS_APART = timedelta(seconds=30)

_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
_CURSOR = re.compile(rf"({_TIME})\.\.({_TIME})/(\d{{1,9}})of(\d{{1,9}})(?:/({_TIME}))?")


@dataclass(frozen=True, slots=True)
class Walk:
    """Orders from `since` to `until`, the `offset`th on, of `total` when last asked; then those up to `then`.

    A list of a time that is over only shrinks: an order that changes leaves it. So a walk over several pages ends a little
    before its first page was asked for at the latest, each page begins as many orders earlier as the list has shrunk since
    the page before, and a window that reaches further goes on behind with a walk of its own.
    """

    since: datetime
    until: datetime
    offset: int = 0
    total: int = 0
    then: datetime | None = None

    def window(self, now: datetime) -> str:
        """Return the window as a filter has it: an end in the future is refused (error 30850), so it is left open."""
        return f"[{told(self.since)}..{told(self.until) if self.until <= now else ''}]"

    def next(self, total: int, taken: int, now: datetime) -> str:
        """Return the cursor after a page of `taken` orders of a list of `total`, "" after the last."""
        end = self.offset + taken
        if taken and end < total:
            until, then = self.until, self.then
            if now < until and self.since < now - _CLOCKS_APART:
                until, then = now - _CLOCKS_APART, until
            return f"{told(self.since)}..{told(until)}/{end}of{total}" + (f"/{told(then)}" if then else "")
        return f"{told(self.until)}..{told(self.then)}/0of0" if self.then and self.until < self.then else ""

    def earlier(self, total: int) -> Walk | None:
        """Return the walk from where the page should have begun, None if the list has not shrunk since the last page."""
        shrunk = min(self.total - total, self.offset)
        return None if shrunk <= 0 else Walk(self.since, self.until, self.offset - shrunk, total, self.then)


def walk_from(cursor: str, since: datetime, until: datetime) -> Walk:
    """Return the walk that a cursor goes on with, or the whole without one. Raises `ValueError` for a foreign cursor."""
    if not cursor:
        return Walk(since, until)
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ValueError("this cursor was never given")
    begin, end, offset, total, then = match.groups()
    return Walk(_read(begin), _read(end), int(offset), int(total), _read(then) if then else None)


def told(at: datetime) -> str:
    """Write a time as eBay does: UTC, in milliseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text)
