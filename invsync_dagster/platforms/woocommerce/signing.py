"""Proof of who calls: HTTP Basic over TLS, and OAuth 1.0a with HMAC-SHA256 where there is no TLS (loopback) or no header."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlencode, urlsplit


class Signer:
    """Signs requests with one consumer key. Its representation holds neither key nor secret.

    `in_query`: sign the query over TLS too, for a host that drops the `Authorization` header.
    """

    def __init__(self, consumer_key: str, consumer_secret: str) -> None:
        if not consumer_key or not consumer_secret:
            raise ValueError("the consumer key or its secret is empty")
        self._key = consumer_key
        self._secret = consumer_secret
        self._basic = base64.b64encode(f"{consumer_key}:{consumer_secret}".encode()).decode()
        self.in_query = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return (self._secret, self._key, self._basic)

    def signed(self, method: str, url: str, query: Mapping[str, str], now: datetime) -> tuple[str, dict[str, str]]:
        """Return the whole address and the headers of a request; OAuth's signature is part of the address, so each
        page is signed anew (the `Link` header of an answer repeats the old signature)."""
        if urlsplit(url).scheme == "https" and not self.in_query:
            return _address(url, query), {"Authorization": f"Basic {self._basic}"}
        asked = {
            **query,
            "oauth_consumer_key": self._key,
            "oauth_timestamp": str(int(now.timestamp())),
            # A store refuses a nonce that it has seen within 15 minutes, from whichever of our processes.
            "oauth_nonce": secrets.token_hex(16),
            "oauth_signature_method": "HMAC-SHA256",
        }
        return _address(url, {**asked, "oauth_signature": signature(self._secret, method, url, asked)}), {}


def signature(consumer_secret: str, method: str, url: str, query: Mapping[str, str]) -> str:
    """Return the OAuth 1.0a signature of a request without a token (RFC 5849, 3.4); the body isn't signed."""
    pairs = sorted((_encoded(name), _encoded(value)) for name, value in query.items())
    normalized = "&".join(f"{name}={value}" for name, value in pairs)
    base = "&".join((method.upper(), _encoded(url), _encoded(normalized)))
    digest = hmac.digest(f"{_encoded(consumer_secret)}&".encode(), base.encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


def _address(url: str, query: Mapping[str, str]) -> str:
    return f"{url}?{urlencode(query, quote_via=quote)}" if query else url


def _encoded(text: str) -> str:
    return quote(text, safe="-._~")
