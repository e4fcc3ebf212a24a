"""The webhook door of Alibaba.com: a shut one, as no contract of an order webhook is known; orders are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from invsync_dagster.events import Content
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError

_WORDS = "Alibaba.com sends no webhooks that could be proved: its orders are asked for"


def needed(payload: Any) -> Any:
    """Return what `ShutDoor.parse` reads of a body: nothing."""
    return {}


class ShutDoor:
    """Takes nothing in."""

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Refuse. Raises `SignatureError`."""
        raise SignatureError(_WORDS)

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return no topic: nothing passes `verify`."""
        return ""

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        """Refuse. Raises `NotUnderstoodError`."""
        raise NotUnderstoodError(_WORDS)
