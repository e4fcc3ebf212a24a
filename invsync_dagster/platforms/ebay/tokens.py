"""eBay's OAuth tokens: the seller's (refresh token grant) and the application's."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import quote, urlencode

from invsync_dagster.platforms.ebay import errors
from invsync_dagster.platforms.oauth import FORM_HEADERS, Grant, GrantTokens
from invsync_dagster.platforms.transport import Request

APPLICATION = {"grant_type": "client_credentials", "scope": "https://api.ebay.com/oauth/api_scope"}


def seller_grant(refresh_token: str) -> Mapping[str, str]:
    """Return the grant of a seller's consent; without `scope` the token has all that was consented to."""
    if not refresh_token:
        raise ValueError("the refresh token is empty")
    return {"grant_type": "refresh_token", "refresh_token": refresh_token}


def tokens_of(api_url: str, client_id: str, client_secret: str, grant: Mapping[str, str]) -> GrantTokens:
    """Return the tokens of a grant; one lives for two hours. Raises `ValueError` for an empty secret."""
    if not client_id or not client_secret:
        raise ValueError("the client id or its secret is empty")
    basic = base64.b64encode(f"{quote(client_id)}:{quote(client_secret)}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", **FORM_HEADERS}
    request = Request("POST", f"{api_url}/identity/v1/oauth2/token", headers, urlencode(grant).encode())
    secrets = (client_secret, basic, grant.get("refresh_token", ""), client_id)
    return GrantTokens(Grant(request, secrets, early=timedelta(minutes=5), refusal=errors.of_token))
