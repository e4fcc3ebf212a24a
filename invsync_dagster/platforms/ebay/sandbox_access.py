"""Who may call the stand-in account: its tokens that run out, its daily quota, and the key that it signs with."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import parse_qs

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import Request, Response

_LIFETIME = 7200
_ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Access:
    """Tokens of the seller's consent (`seller`) and of the application alone, by their end."""

    def __init__(self, client_id: str, client_secret: str, refresh_token: str, clock: Clock, random: Random) -> None:
        self._basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._refresh_token = refresh_token
        self._clock = clock
        self._random = random
        self._ends: dict[str, tuple[datetime, bool]] = {}

    def revoke(self) -> None:
        """Take the seller's consent back: no token is good any more, and no new one is given for it."""
        self._refresh_token = ""
        self._ends.clear()

    def change(self, refresh_token: str) -> None:
        """Let the seller consent again, with another refresh token; tokens of the old one are dead."""
        self._refresh_token = refresh_token
        self._ends.clear()

    def expire(self) -> None:
        """Let the tokens given so far run out now; new ones are given."""
        self._ends.clear()

    def token(self, request: Request) -> Response:
        """Answer POST /identity/v1/oauth2/token."""
        if request.headers.get("authorization") != f"Basic {self._basic}":
            return _flat(401, "invalid_client", "client authentication failed")
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        seller = form.get("grant_type") == "refresh_token"
        if seller and (not self._refresh_token or form.get("refresh_token") != self._refresh_token):
            words = "the provided authorization refresh token is invalid or was issued to another client"
            return _flat(400, "invalid_grant", words)
        if not seller and form.get("grant_type") != "client_credentials":
            return _flat(
                400, "unsupported_grant_type", "grant type in request is not supported by the authorization server"
            )
        token = f"v^1.1#{self._random.getrandbits(96):024x}"
        self._ends[token] = (self._clock.now() + timedelta(seconds=_LIFETIME), seller)
        kind = "User Access Token" if seller else "Application Access Token"
        return answer(200, {"access_token": token, "expires_in": _LIFETIME, "token_type": kind})

    def allows(self, request: Request, *, seller: bool) -> bool:
        """Tell whether the request's token is good, and the seller's where it must be."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        ends_at, of_seller = self._ends.get(token, (None, False))
        return ends_at is not None and self._clock.now() < ends_at and (of_seller or not seller)


class Quota:
    """Calls a day (a window of 24 hours from the first) and a second, as an application has them of each API."""

    def __init__(self, clock: Clock, a_day: int, rate: float, burst: float) -> None:
        self._clock = clock
        self.a_day = a_day
        self.rate, self.burst = rate, burst
        self._day_began = clock.now()
        self._made: Counter[str] = Counter()
        self._left: dict[str, tuple[float, datetime]] = {}

    def view(self, context: str, name: str) -> dict[str, Any]:
        """Return what getRateLimits tells of one API."""
        self._begin_day(self._clock.now())
        reset = self._day_began + timedelta(days=1)
        rate = {
            "limit": self.a_day,
            "remaining": max(0, self.a_day - self._made[f"/{context}/{name}"]),
            "reset": reset.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "timeWindow": 86_400,
        }
        resource = {"name": f"{context}.{name}", "rates": [rate]}
        return {"apiContext": context, "apiName": name, "apiVersion": "v1", "resources": [resource]}

    def _begin_day(self, now: datetime) -> None:
        if now - self._day_began >= timedelta(days=1):
            self._day_began = now
            self._made.clear()

    def take(self, api: str) -> bool:
        """Take one call of an API (`/sell/inventory`); False if there is none left."""
        now = self._clock.now()
        self._begin_day(now)
        left, filled_at = self._left.get(api, (self.burst, now))
        left = min(self.burst, left + (now - filled_at).total_seconds() * self.rate)
        taken = self._made[api] < self.a_day and left >= 1
        self._left[api] = left - taken, now
        self._made[api] += taken
        return taken


class Signer:
    """The key that notifications are signed with, made from the stand-in's randomness."""

    def __init__(self, random: Random) -> None:
        self.key_id = ""
        self._scalar = 0
        self.load({"key_id": _uuid(random), "scalar": hex(1 + random.randrange(_ORDER_OF_P256 - 1))})

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers of a notification."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.derive_private_key(self._scalar, ec.SECP256R1())
        signature = base64.b64encode(key.sign(body, ec.ECDSA(hashes.SHA1()))).decode()  # noqa: S303 - what eBay signs with
        told = {"alg": "ecdsa", "kid": self.key_id, "signature": signature, "digest": "SHA1"}
        header = base64.b64encode(json.dumps(told).encode()).decode()
        return {"Content-Type": "application/json", "X-EBAY-SIGNATURE": header}

    def public(self) -> dict[str, str]:
        """Return the public key as getPublicKey shows it: a PEM without line breaks."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = ec.derive_private_key(self._scalar, ec.SECP256R1()).public_key()
        der = base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
        pem = f"-----BEGIN PUBLIC KEY-----{der}-----END PUBLIC KEY-----"
        return {"key": pem, "algorithm": "ECDSA", "digest": "SHA1"}

    def dump(self) -> dict[str, Any]:
        """Return the key as JSON values."""
        return {"key_id": self.key_id, "scalar": hex(self._scalar)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.key_id, self._scalar = state["key_id"], int(state["scalar"], 16)


def _uuid(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def answer(status: int, value: Any) -> Response:
    """Return a JSON answer."""
    return Response(status, {"content-type": "application/json"}, json.dumps(value).encode())


def _flat(status: int, code: str, words: str) -> Response:
    return answer(status, {"error": code, "error_description": words})
