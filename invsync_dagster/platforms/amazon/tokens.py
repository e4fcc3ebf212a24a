"""Login with Amazon: the access tokens of one seller's grant, and those of the app itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlencode

from invsync_dagster.platforms.amazon import errors
from invsync_dagster.platforms.oauth import FORM_HEADERS, Grant, GrantTokens
from invsync_dagster.platforms.transport import Request


def seller_tokens(url: str, client_id: str, client_secret: str, refresh_token: str) -> GrantTokens:
    """Return the tokens of a seller's grant; one lives for an hour. Raises `ValueError` for an empty secret."""
    if not client_id or not client_secret or not refresh_token:
        raise ValueError("the client id, its secret or the refresh token is empty")
    grant = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _tokens(url, client_id, client_secret, grant, (client_secret, refresh_token, client_id))


def app_tokens(url: str, client_id: str, client_secret: str) -> GrantTokens:
    """Return the tokens for what takes no seller's grant: the destinations of notifications."""
    grant = {"grant_type": "client_credentials", "scope": "sellingpartnerapi::notifications"}
    return _tokens(url, client_id, client_secret, grant, (client_secret, client_id))


def _tokens(
    url: str, client_id: str, client_secret: str, grant: Mapping[str, str], secrets: Sequence[str]
) -> GrantTokens:
    form = {**grant, "client_id": client_id, "client_secret": client_secret}
    request = Request("POST", url, FORM_HEADERS, urlencode(form).encode())
    return GrantTokens(Grant(request, secrets, early=timedelta(minutes=5), refusal=errors.of_token))
