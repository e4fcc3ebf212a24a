"""The stand-in shop's tokens: the static one of an older custom app, and those that an app's credentials are exchanged for."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import Response

_LIFETIME = 86_399


class Grants:
    """Which tokens the shop takes now; those given before hold on until their own end."""

    def __init__(self, client_id: str, client_secret: str, clock: Clock) -> None:
        self.client_id = client_id
        self._secret = client_secret
        self._clock = clock
        self._ends_at: dict[str, float] = {}
        self._given = 0

    def takes(self, token: str, static: str) -> bool:
        """Tell whether a token is the static one (if there is any) or one given that hasn't ended."""
        if static and hmac.compare_digest(token.encode(), static.encode()):
            return True
        return self._ends_at.get(token, 0.0) > self._clock.now().timestamp()

    def give(self, body: bytes) -> Response:
        """Exchange an app's credentials for a token of a day."""
        form: Mapping[str, str] = dict(parse_qsl(body.decode()))
        wanted = {"grant_type": "client_credentials", "client_id": self.client_id, "client_secret": self._secret}
        if not self.client_id or form != wanted:
            return _json(400, {"error": "invalid_client", "error_description": "Client authentication failed"})
        self._given += 1
        token = f"shpat_granted_{self._given:08d}"
        self._ends_at[token] = self._clock.now().timestamp() + _LIFETIME
        return _json(200, {"access_token": token, "scope": "read_products,write_inventory", "expires_in": _LIFETIME})

    def revoke(self) -> None:
        """Take back every token that was given."""
        self._ends_at.clear()


def _json(status: int, value: Mapping[str, object]) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(value).encode())
