"""The stand-in ERP: its desks, its refusals, its state."""

from __future__ import annotations

import json

import pytest

from invsync_dagster.platforms.contract import Result, WriteRow
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.platforms.transport import Request
from tests.contract.erp_harness import (
    API_KEY,
    SIGNING,
    ErpHarness,
    signed,
)


@pytest.fixture
def harness() -> ErpHarness:
    return ErpHarness()


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
        ("GET", "/invsync/v1/stock/query", b"", 405, "wrong_method"),
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
