"""The transport in process: the real client code against a stand-in without sockets, on any clock, with faults."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Literal

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import Request, Response, TransportError
from invsync_dagster.sandbox.faults import DONE_FIRST, STATUS, Fault, Faults, Kind

Handler = Callable[[Request], Response]
OnSend = Callable[[Literal["before", "after"], Request], None]


class InProcessTransport:
    """A `Transport` that hands requests to a stand-in's `handle`.

    `on_send` is called with "before" when a request is about to reach the stand-in and with "after" when the stand-in
    is through with it and the caller doesn't know yet: there a simulation runs other code, or ends the process by
    raising.
    Requests that the `LATE` fault took wait inside and land by `land_due`, which each `send` calls first.
    """

    def __init__(
        self, handler: Handler, clock: Clock, faults: Faults | None = None, on_send: OnSend | None = None
    ) -> None:
        self._handler = handler
        self._clock = clock
        self._faults = faults
        self._on_send = on_send
        self._late: list[tuple[datetime, int, Request]] = []
        self._late_number = 0

    def send(self, request: Request, *, deadline: float) -> Response:
        """Send within `deadline` seconds of the clock. Raises `TransportError` where a fault says so."""
        self.land_due(self._clock.now())
        fault = self._faults.next() if self._faults is not None else None
        self._tell("before", request)
        if fault is None:
            response = self._dated(self._handler(request))
            self._tell("after", request)
            return response
        if fault.kind is Kind.LATE:
            lands = self._clock.now() + timedelta(seconds=deadline + fault.seconds)
            self._late_number += 1
            heapq.heappush(self._late, (lands, self._late_number, request))
        spoilt = self._dated(self._handler(request)) if fault.kind in DONE_FIRST else None
        self._tell("after", request)
        return self._spoil(fault, spoilt, deadline)

    def land_due(self, now: datetime) -> int:
        """Let the late requests whose time has come reach the stand-in, and return how many did."""
        landed = 0
        while self._late and self._late[0][0] <= now:
            self._handler(heapq.heappop(self._late)[2])
            landed += 1
        return landed

    @property
    def next_landing(self) -> datetime | None:
        """When the next late request lands, None if none waits."""
        return self._late[0][0] if self._late else None

    def _dated(self, response: Response) -> Response:
        """Add the time by the stand-in's clock, as every HTTP server does."""
        return replace(response, headers={"date": format_datetime(self._clock.now(), usegmt=True), **response.headers})

    def _tell(self, when: Literal["before", "after"], request: Request) -> None:
        if self._on_send is not None:
            self._on_send(when, request)

    def _spoil(self, fault: Fault, response: Response | None, deadline: float) -> Response:
        if fault.kind in STATUS:
            return fault.response()
        if fault.kind is Kind.REFUSE:
            raise TransportError("connection refused", sent=False)
        if fault.kind in (Kind.CUT_BEFORE, Kind.CUT_AFTER):
            raise TransportError("connection cut before the answer was whole", sent=True)
        if fault.kind is Kind.SLOW and response is not None and fault.seconds < deadline:
            self._clock.sleep(fault.seconds)
            return response
        self._clock.sleep(deadline)
        raise TransportError(f"no answer within {deadline:g} s", sent=True)
