"""The access token of a store: a static one of an older custom app, or one that the client-credentials grant gives.

A grant's token lives for a day and is asked for anew; there is no refresh token, so nothing outlives the process
(shopify.dev, client credentials grant). The grant is for apps of one's own organisation on stores that it owns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlencode

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.errors import PlatformError, Recovery, retry_after_seconds, told
from invsync_dagster.platforms.fields import json_in
from invsync_dagster.platforms.oauth import FORM_HEADERS, Grant, GrantTokens
from invsync_dagster.platforms.transport import Request, Response, Transport

# A token lives for 86,399 s.
_EARLY = timedelta(hours=1)
_LONGEST = 10 * 86_400.0


class ClientCredentials:
    """The `Tokens` that an app's own credentials are exchanged for. Its representation holds no secret; safe for threads."""

    def __init__(self, shop_url: str, client_id: str, client_secret: str, transport: Transport, clock: Clock) -> None:
        if not client_id or not client_secret:
            raise ValueError("the client id or the client secret is empty")
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        request = Request("POST", f"{shop_url}/admin/oauth/access_token", FORM_HEADERS, urlencode(form).encode())
        self._tokens = GrantTokens(Grant(request, (client_secret, client_id), _EARLY, _refusal, _LONGEST))
        self._transport = transport
        self._clock = clock

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return self._tokens.secrets

    def token(self) -> str:
        """Return a token that is good now. Raises `PlatformError`; nothing else was sent then."""
        return self._tokens.token(self._transport, self._clock.now())

    def refused(self, token: str) -> bool:
        """Forget a token that was refused; return whether it was old, so that a new one may help."""
        return self._tokens.refused(token, self._clock.now())


def _refusal(response: Response, secrets: Sequence[str]) -> PlatformError:
    status = response.status
    if status == 200:
        return PlatformError(Recovery.RETRY, "malformed_answer", "the answer holds no token")
    if status == 429:
        wait = retry_after_seconds(response.headers.get("retry-after"))
        return PlatformError(Recovery.WAIT, "throttled", "too many requests for a token", wait)
    if status >= 500:
        return PlatformError(Recovery.RETRY, "server_error", f"Shopify gave no token: HTTP {status}")
    fields = json_in(response.body)
    said = fields.get("error_description") or fields.get("error") if isinstance(fields, Mapping) else None
    reason = told(said, secrets) if isinstance(said, str) and said else f"HTTP {status}"
    words = f"Shopify gives this app no token for this store ({reason}): look at client id, secret and installation"
    return PlatformError(Recovery.REAUTHENTICATE, "no_token", words)
