"""A channel's line: its transport, and what its calls tell of the host behind it: whether it answers, and its clock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import Request, Response, Transport, TransportError

# A request that may not outlast a deadline still gets so long: half a second before it, none could succeed.
LEAST_SECONDS = 5.0

# The header `Date` is of whole seconds.
HALF_A_SECOND = timedelta(seconds=0.5)


class Line:
    """The `Transport` of one channel in one process; its threads share it.

    `unanswered`: how many requests in a row had no answer, or one of a server in trouble (5xx); `words` say what the latest
    of them had. `ahead`: how far the host's clock is ahead of ours, None before an answer has told; it errs by a second.
    """

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._bound = _Bound()
        self.asked = 0
        self.unanswered = 0
        self.words = ""
        self.ahead: timedelta | None = None

    def send(self, request: Request, *, deadline: float) -> Response:
        """Send within `deadline` seconds in all, and within the bound in force. Raises `TransportError`."""
        if self._bound.until is not None:
            left = (self._bound.until - self._clock.now()).total_seconds()
            deadline = min(deadline, max(left, LEAST_SECONDS))
        self.asked += 1
        try:
            response = self._transport.send(request, deadline=deadline)
        except TransportError as error:
            self._silent(str(error))
            raise
        if response.status >= 500:
            self._silent(f"HTTP {response.status}")
        else:
            self.unanswered = 0
        self._hear(response)
        return response

    @contextlib.contextmanager
    def within(self, until: datetime) -> Iterator[None]:
        """Let the requests of this thread end by `until`: only those that change nothing, since they can be made again."""
        self._bound.until = until
        try:
            yield
        finally:
            self._bound.until = None

    def _silent(self, words: str) -> None:
        self.unanswered += 1
        self.words = words

    def _hear(self, response: Response) -> None:
        date = response.headers.get("date")
        if date is None or "age" in response.headers:  # an answer from a cache has the time when it was made
            return
        try:
            told = parsedate_to_datetime(date)
        except ValueError:
            return
        if told.tzinfo is None:
            told = told.replace(tzinfo=UTC)
        self.ahead = told + HALF_A_SECOND - self._clock.now()


class _Bound(threading.local):
    """When the requests of this thread must end; None: as late as the platform's own deadline says."""

    until: datetime | None = None
