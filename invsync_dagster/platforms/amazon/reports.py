"""All listings at once: the merchant listings report, asked for, waited for, and read for its numbers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invsync_dagster import columns
from invsync_dagster.platforms.amazon.feeds import Call
from invsync_dagster.platforms.amazon.rows import is_sku
from invsync_dagster.platforms.amazon.settings import AmazonSettings
from invsync_dagster.platforms.amazon.signed import fetched
from invsync_dagster.platforms.contract import (
    MAX_QUANTITY,
    BulkNumbers,
    BulkReading,
    BulkState,
    LevelReference,
    Outcome,
    Result,
    outcomes_of_failure,
)
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Transport

_REPORTS = "/reports/2021-06-30"
_ALL_LISTINGS = "GET_MERCHANT_LISTINGS_ALL_DATA"
# Tuples where an answer's own value is looked up: it may be what no set can hold.
_STATES = ("IN_QUEUE", "IN_PROGRESS", "DONE", "CANCELLED", "FATAL")
# What is unpacked at a time: a report of 100,000 listings with their descriptions is about 200 MB.
_BLOCK = 64 * 1024
# Packed, the same report is 20 to 40 MB.
_FETCH_SECONDS = 300.0
# A line has a title and a description of some thousand characters.
_LONGEST_LINE = 4 * 1024 * 1024


class Reports:
    """The listings reports of one account, of the marketplace that it is written through."""

    def __init__(self, settings: AmazonSettings, call: Call, transport: Transport) -> None:
        self._settings = settings
        self._call = call
        self._transport = transport

    def ask(self) -> Outcome:
        """Ask for a report; a lost answer leaves one that nobody fetches."""
        wanted = {"reportType": _ALL_LISTINGS, "marketplaceIds": [self._settings.marketplaces[0]]}
        try:
            answer = self._call("POST", f"{_REPORTS}/reports", {}, _is_report_id, wanted)
        except PlatformError as error:
            return outcomes_of_failure(error, 1)[0]
        return Outcome(Result.ACCEPTED, handle=answer["reportId"])

    def state(self, handle: str) -> BulkReading:
        """Tell where a report stands, with the address of its document, good for five minutes. Raises `PlatformError`."""
        report = self._call("GET", f"{_REPORTS}/reports/{handle}", {}, _is_report)
        status = report["processingStatus"]
        if status in ("IN_QUEUE", "IN_PROGRESS"):
            return BulkReading(BulkState.OPEN)
        number = report.get("reportDocumentId")
        if status != "DONE" or not isinstance(number, str) or not number:
            # CANCELLED without being asked to: there is nothing to report, or one was made a short while ago.
            return BulkReading(BulkState.LOST, message=f"Amazon says that the report is {status}, and has no document")
        document = self._call("GET", f"{_REPORTS}/documents/{number}", {}, _is_document)
        return BulkReading(BulkState.DONE, document["url"])

    def numbers(self, address: str) -> BulkNumbers:
        """Fetch a report and return all its numbers as one piece. Raises `PlatformError`."""
        return BulkNumbers(numbers_in(fetched(self._transport, address, _FETCH_SECONDS)))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns are that matter, `fulfilment` -1 for none, and in which encoding the text is."""

    width: int
    sku: int
    quantity: int
    fulfilment: int
    codec: str


def numbers_in(body: bytes) -> dict[LevelReference, int]:
    """Return the numbers in a report: tab-separated, in any of its languages and encodings, packed or not.

    Listings that Amazon fulfils, without a number, or named twice with different ones are left out, and so is each line that
    isn't whole. Raises `PlatformError` for what is no such report.
    """
    lines = _lines(body)
    layout = _layout(next(lines, b""))
    found: dict[LevelReference, int] = {}
    doubtful = set()
    for line in lines:
        cells = line.rstrip(b"\r").split(b"\t")
        if len(cells) != layout.width or not cells[layout.quantity].isdigit():
            continue
        if layout.fulfilment >= 0 and columns.kept_by_amazon(cells[layout.fulfilment].decode("latin-1")):
            continue
        level = LevelReference(_decoded(cells[layout.sku], layout.codec))
        # No number that can be has more digits, and int() refuses thousands of them.
        quantity = int(cells[layout.quantity][:11])
        if not is_sku(level) or quantity > MAX_QUANTITY:
            continue
        if found.setdefault(level, quantity) != quantity:
            doubtful.add(level)
    for level in doubtful:
        del found[level]
    return found


def _layout(header: bytes) -> _Layout:
    for encoding in ("utf-8", *columns.AMAZON_ENCODINGS):
        codec = columns.DECODERS.get(encoding, encoding)
        try:
            text = header.decode(codec)
        except UnicodeDecodeError:
            continue
        names = [columns.column_name(cell) for cell in text.rstrip("\r").split("\t")]
        place = {field: _place(names, known) for field, known in columns.AMAZON_LISTINGS.items()}
        if min(place["sku"], place["quantity"]) >= 0 and max(place["fulfilment"], place["listing"]) >= 0:
            return _Layout(len(names), place["sku"], place["quantity"], place["fulfilment"], codec)
    words = "the header of the listings report has no columns of SKU and quantity in a language that we know"
    raise PlatformError(Recovery.REJECT, "unknown_report", words)


def _place(names: Sequence[str], known: Sequence[str]) -> int:
    return next((position for position, name in enumerate(names) if name in known), -1)


def _decoded(cell: bytes, codec: str) -> str:
    """Return a SKU; "" for one that isn't in the header's encoding, which is none of ours."""
    try:
        return cell.decode(codec)
    except UnicodeDecodeError:
        return ""


def _lines(body: bytes) -> Iterator[bytes]:
    rest = b""
    for block in _blocks(body):
        whole, mark, rest = (rest + block).rpartition(b"\n")
        if mark:
            yield from whole.split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise _malformed("a line of it has no end")
    if rest:
        yield rest


def _blocks(body: bytes) -> Iterator[bytes]:
    # Packed or not is told with the address, and shown by the first bytes; no column's name begins so.
    packed = body[:2] == b"\x1f\x8b"
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for start in range(0, len(body), _BLOCK):
            block = body[start : start + _BLOCK]
            yield inflater.decompress(block) if packed else block
    except zlib.error:
        raise _malformed("it can't be unpacked") from None
    if packed and not inflater.eof:
        raise _malformed("it ends early")


def _malformed(why: str) -> PlatformError:
    return PlatformError(Recovery.RETRY, "malformed_answer", f"the listings report is not what Amazon promises: {why}")


def _is_report_id(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("reportId")) and value["reportId"].isalnum()


def _is_report(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("processingStatus") in _STATES


def _is_document(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(value.get("url"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
