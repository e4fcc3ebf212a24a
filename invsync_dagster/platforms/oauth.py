"""Access tokens: what lends them to a client, and how those of a grant are asked for, kept, renewed early and forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.fields import json_in
from invsync_dagster.platforms.transport import Request, Response, Transport

FORM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}

# A token refused sooner than this after it was given isn't old: the grant itself is dead.
FRESH = timedelta(minutes=1)
DEADLINE = 10.0


class Tokens(Protocol):
    """What lends a client its access token; `secrets` are what an answer must not be quoted with."""

    @property
    def secrets(self) -> tuple[str, ...]: ...

    def token(self) -> str:
        """Return a token that is good now. Raises `PlatformError`; nothing else was sent then."""
        ...

    def refused(self, token: str) -> bool:
        """Use a token that was refused no more; return whether it was old, so that a new one may help."""
        ...


class StaticToken:
    """A token that a person put in place, and replaces by hand. Its representation doesn't hold it."""

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


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """What tokens are asked for with: always the same `request`, which holds `secrets`.

    A token is renewed when `early` is left of its life, so that while it can't be renewed for a moment it is still good;
    a life of more than `longest` seconds is none. `refusal(answer, secrets)` says why an answer brought no token.
    """

    request: Request
    secrets: Sequence[str]
    early: timedelta
    refusal: Callable[[Response, Sequence[str]], PlatformError]
    longest: float = 86_400.0


class GrantTokens:
    """The tokens of one grant, for callers that bring transport and time. Its representation holds no secret; safe for
    threads."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._lock = threading.Lock()
        self._token = ""
        self._given_at: datetime | None = None
        self._ends_at: datetime | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return tuple(each for each in (self._token, *self._grant.secrets) if each)

    def token(self, transport: Transport, now: datetime) -> str:
        """Return a token that is good now. Raises `PlatformError`; nothing else was sent then."""
        with self._lock:
            if self._ends_at is None or now >= self._ends_at - self._grant.early:
                try:
                    self._renew(transport, now)
                except PlatformError as error:
                    still_good = self._ends_at is not None and now < self._ends_at
                    if not still_good or error.recovery is Recovery.REAUTHENTICATE:
                        raise
            return self._token

    def refused(self, token: str, now: datetime) -> bool:
        """Forget a token that was refused; return whether it was old, so that a new one may help."""
        with self._lock:
            if token != self._token or self._given_at is None:
                return True
            self._ends_at = None
            return now - self._given_at > FRESH

    def _renew(self, transport: Transport, now: datetime) -> None:
        response = answer_to(self._grant.request, transport, deadline=DEADLINE, writing=False)
        told = json_in(response.body) if response.status == 200 else None
        fields: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
        token, lifetime = fields.get("access_token"), fields.get("expires_in")
        if not is_token(token) or type(lifetime) is not int or not 0 < lifetime <= self._grant.longest:
            raise self._grant.refusal(response, self.secrets)
        self._token, self._given_at, self._ends_at = str(token), now, now + timedelta(seconds=lifetime)


def is_token(value: Any) -> bool:
    """Tell whether a value can go into a header as a token."""
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()
