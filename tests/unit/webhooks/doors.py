"""A channel's door for tests: HMAC over the raw body, the topic in a header."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from invsync_dagster.events import Content
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError

SECRET = b"the shop's secret"


class Door:
    """Understands no webhook's content, only who signed it."""

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        if not hmac.compare_digest(sign(body), headers.get("x-test-signature", "")):
            raise SignatureError("the signature does not fit the body")

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        if "x-test-topic" not in headers:
            raise NotUnderstoodError("the topic is missing")
        return headers["x-test-topic"]

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        raise NotUnderstoodError("nothing is understood here")


def sign(body: bytes) -> str:
    return base64.b64encode(hmac.new(SECRET, body, hashlib.sha256).digest()).decode()


def signed(body: bytes) -> dict[str, str]:
    return {"Content-Type": "application/json", "X-Test-Signature": sign(body), "X-Test-Topic": "orders/create"}
