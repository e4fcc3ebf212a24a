"""What goes wrong between us and a stand-in: faults drawn from a seeded random at set rates, or scripted one by one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from invsync_dagster.platforms.transport import Response


class Kind(StrEnum):
    """What happens to one request.

    Not done means that the stand-in never worked on it, done that it did and the answer is lost or spoilt.
    """

    REFUSE = "refuse"
    """No connection: no byte left, not done."""
    TIMEOUT_BEFORE = "timeout_before"
    """Sent, no answer until the deadline, not done."""
    TIMEOUT_AFTER = "timeout_after"
    """Sent and done, no answer until the deadline."""
    LATE = "late"
    """Sent, no answer until the deadline; done only `seconds` after the deadline."""
    CUT_BEFORE = "cut_before"
    """Sent, the connection breaks, not done."""
    CUT_AFTER = "cut_after"
    """Sent and done, the connection breaks before the answer is whole."""
    THROTTLE = "throttle"
    """429 with Retry-After, not done."""
    THROTTLE_SILENT = "throttle_silent"
    """429 without a hint, not done."""
    ERROR_500 = "error_500"
    """500, done: a server that fails after its commit."""
    ERROR_502 = "error_502"
    """502 of a gateway whose server had done the work."""
    ERROR_503 = "error_503"
    """503 without a hint, not done."""
    ERROR_504 = "error_504"
    """504 of a gateway whose server had done the work."""
    MALFORMED = "malformed"
    """200 with an HTML page instead of the answer, done."""
    SLOW = "slow"
    """Done and answered after `seconds`; as `TIMEOUT_AFTER` where that is over the deadline."""


STATUS = {
    Kind.THROTTLE: 429,
    Kind.THROTTLE_SILENT: 429,
    Kind.ERROR_500: 500,
    Kind.ERROR_502: 502,
    Kind.ERROR_503: 503,
    Kind.ERROR_504: 504,
    Kind.MALFORMED: 200,
}
"""The HTTP status of the kinds that are answers."""

DONE_FIRST = frozenset(
    {Kind.TIMEOUT_AFTER, Kind.CUT_AFTER, Kind.ERROR_500, Kind.ERROR_502, Kind.ERROR_504, Kind.MALFORMED, Kind.SLOW}
)
"""The kinds where the stand-in does the work before the fault shows."""

_PAGE = b"<!DOCTYPE html><html><head><title>Something went wrong</title></head><body>Please come back.</body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `seconds` is how long `SLOW` takes, how long after the deadline `LATE` lands, or what `THROTTLE` asks
    the caller to wait."""

    kind: Kind
    seconds: float = 0.0

    def response(self) -> Response:
        """Return the answer of a kind in `STATUS`. Raises `KeyError` for the kinds that give none."""
        headers = {"content-type": "text/html; charset=utf-8"}
        if self.kind is Kind.THROTTLE:
            # Retry-After is whole seconds (RFC 9110 10.2.3): rounded up, so that nobody is asked to come too early.
            headers["retry-after"] = str(math.ceil(self.seconds))
        return Response(STATUS[self.kind], headers, _PAGE)


class Faults:
    """Decides for each request what goes wrong: scripted faults first, then one drawn at the set rates.

    The same seed and the same requests give the same faults. `late_seconds` must stay below the platform's
    `write_linger`, else the stand-in breaks what its contract promises.
    """

    def __init__(
        self,
        random: Random,
        rates: Mapping[Kind, float] | None = None,
        *,
        late_seconds: tuple[float, float] = (1.0, 30.0),
        slow_seconds: tuple[float, float] = (0.5, 5.0),
        retry_after_seconds: tuple[float, float] = (1.0, 5.0),
    ) -> None:
        self._random = random
        self._seconds = {Kind.LATE: late_seconds, Kind.SLOW: slow_seconds, Kind.THROTTLE: retry_after_seconds}
        self._script: deque[Fault | None] = deque()
        self._rates: dict[Kind, float] = {}
        self.set_rates(rates or {})

    @property
    def rates(self) -> Mapping[Kind, float]:
        return dict(self._rates)

    def set_rates(self, rates: Mapping[Kind, float]) -> None:
        """Replace the share of requests per kind. Raises `ValueError` below 0 or above 1 in all."""
        if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1 + 1e-9:
            raise ValueError(f"rates must lie between 0 and 1 and add up to at most 1: {dict(rates)}")
        # Kept in the order of `Kind`, so that a seed means the same whatever order the caller named them in.
        self._rates = {kind: rates[kind] for kind in Kind if rates.get(kind, 0.0) > 0}

    def script(self, faults: Iterable[Fault | None]) -> None:
        """Queue faults for the next requests, one each; None lets a request pass whatever the rates are."""
        self._script.extend(faults)

    def clear(self) -> None:
        """Stop all faults: no script, no rates."""
        self._script.clear()
        self._rates = {}

    def next(self) -> Fault | None:
        """Return what goes wrong with the next request, None if nothing does."""
        if self._script:
            return self._script.popleft()
        if not self._rates:
            return None
        drawn = self._random.random()
        for kind, rate in self._rates.items():
            if drawn < rate:
                low, high = self._seconds.get(kind, (0.0, 0.0))
                return Fault(kind, self._random.uniform(low, high) if high > 0 else 0.0)
            drawn -= rate
        return None
