"""Webhooks that a stand-in has made and nobody has fetched yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook on its way out, signed; header names as the platform writes them."""

    headers: dict[str, str]
    body: bytes


def dump_deliveries(waiting: Sequence[Delivery]) -> list[dict[str, Any]]:
    """Return deliveries as JSON values."""
    return [{"headers": each.headers, "body": each.body.decode()} for each in waiting]


def load_deliveries(values: Sequence[dict[str, Any]]) -> list[Delivery]:
    """Return the deliveries that `dump_deliveries` wrote down."""
    return [Delivery(each["headers"], each["body"].encode()) for each in values]
