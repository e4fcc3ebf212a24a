"""The ERP's row of the shared platform contract, and what its contract says beyond it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.events import Content, StockCount
from invsync_dagster.platforms import erp
from invsync_dagster.platforms.contract import LevelReference, Result, WriteRow
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery, SignatureError
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.suite import PlatformContract
from tests.contract.wire import ManualClock, Wire

API_KEY, SIGNING, WEBHOOK, PREVIOUS = "key-9f31aa", "signing-77c2bd", "webhook-51e0cc", "previous-08d4ee"
SETTINGS = erp.ErpSettings(
    base_url="http://127.0.0.1:8790/erp_main",
    api_key_env="ERP_API_KEY",
    signing_secret_env="ERP_SIGNING_SECRET",
    webhook_secret_env="ERP_WEBHOOK_SECRET",
    webhook_previous_secret_env="ERP_WEBHOOK_PREVIOUS_SECRET",
)
SECRETS = {
    "api_key_env": API_KEY,
    "signing_secret_env": SIGNING,
    "webhook_secret_env": WEBHOOK,
    "webhook_previous_secret_env": PREVIOUS,
}


class ErpHarness:
    """The real client and door, wired to the stand-in ERP."""

    writes_all_or_nothing = False
    page_size = 10
    secrets: Sequence[str] = tuple(SECRETS.values())

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.erp = ErpSandbox(
            self.clock,
            Random(7),
            api_key=API_KEY,
            signing_secret=SIGNING,
            webhook_secret=WEBHOOK,
            page_size=self.page_size,
        )
        self.wire = Wire(self.erp.handle)
        self.platform = erp.connect(SETTINGS, SECRETS, {}, self.wire, self.clock)
        self.door = erp.door(SETTINGS, SECRETS)
        self._number = 0

    def make_level(self, quantity: int) -> LevelReference:
        self._number += 1
        self.erp.add(f"SKU-{self._number:04d}", quantity)
        return LevelReference(f"SKU-{self._number:04d}")

    def unknown_level(self) -> LevelReference:
        return LevelReference("no-such-sku")

    def book(self, level: LevelReference) -> int:
        return self.erp.book(level.item_id).available_quantity

    def edit(self, level: LevelReference, quantity: int) -> None:
        self.erp.edit_available(level.item_id, quantity)

    def revoke_credentials(self) -> None:
        self.erp.change_credentials("another-key")

    def change(self, level: LevelReference) -> str:
        event_id = self.erp.sell(level.item_id)
        assert event_id is not None
        return event_id

    def changes_in(self, content: Content) -> list[str]:
        return [count.event_id for count in content.counts]

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        return [
            ({name.lower(): value for name, value in delivery.headers.items()}, delivery.body)
            for delivery in self.erp.take_outgoing()
        ]

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        return signed(self.clock.now(), json.dumps(an_event(change_type="transfer")).encode())


def signed(now: datetime, body: bytes, secret: str = WEBHOOK) -> tuple[dict[str, str], bytes]:
    timestamp = str(int(now.timestamp()))
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return {
        "x-invsync-event-id": "e-1",
        "x-invsync-timestamp": timestamp,
        "x-invsync-signature": base64.b64encode(digest).decode(),
    }, body


def an_event(**changed: Any) -> dict[str, Any]:
    event = {
        "event_id": "e-1",
        "sku": "00042",
        "change_type": "sale",
        "quantity": 41,
        "occurred_at": "2026-11-21T07:59:58.250+00:00",
        "version": 17,
    }
    return {name: value for name, value in (event | changed).items() if value is not ...}


def parsed(harness: ErpHarness, document: Any) -> Content:
    headers, body = signed(harness.clock.now(), json.dumps(document).encode())
    harness.door.verify(headers, body, harness.clock.now())
    return harness.door.parse(headers, body)


@pytest.fixture
def harness() -> ErpHarness:
    return ErpHarness()


class TestErp(PlatformContract):
    """The shared suite over the ERP."""


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_an_event_becomes_a_count_with_its_time_and_version(harness: ErpHarness) -> None:
    (count,) = parsed(harness, an_event()).counts
    occurred_at = datetime(2026, 11, 21, 7, 59, 58, 250_000, tzinfo=UTC)
    assert count == StockCount("e-1", "00042", 41, occurred_at, version=17, change_type="sale")


def test_a_list_of_events_is_read_in_its_order(harness: ErpHarness) -> None:
    events = [
        an_event(event_id=f"e-{n}", quantity=n, change_type=kind) for n, kind in enumerate(("restock", "adjustment"))
    ]
    counts = parsed(harness, {"events": events}).counts
    assert [(count.event_id, count.quantity, count.change_type) for count in counts] == [
        ("e-0", 0, "restock"),
        ("e-1", 1, "adjustment"),
    ]


def test_fields_that_the_contract_will_grow_are_left_alone(harness: ErpHarness) -> None:
    assert parsed(harness, an_event(warehouse="north", recorded_at="2026-11-21T08:00:00Z")).counts[0].quantity == 41


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("quantity", value) for value in (True, 3.0, "3", -1, None, ..., 1_000_000_001, [3])),
        *(("version", value) for value in (False, 1.5, "1", -1, ...)),
        *(("sku", value) for value in ("", " 42", "42 ", 42, None, ..., "x" * 256, "a\x00b", "a\ud800b", "a\nb")),
        *(("event_id", value) for value in ("", 7, ..., "x" * 256)),
        *(("change_type", value) for value in ("transfer", "Sale", "", 1, ...)),
        *(
            ("occurred_at", value)
            for value in (
                "2026-11-21T08:00:00",
                "2026-11-21",
                "20261121T080000Z",
                "2026-11-21 08:00:00Z",
                "2026-02-30T08:00:00Z",
                "0001-01-01T00:00:00+23:59",
                "2026-11-21T08:06:00Z",
                1_795_000_000,
                "",
                ...,
            )
        ),
    ],
)
def test_a_field_that_is_not_as_the_contract_says_is_named(harness: ErpHarness, field: str, value: Any) -> None:
    with pytest.raises(NotUnderstoodError, match=field):
        parsed(harness, an_event(**{field: value}))
    with pytest.raises(NotUnderstoodError, match=rf"events\[1\]\.{field}"):
        parsed(harness, {"events": [an_event(), an_event(**{field: value})]})


@pytest.mark.parametrize("events", [[], {}, None, "x", [1], [an_event()] * 501])
def test_a_list_that_is_empty_too_long_or_no_list_is_not_understood(harness: ErpHarness, events: Any) -> None:
    with pytest.raises(NotUnderstoodError, match="events"):
        parsed(harness, {"events": events})


@pytest.mark.parametrize(
    "body",
    [
        b'{"quantity": NaN}',
        b'{"quantity": 1, "quantity": 2}',
        b"[" * 200_000,
        b'{"quantity": ' + b"9" * 5000 + b"}",
        b'{"sku": "\xff"}',
    ],
)
def test_bytes_that_json_readers_disagree_on_are_not_understood(harness: ErpHarness, body: bytes) -> None:
    with pytest.raises(NotUnderstoodError):
        harness.door.parse(signed(harness.clock.now(), body)[0], body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(an_event())), json_values)
def test_whatever_stands_in_a_field_is_read_or_not_understood(field: str, value: Any) -> None:
    harness = ErpHarness()
    try:
        (count,) = parsed(harness, an_event(**{field: value})).counts
    except NotUnderstoodError:
        return
    assert 0 <= count.quantity <= 1_000_000_000
    assert count.occurred_at.tzinfo is UTC
    assert count.platform_sku.encode()


def test_the_signatures_printed_in_the_contract_are_right() -> None:
    document = (Path(__file__).parents[2] / "docs" / "erp-contract.md").read_text(encoding="utf-8")
    example = document.partition("1795249801`:")[2].partition("```")[2].partition("```")[0]
    lines = dict(line.split(maxsplit=1) for line in example.replace("\n\nGET", "\nGET").split("\n") if line)
    body, _, rest = example.partition("signature")
    for signed_text, printed in (
        (body.removeprefix("\nbody").strip(), rest.split()[0]),
        (lines["GET"].strip(), lines["signature"].strip()),
    ):
        digest = hmac.new(b"example-secret", b"1795249801." + signed_text.encode(), hashlib.sha256).digest()
        assert printed == base64.b64encode(digest).decode()


def test_the_secret_before_the_rotation_is_still_taken_and_any_other_refused(harness: ErpHarness) -> None:
    now = harness.clock.now()
    for secret in (WEBHOOK, PREVIOUS):
        harness.door.verify(*signed(now, b"{}", secret), now)
    with pytest.raises(SignatureError):
        harness.door.verify(*signed(now, b"{}", SIGNING), now)


@pytest.mark.parametrize(("seconds", "taken"), [(300, True), (-300, True), (301, False), (-301, False)])
def test_a_signature_is_good_for_five_minutes(harness: ErpHarness, seconds: int, taken: bool) -> None:
    headers, body = signed(harness.clock.now(), b"{}")
    then = harness.clock.now() + timedelta(seconds=seconds)
    if taken:
        harness.door.verify(headers, body, then)
    else:
        with pytest.raises(SignatureError, match="300 s"):
            harness.door.verify(headers, body, then)


@pytest.mark.parametrize("timestamp", ["", "soon", "-5", "1e9", "1764000000.5", "9" * 30, "١٢٣"])
def test_a_timestamp_that_is_not_unix_seconds_is_refused(harness: ErpHarness, timestamp: str) -> None:
    digest = hmac.new(WEBHOOK.encode(), timestamp.encode() + b".{}", hashlib.sha256).digest()
    headers = {"x-invsync-timestamp": timestamp, "x-invsync-signature": base64.b64encode(digest).decode()}
    with pytest.raises(SignatureError, match="timestamp"):
        harness.door.verify(headers, b"{}", harness.clock.now())


def test_an_attempt_made_later_is_signed_anew_by_the_erp(harness: ErpHarness) -> None:
    harness.change(harness.make_level(3))
    (delivery,) = harness.erp.take_outgoing()
    headers, body = delivery.headers, delivery.body
    harness.clock.advance(3600)
    again = {name.lower(): value for name, value in harness.erp.signed(headers, body).items()}
    harness.door.verify(again, body, harness.clock.now())
    assert again["x-invsync-event-id"] == headers["X-Invsync-Event-Id"]


# --- writing ----------------------------------------------------------------------------------------------------------


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


# --- reading and the pull ---------------------------------------------------------------------------------------------


def test_a_level_that_the_answer_leaves_out_is_no_reading_and_no_missing_article(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    for items in ([], [{"sku": level.item_id, "available_quantity": "5"}], [{"sku": level.item_id}]):
        harness.wire.answer_next(Response(200, {}, json.dumps({"items": items}).encode()))
        (reading,) = harness.platform.read([level]).readings
        assert reading.quantity is None
        assert reading.problem is not None
        assert reading.problem.recovery is Recovery.RETRY


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


# --- the stand-in -----------------------------------------------------------------------------------------------------


def test_the_desks_sell_what_they_see_and_the_shelf_has(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    harness.platform.write([WriteRow(level, 1)], key="key-1")
    assert harness.erp.sell(level.item_id, 2) is None
    assert harness.erp.sell(level.item_id, 1) is not None
    assert (harness.erp.book(level.item_id).on_hand, harness.book(level)) == (4, 1)


def test_the_erp_throttles_a_caller_above_its_rate_and_says_how_long(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    outcomes = [harness.platform.write([WriteRow(level, 3)], key=f"key-{n}").outcomes[0] for n in range(21)]
    assert [outcome.result for outcome in outcomes] == [Result.ACKNOWLEDGED] * 20 + [Result.NOT_SENT]
    assert (outcomes[20].recovery, outcomes[20].retry_after) == (Recovery.WAIT, 1.0)
    harness.clock.advance(1)
    assert harness.platform.write([WriteRow(level, 3)], key="key-22").outcomes[0].result is Result.ACKNOWLEDGED


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/invsync/v1/stock", b"{", 400, "bad_json"),
        ("POST", "/invsync/v1/stock", b"[]", 400, "bad_request"),
        ("POST", "/invsync/v1/stock", b'{"updates": []}', 400, "bad_request"),
        ("POST", "/invsync/v1/stock", b'{"updates": [{"sku": "a"}, {"sku": "a"}]}', 400, "duplicate_sku"),
        ("POST", "/invsync/v1/stock", json.dumps({"updates": [{}] * 101}).encode(), 413, "too_many_rows"),
        ("GET", "/invsync/v1/stock", b"", 405, "wrong_method"),
        ("GET", "/invsync/v1/changes?since=now&until=later", b"", 400, "bad_time"),
        ("GET", "/invsync/v2/ping", b"", 404, "no_such_path"),
    ],
)
def test_the_erp_refuses_calls_that_break_the_contract(
    harness: ErpHarness, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    url = f"http://127.0.0.1:8790/erp_main{path}"
    headers, _ = signed(harness.clock.now(), body if method == "POST" else f"/erp_main{path}".encode(), SIGNING)
    headers |= {"x-invsync-api-key": API_KEY, "content-type": "application/json", "idempotency-key": "key-1"}
    response = harness.erp.handle(Request(method, url, headers, body))
    assert (response.status, json.loads(response.body)["error"]["code"]) == (status, code)


def test_a_call_signed_for_another_body_or_too_long_ago_is_unauthorised(harness: ErpHarness) -> None:
    url, body = "http://127.0.0.1:8790/erp_main/invsync/v1/stock/query", b'{"skus": ["a"]}'
    headers = signed(harness.clock.now(), body, SIGNING)[0] | {"x-invsync-api-key": API_KEY}
    headers["content-type"] = "application/json"
    assert harness.erp.handle(Request("POST", url, headers, body)).status == 200
    assert harness.erp.handle(Request("POST", url, headers, body + b" ")).status == 401
    harness.clock.advance(301)
    assert harness.erp.handle(Request("POST", url, headers, body)).status == 401


def test_an_erp_restored_from_its_state_goes_on_where_it_was(harness: ErpHarness) -> None:
    level = harness.make_level(5)
    begin = harness.clock.now()
    first = harness.change(level)
    harness.platform.write([WriteRow(level, 2)], key="key-1")
    state = json.loads(json.dumps(harness.erp.dump()))
    second = ErpHarness()
    second.erp.load(state)
    second.clock.advance(1)
    assert second.erp.books() == harness.erp.books()
    assert second.changes_in(second.platform.orders_changed(begin, second.clock.now()).content) == [first]
    assert second.deliveries() == harness.deliveries()
    second.edit(level, 1)
    assert second.platform.write([WriteRow(level, 2)], key="key-1").outcomes[0].result is Result.ACKNOWLEDGED
    assert second.book(level) == 1


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
