"""eBay's own count of the application's calls, asked for when it refuses one: whether any is left, and from when on again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery
from invsync_dagster.platforms.fields import json_in, moment, objects
from invsync_dagster.platforms.oauth import GrantTokens
from invsync_dagster.platforms.transport import Request, Transport

_PATH = "/developer/analytics/v1_beta/rate_limit/"
_DEADLINE = 10.0
# A call may be refused for coming too fast as well, where asking each time would double the calls.
_EVERY = timedelta(minutes=5)
# eBay raises an application's limit on request, so the day's end is not waited for unasked.
LONGEST_WAIT = 3600.0


class Quota:
    """The calls a day of an application (getRateLimits, developer_analytics v1_beta). Its representation holds no secret."""

    def __init__(self, api_url: str, application: GrantTokens, transport: Transport, clock: Clock) -> None:
        self._api_url = api_url
        self._application = application
        self._transport = transport
        self._clock = clock
        self._asked_at: dict[str, datetime] = {}

    def refusal(self, api: str) -> PlatformError | None:
        """Return why a call of the sell API `api` was refused, if its calls are used up; None where eBay doesn't say so.

        What fails here says nothing: the refused call waits as it would have.
        """
        now = self._clock.now()
        if api in self._asked_at and now < self._asked_at[api] + _EVERY:
            return None
        self._asked_at[api] = now
        try:
            spent = [(moment(rate, "reset"), rate) for rate in self._rates(api, now) if _is_spent(rate)]
        except (PlatformError, NotUnderstoodError):
            return None
        ahead = [each for each in spent if each[0] > now]
        if not ahead:
            return None
        until, rate = max(ahead, key=lambda each: each[0])
        words = f"the application's {rate.get('limit')} calls of eBay's {api} API are used up until {until:%Y-%m-%d %H:%M} UTC"
        return PlatformError(Recovery.WAIT, "throttled", words, min((until - now).total_seconds(), LONGEST_WAIT))

    def _rates(self, api: str, now: datetime) -> Iterator[Mapping[str, Any]]:
        token = self._application.token(self._transport, now)
        query = urlencode({"api_context": "sell", "api_name": api})
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        request = Request("GET", f"{self._api_url}{_PATH}?{query}", headers, b"")
        response = answer_to(request, self._transport, deadline=_DEADLINE, writing=False)
        value = json_in(response.body) if response.status == 200 else None
        for limits in objects(value, "rateLimits", optional=True) if isinstance(value, Mapping) else []:
            for resource in objects(limits, "resources", optional=True):
                yield from objects(resource, "rates", optional=True)


def _is_spent(rate: Mapping[str, Any]) -> bool:
    remaining = rate.get("remaining")
    return type(remaining) is int and remaining <= 0
