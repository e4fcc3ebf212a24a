"""eBay's OAuth tokens: the seller's (refresh token grant) and the application's, cached, renewed before they run out."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.ebay import errors
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response, Transport

# A token lives for two hours; renewed five minutes early, one that can't be renewed for a moment is still good.
_EARLY = timedelta(minutes=5)
# A token refused sooner than this after it was given isn't old: the consent is gone.
_FRESH = timedelta(minutes=1)
_DEADLINE = 10.0

APPLICATION = {"grant_type": "client_credentials", "scope": "https://api.ebay.com/oauth/api_scope"}


def seller_grant(refresh_token: str) -> Mapping[str, str]:
    """Return the grant of a seller's consent; without `scope` the token has all that was consented to."""
    if not refresh_token:
        raise ValueError("the refresh token is empty")
    return {"grant_type": "refresh_token", "refresh_token": refresh_token}


class Tokens:
    """Access tokens of one grant. Its representation holds no secret; safe for threads."""

    def __init__(self, api_url: str, client_id: str, client_secret: str, grant: Mapping[str, str]) -> None:
        if not client_id or not client_secret:
            raise ValueError("the client id or its secret is empty")
        self._url = f"{api_url}/identity/v1/oauth2/token"
        basic = base64.b64encode(f"{quote(client_id)}:{quote(client_secret)}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {basic}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        self._body = urlencode(grant).encode()
        self._known = (client_secret, basic, grant.get("refresh_token", ""), client_id)
        self._lock = threading.Lock()
        self._token = ""
        self._given_at: datetime | None = None
        self._ends_at: datetime | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return tuple(each for each in (*self._known, self._token) if each)

    def access_token(self, transport: Transport, now: datetime) -> str:
        """Return a token that is good now. Raises `PlatformError`; nothing else was sent then."""
        with self._lock:
            if self._ends_at is not None and now < self._ends_at - _EARLY:
                return self._token
            try:
                self._renew(transport, now)
            except PlatformError as error:
                still_good = self._ends_at is not None and now < self._ends_at
                if not still_good or error.recovery is Recovery.REAUTHENTICATE:
                    raise
            return self._token

    def refused(self, token: str, now: datetime) -> bool:
        """Forget a token that was refused; return whether it was old, so that a new one may be taken."""
        with self._lock:
            if token != self._token or self._given_at is None:
                return True
            old = now - self._given_at > _FRESH
            self._ends_at = None
            return old

    def _renew(self, transport: Transport, now: datetime) -> None:
        response = answer_to(
            Request("POST", self._url, self._headers, self._body), transport, deadline=_DEADLINE, writing=False
        )
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
