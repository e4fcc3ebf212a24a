"""Login with Amazon: the access token of one seller's grant, renewed before it runs out and cached in the process."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.amazon import errors
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response, Transport

# A token lives for an hour; renewed five minutes early, one that is refused for a moment is still good.
_EARLY = timedelta(minutes=5)
# A token refused sooner than this after it was given isn't old: the grant is dead.
_FRESH = timedelta(minutes=1)
_DEADLINE = 10.0


class Tokens:
    """Access tokens of one grant. Its representation holds no secret; safe for threads."""

    def __init__(
        self, url: str, client_id: str, client_secret: str, refresh_token: str, transport: Transport, clock: Clock
    ) -> None:
        if not client_id or not client_secret or not refresh_token:
            raise ValueError("the client id, its secret or the refresh token is empty")
        self._url = url
        self._grant = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": client_id,
            "client_secret": client_secret,
        }
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._given_at: datetime | None = None
        self._ends_at: datetime | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        grant = self._grant
        known = (grant["client_secret"], grant["refresh_token"], self._token, grant["client_id"])
        return tuple(each for each in known if each)

    def access_token(self) -> str:
        """Return a token that is good now. Raises `PlatformError`; nothing else was sent then."""
        with self._lock:
            now = self._clock.now()
            if self._ends_at is not None and now < self._ends_at - _EARLY:
                return self._token
            try:
                self._renew(now)
            except PlatformError as error:
                still_good = self._ends_at is not None and now < self._ends_at
                if not still_good or error.recovery is Recovery.REAUTHENTICATE:
                    raise
            return self._token

    def refused(self, token: str) -> bool:
        """Forget a token that was refused; return whether it was old, so that a new one may be taken."""
        with self._lock:
            if token != self._token or self._given_at is None:
                return True
            old = self._clock.now() - self._given_at > _FRESH
            self._ends_at = None
            return old

    def _renew(self, now: datetime) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        request = Request("POST", self._url, headers, urlencode(self._grant).encode())
        response = answer_to(request, self._transport, deadline=_DEADLINE, writing=False)
        self._token, lifetime = self._told(response)
        self._given_at, self._ends_at = now, now + timedelta(seconds=lifetime)

    def _told(self, response: Response) -> tuple[str, float]:
        fields = _object(response.body) if response.status == 200 else {}
        token, lifetime = fields.get("access_token"), fields.get("expires_in")
        usable = isinstance(token, str) and token and token.isascii() and token.isprintable()
        if not usable or type(lifetime) is not int or not 0 < lifetime <= 86_400:
            raise errors.of_token(response, self.secrets)
        return str(token), float(lifetime)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
