"""The stand-in account's listings reports: made in their own time, in a marketplace's language, behind signed addresses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.amazon.sandbox_books import Books, Item, told
from invsync_dagster.platforms.amazon.sandbox_gate import RefusedError
from invsync_dagster.platforms.transport import Request, Response

_TYPE = "GET_MERCHANT_LISTINGS_ALL_DATA"
# An address is good for five minutes.
_SIGNED_SECONDS = 300
_EPOCH = "1970-01-01T00:00:00.000000Z"
# The columns of a report that this stand-in fills, as each language writes them, and its encoding.
LANGUAGES = {
    "en": (
        "utf-8",
        "item-name\titem-description\tlisting-id\tseller-sku\tprice\tquantity\topen-date\tfulfillment-channel\tstatus",
    ),
    "de": (
        "windows-1252",
        "Artikelbezeichnung\tArtikelbeschreibung\tAngebotsnummer\tHändler-SKU\tPreis\tMenge\tErstellungsdatum\tVersender\tStatus",
    ),
    "ja": (
        "cp932",
        "商品名\t商品説明\t出品ID\t出品者SKU\t価格\t数量\t出品日\tフルフィルメント・チャンネル\tステータス",
    ),
}


@dataclass
class _Report:
    """A report; `text` is what it says, made when it was asked for, and `end` how it ends at `ends`."""

    number: str
    marketplaces: list[str]
    created: str
    begins: str
    ends: str
    text: str
    language: str
    end: str = "DONE"
    signed_until: str = _EPOCH


class ReportDesk:
    """Makes reports in `seconds`, the second half of which it works on them. `end` says how those asked for from now on end,
    `language` how their columns are called."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self.seconds = 240.0
        self.end = "DONE"
        self.language = "en"
        self._books = books
        self._clock = clock
        self._reports: dict[str, _Report] = {}

    def make(self, request: Request, query: Mapping[str, str]) -> tuple[int, Any]:
        """Answer createReport."""
        try:
            given = json.loads(request.body)
            known = given["reportType"] == _TYPE and bool(given["marketplaceIds"])
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise RefusedError(400, "InvalidInput", "reportType or marketplaceIds is invalid.")
        now = self._clock.now()
        half, whole = timedelta(seconds=self.seconds / 2), timedelta(seconds=self.seconds)
        number = str(70_000 + len(self._reports))
        markets = given["marketplaceIds"]
        items = [item for item in self._books.items.values() if set(item.marketplaces) & set(markets)]
        text = "\n".join([LANGUAGES[self.language][1], *map(_line, items), ""])
        # Without anything to report a report is cancelled.
        end = self.end if items else "CANCELLED"
        times = (told(now), told(now + half), told(now + whole))
        self._reports[number] = _Report(number, markets, *times, text, self.language, end)
        return 202, {"reportId": number}

    def report(self, request: Request, query: Mapping[str, str], number: str) -> tuple[int, Any]:
        """Answer getReport."""
        report = self._reports.get(number)
        if report is None:
            raise RefusedError(404, "NotFound", "The report was not found.")
        now = told(self._clock.now())
        status = "IN_QUEUE" if now < report.begins else "IN_PROGRESS" if now < report.ends else report.end
        view = {"reportId": number, "reportType": _TYPE, "marketplaceIds": report.marketplaces}
        view |= {"createdTime": report.created, "processingStatus": status}
        return 200, view | ({"reportDocumentId": _document_of(report)} if status == "DONE" else {})

    def document(self, request: Request, query: Mapping[str, str], number: str) -> tuple[int, Any]:
        """Answer getReportDocument with an address that is good from now on."""
        report = self._of_document(number)
        if report is None or report.end != "DONE":
            raise RefusedError(404, "NotFound", "The report document was not found.")
        report.signed_until = told(self._clock.now() + timedelta(seconds=_SIGNED_SECONDS))
        base = request.url.partition("/reports/2021-06-30")[0]
        return 200, {
            "reportDocumentId": number,
            "url": f"{base}/signed-reports/{number}",
            "compressionAlgorithm": "GZIP",
        }

    def signed(self, request: Request) -> Response:
        """Answer a download at a signed address, which takes no token."""
        report = self._of_document(urlsplit(request.url).path.rpartition("/")[2])
        headers = {name.lower() for name in request.headers}
        now = told(self._clock.now())
        if report is None or report.signed_until < now or "x-amz-access-token" in headers:
            body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            return Response(403, {"content-type": "application/xml"}, body)
        body = report.text.encode(LANGUAGES[report.language][0], "replace")
        return Response(200, {"content-type": "application/octet-stream"}, gzip.compress(body, mtime=0))

    def dump(self) -> list[dict[str, Any]]:
        """Return the reports as JSON values."""
        return [asdict(report) for report in self._reports.values()]

    def load(self, state: list[Mapping[str, Any]]) -> None:
        """Take over what `dump` returned."""
        self._reports = {entry["number"]: _Report(**entry) for entry in state}

    def _of_document(self, number: str) -> _Report | None:
        return self._reports.get(number.rpartition(".")[2])


def _document_of(report: _Report) -> str:
    return f"amzn1.spdoc.1.4.eu.{report.number}"


def _line(item: Item) -> str:
    code = next((each for each in item.availability if each != "DEFAULT"), "DEFAULT")
    quantity = "" if item.quantity is None else str(item.quantity)
    opened = datetime.fromisoformat(item.created).strftime("%d/%m/%Y %H:%M:%S MET")
    cells = (f'Item {item.sku} 24"', "Soft & light", f"L{item.asin}", item.sku, "19.90", quantity, opened)
    return "\t".join((*cells, "DEFAULT" if item.quantity is not None else code, "Active"))
