"""The bulk lane: quantities of many SKUs as one JSON_LISTINGS_FEED, and its processing report."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from invsync_dagster.platforms.amazon import errors
from invsync_dagster.platforms.amazon.listings import stock_of
from invsync_dagster.platforms.amazon.rows import patch_of, refusal_of
from invsync_dagster.platforms.amazon.settings import BULK, AmazonSettings
from invsync_dagster.platforms.amazon.signed import fetched
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.contract import (
    BulkReport,
    BulkState,
    LevelReference,
    Outcome,
    Result,
    WriteRow,
    outcomes_of_failure,
)
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery, told
from invsync_dagster.platforms.fields import text
from invsync_dagster.platforms.oauth import GrantTokens
from invsync_dagster.platforms.transport import Request, Transport

_FEEDS = "/feeds/2021-06-30"
_CONTENT_TYPE = "application/json; charset=UTF-8"
# Tuples where an answer's own value is looked up: it may be what no set can hold.
_STATES = ("IN_QUEUE", "IN_PROGRESS", "DONE", "CANCELLED", "FATAL")
# A report on 25,000 messages that all failed is about 10 MB.
_MOST_BYTES = 100_000_000


class Call(Protocol):
    """One call to the API with the account's token. Raises `PlatformError`."""

    def __call__(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        expected: Callable[[Any], bool],
        document: Mapping[str, Any] | None = None,
    ) -> Any: ...


class Feeds:
    """The feeds of one account."""

    def __init__(
        self, settings: AmazonSettings, call: Call, tokens: GrantTokens, transport: Transport, deadline: float
    ) -> None:
        self._settings = settings
        self._call = call
        self._tokens = tokens
        self._transport = transport
        self._deadline = deadline

    def submit(self, rows: Mapping[int, WriteRow]) -> Outcome:
        """Make a document, upload it, and hand it in; only the last of the three can have an effect.

        Raises `ValueError` above the most rows, for a row that may not be sent, and for a SKU named twice.
        """
        if len(rows) > BULK.rows:
            raise ValueError(f"at most {BULK.rows} rows a feed, not {len(rows)}")
        if any(refusal_of(row) for row in rows.values()) or len({row.level for row in rows.values()}) < len(rows):
            raise ValueError("a row of a feed has no SKU, no quantity, or another row's SKU")
        try:
            made = self._call("POST", f"{_FEEDS}/documents", {}, _is_document, {"contentType": _CONTENT_TYPE})
            self._upload(made["url"], self._document(rows))
            feed = {
                "feedType": "JSON_LISTINGS_FEED",
                "marketplaceIds": [self._settings.marketplaces[0]],
                "inputFeedDocumentId": made["feedDocumentId"],
            }
            answer = self._call("POST", f"{_FEEDS}/feeds", {}, _is_feed_id, feed)
        except PlatformError as error:
            return outcomes_of_failure(error, 1)[0]
        return Outcome(Result.ACCEPTED, handle=answer["feedId"], check_after=BULK.check_every)

    def _document(self, rows: Mapping[int, WriteRow]) -> bytes:
        settings = self._settings
        messages = [
            {
                "messageId": number,
                "sku": row.level.item_id,
                "operationType": "PATCH",
                **patch_of(settings.product_type, row.quantity),
            }
            for number, row in rows.items()
        ]
        # The report then shows the items as they are after it: what 1,250 readings would show of 25,000.
        wanted = {"includedData": ["fulfillmentAvailability"], "apiVersion": "2021-08-01"}
        header = {"sellerId": settings.seller_id, "version": "2.0", "issueLocale": "en_US", "report": wanted}
        # Documents above 10 MiB take long: letters beyond ASCII stay one or two bytes.
        return json.dumps({"header": header, "messages": messages}, separators=(",", ":"), ensure_ascii=False).encode()

    def _upload(self, url: str, body: bytes) -> None:
        # The address is signed for five minutes: our token has no business there.
        response = answer_to(
            Request("PUT", url, {"Content-Type": _CONTENT_TYPE}, body),
            self._transport,
            deadline=self._deadline,
            writing=False,
        )
        if response.status != 200:
            words = f"the feed's document could not be uploaded (HTTP {response.status})"
            raise PlatformError(Recovery.RETRY, "upload_failed", words)

    def submitted(self, handle: str) -> BulkReport:
        """Ask for a feed and, where it is done, for its report. Raises `PlatformError`."""
        feed = self._call("GET", f"{_FEEDS}/feeds/{handle}", {}, _is_feed)
        status = feed["processingStatus"]
        if status in ("IN_QUEUE", "IN_PROGRESS"):
            return BulkReport(BulkState.OPEN)
        if status != "DONE":
            # Of a FATAL feed some, none or all messages were applied; a CANCELLED one was never begun, but why is unknown.
            return BulkReport(BulkState.LOST, message=f"Amazon says that the feed is {status}")
        number = feed.get("resultFeedDocumentId")
        if not isinstance(number, str) or not number:
            return BulkReport(BulkState.LOST, message="the feed is done, and Amazon has no report on it")
        return self._report(self._call("GET", f"{_FEEDS}/documents/{number}", {}, _is_document))

    def _report(self, document: Mapping[str, Any]) -> BulkReport:
        body = fetched(self._transport, document["url"], self._deadline)
        report = _unpacked(body, document.get("compressionAlgorithm"))
        issues = report.get("issues", [])
        if not isinstance(issues, list) or not all(isinstance(issue, Mapping) for issue in issues):
            raise _malformed()
        failed: dict[int, list[Mapping[str, Any]]] = {}
        for issue in issues:
            if issue.get("severity") != "ERROR":
                continue
            number = issue.get("messageId")
            if type(number) is not int:
                words = told(str(issue.get("message", "")), self._tokens.secrets)
                return BulkReport(BulkState.LOST, message=f"Amazon refuses the feed: {words}")
            failed.setdefault(number, []).append(issue)
        secrets = self._tokens.secrets
        outcomes = {number: errors.outcome_of_issues(listed, secrets) for number, listed in failed.items()}
        return BulkReport(BulkState.DONE, outcomes, shown=_shown(report.get("items")))


def _shown(items: Any) -> dict[LevelReference, int]:
    """Return the numbers in a report's items; what can't be understood is left out, and read like any other level."""
    shown = {}
    for item in items if isinstance(items, list) else ():
        try:
            sku = text(item, "sku") if isinstance(item, Mapping) else ""
            quantity, _ = stock_of(item) if sku else (None, "")
        except NotUnderstoodError:
            continue
        if quantity is not None:
            shown[LevelReference(sku)] = quantity
    return shown


def _unpacked(body: bytes, algorithm: Any) -> Mapping[str, Any]:
    try:
        if algorithm == "GZIP" and body[:2] == b"\x1f\x8b":
            inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            body = inflater.decompress(body, _MOST_BYTES)
        report = json.loads(body)
    except (ValueError, RecursionError, zlib.error):
        raise _malformed() from None
    if not isinstance(report, Mapping) or not isinstance(report.get("summary"), Mapping):
        raise _malformed()
    return report


def _malformed() -> PlatformError:
    return PlatformError(Recovery.RETRY, "malformed_answer", "the feed's report is not what Amazon promises")


def _is_document(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("feedDocumentId")) and _is_text(value.get("url"))


def _is_feed_id(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("feedId")) and value["feedId"].isalnum()


def _is_feed(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("processingStatus") in _STATES


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
