"""Amazon's feeds: what is handed in, and what is made of the states and reports that come back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.platforms.amazon import AmazonPlatform
from invsync_dagster.platforms.contract import (
    BulkLane,
    BulkReport,
    BulkState,
    LevelReference,
    Outcome,
    Platform,
    Result,
    WriteRow,
)
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Response
from tests.contract.amazon_harness import FIRST, SELLER, AmazonHarness
from tests.contract.erp_harness import ErpHarness
from tests.unit.platforms.amazon_contracts import problems_of_exchange, problems_of_feed


@pytest.fixture
def harness() -> AmazonHarness:
    return AmazonHarness()


def lane(harness: AmazonHarness) -> AmazonPlatform:
    platform: Platform = harness.platform
    assert isinstance(platform, AmazonPlatform)
    return platform


def rows(*skus: str, quantity: int = 7) -> dict[int, WriteRow]:
    return {100 + number: WriteRow(LevelReference(sku), quantity) for number, sku in enumerate(skus)}


def submit(harness: AmazonHarness, *skus: str) -> Outcome:
    return lane(harness).submit(rows(*skus))


def answered(harness: AmazonHarness, **feed: Any) -> BulkReport:
    """Ask for a feed that is answered so."""
    told = {"feedId": "1", "feedType": "JSON_LISTINGS_FEED", "createdTime": "2026-01-01T00:00:00Z", **feed}
    harness.wire.answer_next(Response(200, {}, json.dumps(told).encode()))
    return lane(harness).submitted("1")


def reported(harness: AmazonHarness, body: bytes, algorithm: str | None = None, status: int = 200) -> BulkReport:
    """Ask for a feed that is done and has this report."""
    document = {"feedDocumentId": "d", "url": "https://bucket.s3.amazonaws.com/d"}
    document |= {"compressionAlgorithm": algorithm} if algorithm else {}
    told = {"feedId": "1", "feedType": "x", "createdTime": "x", "processingStatus": "DONE", "resultFeedDocumentId": "d"}
    for value in (told, document):
        harness.wire.answer_next(Response(200, {}, json.dumps(value).encode()))
    harness.wire.answer_next(Response(status, {}, body))
    return lane(harness).submitted("1")


def a_report(*issues: dict[str, Any]) -> bytes:
    return json.dumps({"header": {}, "issues": list(issues), "summary": {"errors": len(issues)}}).encode()


def test_amazon_has_a_bulk_lane_and_the_erp_has_none(harness: AmazonHarness) -> None:
    assert isinstance(harness.platform, BulkLane)
    assert not isinstance(ErpHarness().platform, BulkLane)


def test_a_feed_is_a_document_an_upload_and_a_hand_in_and_shows_after_it_is_worked_on(harness: AmazonHarness) -> None:
    levels = [harness.account.add_item(sku, 5, lead_time=9) for sku in ("A", "B ä")]
    outcome = submit(harness, "A", "B ä")
    assert (outcome.result, outcome.handle, outcome.check_after) == (Result.ACCEPTED, "50000", 60.0)
    made, uploaded, handed = harness.wire.requests
    assert (made.method, uploaded.method, handed.method) == ("POST", "PUT", "POST")
    assert set(uploaded.headers) == {"Content-Type"}  # the address is the proof: no token goes there
    assert json.loads(made.body) == {"contentType": uploaded.headers["Content-Type"]}
    document = json.loads(uploaded.body)
    assert document["header"]["sellerId"] == SELLER
    assert document["header"]["report"]["includedData"] == ["fulfillmentAvailability"]
    assert document["messages"][1] == {
        "messageId": 101,
        "sku": "B ä",
        "operationType": "PATCH",
        "productType": "PRODUCT",
        "patches": [
            {
                "op": "merge",
                "path": "/attributes/fulfillment_availability",
                "value": [{"fulfillment_channel_code": "DEFAULT", "quantity": 7}],
            }
        ],
    }
    assert json.loads(handed.body)["marketplaceIds"] == [FIRST]
    assert lane(harness).submitted(outcome.handle) == BulkReport(BulkState.OPEN)
    harness.clock.advance(301)
    shown = {LevelReference("A"): 7, LevelReference("B ä"): 7}
    assert lane(harness).submitted(outcome.handle) == BulkReport(BulkState.DONE, shown=shown)
    assert [reading.quantity for reading in harness.platform.read(levels).readings] == [7, 7]
    assert harness.account.item("A").availability["DEFAULT"]["lead_time_to_ship_max_days"] == 9


def test_each_failed_message_has_its_outcome_and_the_others_have_none(harness: AmazonHarness) -> None:
    harness.account.add_item("A", 5)
    outcome = submit(harness, "A", "gone")
    harness.clock.advance(301)
    report = lane(harness).submitted(outcome.handle)
    assert report.state is BulkState.DONE
    assert set(report.failed) == {101}
    assert report.failed[101].recovery is Recovery.REVIEW
    assert "does not exist" in report.failed[101].message


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("IN_QUEUE", BulkState.OPEN),
        ("IN_PROGRESS", BulkState.OPEN),
        ("FATAL", BulkState.LOST),
        ("CANCELLED", BulkState.LOST),
        ("DONE", BulkState.LOST),  # without a report
    ],
)
def test_the_state_of_a_feed(harness: AmazonHarness, status: str, state: BulkState) -> None:
    assert answered(harness, processingStatus=status).state is state


@pytest.mark.parametrize("packed", [True, False])
def test_a_report_is_unpacked_where_it_is_packed(harness: AmazonHarness, packed: bool) -> None:
    issue = {"messageId": 7, "sku": "A", "code": "90244", "severity": "ERROR", "message": "Not valid."}
    warning = {"messageId": 8, "sku": "B", "code": "1", "severity": "WARNING", "message": "A hint."}
    body = a_report(issue, warning)
    # An HTTP client may have unpacked it already.
    report = reported(harness, gzip.compress(body) if packed else body, "GZIP")
    assert report.failed == {7: Outcome(Result.REJECTED, Recovery.REJECT, "90244", "Not valid.")}


@pytest.mark.parametrize(
    "items",
    [
        None,
        "x",
        ["x"],
        [{}],
        [{"sku": 7}],
        [{"sku": "A"}],
        [{"sku": "A", "fulfillmentAvailability": [{"fulfillmentChannelCode": "DEFAULT", "quantity": "7"}]}],
        [{"sku": "A", "fulfillmentAvailability": [{"fulfillmentChannelCode": "AMAZON_EU"}]}],
    ],
)
def test_what_a_report_shows_unclearly_is_left_to_a_reading(harness: AmazonHarness, items: Any) -> None:
    body = json.dumps({"summary": {}, "issues": [], "items": items}).encode()
    assert reported(harness, body) == BulkReport(BulkState.DONE)


def test_an_error_without_a_message_is_about_the_whole_feed(harness: AmazonHarness) -> None:
    report = reported(harness, a_report({"code": "1", "severity": "ERROR", "message": "Not JSON."}))
    assert (report.state, report.message) == (BulkState.LOST, "Amazon refuses the feed: Not JSON.")


@pytest.mark.parametrize(
    ("body", "algorithm"),
    [
        (b"", None),
        (b"<html>", None),
        (b"[]", None),
        (b'{"issues": []}', None),
        (b'{"summary": {}, "issues": "none"}', None),
        (b'{"summary": {}, "issues": ["x"]}', None),
        (b"\x1f\x8bnot gzip", "GZIP"),
        (gzip.compress(b'{"summary": {}}', mtime=0)[:12], "GZIP"),
    ],
)
def test_a_report_that_is_none_is_asked_for_again(harness: AmazonHarness, body: bytes, algorithm: str | None) -> None:
    with pytest.raises(PlatformError) as raised:
        reported(harness, body, algorithm)
    assert (raised.value.recovery, raised.value.code) == (Recovery.RETRY, "malformed_answer")


def test_a_report_whose_address_has_run_out_is_asked_for_again(harness: AmazonHarness) -> None:
    with pytest.raises(PlatformError, match="report_failed"):
        reported(harness, b"<Error><Code>AccessDenied</Code></Error>", status=403)


@pytest.mark.parametrize(("call", "result"), [(0, Result.NOT_SENT), (1, Result.NOT_SENT), (2, Result.UNKNOWN)])
def test_only_the_hand_in_may_have_an_effect(harness: AmazonHarness, call: int, result: Result) -> None:
    harness.account.add_item("A", 5)
    handle = harness.account.handle
    made = 0

    def failing(request: Any) -> Response:
        nonlocal made
        made += 1
        return handle(request) if made != call + 1 else Response(500)

    harness.wire._handler = failing
    outcome = submit(harness, "A")
    assert outcome.result is result
    assert len(harness.account.feeds.feeds) == 0


def test_an_upload_to_an_address_that_has_run_out_sends_nothing(harness: AmazonHarness) -> None:
    made = {"feedDocumentId": "d", "url": "https://bucket.s3.amazonaws.com/d"}
    harness.wire.answer_next(Response(201, {}, json.dumps(made).encode()))
    harness.wire.answer_next(Response(403, {}, b"<Error><Code>AccessDenied</Code></Error>"))
    outcome = submit(harness, "A")
    assert (outcome.result, outcome.code) == (Result.NOT_SENT, "upload_failed")
    assert len(harness.wire.requests) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        rows("A", "A"),
        rows(".."),
        rows("A", quantity=-1),
        {n: WriteRow(LevelReference(str(n)), 1) for n in range(25_001)},
    ],
)
def test_what_can_be_no_feed_is_refused_before_any_call(harness: AmazonHarness, wrong: dict[int, WriteRow]) -> None:
    with pytest.raises(ValueError, match="feed"):
        lane(harness).submit(wrong)
    assert harness.wire.requests == []


def test_the_largest_feed_stays_below_ten_mebibytes(harness: AmazonHarness) -> None:
    many = {2_147_000_000 + number: WriteRow(LevelReference(f"ä{number:039d}"), 10**9) for number in range(25_000)}
    assert lane(harness).submit(many).result is Result.ACCEPTED
    assert len(harness.wire.requests[1].body) < 10 * 1024 * 1024


def test_every_exchange_and_document_of_a_feed_is_valid_by_the_contracts(
    contracts: Path, harness: AmazonHarness
) -> None:
    harness.account.add_item("A", 5)
    outcome = submit(harness, "A", "gone")
    lane(harness).submitted(outcome.handle)
    harness.clock.advance(301)
    lane(harness).submitted(outcome.handle)
    with pytest.raises(PlatformError):
        lane(harness).submitted("12345")
    checked = []
    for request, response in harness.exchanges:
        if "/signed-documents/" in request.url:
            value = json.loads(request.body or gzip.decompress(response.body))
            name = "listings-feed-schema-v2" if request.body else "listings-feed-processing-report-schema-v2"
            assert problems_of_feed(contracts, name, value) == []
            checked.append(name)
        elif "/feeds/" in request.url:
            assert problems_of_exchange(contracts, request, response) == []
            checked.append(f"{request.method} {response.status}")
    assert sorted(set(checked)) == [
        "GET 200",
        "GET 404",
        "POST 201",
        "POST 202",
        "listings-feed-processing-report-schema-v2",
        "listings-feed-schema-v2",
    ]
