"""How the stand-in account lets its callers in: Login with Amazon's tokens, and each operation's rate."""

from __future__ import annotations

import hmac
import json
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import Request, Response

_LIFETIME = 3600
# Calls a second and bursts (the models' usage plans).
_RATES = {
    "patch": (5.0, 5.0),
    "get": (5.0, 10.0),
    "search": (5.0, 5.0),
    "orders": (0.0056, 20.0),
    "order": (0.5, 30.0),
    "make_document": (0.5, 15.0),
    "feed": (2.0, 15.0),
    "document": (0.0222, 10.0),
    "make_report": (0.0167, 15.0),
    "report": (2.0, 15.0),
    "report_document": (0.0167, 15.0),
    "destinations": (1.0, 5.0),
    "make_destination": (1.0, 5.0),
    "subscription": (1.0, 5.0),
    "subscribe": (1.0, 5.0),
}
# JSON_LISTINGS_FEED: five feeds in any five minutes, by number and span.
_FEEDS, _FEEDS_IN = 5, timedelta(minutes=5)
# What takes a token of the app itself, and not a seller's.
_GRANTLESS = frozenset({"destinations", "make_destination"})
_NOTIFICATIONS = "sellingpartnerapi::notifications"


class RefusedError(Exception):
    """An answer that says no: HTTP status, code and message as in the API's error list."""

    def __init__(self, status: int, code: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self.response = answer_of(status, {"errors": [{"code": code, "message": message, "details": details}]}, None)


class Gate:
    """Gives tokens to one app of one grant, and counts calls. Tokens live for an hour."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        clock: Clock,
        rate_factor: float,
        orders_every: float,
    ) -> None:
        self._client = (client_id, client_secret)
        self._refresh_token = refresh_token
        self._clock = clock
        self._factor = rate_factor
        self._revoked = False
        self._given = 0
        self._tokens: dict[str, float] = {}
        self._of_app: set[str] = set()
        self._rates = {**_RATES, "orders": (1 / orders_every, _RATES["orders"][1])}
        self._feeds: deque[datetime] = deque(maxlen=max(1, round(_FEEDS * rate_factor)))
        self._buckets = {name: (burst * rate_factor, clock.now()) for name, (_, burst) in _RATES.items()}

    def revoke(self) -> None:
        """Take the grant back."""
        self._revoked = True
        self._tokens.clear()

    def expire(self) -> None:
        """Let every access token run out now."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def token_answer(self, request: Request) -> Response:
        """Answer a renewal as Login with Amazon does: errors in OAuth's flat form."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        if not all(hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(given, self._client, strict=True)):
            return _flat(401, "invalid_client", "Client authentication failed")
        if form.get("grant_type") == "client_credentials" and form.get("scope") == _NOTIFICATIONS:
            token = self._give()
            self._of_app.add(token)
            return Response(200, _JSON, json.dumps({"access_token": token, **_GIVEN}).encode())
        if form.get("grant_type") != "refresh_token":
            return _flat(400, "unsupported_grant_type", "The authorization grant type is not supported")
        same = hmac.compare_digest(form.get("refresh_token", "").encode(), self._refresh_token.encode())
        if self._revoked or not same:
            words = "The request has an invalid grant parameter : refresh_token. User may have revoked or didn't grant."
            return _flat(400, "invalid_grant", words)
        fields = {"access_token": self._give(), "refresh_token": self._refresh_token, **_GIVEN}
        return Response(200, _JSON, json.dumps(fields).encode())

    def _give(self) -> str:
        self._given += 1
        token = f"Atza|stand-in-{self._given:08d}"
        self._tokens[token] = self._clock.now().timestamp() + _LIFETIME
        return token

    def admit(self, request: Request, operation: str) -> str:
        """Let a call in and return the rate to tell. Raises `RefusedError`."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        token = headers.get("x-amz-access-token", "")
        ends_at = self._tokens.get(token)
        if (token in self._of_app) != (operation in _GRANTLESS):
            ends_at = None
        if ends_at is None or ends_at <= self._clock.now().timestamp():
            details = "The access token you provided is revoked, malformed or invalid."
            if ends_at is not None:
                details = "The access token you provided has expired."
            raise RefusedError(403, "Unauthorized", "Access to requested resource is denied.", details)
        if operation == "make_feed":
            return self._admit_feed()
        rate, burst = (each * self._factor for each in self._rates[operation])
        level, at = self._buckets[operation]
        now = self._clock.now()
        level = min(burst, level + (now - at).total_seconds() * rate)
        self._buckets[operation] = (max(level - 1, 0.0) if level >= 1 else level, now)
        if level < 1:
            raise _too_many()
        return str(rate)

    def _admit_feed(self) -> str:
        now = self._clock.now()
        if len(self._feeds) == self._feeds.maxlen and now - self._feeds[0] < _FEEDS_IN:
            raise _too_many()
        self._feeds.append(now)
        return _FEED_RATE


def _too_many() -> RefusedError:
    return RefusedError(429, "QuotaExceeded", "You exceeded your quota for the requested resource.")


# createFeed's own rate (feeds 2021-06-30); what it says of listings feeds beside it no header tells.
_FEED_RATE = "0.0083"


_JSON: Mapping[str, str] = {"content-type": "application/json"}
_GIVEN: Mapping[str, Any] = {"token_type": "bearer", "expires_in": _LIFETIME}


def answer_of(status: int, value: Any, rate: str | None) -> Response:
    """Return an answer of the API; the rate is told with 200, 400 and 404 only."""
    told = {} if rate is None or status not in (200, 400, 404) else {"x-amzn-ratelimit-limit": rate}
    return Response(status, {**_JSON, "x-amzn-requestid": "stand-in", **told}, json.dumps(value).encode())


def _flat(status: int, code: str, words: str) -> Response:
    return Response(status, _JSON, json.dumps({"error": code, "error_description": words}).encode())
