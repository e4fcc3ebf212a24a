"""Who may see the status: bearers of a token, and people who gave it once in the form and have a cookie since."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Self

VARIABLE, PREVIOUS = "INVSYNC_STATUS_TOKEN", "INVSYNC_STATUS_PREVIOUS_TOKEN"
# Guessing one takes for good at the two guesses a second that a connection has; `openssl rand -hex 24` makes 48.
SHORTEST = 24
COOKIE = "invsync_status"
SIGNED_IN_FOR = timedelta(days=30)


class TokenError(Exception):
    """A token that is too short to be one; the message never repeats it."""


class Tokens:
    """The tokens that are valid now: two while one is being changed, none where nobody may see the status."""

    def __init__(self, tokens: Sequence[str] = ()) -> None:
        """Raises TokenError for one that could be guessed."""
        if any(len(token) < SHORTEST or not token.isascii() for token in tokens):
            raise TokenError(
                f"{VARIABLE}: a token has {SHORTEST} ASCII characters at least, as `openssl rand -hex {SHORTEST}` makes one; the "
                "status stays closed until then"
            )
        self._tokens = [token.encode() for token in tokens]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read INVSYNC_STATUS_TOKEN and INVSYNC_STATUS_PREVIOUS_TOKEN; without the first there are none. Raises TokenError."""
        if not environ.get(VARIABLE):
            return cls()
        return cls([token for token in (environ[VARIABLE], environ.get(PREVIOUS, "")) if token])

    def __repr__(self) -> str:
        return f"Tokens({len(self._tokens)})"

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def fits(self, token: str) -> bool:
        """Say whether it is one of them, in a time that tells nothing of them."""
        given = token.encode("utf-8", "surrogateescape")
        return sum(hmac.compare_digest(given, one) for one in self._tokens) > 0

    def bears(self, authorization: str) -> bool:
        """Say whether an Authorization header bears one of them."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.fits(token.strip())

    def cookie(self, now: datetime) -> str:
        """Return the value of a cookie that is good from now on; the token can't be had from it."""
        until = int((now + SIGNED_IN_FOR).timestamp())
        return f"{until}.{_proof(self._tokens[0], until)}"

    def knows(self, cookie: str, now: datetime) -> bool:
        """Say whether a cookie is one of ours, and still good; it ends with the token that it was made with."""
        text, _, proof = cookie.partition(".")
        if not (text.isascii() and text.isdecimal() and len(text) <= 12) or int(text) < now.timestamp():
            return False
        given = proof.encode("utf-8", "surrogateescape")
        return sum(hmac.compare_digest(given, _proof(one, int(text)).encode()) for one in self._tokens) > 0


NO_TOKENS = Tokens()


def _proof(token: bytes, until: int) -> str:
    return hmac.new(token, b"invsync status until %d" % until, hashlib.sha256).hexdigest()
