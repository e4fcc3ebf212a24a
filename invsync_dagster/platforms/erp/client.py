"""The client of an own ERP (docs/erp-contract.md 4 to 7): one signed call a method, its answer read row by row."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.events import Content
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.contract import (
    ChannelListing,
    LevelReference,
    Limits,
    ListingsPage,
    OrdersPage,
    Outcome,
    ReadAnswer,
    Reading,
    Result,
    WriteAnswer,
    WriteRow,
    outcomes_of_failure,
)
from invsync_dagster.platforms.erp import wire
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response, Transport

_log = logging.getLogger(__name__)

_ROW_OUTCOMES = {
    "stale": (Result.REJECTED, Recovery.SETTLE),
    "not_found": (Result.REJECTED, Recovery.REVIEW),
    "not_stocked": (Result.REJECTED, Recovery.REVIEW),
    "invalid": (Result.REJECTED, Recovery.REJECT),
    "busy": (Result.NOT_SENT, Recovery.RETRY),
}
"""Contract 4.2: what a row's status other than `ok` means; in each of them nothing was written."""

_ACKNOWLEDGED = Outcome(Result.ACKNOWLEDGED)
_TWICE = Outcome(Result.REJECTED, Recovery.REJECT, "duplicate_row", "the batch names this SKU more than once")
_MOST_MESSAGE = 300
_LONGEST_WAIT = 3600.0


