"""Amazon's listings report: how it is asked for, what its states mean, and the numbers in each of its forms."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.platforms.amazon import AmazonPlatform
from invsync_dagster.platforms.amazon.reports import numbers_in
from invsync_dagster.platforms.contract import (
    MAX_QUANTITY,
    BulkReader,
    BulkReading,
    BulkState,
    LevelReference,
    Platform,
    Result,
)
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Response
from tests.contract.amazon_harness import AmazonHarness
from tests.contract.erp_harness import ErpHarness
from tests.unit.platforms.amazon_contracts import problems_of_exchange

HEADER = "item-name\tlisting-id\tseller-sku\tprice\tquantity\tfulfillment-channel"


@pytest.fixture
def harness() -> AmazonHarness:
    return AmazonHarness()


def reader(harness: AmazonHarness) -> AmazonPlatform:
    platform: Platform = harness.platform
    assert isinstance(platform, AmazonPlatform)
    return platform


def row(sku: str, quantity: str, channel: str = "DEFAULT") -> str:
    return f'Lamp 24"\tL1\t{sku}\t9.90\t{quantity}\t{channel}'


def table(*rows: str) -> bytes:
    return "\r\n".join([HEADER, *rows, ""]).encode()


def numbers(body: bytes) -> dict[str, int]:
    return {level.item_id: quantity for level, quantity in numbers_in(body).items()}


def told(harness: AmazonHarness, **report: Any) -> BulkReading:
    """Ask for a report that is answered so."""
    value = {"reportId": "1", "reportType": "x", "createdTime": "2026-01-01T00:00:00Z", **report}
    harness.wire.answer_next(Response(200, {}, json.dumps(value).encode()))
    return reader(harness).reading_of_all("1")


def test_amazon_reads_all_in_bulk_from_twenty_thousand_listings_or_as_told_and_the_erp_does_not() -> None:
    assert isinstance(AmazonHarness().platform, BulkReader)
    assert not isinstance(ErpHarness().platform, BulkReader)
    assert reader(AmazonHarness()).bulk_read.least == 20_000
    assert reader(AmazonHarness(bulk_read_from=0)).bulk_read.least == 0


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_a_report_is_asked_for_made_and_read_in_every_language(harness: AmazonHarness, language: str) -> None:
    account, platform = harness.account, reader(harness)
    account.reports.language = language
    strange = {"en": "Größe|42", "de": "Größe|42", "ja": "電球 表|42"}[language]
    for sku, quantity in ((strange, 3), ("PLAIN, with comma", 0)):
        account.add_item(sku, quantity)
    account.add_item("FBA", None, fulfilled_by_amazon=True)
    asked = platform.read_all()
    assert asked.result is Result.ACCEPTED
    assert platform.reading_of_all(asked.handle) == BulkReading(BulkState.OPEN)
    harness.clock.advance(130)
    assert platform.reading_of_all(asked.handle) == BulkReading(BulkState.OPEN)
    harness.clock.advance(120)
    reading = platform.reading_of_all(asked.handle)
    assert reading.state is BulkState.DONE
    harness.wire.requests.clear()
    piece = platform.numbers_read(reading.address)
    assert piece.numbers == {LevelReference(strange): 3, LevelReference("PLAIN, with comma"): 0}
    assert piece.cursor == ""
    (fetch,) = harness.wire.requests
    assert not [name for name in fetch.headers if "token" in name.lower()]


def test_an_address_that_has_run_out_is_asked_for_anew(harness: AmazonHarness) -> None:
    level, platform = harness.make_level(4), reader(harness)
    handle = platform.read_all().handle
    harness.clock.advance(241)
    address = platform.reading_of_all(handle).address
    harness.clock.advance(301)
    with pytest.raises(PlatformError, match=r"report_failed.*HTTP 403") as refused:
        platform.numbers_read(address)
    assert refused.value.recovery is Recovery.RETRY
    assert platform.numbers_read(platform.reading_of_all(handle).address).numbers == {level: 4}


@pytest.mark.parametrize("status", ["FATAL", "CANCELLED"])
def test_a_report_that_ends_without_a_document_is_lost(harness: AmazonHarness, status: str) -> None:
    message = f"Amazon says that the report is {status}, and has no document"
    assert told(harness, processingStatus=status) == BulkReading(BulkState.LOST, message=message)
    harness.account.reports.end = status
    harness.make_level(4)
    handle = reader(harness).read_all().handle
    harness.clock.advance(241)
    assert reader(harness).reading_of_all(handle).state is BulkState.LOST


def test_an_empty_account_gets_no_report_and_a_done_one_without_a_document_is_lost(harness: AmazonHarness) -> None:
    handle = reader(harness).read_all().handle
    harness.clock.advance(241)
    assert reader(harness).reading_of_all(handle).state is BulkState.LOST
    assert told(harness, processingStatus="DONE").state is BulkState.LOST
    assert told(harness, processingStatus="DONE", reportDocumentId=7).state is BulkState.LOST


def test_what_is_no_answer_is_no_state(harness: AmazonHarness) -> None:
    with pytest.raises(PlatformError, match="malformed_answer"):
        told(harness, processingStatus="LATER")
    with pytest.raises(PlatformError, match="not_found") as unknown:
        reader(harness).reading_of_all("12345")
    assert unknown.value.recovery is Recovery.REVIEW


def test_whatever_fails_while_asking_has_no_effect(harness: AmazonHarness) -> None:
    harness.make_level(1)
    harness.wire.lose_answer_next()
    lost = reader(harness).read_all()
    assert (lost.result, lost.recovery) == (Result.NOT_SENT, Recovery.RETRY)
    harness.wire.answer_next(Response(202, {}, b'{"reportId": "../1"}'))
    assert reader(harness).read_all().code == "malformed_answer"


def test_reports_have_rates_of_their_own() -> None:
    harness = AmazonHarness(rate_factor=1.0)
    asked = [reader(harness).read_all() for _ in range(16)]
    assert [outcome.result for outcome in asked[:15]] == [Result.ACCEPTED] * 15
    assert (asked[15].result, asked[15].recovery, asked[15].code) == (Result.NOT_SENT, Recovery.WAIT, "throttled")


def test_what_shows_no_number_of_ours_is_left_out() -> None:
    body = table(
        row("A", "5"),
        row("FBA", "7", "AMAZON_EU"),
        row("NONE", ""),
        row("MINUS", "-1"),
        row("MANY", str(MAX_QUANTITY + 1)),
        row("DIGITS", "9" * 9_000),
        row(" SPACED", "1"),
        row("X" * 41, "1"),
        row("TWICE", "1"),
        row("TWICE", "2"),
        row("SAME", "3"),
        row("SAME", "3"),
        "cut\tL1\tCUT\t9.90\t4",
        row("LONG", "4") + "\tmore",
    )
    assert numbers(body) == {"A": 5, "SAME": 3}
    assert numbers(table()) == {}
    assert numbers(table(row("A", "5")).removesuffix(b"\r\n")) == {"A": 5}


LANGUAGES = [
    ("商品名\t出品ID\t出品者SKU\t数量\t在庫数\tフルフィルメント・チャンネル", "電球", ("utf-8", "cp932")),
    ("商品名称\t商品编码\t卖家 SKU\t数量\t等待购买数量\t配送渠道", "灯泡", ("utf-8", "gb18030")),
    (
        "item-name (ürün adı)\tlisting-id (liste kaydı numarası)\tseller-sku (satıcı sku)\tquantity (adet)\t"
        "pending-quantity (bekleyen adet)\tfulfillment-channel (dağıtım kanalı)",
        "çay",
        ("utf-8",),
    ),
    ("اسم-المنتج\tرقم-العرض\tsku-البائع\tالكمية\tكمية-منتظرة\tقناة-الشحن", "كوب", ("utf-8",)),
    (
        "Título del producto\tx\tSKU del vendedor\tCantidad\tCantidad pendiente\tCanal de gestión logística",
        "Ñu",
        ("utf-8", "cp1252"),
    ),
    (
        "Artikelbezeichnung\tAngebotsnummer\tHändler-SKU\tMenge\tWartende Menge\tVersender",
        "Töpfe",
        ("utf-8", "cp1252"),
    ),
]


@pytest.mark.parametrize(
    ("header", "sku", "encoding"), [(header, sku, one) for header, sku, codecs in LANGUAGES for one in codecs]
)
def test_the_header_tells_language_and_encoding(header: str, sku: str, encoding: str) -> None:
    body = f"{header}\r\nx\tL1\t{sku}\t5\t99\tDEFAULT\r\nx\tL2\tFBA\t7\t99\tAMAZON_EU\r\n".encode(encoding)
    assert numbers(body) == {sku: 5}


def test_a_sku_in_another_encoding_than_its_header_is_left_out() -> None:
    assert numbers(table(row("A", "5")) + "x\tL\tHänd\t1\t2\tDEFAULT\n".encode("cp1252")) == {"A": 5}


@pytest.mark.parametrize("body", [b"", b"<html>down</html>", b"seller-sku\tquantity\n", b"\xff\xfe\x00" * 9])
def test_what_is_no_listings_report_is_refused_for_good(body: bytes) -> None:
    with pytest.raises(PlatformError, match="unknown_report") as refused:
        numbers_in(body)
    assert refused.value.recovery is Recovery.REJECT


@pytest.mark.parametrize("harm", ["cut", "broken", "endless"])
def test_a_report_that_did_not_arrive_whole_is_fetched_again(harm: str) -> None:
    packed = gzip.compress(table(*(row(f"SKU-{number}", str(number * 7)) for number in range(5_000))))
    body = {
        "cut": packed[:-20],
        "broken": packed[:2_000] + b"\x00" * 50 + packed[2_050:],
        "endless": HEADER.encode() + b"\n" + b"x" * 5_000_000,
    }[harm]
    with pytest.raises(PlatformError, match="malformed_answer") as refused:
        numbers_in(body)
    assert refused.value.recovery is Recovery.RETRY


def test_lines_across_pieces_of_a_packed_report_are_whole() -> None:
    expected = {f"SKU-{number}-é": number * 3 for number in range(20_000)}
    body = table(*(row(sku, str(quantity)) for sku, quantity in expected.items()))
    assert len(body) > 10 * 65_536
    assert numbers(body) == numbers(gzip.compress(body)) == expected


@given(st.binary(max_size=300), st.sampled_from([b"", table(row("A", "5")), b"\x1f\x8b", gzip.compress(table())[:30]]))
def test_no_bytes_break_more_than_their_own_reading(body: bytes, head: bytes) -> None:
    try:
        found = numbers_in(head + body)
    except PlatformError as error:
        assert error.code in ("malformed_answer", "unknown_report")
    else:
        assert all(0 <= quantity <= MAX_QUANTITY for quantity in found.values())


@pytest.mark.parametrize("end", ["DONE", "FATAL", "CANCELLED"])
def test_every_exchange_about_reports_is_valid_by_the_model(contracts: Path, end: str) -> None:
    harness = AmazonHarness(rate_factor=1.0)
    harness.account.reports.end = end
    harness.make_level(4)
    platform = reader(harness)
    handle = platform.read_all().handle
    for seconds in (1, 120, 120):
        harness.clock.advance(seconds)
        platform.reading_of_all(handle)
    with pytest.raises(PlatformError, match="not_found"):
        platform.reading_of_all("12345")
    while platform.read_all().result is Result.ACCEPTED:
        pass
    checked = [
        (f"{request.method} {response.status}", problems_of_exchange(contracts, request, response))
        for request, response in harness.exchanges
        if "/reports/" in request.url
    ]
    assert [problems for _, problems in checked if problems] == []
    assert {name for name, _ in checked} == {"POST 202", "GET 200", "GET 404", "POST 429"}
