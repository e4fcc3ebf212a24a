"""The stand-in account's feeds: documents behind signed addresses, processing in its own time, gzipped reports."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.amazon.sandbox_books import Books, told
from invsync_dagster.platforms.amazon.sandbox_gate import RefusedError
from invsync_dagster.platforms.amazon.sandbox_views import item_view
from invsync_dagster.platforms.transport import Request, Response

_MOST_MESSAGES = 25_000
# An address is good for five minutes.
_SIGNED_SECONDS = 300
_CONTENT_TYPE = "application/json; charset=UTF-8"


@dataclass
class Document:
    """A document; `body` as text, None until it is uploaded."""

    number: str
    ends: str
    body: str | None = None


@dataclass
class Feed:
    """A feed; `end` is how it ends when it is due: DONE, FATAL, CANCELLED."""

    number: str
    document: str
    marketplaces: list[str]
    created: str
    due: str
    status: str = "IN_QUEUE"
    report: str = ""
    end: str = "DONE"


class FeedDesk:
    """Takes feeds, and works on them `seconds` later. `end` says how those handed in from now on end, `shows_items` whether
    their reports show the items where that is asked for."""

    def __init__(self, books: Books, seller_id: str, clock: Clock, seconds: float) -> None:
        self.seconds = seconds
        self.end = "DONE"
        self.shows_items = True
        self.feeds: dict[str, Feed] = {}
        self._documents: dict[str, Document] = {}
        self._books = books
        self._seller = seller_id
        self._clock = clock

    def work(self) -> list[Feed]:
        """End the feeds that are due, and return them."""
        due = [
            each for each in self.feeds.values() if each.status == "IN_QUEUE" and each.due <= told(self._clock.now())
        ]
        for feed in due:
            feed.status = feed.end
            if feed.end == "DONE":
                feed.report = self._new_document(json.dumps(self._worked(feed))).number
            elif feed.end == "FATAL":
                # Some of its messages were done.
                for message in self._messages(feed)[::2]:
                    self._do(message)
        return due

    def make_document(self, request: Request, query: Mapping[str, str]) -> tuple[int, Any]:
        """Answer createFeedDocument."""
        if _object(request).get("contentType") != _CONTENT_TYPE:
            raise RefusedError(400, "InvalidInput", "contentType is invalid.")
        document = self._new_document(None)
        return 201, {"feedDocumentId": document.number, "url": _address(request, document)}

    def signed(self, request: Request) -> Response:
        """Answer an upload or a download at a signed address, which takes no token."""
        document = self._documents.get(urlsplit(request.url).path.rpartition("/")[2])
        headers = {name.lower(): value for name, value in request.headers.items()}
        wrong = request.method == "PUT" and headers.get("content-type") != _CONTENT_TYPE
        if document is None or document.ends < told(self._clock.now()) or wrong or "x-amz-access-token" in headers:
            body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            return Response(403, {"content-type": "application/xml"}, body)
        if request.method == "PUT":
            document.body = request.body.decode()
            return Response(200)
        return Response(
            200, {"content-type": "application/octet-stream"}, gzip.compress((document.body or "").encode(), mtime=0)
        )

    def make_feed(self, request: Request, query: Mapping[str, str]) -> tuple[int, Any]:
        """Answer createFeed."""
        given = _object(request)
        document = self._documents.get(str(given.get("inputFeedDocumentId")))
        if given.get("feedType") != "JSON_LISTINGS_FEED" or not given.get("marketplaceIds"):
            raise RefusedError(400, "InvalidInput", "feedType or marketplaceIds is invalid.")
        if document is None or document.body is None:
            raise RefusedError(400, "InvalidInput", "The feed document is not there.")
        now = self._clock.now()
        number = str(50_000 + len(self.feeds))
        due = told(now + timedelta(seconds=self.seconds))
        self.feeds[number] = Feed(number, document.number, given["marketplaceIds"], _second(now), due, end=self.end)
        return 202, {"feedId": number}

    def feed(self, request: Request, query: Mapping[str, str], number: str) -> tuple[int, Any]:
        """Answer getFeed."""
        feed = self.feeds.get(number)
        if feed is None:
            raise RefusedError(404, "NotFound", "The feed was not found.")
        view = {"feedId": number, "feedType": "JSON_LISTINGS_FEED", "marketplaceIds": feed.marketplaces}
        view |= {"createdTime": feed.created, "processingStatus": feed.status}
        return 200, view | ({"resultFeedDocumentId": feed.report} if feed.report else {})

    def document(self, request: Request, query: Mapping[str, str], number: str) -> tuple[int, Any]:
        """Answer getFeedDocument with an address that is good from now on."""
        document = self._documents.get(number)
        if document is None:
            raise RefusedError(404, "NotFound", "The document was not found.")
        document.ends = told(self._clock.now() + timedelta(seconds=_SIGNED_SECONDS))
        return 200, {"feedDocumentId": number, "url": _address(request, document), "compressionAlgorithm": "GZIP"}

    def dump(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        documents = [asdict(each) for each in self._documents.values()]
        return {"feeds": [asdict(each) for each in self.feeds.values()], "documents": documents}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.feeds = {entry["number"]: Feed(**entry) for entry in state["feeds"]}
        self._documents = {entry["number"]: Document(**entry) for entry in state["documents"]}

    def _new_document(self, body: str | None) -> Document:
        ends = told(self._clock.now() + timedelta(seconds=_SIGNED_SECONDS))
        document = Document(f"amzn1.tortuga.4.eu.{len(self._documents):06d}", ends, body)
        self._documents[document.number] = document
        return document

    def _messages(self, feed: Feed) -> list[Any]:
        document = json.loads(self._documents[feed.document].body or "{}")
        messages = document.get("messages", [])
        return messages if document.get("header", {}).get("sellerId") == self._seller else []

    def _worked(self, feed: Feed) -> dict[str, Any]:
        messages = self._messages(feed)
        issues: list[dict[str, Any]] = []
        if not 1 <= len(messages) <= _MOST_MESSAGES:
            issues = [{"code": "4000001", "severity": "ERROR", "message": "The document is not valid."}]
            messages = []
        for message in messages:
            issues += [
                {
                    "messageId": message["messageId"],
                    "sku": message["sku"],
                    "code": code,
                    "severity": "ERROR",
                    "message": words,
                }
                for code, words, _ in self._do(message)
            ]
        invalid = len({issue["messageId"] for issue in issues if "messageId" in issue})
        summary: dict[str, Any] = {"errors": len(issues), "warnings": 0, "messagesProcessed": len(messages)}
        summary |= {"messagesAccepted": len(messages) - invalid, "messagesInvalid": invalid}
        header: dict[str, Any] = {"sellerId": self._seller, "version": "2.0", "feedId": feed.number}
        report: dict[str, Any] = {"header": header, "issues": issues, "summary": summary}
        wanted = json.loads(self._documents[feed.document].body or "{}").get("header", {}).get("report")
        if wanted and self.shows_items:
            header["report"] = wanted
            found = (self._books.items.get(message["sku"]) for message in messages)
            views = [item_view(item, item.marketplaces, wanted["includedData"]) for item in found if item]
            summary["itemSummary"] = {"items": len(views), "errors": 0, "warnings": 0}
            report["items"] = views
        return report

    def _do(self, message: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        sku = message["sku"]
        if sku not in self._books.items:
            return [("8541", f"The SKU '{sku}' does not exist in the marketplace.", "INVALID_ATTRIBUTE")]
        problems = problems_of(message["patches"])
        if not problems:
            self._books.submit(sku, message["patches"], self._clock.now(), 0.0)
            self._books.work(self._clock.now())
        return problems


def feed_finished(feed: Feed, seller_id: str, number: int, now: datetime) -> dict[str, Any]:
    """Return the notification FEED_PROCESSING_FINISHED, whose names are in camel case."""
    told_of = {"sellerId": seller_id, "accountId": "amzn1.merchant.o.STANDIN", "feedId": feed.number}
    told_of |= {"feedType": "JSON_LISTINGS_FEED", "processingStatus": feed.status}
    told_of |= {"resultFeedDocumentId": feed.report} if feed.report else {}
    return {
        "notificationVersion": "2020-09-04",
        "notificationType": "FEED_PROCESSING_FINISHED",
        "payloadVersion": "2020-09-04",
        "eventTime": told(now),
        "payload": {"feedProcessingFinishedNotification": told_of},
        "notificationMetadata": {
            "applicationId": "amzn1.sellerapps.app.stand-in",
            "subscriptionId": "stand-in-subscription",
            "publishTime": told(now),
            "notificationId": f"{number:032x}",
        },
    }


def problems_of(patches: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return code, words and category of what patches have against them."""
    problems = []
    for patch in patches:
        if patch.get("path") != "/attributes/fulfillment_availability":
            raise RefusedError(400, "InvalidInput", "Only top-level attributes can be patched.")
        for value in patch.get("value", []):
            if "fulfillment_channel_code" not in value:
                words = "'Fulfillment Channel Code' is required but not supplied."
                problems.append(("90220", words, "MISSING_ATTRIBUTE"))
            elif type(value.get("quantity")) is not int or value["quantity"] < 0:
                problems.append(("90244", "The value of 'Quantity' is not valid.", "INVALID_ATTRIBUTE"))
    return problems


def _object(request: Request) -> Mapping[str, Any]:
    try:
        value = json.loads(request.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RefusedError(400, "InvalidInput", "The request body is not valid.")
    return value


def _address(request: Request, document: Document) -> str:
    return f"{request.url.partition('/feeds/2021-06-30')[0]}/signed-documents/{document.number}"


def _second(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
