"""The bytes of our ERP contract, both ways: signatures, times, strict JSON, and stock change events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from invsync_dagster.events import StockCount

KEY_HEADER = "X-Invsync-Api-Key"
EVENT_HEADER = "X-Invsync-Event-Id"
TIMESTAMP_HEADER = "X-Invsync-Timestamp"
SIGNATURE_HEADER = "X-Invsync-Signature"

# Contract 2: a signature is good for five minutes around its timestamp, and so far may the two clocks differ.
WINDOW = timedelta(seconds=300)

CHANGE_TYPES = ("sale", "restock", "adjustment")
MOST_UNITS = 1_000_000_000
MOST_TEXT = 255
MOST_EVENTS = 500

# RFC 3339 with the offset that makes it one moment; `fromisoformat` alone would take naive times and dates as well.
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class WireError(Exception):
    """Bytes that aren't what the contract says; the message names the place and never holds the bytes."""


def sign(secret: str, timestamp: str, signed: bytes) -> str:
    """Return base64(HMAC-SHA256(secret, timestamp + "." + signed)); `signed` is the raw body, or of a GET its path and
    query."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + signed, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def format_time(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def load(body: bytes) -> Any:
    """Read strict JSON (UTF-8, no NaN, no key twice in one object). Raises `WireError`."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_without_twins, parse_constant=_no_constant)
    except RecursionError as error:
        raise WireError("JSON nested too deeply") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors; their texts quote the input
        raise WireError("not valid JSON in UTF-8") from error


def event(raw: Any, latest: datetime, where: str = "") -> StockCount:
    """Read one stock change event; unknown fields are left alone, so that the contract can grow.

    `latest` is the newest `occurred_at` that is believed: a later one would stand above every true count until its time
    has come. Raises `WireError` naming the field.
    """
    if not isinstance(raw, dict):
        raise WireError(f"{where or 'the body'} is not an object")
    prefix = f"{where}." if where else ""
    change_type = text(raw, "change_type", prefix)
    if change_type not in CHANGE_TYPES:
        raise WireError(f"{prefix}change_type is none of {', '.join(CHANGE_TYPES)}")
    occurred_at = moment(raw, "occurred_at", prefix)
    if occurred_at > latest:
        raise WireError(f"{prefix}occurred_at lies in the future")
    return StockCount(
        event_id=text(raw, "event_id", prefix),
        platform_sku=text(raw, "sku", prefix),
        quantity=whole_number(raw, "quantity", prefix),
        occurred_at=occurred_at,
        version=whole_number(raw, "version", prefix),
        change_type=change_type,
    )


def text(raw: Mapping[str, Any], name: str, prefix: str = "") -> str:
    """Return a text of 1 to 255 characters that can be stored and compared exactly. Raises `WireError`."""
    value = raw.get(name)
    if not isinstance(value, str):
        raise WireError(f"{prefix}{name} is {'missing' if value is None else 'not a text'}")
    if not 1 <= len(value) <= MOST_TEXT:
        raise WireError(f"{prefix}{name} must have 1 to {MOST_TEXT} characters")
    # JSON can carry lone surrogates and NUL, which no database takes, and spaces around a SKU that no eye sees.
    if _CONTROL.search(value) or any("\ud800" <= character <= "\udfff" for character in value):
        raise WireError(f"{prefix}{name} has control characters or half characters")
    if value != value.strip():
        raise WireError(f"{prefix}{name} has spaces around it")
    return value


def whole_number(raw: Mapping[str, Any], name: str, prefix: str = "") -> int:
    """Return an integer from 0 to 1,000,000,000; 3.0, "3" and true are none. Raises `WireError`."""
    value = raw.get(name)
    if type(value) is not int:
        raise WireError(f"{prefix}{name} is {'missing' if value is None else 'not a whole number'}")
    if not 0 <= value <= MOST_UNITS:
        raise WireError(f"{prefix}{name} must be from 0 to {MOST_UNITS}")
    return value


def moment(raw: Mapping[str, Any], name: str, prefix: str = "") -> datetime:
    """Return an RFC 3339 time in UTC. Raises `WireError`."""
    value = raw.get(name)
    if value is None:
        raise WireError(f"{prefix}{name} is missing")
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise WireError(f"{prefix}{name} is not an RFC 3339 time with its offset, as 2026-11-21T08:30:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise WireError(f"{prefix}{name} is no time that exists") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice in one object")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
