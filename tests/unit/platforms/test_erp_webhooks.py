"""What the ERP's webhooks may say, and who may say it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.events import StockCount
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from tests.contract.erp_harness import (
    PREVIOUS,
    SIGNING,
    WEBHOOK,
    ErpHarness,
    an_event,
    parsed,
    signed,
)


@pytest.fixture
def harness() -> ErpHarness:
    return ErpHarness()


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
    document = (Path(__file__).parents[3] / "docs" / "erp-contract.md").read_text(encoding="utf-8")
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
