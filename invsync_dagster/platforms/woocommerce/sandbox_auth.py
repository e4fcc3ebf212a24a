"""How the stand-in store proves its callers: Basic over TLS, OAuth 1.0a beside it, as WooCommerce's server does."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import Request
from invsync_dagster.platforms.woocommerce.sandbox_answers import RefusedError

_CLOCK_SECONDS = 900
_NEEDED = ("oauth_consumer_key", "oauth_timestamp", "oauth_nonce", "oauth_signature", "oauth_signature_method")


class KeyCheck:
    """Checks requests against the one key of the store, and remembers nonces for as long as timestamps are taken.

    `header_dropped`: the host passes no `Authorization` header on.
    """

    def __init__(self, consumer_key: str, consumer_secret: str, clock: Clock, *, header_dropped: bool = False) -> None:
        self._key = consumer_key
        self._secret = consumer_secret
        self._clock = clock
        self._header_dropped = header_dropped
        self._nonces: dict[str, float] = {}

    def check(self, request: Request, query: dict[str, str]) -> None:
        """Return if a request is the key's, and take OAuth's parameters out of `query`. Raises `RefusedError`."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        parts = urlsplit(request.url)
        given = {name: query.pop(name) for name in list(query) if name.startswith("oauth_")}
        problem = ""
        if parts.scheme == "https" and not self._header_dropped:
            kind, _, proof = headers.get("authorization", "").partition(" ")
            key, _, secret = base64.b64decode(proof).decode().partition(":") if kind == "Basic" else ("", "", "")
            if key == self._key:
                if hmac.compare_digest(secret.encode(), self._secret.encode()):
                    return
                problem = "Consumer secret is invalid."
        if given:
            problem = self._oauth_problem(request.method, f"{parts.scheme}://{parts.netloc}{parts.path}", query, given)
        elif not problem:
            # Without a key that it knows the caller is anybody, who may see nothing.
            what, words = ("view", "list resources") if request.method == "GET" else ("batch", "change this resource")
            raise RefusedError(401, f"woocommerce_rest_cannot_{what}", f"Sorry, you cannot {words}.")
        if problem:
            raise RefusedError(401, "woocommerce_rest_authentication_error", problem)

    def _oauth_problem(self, method: str, url: str, query: Mapping[str, str], given: Mapping[str, str]) -> str:
        if missing := [name for name in _NEEDED if not given.get(name)]:
            return f"Missing OAuth parameter {missing[0]}."
        if not hmac.compare_digest(given["oauth_consumer_key"].encode(), self._key.encode()):
            return "Consumer key is invalid."
        signed = {**query, **{name: value for name, value in given.items() if name != "oauth_signature"}}
        right = self._signature(method, url, signed).encode()
        known = given["oauth_signature_method"] == "HMAC-SHA256"
        if not known or not hmac.compare_digest(given["oauth_signature"].encode(), right):
            return "Invalid signature - provided signature does not match."
        now = self._clock.now().timestamp()
        if not given["oauth_timestamp"].isdigit() or abs(int(given["oauth_timestamp"]) - now) > _CLOCK_SECONDS:
            return "Invalid timestamp."
        self._nonces = {nonce: at for nonce, at in self._nonces.items() if now - at < _CLOCK_SECONDS}
        if given["oauth_nonce"] in self._nonces:
            return "Invalid nonce - nonce has already been used."
        self._nonces[given["oauth_nonce"]] = now
        return ""

    def _signature(self, method: str, url: str, query: Mapping[str, str]) -> str:
        """Sign as the server does: names and values encoded, joined by an encoded = and &."""
        pairs = {quote(unquote(name), safe="~"): quote(value, safe="~") for name, value in query.items()}
        joined = "%26".join(f"{name.replace('%', '%25')}%3D{pairs[name].replace('%', '%25')}" for name in sorted(pairs))
        base = f"{method}&{quote(url, safe='~')}&{joined}"
        return base64.b64encode(hmac.digest(f"{self._secret}&".encode(), base.encode(), hashlib.sha256)).decode()
