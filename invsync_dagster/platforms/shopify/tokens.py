"""The access token of a store: a static one of an older custom app, or one that the client-credentials grant gives.

A grant's token lives for a day and is asked for anew; there is no refresh token, so nothing outlives the process
(shopify.dev, client credentials grant). The grant is for apps of one's own organisation on stores that it owns.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.errors import PlatformError, Recovery, retry_after_seconds, told
from invsync_dagster.platforms.transport import Request, Response, Transport

# A token lives for 86,399 s; asked for anew an hour early, one that is refused for a while is still good.
_EARLY = timedelta(hours=1)
# A token refused sooner than this after it was given isn't old: the app was taken off the store.
_FRESH = timedelta(minutes=1)
_DEADLINE = 10.0


class Tokens(Protocol):
    """What lends the access token of a store."""

    @property
    def secrets(self) -> tuple[str, ...]: ...

    def token(self) -> str: ...

    def refused(self, token: str) -> bool: ...


class StaticToken:
    """A token that holds until the app is removed. Its representation doesn't hold it."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("the access token is empty")
        self._token = token

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return (self._token,)

    def token(self) -> str:
        """Return the token."""
        return self._token

    def refused(self, token: str) -> bool:
        """Return that no newer one helps."""
        return False


class ClientCredentials:
    """Tokens that the app's own credentials are exchanged for. Its representation holds no secret; safe for threads."""

    def __init__(self, shop_url: str, client_id: str, client_secret: str, transport: Transport, clock: Clock) -> None:
        if not client_id or not client_secret:
            raise ValueError("the client id or the client secret is empty")
        self._url = f"{shop_url}/admin/oauth/access_token"
        self._id = client_id
        self._secret = client_secret
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._given_at: datetime | None = None
        self._ends_at: datetime | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return tuple(each for each in (self._token, self._secret, self._id) if each)

    def token(self) -> str:
        """Return a token that is good now. Raises `PlatformError`; nothing else was sent then."""
        with self._lock:
            now = self._clock.now()
            if self._ends_at is None or now >= self._ends_at - _EARLY:
                try:
                    self._ask(now)
                except PlatformError as error:
                    still_good = self._ends_at is not None and now < self._ends_at
                    if not still_good or error.recovery is Recovery.REAUTHENTICATE:
                        raise
            return self._token

    def refused(self, token: str) -> bool:
        """Forget a token that was refused; return whether it was old, so that a new one may help."""
        with self._lock:
            if token != self._token or self._given_at is None:
                return True
            self._ends_at = None
            return self._clock.now() - self._given_at > _FRESH

    def _ask(self, now: datetime) -> None:
        form = {"grant_type": "client_credentials", "client_id": self._id, "client_secret": self._secret}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        request = Request("POST", self._url, headers, urlencode(form).encode())
        response = answer_to(request, self._transport, deadline=_DEADLINE, writing=False)
        fields = _fields(response)
        if response.status != 200:
            raise self._refusal(response, fields)
        token, lifetime = fields.get("access_token"), fields.get("expires_in")
        usable = isinstance(token, str) and token and token.isascii() and token.isprintable()
        if not usable or type(lifetime) is not int or not 0 < lifetime <= 10 * 86_400:
            raise PlatformError(Recovery.RETRY, "malformed_answer", "the answer holds no token")
        self._token, self._given_at, self._ends_at = str(token), now, now + timedelta(seconds=lifetime)

    def _refusal(self, response: Response, fields: Mapping[str, Any]) -> PlatformError:
        status = response.status
        if status == 429:
            wait = retry_after_seconds(response.headers.get("retry-after"))
            return PlatformError(Recovery.WAIT, "throttled", "too many requests for a token", wait)
        if status >= 500:
            return PlatformError(Recovery.RETRY, "server_error", f"Shopify gave no token: HTTP {status}")
        said = fields.get("error_description") or fields.get("error")
        reason = told(said, self.secrets) if isinstance(said, str) and said else f"HTTP {status}"
        words = f"Shopify gives this app no token for this store ({reason}): look at client id, secret and installation"
        return PlatformError(Recovery.REAUTHENTICATE, "no_token", words)


def _fields(response: Response) -> Mapping[str, Any]:
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