class ErpPlatform:
    """A connected ERP channel: its `available_quantity` is what we write and read, its on-hand book is its own."""

    def __init__(
        self, base_url: str, api_key: str, signing_secret: str, transport: Transport, clock: Clock, limits: Limits
    ) -> None:
        self._base = base_url.rstrip("/") + "/invsync/v1"
        self._api_key = api_key
        self._signing_secret = signing_secret
        self._transport = transport
        self._clock = clock
        self._limits = limits

    @property
    def limits(self) -> Limits:
        return self._limits

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        """Set absolute available quantities; rows that name one SKU twice are rejected unsent, the rest is sent.

        Raises `ValueError` above `limits.write_batch`.
        """
        _within(len(rows), self._limits.write_batch)
        times = Counter(row.level.item_id for row in rows)
        sent = [row for row in rows if times[row.level.item_id] == 1]
        outcomes = dict(zip((row.level.item_id for row in sent), self._write(sent, key), strict=True)) if sent else {}
        return WriteAnswer(tuple(outcomes.get(row.level.item_id, _TWICE) for row in rows))

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read available quantities. Raises `PlatformError`, and `ValueError` above `limits.read_batch`."""
        _within(len(levels), self._limits.read_batch)
        if not levels:
            return ReadAnswer(())
        skus = list(dict.fromkeys(level.item_id for level in levels))
        document = self._document(self._post("/stock/query", {"skus": skus}), writing=False)
        items = _by_sku(_list_in(document, "items", writing=False), skus)
        missing = document.get("not_found", [])
        if not isinstance(missing, list):
            raise _malformed("not_found is not a list", writing=False)
        return ReadAnswer(tuple(_reading(level, items.get(level.item_id, []), missing) for level in levels))

    def listings(self, cursor: str = "") -> ListingsPage:
        """Return a page of the ERP's items. Raises `PlatformError`."""
        path = "/stock" + ("?" + urlencode({"cursor": cursor}) if cursor else "")
        document = self._document(self._get(path), writing=False)
        found = tuple(_listing(entry) for entry in _list_in(document, "items", writing=False))
        following = document.get("next_cursor")
        if not isinstance(following, str) or (following and following == cursor):
            raise _malformed("next_cursor is not a text that moves on", writing=False)
        return ListingsPage(found, following)

    def open_orders(self, cursor: str = "") -> OrdersPage:
        """List nothing: the ERP states counts, with what it has promised taken into account by itself."""
        return OrdersPage(Content())

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        """List the stock change events that the ERP recorded in [since, until). Raises `PlatformError`."""
        query = {"since": wire.format_time(since), "until": wire.format_time(until)}
        if cursor:
            query["cursor"] = cursor
        document = self._document(self._get("/changes?" + urlencode(query)), writing=False)
        latest = self._clock.now() + wire.WINDOW
        try:
            counts = tuple(
                wire.event(raw, latest, f"events[{i}]")
                for i, raw in enumerate(_list_in(document, "events", writing=False))
            )
        except wire.WireError as error:
            # Left out, a change would be lost for good: the window stays open until the ERP mends the event.
            raise PlatformError(Recovery.REJECT, "bad_event", str(error)) from error
        following = document.get("next_cursor")
        if not isinstance(following, str):
            raise _malformed("next_cursor is not a text", writing=False)
        if following and following == cursor:
            raise _malformed("next_cursor does not move on", writing=False)
        return OrdersPage(Content(counts=counts), following)

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        """Return nothing: an ERP tells counts, it has no orders for us."""
        return OrdersPage(Content())

    def make_ready(self) -> None:
        """Return at once: the key doesn't run out."""

    def check_credentials(self) -> None:
        """Ask the ERP whether it takes our key and signature. Raises `PlatformError`."""
        if self._document(self._get("/ping"), writing=False).get("ok") is not True:
            raise _malformed("ok is not true", writing=False)

    # --- one call ---------------------------------------------------------------------------------------------------

    def _write(self, rows: Sequence[WriteRow], key: str) -> tuple[Outcome, ...]:
        updates = [
            {"sku": row.level.item_id, "available_quantity": row.quantity}
            | ({} if row.expected is None else {"expected": row.expected})
            for row in rows
        ]
        try:
            document = self._document(self._post("/stock", {"updates": updates}, key), writing=True)
            results = _by_sku(_list_in(document, "results", writing=True), [row.level.item_id for row in rows])
        except PlatformError as error:
            return outcomes_of_failure(error, len(rows))
        return tuple(self._outcome(row, results.get(row.level.item_id, [])) for row in rows)

    def _outcome(self, row: WriteRow, results: Sequence[Mapping[str, Any]]) -> Outcome:
        if len(results) != 1:
            words = "the answer has no result for this SKU" if not results else "the answer names this SKU twice"
            return Outcome(Result.UNKNOWN, Recovery.SETTLE, "no_clear_result", words)
        status, confirmed = results[0].get("status"), results[0].get("available_quantity")
        if status == "ok":
            if type(confirmed) is int and confirmed == row.quantity:
                return _ACKNOWLEDGED
            return Outcome(Result.UNKNOWN, Recovery.SETTLE, "not_confirmed", "ok, but another available_quantity")
        if not isinstance(status, str) or status not in _ROW_OUTCOMES:
            return Outcome(Result.UNKNOWN, Recovery.SETTLE, "unknown_status", "a status that is not in the contract")
        result, recovery = _ROW_OUTCOMES[status]
        return Outcome(result, recovery, status, self._words(results[0].get("message")) or status.replace("_", " "))

    def _post(self, path: str, document: Mapping[str, Any], key: str | None = None) -> Request:
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        headers = self._headers(body) | {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return Request("POST", self._base + path, headers, body)

    def _get(self, path: str) -> Request:
        url = self._base + path
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return Request("GET", url, self._headers(target.encode()))

    def _headers(self, signed: bytes) -> dict[str, str]:
        timestamp = str(int(self._clock.now().timestamp()))
        return {
            "Accept": "application/json",
            wire.KEY_HEADER: self._api_key,
            wire.TIMESTAMP_HEADER: timestamp,
            wire.SIGNATURE_HEADER: wire.sign(self._signing_secret, timestamp, signed),
        }

    def _document(self, request: Request, *, writing: bool) -> dict[str, Any]:
        """Make the one call and return the object in its 200 answer. Raises `PlatformError`."""
        response = answer_to(request, self._transport, deadline=self._limits.request_deadline, writing=writing)
        if response.status != 200:
            raise self._failure(response, writing)
        try:
            document = wire.load(response.body)
        except wire.WireError as error:
            raise _malformed(str(error), writing) from error
        if not isinstance(document, dict):
            raise _malformed("the answer is not an object", writing)
        return document

    def _failure(self, response: Response, writing: bool) -> PlatformError:
        """Contract 7: the answers of a whole call that failed."""
        code, words = self._error_in(response)
        status, hint = response.status, _retry_after(response)
        words = words or f"HTTP {status}"
        if status == 429:
            return PlatformError(Recovery.WAIT, "throttled", words, hint)
        if status in (401, 403):
            return PlatformError(Recovery.REAUTHENTICATE, code or "unauthorized", words)
        if status == 503 and code == "unavailable":
            # Only the ERP's own error object proves that the work wasn't begun: a bare 503 may be a proxy's.
            return PlatformError(Recovery.RETRY, code, words, hint)
        if status == 409:
            # The key is being worked on, or was used for other rows: what it wrote is for a reading to tell.
            return PlatformError(Recovery.SETTLE if writing else Recovery.RETRY, code or "conflict", words)
        if 300 <= status < 500:
            return PlatformError(Recovery.REJECT, code or f"http_{status}", words)
        return PlatformError(Recovery.SETTLE if writing else Recovery.RETRY, code or f"http_{status}", words)

    def _error_in(self, response: Response) -> tuple[str, str]:
        """Return code and message of the contract's error object, ("", "") where there is none."""
        try:
            document = wire.load(response.body)
        except wire.WireError:
            return "", ""
        error = document.get("error") if isinstance(document, dict) else None
        if not isinstance(error, dict):
            return "", ""
        return self._words(error.get("code"))[:50], self._words(error.get("message"))

    def _words(self, value: Any) -> str:
        """Return the ERP's words, shortened, without the secrets that an echo of our request would hold."""
        if not isinstance(value, str):
            return ""
        words: str = value
        for secret in (self._api_key, self._signing_secret):
            words = words.replace(secret, "***")
        return words[:_MOST_MESSAGE]


def _reading(level: LevelReference, items: Sequence[Mapping[str, Any]], missing: Sequence[Any]) -> Reading:
    if not items and level.item_id in missing:
        problem = Outcome(Result.REJECTED, Recovery.REVIEW, "not_found", "the ERP does not know this SKU")
        return Reading(level, None, problem)
    quantity = items[0].get("available_quantity") if len(items) == 1 else None
    if type(quantity) is not int or quantity < 0:
        words = "the answer has not one item with a whole available_quantity for this SKU"
        return Reading(level, None, Outcome(Result.UNKNOWN, Recovery.RETRY, "no_clear_item", words))
    return Reading(level, quantity, platform_sku=level.item_id)


def _listing(entry: Any) -> ChannelListing:
    sku = entry.get("sku") if isinstance(entry, dict) else None
    if not isinstance(sku, str) or not sku:
        raise _malformed("an item has no sku", writing=False)
    quantity = entry.get("available_quantity")
    whole = type(quantity) is int and quantity >= 0
    return ChannelListing(
        level=LevelReference(sku),
        listing_id=sku,
        platform_sku=sku,
        title=str(entry.get("name") or ""),
        quantity=quantity if whole else None,
        problem="" if whole else "the ERP tells no whole available_quantity for it",
    )


def _list_in(document: Mapping[str, Any], name: str, *, writing: bool) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise _malformed(f"{name} is not a list", writing)
    return value


def _by_sku(entries: Sequence[Any], asked: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Group the entries of an answer by the SKU asked for; what nobody asked for is told in the log and left out."""
    found: dict[str, list[Mapping[str, Any]]] = {sku: [] for sku in asked}
    strangers = 0
    for entry in entries:
        sku = entry.get("sku") if isinstance(entry, dict) else None
        if isinstance(sku, str) and sku in found:
            found[sku].append(entry)
        else:
            strangers += 1
    if strangers:
        _log.warning("the ERP answered %d rows that were not asked for; they are left out", strangers)
    return found


def _retry_after(response: Response) -> float | None:
    """Return the seconds of a Retry-After; anything but whole seconds is no hint, more than an hour counts as an hour
    (contract 7), so that a slip at the ERP doesn't silence the channel for years."""
    value = response.headers.get("retry-after", "").strip()
    return min(float(value), _LONGEST_WAIT) if value.isascii() and value.isdigit() else None


def _within(rows: int, most: int) -> None:
    if rows > most:
        raise ValueError(f"{rows} rows in a call that takes at most {most}")


def _malformed(what: str, writing: bool) -> PlatformError:
    return PlatformError(Recovery.SETTLE if writing else Recovery.RETRY, "malformed_answer", what)
