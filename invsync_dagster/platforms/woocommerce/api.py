"""One call to a store's REST API: signed, given as much time as its host is worth, and understood or refused."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.calls import of_transport
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response, Transport, TransportError
from invsync_dagster.platforms.woocommerce import errors
from invsync_dagster.platforms.woocommerce.pace import Pace
from invsync_dagster.platforms.woocommerce.signing import Signer


class Api:
    """The API of one store. Every call raises `PlatformError` for all but what was asked for.

    `webhook_secret` goes out with webhooks that we make, and is never quoted.
    """

    def __init__(self, store_url: str, signer: Signer, transport: Transport, clock: Clock, webhook_secret: str) -> None:
        self._store = store_url
        self._base = f"{store_url}/wp-json/wc/v3"
        self._webhook_secret = webhook_secret
        self._signer = signer
        self._transport = transport
        self._clock = clock

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return (*self._signer.secrets, self._webhook_secret)

    def listed(
        self, path: str, query: Mapping[str, str], pace: Pace, rows: int
    ) -> tuple[list[Mapping[str, Any]], int | None]:
        """Return the entries of a page and how many there are in all, None where the answer doesn't say.

        `rows`: how many the call was for, 0 where that says nothing about the host's pace.
        """
        response = self._send("GET", path, query, b"", pace, rows)
        value = errors.json_of(response, _is_list, store=self._store, writing=False, secrets=self.secrets)
        total = response.headers.get("x-wp-total", "")
        return value, int(total) if total.isascii() and total.isdigit() else None

    def product_setting(self, name: str, pace: Pace) -> str | None:
        """Return one of the store's settings of products, None if this key's user may not see them."""
        try:
            response = self._send("GET", f"/settings/products/{name}", {"_fields": "id,value"}, b"", pace, 0)
            value = errors.json_of(response, _is_setting, store=self._store, writing=False, secrets=self.secrets)
        except PlatformError as error:
            if error.recovery is Recovery.REAUTHENTICATE:
                return None
            raise
        return str(value["value"])

    def posted(
        self, path: str, document: Mapping[str, Any], expected: Callable[[Any], bool], pace: Pace, rows: int
    ) -> Any:
        """Return the answer to a document, of the form that `expected` knows."""
        body = json.dumps(document, separators=(",", ":")).encode()
        response = self._send("POST", path, {}, body, pace, rows)
        if response.status == 413:
            pace.refused()
        return errors.json_of(response, expected, store=self._store, writing=True, secrets=self.secrets)

    def _send(self, method: str, path: str, query: Mapping[str, str], body: bytes, pace: Pace, rows: int) -> Response:
        began = self._clock.now()
        if method == "GET":
            # A host's page cache that answers for the REST API tells the numbers of long ago, with no word about it, and
            # whatever Cache-Control says. It has no copy of an address that was never asked for.
            # WooCommerce's own cache of answers (RestApiCache, 10.5) would keep each for an hour: `_skip_cache` has it keep none.
            query = {**query, "nocache": secrets.token_hex(8), "_skip_cache": "1"}
        # Taken before the call: another thread may find out meanwhile.
        by_header = self._base.startswith("https:") and not self._signer.in_query
        response = self._answer(method, path, query, body, pace, pace.deadline)
        if by_header and errors.knows_no_caller(response):
            # WooCommerce takes OAuth over TLS as well (class-wc-rest-authentication.php): in the query it arrives.
            self._signer.in_query = True
            left = pace.deadline - (self._clock.now() - began).total_seconds()
            response = self._answer(method, path, query, body, pace, max(1.0, left))
        if response.status == 401:
            # Not the header, then: the next call begins with it again.
            self._signer.in_query = False
        if response.status in (502, 504):
            pace.lost()
        elif rows:
            pace.answered(rows, (self._clock.now() - began).total_seconds())
        return response

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, pace: Pace, deadline: float
    ) -> Response:
        url, headers = self._signer.signed(method, f"{self._base}{path}", query, self._clock.now())
        headers |= {"Accept": "application/json", "Cache-Control": "no-cache"}
        if body:
            headers["Content-Type"] = "application/json"
        try:
            return self._transport.send(Request(method, url, headers, body), deadline=deadline)
        except TransportError as error:
            if error.sent:
                pace.lost()
            raise of_transport(error, writing=method == "POST") from error


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, Mapping) and "id" in entry for entry in value)


def _is_setting(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value
