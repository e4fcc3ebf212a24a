"""The ERP's client: outcomes row by row, readings, and the pull."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.events import Content
from invsync_dagster.platforms import erp
from invsync_dagster.platforms.contract import LevelReference, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Response
from tests.contract.erp_harness import (
    SECRETS,
    SETTINGS,
    ErpHarness,
    an_event,
)


@pytest.fixture
def harness() -> ErpHarness:
    return ErpHarness()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def results(*rows: dict[str, Any]) -> Response:
    return Response(200, {"content-type": "application/json"}, json.dumps({"results": rows}).encode())


@pytest.mark.parametrize(
    "rows",
    [
        (),
        ({"sku": "another", "status": "ok", "available_quantity": 3},),
        ({"sku": "SKU-0001", "status": "ok", "available_quantity": 4},),
        ({"sku": "SKU-0001", "status": "ok", "available_quantity": 3.0},),
        ({"sku": "SKU-0001", "status": "ok"},),
        ({"sku": "SKU-0001", "status": "done", "available_quantity": 3},),
        ({"sku": "SKU-0001"},),
        ({"sku": "SKU-0001", "status": "ok", "available_quantity": 3},) * 2,
        (7, "SKU-0001", None),
    ],
)
def test_a_row_without_one_clear_confirmation_is_unknown(harness: ErpHarness, rows: tuple[Any, ...]) -> None:
    level = harness.make_level(5)
    harness.wire.replace_answer_next(results(*rows))
    (outcome,) = harness.platform.write([WriteRow(level, 3)], key="key-1").outcomes
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)


@given(st.one_of(json_values, st.fixed_dictionaries({"results": json_values, "items": json_values})))
def test_whatever_the_erp_answers_a_write_has_its_outcome_and_a_reading_its_problem(answer: Any) -> None:
    harness = ErpHarness()
    level = harness.make_level(5)
    harness.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))
    (outcome,) = harness.platform.write([WriteRow(level, 3)], key="key-1").outcomes
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
    harness.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))
    try:
        (reading,) = harness.platform.read([level]).readings
    except PlatformError as error:
        assert error.recovery is Recovery.RETRY
    else:
        assert reading.quantity is None


def test_a_row_that_nobody_asked_for_is_left_out_and_told_in_the_log(
    harness: ErpHarness, caplog: pytest.LogCaptureFixture
) -> None:
    level = harness.make_level(5)
    asked = {"sku": level.item_id, "status": "ok", "available_quantity": 3}
    harness.wire.replace_answer_next(results({"sku": "stranger", "status": "not_found"}, asked))
    assert harness.platform.write([WriteRow(level, 3)], key="key-1").outcomes[0].result is Result.ACKNOWLEDGED
    assert "1 rows that were not asked for" in caplog.text


@pytest.mark.parametrize(
    ("status", "result", "recovery"),
    [
        ("stale", Result.REJECTED, Recovery.SETTLE),
        ("not_found", Result.REJECTED, Recovery.REVIEW),
        ("not_stocked", Result.REJECTED, Recovery.REVIEW),
        ("invalid", Result.REJECTED, Recovery.REJECT),
        ("busy", Result.NOT_SENT, Recovery.RETRY),
    ],
)
def test_each_status_of_a_row_has_its_outcome_in_the_words_of_the_erp(
    harness: ErpHarness, status: str, result: Result, recovery: Recovery
) -> None:
    level = harness.make_level(5)
    harness.wire.answer_next(results({"sku": level.item_id, "status": status, "message": "says the ERP"}))
    (outcome,) = harness.platform.write([WriteRow(level, 3)], key="key-1").outcomes
    assert (outcome.result, outcome.recovery, outcome.code, outcome.message) == (
        result,
        recovery,
        status,
        "says the ERP",
    )


def test_a_503_counts_as_not_begun_only_in_the_words_of_the_erp_itself(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    body = json.dumps({"error": {"code": "unavailable", "message": "closing the books"}}).encode()
    harness.wire.answer_next(Response(503, {"retry-after": "30"}, body))
    (outcome,) = harness.platform.write([WriteRow(level, 3)], key="key-1").outcomes
    assert (outcome.result, outcome.recovery, outcome.retry_after) == (Result.NOT_SENT, Recovery.RETRY, 30.0)
    harness.wire.answer_next(Response(503, {"retry-after": "30"}, b"<html>"))
    (outcome,) = harness.platform.write([WriteRow(level, 3)], key="key-2").outcomes
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)


def test_a_key_used_for_other_rows_is_refused_and_left_to_a_reading(harness: ErpHarness) -> None:
    first, second = harness.make_level(5), harness.make_level(6)
    harness.platform.write([WriteRow(first, 1)], key="key-1")
    (outcome,) = harness.platform.write([WriteRow(second, 1)], key="key-1").outcomes
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.UNKNOWN, Recovery.SETTLE, "idempotency_mismatch")
    assert harness.book(second) == 6


def test_a_negative_quantity_is_rejected_by_the_erp_and_the_rest_is_written(harness: ErpHarness) -> None:
    bad, good = harness.make_level(5), harness.make_level(5)
    answer = harness.platform.write([WriteRow(bad, -1), WriteRow(good, 2)], key="key-1")
    assert [(outcome.result, outcome.code) for outcome in answer.outcomes] == [
        (Result.REJECTED, "invalid"),
        (Result.ACKNOWLEDGED, ""),
    ]
    assert (harness.book(bad), harness.book(good)) == (5, 2)


def test_a_wait_of_more_than_an_hour_counts_as_an_hour(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    harness.wire.answer_next(Response(429, {"retry-after": "9" * 40}, b""))
    assert harness.platform.write([WriteRow(level, 3)], key="key-1").outcomes[0].retry_after == 3600.0


def test_our_writes_never_come_back_as_counts(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    begin = harness.clock.now()
    harness.platform.write([WriteRow(level, 3)], key="key-1")
    harness.clock.advance(10)
    assert harness.platform.orders_changed(begin, harness.clock.now()).content == Content()
    assert harness.deliveries() == []
    assert (harness.erp.book(level.item_id).on_hand, harness.erp.book(level.item_id).version) == (5, 0)


def test_a_sku_of_any_script_is_written_and_read_back_as_it_is(harness: ErpHarness) -> None:
    for sku in ("007", "größe 42/43", "赤-01", "a+b&c=d", "🧦"):
        harness.erp.add(sku, 5)
        level = LevelReference(sku)
        (outcome,) = harness.platform.write([WriteRow(level, 2)], key=f"key-{sku.encode().hex()}").outcomes
        assert outcome.result is Result.ACKNOWLEDGED
        assert harness.platform.read([level]).readings[0].quantity == 2


def test_a_level_that_the_answer_leaves_out_is_no_reading_and_no_missing_article(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    for items in ([], [{"sku": level.item_id, "available_quantity": "5"}], [{"sku": level.item_id}]):
        harness.wire.answer_next(Response(200, {}, json.dumps({"items": items}).encode()))
        (reading,) = harness.platform.read([level]).readings
        assert reading.quantity is None
        assert reading.problem is not None
        assert reading.problem.recovery is Recovery.RETRY
        assert not reading.absent  # else the next push would write it without a compare-and-set


def test_a_count_pulled_is_the_count_of_the_webhook(harness: ErpHarness) -> None:
    begin = harness.clock.now()
    harness.change(harness.make_level(5))
    harness.clock.advance(1)
    ((headers, body),) = harness.deliveries()
    pulled = harness.platform.orders_changed(begin, harness.clock.now()).content
    assert harness.door.parse(headers, body) == pulled


def test_an_event_that_cannot_be_read_fails_the_pull_by_name(harness: ErpHarness) -> None:
    body = json.dumps({"events": [an_event(), an_event(quantity=-3)], "next_cursor": ""}).encode()
    harness.wire.answer_next(Response(200, {}, body))
    with pytest.raises(PlatformError, match=r"events\[1\]\.quantity") as raised:
        harness.platform.orders_changed(harness.clock.now() - timedelta(hours=1), harness.clock.now())
    assert raised.value.recovery is Recovery.REJECT


def test_a_cursor_that_does_not_move_on_is_refused(harness: ErpHarness) -> None:
    body = json.dumps({"events": [], "next_cursor": "12"}).encode()
    harness.wire.answer_next(Response(200, {}, body))
    with pytest.raises(PlatformError, match="next_cursor"):
        harness.platform.orders_changed(harness.clock.now() - timedelta(hours=1), harness.clock.now(), "12")


def test_settings_refuse_addresses_that_would_show_the_key() -> None:
    values = SETTINGS.model_dump()
    for address in (
        "http://erp.example.com",
        "ftp://erp.example.com",
        "erp.example.com",
        "https://me:pw@erp.example.com",
    ):
        with pytest.raises(ValueError, match="base_url"):
            erp.ErpSettings(**values | {"base_url": address})
    assert erp.ErpSettings(**values | {"base_url": "https://erp.example.com/"}).base_url == "https://erp.example.com"


def test_a_channel_may_lower_its_limits_and_not_invent_any(harness: ErpHarness) -> None:
    limits = erp.connect(
        SETTINGS, SECRETS, {"write_batch": 20, "write_linger": 5.0}, harness.wire, harness.clock
    ).limits
    assert (limits.write_batch, limits.write_linger, limits.read_batch) == (20, 5.0, 100)
    for overrides in ({"write_batch": 101.0}, {"read_batch": 0.0}, {"speed": 1.0}):
        with pytest.raises(ValueError, match=r"batch|speed"):
            erp.connect(SETTINGS, SECRETS, overrides, harness.wire, harness.clock)
