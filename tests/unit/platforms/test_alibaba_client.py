"""What Alibaba.com's client sends, and what it makes of each answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from invsync_dagster.platforms.alibaba import AlibabaSettings
from invsync_dagster.platforms.alibaba.settings import limits_of, limits_with
from invsync_dagster.platforms.contract import LevelReference, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery, SignatureError
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import Response
from tests.unit.platforms.alibaba_stage import DELTA, GOP, REFRESH, SECRET, SECRETS, TOP, AlibabaStage


@pytest.fixture
def stage(tmp_path: Path) -> AlibabaStage:
    return AlibabaStage(tmp_path / "tokens.json")


# --- absolute numbers -----------------------------------------------------------------------------------------------


def test_a_products_skus_are_set_in_one_signed_call(stage: AlibabaStage) -> None:
    first = stage.account.add_sku("A-1", 5)
    second = stage.account.add_sku("A-2", 6, product=int(first.location_id))
    other = stage.account.add_sku("A-3", 7, product=int(first.location_id))
    assert {outcome.result for outcome in stage.write((first, 2), (second, 0))} == {Result.ACKNOWLEDGED}
    ((path, fields),) = stage.sent()
    assert path == "/icbu/product/edit-inventory"
    assert json.loads(fields["sku_inventory"]) == [
        {"sku_id": first.item_id, "inventory": "2"},
        {"sku_id": second.item_id, "inventory": "0"},
    ]
    assert (fields["product_id"], fields["sign_method"], "inventory" in fields) == (first.location_id, "sha256", False)
    assert [stage.account.shown(level) for level in (first, second, other)] == [2, 0, 7]


def test_a_product_without_skus_is_set_by_its_own_number(stage: AlibabaStage) -> None:
    level = stage.account.add_product("A-1", 5)
    assert level == LevelReference(level.location_id, level.location_id)
    assert stage.write((level, 3))[0].result is Result.ACKNOWLEDGED
    ((_, fields),) = stage.sent()
    assert (fields["inventory"], "sku_inventory" in fields) == ("3", False)
    assert stage.read(level).quantity == 3


def test_ids_beyond_two_to_the_53_survive_as_numbers_and_as_text(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 5, product=9007199254740993, sku=9223372036854775807)
    reading = stage.read(level)
    assert (reading.level, reading.quantity, reading.platform_sku) == (level, 5, "A-1")
    assert reading.variant_id == "9223372036854775807"
    assert stage.write((level, 4))[0].result is Result.ACKNOWLEDGED
    assert stage.account.shown(level) == 4
    (listing,) = stage.platform.listings().listings
    assert (listing.level, listing.listing_id) == (level, "9007199254740993")


@pytest.mark.parametrize("wrong", [1.6e16, "16e15", -5, 0, True, None, "12345678901234567890"])
def test_an_id_that_isnt_one_fails_its_page_instead_of_naming_another_product(stage: AlibabaStage, wrong: Any) -> None:
    product = {"basic_info": {"product_id": wrong}, "trade_info": {"inventory": 3}}
    stage.answer({"code": "0", "result": {"success": True, "product_info": [product]}})
    with pytest.raises(PlatformError, match="product_id is not an id"):
        stage.platform.listings()


@pytest.mark.parametrize("level", [("x", "1"), ("1", ""), ("", "1"), ("1.5", "1"), ("gid://7", "1")])
def test_a_platform_id_that_isnt_one_goes_to_review_unsent(stage: AlibabaStage, level: tuple[str, str]) -> None:
    (outcome,) = stage.write((LevelReference(*level), 3))
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REVIEW, "invalid_id")
    reading = stage.read(LevelReference(*level))
    assert reading.problem is not None
    assert reading.problem.code == "invalid_id"
    assert stage.wire.requests == []


def test_skus_of_two_products_in_one_write_are_refused(stage: AlibabaStage) -> None:
    with pytest.raises(ValueError, match="one product"):
        stage.write((LevelReference("1", "2"), 3), (LevelReference("1", "3"), 3))


def test_a_products_own_number_beside_its_skus_goes_to_review(stage: AlibabaStage) -> None:
    sku = stage.account.add_sku("A-1", 5)
    outcomes = stage.write((LevelReference(sku.location_id, sku.location_id), 9), (sku, 4))
    assert [(outcome.result, outcome.code) for outcome in outcomes] == [
        (Result.REJECTED, "has_skus"),
        (Result.ACKNOWLEDGED, ""),
    ]


def test_a_vanished_product_sends_all_of_its_levels_to_review(stage: AlibabaStage) -> None:
    outcomes = stage.write((LevelReference("1", "77"), 3), (LevelReference("2", "77"), 3))
    assert {(one.result, one.recovery, one.code) for one in outcomes} == {
        (Result.REJECTED, Recovery.REVIEW, "not_found")
    }


def test_a_refusal_that_no_reading_explains_is_told_in_alibabas_words(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 5)
    refusal = {"success": False, "msg_code": "B_SOMETHING", "message": "the product is locked"}
    stage.answer({"code": "0", "result": refusal})
    (outcome,) = stage.write((level, 3))
    assert (outcome.result, outcome.recovery) == (Result.REJECTED, Recovery.REJECT)
    assert (outcome.code, outcome.message) == ("B_SOMETHING", "the product is locked")


@pytest.mark.parametrize(
    "answer",
    [
        {"code": "0"},
        {"code": "0", "result": {}},
        {"code": "0", "result": {"data": None}},
        {"result": {"success": True}},
        {"code": True, "result": {"success": True}},
        {"code": None, "success": True},
    ],
)
def test_an_answer_that_doesnt_say_that_it_was_done_leaves_it_unknown(stage: AlibabaStage, answer: Any) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.answer(answer)
    (outcome,) = stage.write((level, 3))
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)


@pytest.mark.parametrize(
    "answer",
    [
        {"code": "0", "success": True},
        {"code": 0, "success": "true"},
        {"code": "0", "result": {"data": None, "success": True}},
        {"code": "0", "result": {"data": {"success": "true"}}},
    ],
)
def test_a_success_counts_wherever_the_answer_nests_it(stage: AlibabaStage, answer: Any) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.answer(answer)
    assert stage.write((level, 3))[0].result is Result.ACKNOWLEDGED


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "result", "recovery", "wait"),
    [
        ("ApiCallLimit", "this ban will last for 7 more seconds", Result.NOT_SENT, Recovery.WAIT, 7.0),
        ("ApiCallLimit", "too many", Result.NOT_SENT, Recovery.WAIT, 1.0),
        ("isv.api-call-limit", "", Result.NOT_SENT, Recovery.WAIT, 1.0),
        # 08:00 UTC is 16:00 in China: the day ends in eight hours.
        ("AppCallLimit", "today", Result.NOT_SENT, Recovery.WAIT, 8 * 3600.0),
        ("IllegalAccessToken", "expired", Result.NOT_SENT, Recovery.REAUTHENTICATE, None),
        ("InvalidAppKey", "x", Result.NOT_SENT, Recovery.REAUTHENTICATE, None),
        ("IncompleteSignature", "x", Result.NOT_SENT, Recovery.REAUTHENTICATE, None),
        ("AppWhiteIpLimit", "SourceIp", Result.NOT_SENT, Recovery.REAUTHENTICATE, None),
        ("InsufficientPermission", "x", Result.NOT_SENT, Recovery.REAUTHENTICATE, None),
        ("InvalidTimestamp", "x", Result.NOT_SENT, Recovery.REAUTHENTICATE, None),
        ("ServiceUnavailable", "x", Result.UNKNOWN, Recovery.SETTLE, None),
        ("isp.top-remote-connection-timeout", "x", Result.UNKNOWN, Recovery.SETTLE, None),
        ("S_COMMON_INTERNAL_ERROR", "x", Result.UNKNOWN, Recovery.SETTLE, None),
        ("MissingParameter", "product_id", Result.REJECTED, Recovery.REJECT, None),
        ("InvalidApiPath", "x", Result.REJECTED, Recovery.REJECT, None),
    ],
)
def test_each_code_inside_a_200_has_its_recovery(
    stage: AlibabaStage, code: str, message: str, result: Result, recovery: Recovery, wait: float | None
) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.answer({"type": "ISV", "code": code, "message": message, "request_id": "1"})
    (outcome,) = stage.write((level, 3))
    assert (outcome.result, outcome.recovery, outcome.retry_after) == (result, recovery, wait)
    assert (outcome.code, stage.account.shown(level)) == (code, 5)


@pytest.mark.parametrize("kind", ["ISP", "SYSTEM"])
def test_a_failure_of_the_service_itself_may_have_written(stage: AlibabaStage, kind: str) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.answer({"type": kind, "code": "Odd", "message": "x", "request_id": "1"})
    assert stage.write((level, 3))[0].result is Result.UNKNOWN
    stage.answer({"type": kind, "code": "Odd", "message": "x", "request_id": "1"})
    with pytest.raises(PlatformError) as raised:
        stage.read(level)
    assert raised.value.recovery is Recovery.RETRY


def test_the_stand_ins_quotas_are_met_with_their_waits(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.read(level)
    stage.account.gate.quota.rate = stage.account.gate.quota.burst = stage.account.gate.quota.left = 1.0
    stage.read(level)
    (outcome,) = stage.write((level, 3))
    assert (outcome.recovery, outcome.code, outcome.retry_after) == (Recovery.WAIT, "ApiCallLimit", 1.0)
    stage.clock.advance(1)
    stage.account.gate.quota.daily = stage.account.gate.quota.used
    (outcome,) = stage.write((level, 3))
    assert (outcome.recovery, outcome.code, outcome.retry_after) == (Recovery.WAIT, "AppCallLimit", 8 * 3600.0 - 1)
    stage.clock.advance(8 * 3600)
    assert stage.write((level, 3))[0].result is Result.ACKNOWLEDGED


def test_a_clock_that_is_off_and_a_foreign_address_are_named_with_their_mend(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.read(level)
    stage.account.gate.whitelisted = False
    (outcome,) = stage.write((level, 3))
    assert (outcome.code, "IP whitelist" in outcome.message) == ("AppWhiteIpLimit", True)
    stage.account.gate.whitelisted = True
    stage.account._clock = stage.account.gate._clock = type(stage.clock)(stage.clock.now() + timedelta(hours=1))
    (outcome,) = stage.write((level, 3))
    assert (outcome.code, "clock" in outcome.message) == ("InvalidTimestamp", True)


def test_a_wrong_secret_is_named(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "tokens.json")
    stage.account.gate.app_secret = "another"
    with pytest.raises(PlatformError) as raised:
        stage.platform.check_credentials()
    assert (raised.value.recovery, raised.value.code) == (Recovery.REAUTHENTICATE, "IncompleteSignature")
    assert "secret is wrong" in raised.value.message
    assert SECRET not in str(raised.value)


# --- differences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", ["gop", "top"])
def test_a_difference_starts_from_the_number_that_was_read(tmp_path: Path, gateway: str) -> None:
    stage = AlibabaStage(tmp_path / "tokens.json", **((TOP if gateway == "top" else {}) | DELTA))
    first = stage.account.add_sku("A-1", 5, product=9007199254740993)
    second = stage.account.add_sku("A-2", 6, product=9007199254740993)
    outcomes = stage.write((first, 2, 5), (second, 9, 6))
    assert {outcome.result for outcome in outcomes} == {Result.ACKNOWLEDGED}
    ((name, fields),) = stage.sent()
    assert name in ("/icbu/product/inventory/update", "alibaba.icbu.product.inventory.update")
    assert json.loads(fields["request_param"]) == {
        "product_id": 9007199254740993,
        "inventory_list": [
            {"sku_id": int(first.item_id), "inventory_code": "CN_LOCAL_01", "inventory": 3, "operate": "sub"},
            {"sku_id": int(second.item_id), "inventory_code": "CN_LOCAL_01", "inventory": 3, "operate": "plus"},
        ],
    }
    assert [stage.read(level).quantity for level in (first, second)] == [2, 9]
    assert [stage.account.shown(level) for level in (first, second)] == [2, 9]


def test_a_difference_without_a_number_to_start_from_is_not_sent(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "tokens.json", **DELTA)
    level = stage.account.add_sku("A-1", 5)
    (outcome,) = stage.write((level, 2, None))
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.SETTLE, "not_read")
    assert stage.wire.requests == []


def test_no_difference_is_no_call(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "tokens.json", **DELTA)
    level = stage.account.add_sku("A-1", 5)
    assert stage.write((level, 5, 5))[0].result is Result.ACKNOWLEDGED
    assert stage.wire.requests == []


def test_a_product_without_skus_takes_its_difference_under_minus_one(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "tokens.json", **DELTA)
    level = stage.account.add_product("A-1", 5)
    assert stage.write((level, 1, 5))[0].result is Result.ACKNOWLEDGED
    ((_, fields),) = stage.sent()
    assert json.loads(fields["request_param"])["inventory_list"][0]["sku_id"] == -1
    assert stage.read(level).quantity == 1


def test_of_a_refused_call_with_differences_nothing_is_taken_for_unsent(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "tokens.json", **DELTA)
    good = stage.account.add_sku("A-1", 5)
    outcomes = stage.write((good, 4, 5), (LevelReference("99", good.location_id), 3, 5))
    assert [(one.result, one.recovery) for one in outcomes] == [
        (Result.UNKNOWN, Recovery.SETTLE),
        (Result.REJECTED, Recovery.REVIEW),
    ]


def test_another_warehouses_number_isnt_ours(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "tokens.json", **(DELTA | {"warehouse_code": "US_LOCAL_02"}))
    reading = stage.read(stage.account.add_sku("A-1", 5))
    assert reading.quantity is None
    assert reading.problem is not None
    assert reading.problem.recovery is Recovery.REVIEW


def test_an_account_with_differences_settles_before_it_writes_and_reads_later(tmp_path: Path) -> None:
    with_differences = AlibabaSettings(**GOP, **DELTA, token_file="t")
    limits = limits_of(with_differences, {})
    assert (limits.settles_first, limits.read_lag, limits.write_linger) == (True, 160.0, 300.0)
    assert limits_of(with_differences, {"read_lag": 5.0}).read_lag == 5.0
    assert limits_of(AlibabaSettings(**GOP, token_file="t"), {}).settles_first is False


# --- the older gateway ----------------------------------------------------------------------------------------------


def test_the_older_gateway_reads_lists_and_tells_orders_through_its_envelopes(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "unused", **TOP, **DELTA)
    level = stage.account.add_sku("A-1", 5)
    begin = stage.clock.now()
    order = stage.account.buy({level: 2})
    stage.clock.advance(1)
    page = stage.platform.orders_changed(begin, stage.clock.now())
    assert page.content.unclear_orders == (order,)
    (line,) = stage.document(order).lines
    assert (line.ordered, line.reference.item_id) == (2, level.item_id)
    stage.account.bring(order, "wait_confirm_receipt")
    stage.account.bring(order, "trade_close")
    assert stage.document(order).lines[0].shipped == 2
    assert stage.read(level).quantity == 3
    assert {fields["session"] for _, fields in stage.sent()} == {SECRETS["session_env"]}
    assert {request.url for request in stage.wire.requests} == {"https://eco.taobao.com/router/rest"}
    assert not (tmp_path / "unused").exists()
    with pytest.raises(PlatformError, match="map them by a file"):
        stage.platform.listings()


def test_a_dead_session_of_the_older_gateway_is_named(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path / "unused", **TOP, **DELTA)
    stage.account.revoke()
    with pytest.raises(PlatformError) as raised:
        stage.platform.check_credentials()
    assert raised.value.recovery is Recovery.REAUTHENTICATE


# --- settings, door -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"token_file": None}, "needs refresh_token_env and token_file"),
        ({"refresh_token_env": None}, "needs refresh_token_env and token_file"),
        ({"gateway": "top", "write": "delta", "warehouse_code": "W"}, "needs session_env"),
        ({"gateway": "top", "session_env": "T"}, "no call that sets a number"),
        ({"write": "delta"}, "needs warehouse_code"),
        ({"gateway_url": "http://elsewhere.example"}, "must begin with https://"),
        ({"gateway_url": "openapi-api.alibaba.com"}, "must be an address"),
        ({"gateway_url": "https://x.example/?a=1"}, "bare address"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_words(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("?", r"\?")):
        AlibabaSettings(**{**GOP, "token_file": "t", **changed})


def test_limits_are_a_channels_to_change_within_bounds() -> None:
    limits = limits_with({"rate": 2, "read_batch": 3})
    assert (limits.rate, limits.read_batch, limits.read_cost, limits.one_location_a_write) == (2, 3, 3.0, True)
    for wrong in ({"write_batch": 101}, {"read_batch": 0}, {"rate": 0}, {"speed": 1}, {"settles_first": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            limits_with(wrong)


def test_a_reading_tells_how_many_calls_it_took(stage: AlibabaStage) -> None:
    first = stage.account.add_sku("A-1", 5)
    second = stage.account.add_sku("A-2", 5, product=int(first.location_id))
    other = stage.account.add_sku("B-1", 5)
    answer = stage.platform.read([first, second, other])
    assert answer.budget is not None
    assert answer.budget.spent == 2.0
    assert [path for path, _ in stage.sent()] == ["/alibaba/icbu/product/get/v2"] * 2


def test_nothing_comes_in_by_the_door() -> None:
    door = VENDORS["alibaba"].door(AlibabaSettings(**GOP, token_file="t"), SECRETS)
    with pytest.raises(SignatureError, match="asked for"):
        door.verify({"x-signature": "AAAA"}, b"{}", datetime(2026, 11, 21, tzinfo=UTC))


def test_deleted_products_and_such_without_a_number_are_listed_with_their_problem(stage: AlibabaStage) -> None:
    stage.account.add_sku("A-1", 5, product=11)
    stage.account._books.products[11].status = "deleted"
    (listing,) = stage.platform.listings().listings
    assert (listing.quantity, listing.problem) == (None, "the product is deleted")
    product = {"basic_info": {"product_id": "12", "title": "T"}, "trade_info": {"sku_info": [{"sku_id": "5"}]}}
    stage.answer({"code": "0", "product_info": [product]})
    (listing,) = stage.platform.listings().listings
    assert (listing.quantity, listing.problem, listing.level) == (
        None,
        "no inventory is kept for it",
        LevelReference("5", "12"),
    )


def test_the_words_of_an_answer_hold_no_secret(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.answer({"type": "ISV", "code": "MissingParameter", "message": f"{SECRET} {REFRESH}-r1 5000-stand-in-000001"})
    (outcome,) = stage.write((level, 3))
    assert outcome.message == "[secret] [secret]-r1 [secret]" or outcome.message == "[secret] [secret] [secret]"


def test_a_plain_error_page_is_not_an_answer(stage: AlibabaStage) -> None:
    level = stage.account.add_sku("A-1", 5)
    stage.read(level)
    stage.wire.answer_next(Response(404, {}, b"<html>"))
    (outcome,) = stage.write((level, 3))
    assert (outcome.result, outcome.code, "gateway_url" in outcome.message) == (Result.REJECTED, "http_404", True)
