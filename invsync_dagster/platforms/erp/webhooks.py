"""The ERP's webhooks (docs/erp-contract.md 3): who signed them, and the counts that they state."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from invsync_dagster.events import Content
from invsync_dagster.platforms.erp import wire
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.fields import Tree, only

TOPIC = "stock/changed"

_EVENT: Tree = {
    "event_id": None,
    "sku": None,
    "change_type": None,
    "quantity": None,
    "occurred_at": None,
    "version": None,
}


def needed(payload: Any) -> Any:
    """Return what `ErpWebhookDoor.parse` reads of a body."""
    return only(payload, {**_EVENT, "events": _EVENT})


class ErpWebhookDoor:
    """A `WebhookDoor` of one ERP channel; a second secret is valid while the first is being rotated."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take one or two secrets. Raises `ValueError` if one is empty or there is none."""
        if not secrets or not all(secrets):
            raise ValueError("an ERP channel needs its webhook secret")
        self._secrets = tuple(secrets)

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Check the signature of timestamp and raw body, in constant time, and that it is at most 300 s old or early.

        Raises `SignatureError`.
        """
        timestamp = headers.get(wire.TIMESTAMP_HEADER.lower(), "")
        given = headers.get(wire.SIGNATURE_HEADER.lower(), "")
        if not timestamp or not given:
            raise SignatureError("the timestamp or the signature is missing")
        signed_at = _signed_at(timestamp)
        if abs(now - signed_at) > wire.WINDOW:
            raise SignatureError("the timestamp is more than 300 s away from our clock")
        # Every secret is tried, whichever fits: the time taken tells nothing.
        signatures = [wire.sign(secret, timestamp, body).encode() for secret in self._secrets]
        fits = [hmac.compare_digest(signature, given.encode()) for signature in signatures]
        if not any(fits):
            raise SignatureError("the signature does not fit the body")

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return the one topic that there is: the kind of each change stands in its event."""
        return TOPIC

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        """Read one event, or a list of 1 to 500 under `events`. Raises `NotUnderstoodError` naming the field."""
        try:
            latest = _signed_at(headers.get(wire.TIMESTAMP_HEADER.lower(), "")) + wire.WINDOW
            document = wire.load(body)
            if not isinstance(document, dict) or "events" not in document:
                return Content(counts=(wire.event(document, latest),))
            events = document["events"]
            if not isinstance(events, list) or not 1 <= len(events) <= wire.MOST_EVENTS:
                raise wire.WireError(f"events must be a list of 1 to {wire.MOST_EVENTS} events")
            return Content(counts=tuple(wire.event(raw, latest, f"events[{i}]") for i, raw in enumerate(events)))
        except (wire.WireError, SignatureError) as error:
            raise NotUnderstoodError(str(error)) from error


def _signed_at(timestamp: str) -> datetime:
    # At most 11 digits: `int` of a longer text may be no date, and isdigit alone takes digits of other scripts.
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 11):
        raise SignatureError("the timestamp is not in unix seconds")
    return datetime.fromtimestamp(int(timestamp), UTC)
