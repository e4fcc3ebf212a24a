"""All levels of a shop by one bulk operation: what its states mean, and its file of JSON lines read piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.contract import (
    MAX_QUANTITY,
    BulkNumbers,
    BulkReading,
    BulkReadLimits,
    BulkState,
    LevelReference,
    Outcome,
    Result,
)
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery
from invsync_dagster.platforms.fields import mapping, objects, text
from invsync_dagster.platforms.transport import Request, Transport

# About 20,000 levels: what is in memory at a time.
PIECE_BYTES = 4 * 1024 * 1024

_RANGE = re.compile(r"bytes \d+-(\d+)/(\d+)")
_OPEN = frozenset({"CREATED", "RUNNING", "CANCELING"})


def limits_from(least: int) -> BulkReadLimits:
    """Return the limits for a channel whose full runs ask in bulk from `least` levels on.

    How long an operation takes isn't documented: minutes for 100,000 objects are usual, and those of many apps queue up.
    """
    return BulkReadLimits(least=least, check_every=10.0, patience=3_600.0, cost=10.0)


def outcome_of_start(data: Mapping[str, Any]) -> Outcome:
    """Return what the mutation `RunInBulk` says: ACCEPTED with the operation's gid, or refused, as while another runs."""
    payload = data.get("bulkOperationRunQuery")
    operation = payload.get("bulkOperation") if isinstance(payload, dict) else None
    if isinstance(operation, dict) and isinstance(operation.get("id"), str):
        return Outcome(Result.ACCEPTED, handle=operation["id"])
    refusals = payload.get("userErrors") if isinstance(payload, dict) else None
    first = refusals[0] if isinstance(refusals, list) and refusals and isinstance(refusals[0], dict) else {}
    code = str(first.get("code") or "no_operation").lower()
    return Outcome(Result.REJECTED, Recovery.WAIT, code, str(first.get("message") or "the answer shows no operation"))


def reading_of(data: Mapping[str, Any]) -> BulkReading:
    """Return where the operation that `BulkOperationState` asks for stands. Raises `NotUnderstoodError`."""
    operation = data.get("bulkOperation")
    if operation is None:
        return BulkReading(BulkState.LOST, message="Shopify doesn't know the operation any more")
    if not isinstance(operation, dict):
        raise NotUnderstoodError("bulkOperation is no object")
    status = text(operation, "status")
    if status in _OPEN:
        return BulkReading(BulkState.OPEN)
    if status == "COMPLETED":
        return BulkReading(BulkState.DONE, operation.get("url") or "")
    message = f"the operation is {status} {operation.get('errorCode') or ''}".rstrip()
    address = operation.get("partialDataUrl") or ""
    return BulkReading(BulkState.DONE if address else BulkState.LOST, address, message)


def fetch_piece(transport: Transport, address: str, cursor: str, deadline: float) -> BulkNumbers:
    """Fetch the lines from byte `cursor` on; the storage that has the file gets no token. Raises `PlatformError`.

    Google's storage gives pieces (`Range`). Whoever ignores that sends the whole file, which is then the only piece.
    """
    start = int(cursor or 0)
    asked = {"Range": f"bytes={start}-{start + PIECE_BYTES - 1}", "Accept-Encoding": "identity"}
    response = answer_to(Request("GET", address, asked), transport, deadline=deadline, writing=False)
    if response.status not in (200, 206):
        words = f"the file of the bulk operation is answered with HTTP {response.status}"
        raise PlatformError(Recovery.RETRY, "bulk_file", words)
    body, following = response.body, ""
    found = _RANGE.fullmatch(response.headers.get("content-range", "")) if response.status == 206 else None
    if found is not None and int(found[1]) + 1 < int(found[2]):
        whole = body.rfind(b"\n") + 1
        body, following = body[:whole], str(start + whole)
        if not whole:
            raise PlatformError(Recovery.RETRY, "malformed_answer", "a line of the bulk operation's file is too long")
    try:
        return BulkNumbers(dict(filter(None, map(_number, body.splitlines()))), following)
    except (NotUnderstoodError, ValueError, RecursionError):
        words = "a line of the bulk operation's file is not what we asked for"
        raise PlatformError(Recovery.RETRY, "malformed_answer", words) from None


def _number(line: bytes) -> tuple[LevelReference, int] | None:
    """Return a line's level with its number; None for a line of an item, and for what needs a reading of its own."""
    node = json.loads(line)
    if not isinstance(node, dict):
        raise NotUnderstoodError("a line is no object")
    if "location" not in node:
        return None
    item = mapping(node, "item")
    level = LevelReference(text(item, "id"), text(mapping(node, "location"), "id"))
    for entry in objects(node, "quantities"):
        quantity = entry.get("quantity")
        if entry.get("name") == "available" and type(quantity) is int and abs(quantity) <= MAX_QUANTITY:
            return (level, quantity) if item.get("tracked") is True else None
    return None
