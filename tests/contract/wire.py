"""The wire of the contract tests: a transport into a stand-in with failures scripted one by one, and a still clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from invsync_dagster.platforms.transport import Request, Response, TransportError

Handler = Callable[[Request], Response]


class ManualClock:
    """A clock that moves only when told to; it begins on a whole second, as some platforms tell time in seconds."""

    def __init__(self, start: datetime = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Wire:
    """A `Transport` that hands each request to the stand-in, unless the next request was scripted to fail.

    `requests` are those that the client sent, in order, whatever became of them; `deadlines` go with them.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._script: deque[Callable[[Request], Response]] = deque()
        self._late: list[Request] = []
        self.requests: list[Request] = []
        self.deadlines: list[float] = []

    def send(self, request: Request, *, deadline: float) -> Response:
        self.requests.append(request)
        self.deadlines.append(deadline)
        step = self._script.popleft() if self._script else self._handler
        return step(request)

    def refuse_next(self) -> None:
        """The next connection is refused: no byte leaves."""

        def refuse(request: Request) -> Response:
            raise TransportError("connection refused", sent=False)

        self._script.append(refuse)

    def lose_request_next(self) -> None:
        """The next request times out before the stand-in works on it."""

        def lose(request: Request) -> Response:
            raise TransportError("timed out", sent=True)

        self._script.append(lose)

    def lose_answer_next(self) -> None:
        """The stand-in works on the next request, and its answer is lost."""

        def lose(request: Request) -> Response:
            self._handler(request)
            raise TransportError("timed out", sent=True)

        self._script.append(lose)

    def land_late_next(self) -> None:
        """The next request times out; the stand-in works on it only when `land` is called."""

        def hold(request: Request) -> Response:
            self._late.append(request)
            raise TransportError("timed out", sent=True)

        self._script.append(hold)

    def land(self) -> None:
        """Let the requests held back by `land_late_next` reach the stand-in."""
        late, self._late = self._late, []
        for request in late:
            self._handler(request)

    def answer_next(self, response: Response) -> None:
        """The next request is answered so, and the stand-in never sees it."""
        self._script.append(lambda request: response)

    def replace_answer_next(self, response: Response) -> None:
        """The stand-in works on the next request, and its answer is replaced by this one."""

        def replace(request: Request) -> Response:
            self._handler(request)
            return response

        self._script.append(replace)
