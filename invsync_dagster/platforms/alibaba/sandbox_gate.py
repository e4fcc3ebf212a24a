"""The stand-in's gateways, GOP and TOP: signatures, clocks, tokens, whitelists and quotas, and the envelopes of both.

Nothing of the client is used here: signatures are computed anew from the rules.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from invsync_dagster.clock import Clock

_CHINA = timezone(timedelta(hours=8))
_CLOCK_BEARABLE = timedelta(minutes=10)


class RefusedError(Exception):
    """An answer that says no, with the gateway's code; it comes as HTTP 200."""

    def __init__(self, kind: str, code: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.code, self.message = kind, code, message


@dataclass
class Grant:
    """The seller's grant: the tokens that are good now, and until when."""

    access_token: str
    refresh_token: str
    ends_at: float
    renewals: int = 0


@dataclass
class Quota:
    """Calls: `rate` a second up to `burst` at once, and `daily` in a day of China."""

    rate: float
    burst: float
    daily: int
    left: float = 0.0
    filled_at: float = 0.0
    day: str = ""
    used: int = field(default=0)

    def take(self, now: datetime) -> None:
        """Count a call. Raises `RefusedError`."""
        day = now.astimezone(_CHINA).date().isoformat()
        if day != self.day:
            self.day, self.used = day, 0
        if self.used >= self.daily:
            raise RefusedError("ISV", "AppCallLimit", "App call count exceeds the limit of today")
        self.left = min(self.burst, self.left + (now.timestamp() - self.filled_at) * self.rate)
        self.filled_at = now.timestamp()
        if self.left < 1:
            words = "The request has exceeded the limit of the API, this ban will last for 1 more seconds"
            raise RefusedError("ISV", "ApiCallLimit", words)
        self.left -= 1
        self.used += 1


class Gate:
    """What a call must pass before the account works on it."""

    def __init__(
        self, app_key: str, app_secret: str, grant: Grant, quota: Quota, lifetime: float, clock: Clock
    ) -> None:
        self.app_key, self.app_secret = app_key, app_secret
        self.grant, self.quota = grant, quota
        self.whitelisted = True
        self._lifetime = lifetime
        self._clock = clock
        quota.left, quota.filled_at = quota.burst, clock.now().timestamp()

    def pass_gop(self, path: str, asked: Mapping[str, str]) -> None:
        """Let a call of GOP through, or raise `RefusedError`."""
        base = path + "".join(name + asked[name] for name in sorted(asked) if name != "sign")
        sign = hmac.new(self.app_secret.encode(), base.encode(), hashlib.sha256).hexdigest().upper()
        if asked.get("app_key") != self.app_key:
            raise RefusedError("ISV", "InvalidAppKey", "The specified App Key is invalid")
        if asked.get("sign_method") != "sha256" or asked.get("sign") != sign:
            raise RefusedError(
                "ISV", "IncompleteSignature", "The request signature does not conform to platform standards"
            )
        at = datetime.fromtimestamp(int(asked.get("timestamp", "0")) / 1000, UTC)
        self._pass(at, asked.get("access_token", ""), with_token=not path.startswith("/auth/"))

    def pass_top(self, asked: Mapping[str, str]) -> None:
        """Let a call of TOP through, or raise `RefusedError`."""
        base = "".join(name + asked[name] for name in sorted(asked) if name != "sign")
        sign = hmac.new(self.app_secret.encode(), base.encode(), "md5").hexdigest().upper()
        if asked.get("app_key") != self.app_key:
            raise RefusedError("29", "isv.appkey-not-exists", "Invalid app Key")
        if asked.get("sign_method") != "hmac" or asked.get("sign") != sign:
            raise RefusedError("25", "isv.invalid-signature", "Invalid signature")
        at = datetime.strptime(asked.get("timestamp", ""), "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CHINA)
        self._pass(at, asked.get("session", ""), with_token=True)

    def _pass(self, at: datetime, token: str, *, with_token: bool) -> None:
        now = self._clock.now()
        if abs(now - at) > _CLOCK_BEARABLE:
            raise RefusedError("ISV", "InvalidTimestamp", "The timestamp is out of the range that is allowed")
        if not self.whitelisted:
            raise RefusedError("ISV", "AppWhiteIpLimit", "SourceIp:203.0.113.7 is not in the whitelist")
        if with_token and (token != self.grant.access_token or now.timestamp() >= self.grant.ends_at):
            raise RefusedError("ISV", "IllegalAccessToken", "The specified access token is invalid or expired")
        if with_token:  # the rate is that of each API, and a token's is another one
            self.quota.take(now)

    def refresh(self, refresh_token: str) -> dict[str, Any]:
        """Renew the grant: both tokens are replaced, and the old refresh token is worth nothing any more."""
        grant, now = self.grant, self._clock.now().timestamp()
        if refresh_token != grant.refresh_token:
            raise RefusedError("ISV", "IllegalRefreshToken", "The specified refresh token is invalid or expired")
        renewals = grant.renewals + 1
        stem = grant.refresh_token.rpartition("-r")[0] if grant.renewals else grant.refresh_token
        self.grant = Grant(f"5000-stand-in-{renewals:06d}", f"{stem}-r{renewals}", now + self._lifetime, renewals)
        return {
            "access_token": self.grant.access_token,
            "refresh_token": self.grant.refresh_token,
            "expires_in": str(int(self._lifetime)),
            "refresh_expires_in": str(int(2 * self._lifetime)),
            "account": "seller@example.com",
            "country": "cn",
        }
