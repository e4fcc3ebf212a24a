"""Amazon's client before the stand-in account: what it sends, what it makes of answers, and whose stock it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from pydantic import ValidationError

from invsync_dagster.platforms.amazon import AmazonSettings
from invsync_dagster.platforms.amazon.settings import LIMITS, limits_as_told, limits_with
from invsync_dagster.platforms.contract import LevelReference, Outcome, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.amazon_harness import FIRST, SECOND, SELLER, AmazonHarness, settings_with


@pytest.fixture
def harness() -> AmazonHarness:
    return AmazonHarness()


def write(harness: AmazonHarness, sku: str, quantity: int) -> Outcome:
    (outcome,) = harness.platform.write([WriteRow(LevelReference(sku), quantity)], key="key").outcomes
    return outcome


def asked(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}


def answered(status: int, code: str, message: str, details: str = "") -> Response:
    errors = {"errors": [{"code": code, "message": message, "details": details}]}
    return Response(status, {}, json.dumps(errors).encode())


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_write_merges_the_quantity_of_the_sellers_channel_and_nothing_else(harness: AmazonHarness) -> None:
    harness.account.add_item("A/1 ä%", 5, lead_time=9)
    outcome = write(harness, "A/1 ä%", 3)
    assert (outcome.result, outcome.check_after) == (Result.ACCEPTED, LIMITS.read_lag)
    assert outcome.handle
    (request,) = harness.wire.requests
    assert unquote(urlsplit(request.url).path) == f"/listings/2021-08-01/items/{SELLER}/A/1 ä%"
    assert "/A%2F1%20%C3%A4%25?" in request.url
    assert asked(request) == {"marketplaceIds": FIRST, "includedData": "issues"}
    assert json.loads(request.body) == {
        "productType": "PRODUCT",
        "patches": [
            {
                "op": "merge",
                "path": "/attributes/fulfillment_availability",
                "value": [{"fulfillment_channel_code": "DEFAULT", "quantity": 3}],
            }
        ],
    }
    item = harness.account.item("A/1 ä%")
    assert item.availability["DEFAULT"]["lead_time_to_ship_max_days"] == 9
    assert item.quantity == 3


def test_another_fulfilment_channels_fields_survive_a_write(harness: AmazonHarness) -> None:
    harness.account.add_item("A", 5)
    other = {"fulfillment_channel_code": "supply-source-1", "quantity": 4}
    harness.account.item("A").availability["supply-source-1"] = dict(other)
    write(harness, "A", 3)
    assert harness.account.item("A").availability["supply-source-1"] == other


def test_a_taken_patch_is_accepted_though_it_shows_only_later() -> None:
    harness = AmazonHarness(processing_seconds=90)
    level = harness.account.add_item("A", 5)
    assert write(harness, "A", 3).result is Result.ACCEPTED
    assert harness.platform.read([level]).readings[0].quantity == 5
    harness.clock.advance(91)
    assert harness.platform.read([level]).readings[0].quantity == 3


def test_an_invalid_submission_is_rejected_in_amazons_words(harness: AmazonHarness) -> None:
    issues = [
        {"code": "1", "message": "A hint.", "severity": "WARNING", "categories": []},
        {"code": "90244", "message": "The value is not valid.", "severity": "ERROR", "categories": []},
        {"code": "2", "message": "Another.", "severity": "ERROR", "categories": []},
    ]
    body = {"sku": "A", "status": "INVALID", "submissionId": "s", "issues": issues}
    harness.wire.answer_next(Response(200, {}, json.dumps(body).encode()))
    outcome = write(harness, "A", 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REJECT, "90244")
    assert outcome.message == "The value is not valid.; Another."


@pytest.mark.parametrize("issues", [None, [], "x", [None], [{}]])
def test_an_invalid_submission_without_a_reason_is_rejected_all_the_same(harness: AmazonHarness, issues: Any) -> None:
    body = {"sku": "A", "status": "INVALID", "submissionId": "s", "issues": issues}
    harness.wire.answer_next(Response(200, {}, json.dumps(body).encode()))
    outcome = write(harness, "A", 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REJECT, "invalid")
    assert outcome.message


def test_a_preview_is_never_taken_for_a_submission(harness: AmazonHarness) -> None:
    body = {"sku": "A", "status": "VALID", "submissionId": "s", "issues": []}
    harness.wire.answer_next(Response(200, {}, json.dumps(body).encode()))
    assert write(harness, "A", 3).result is Result.UNKNOWN


@pytest.mark.parametrize("sku", ["", ".", "..", "x" * 41, "tab\t", " blank", "line\n"])
def test_what_can_be_no_sku_is_refused_unsent(harness: AmazonHarness, sku: str) -> None:
    outcome = write(harness, sku, 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.REVIEW, "invalid_id")
    (reading,) = harness.platform.read([LevelReference(sku)]).readings
    assert reading.problem is not None
    assert reading.problem.code == "invalid_id"
    assert harness.wire.requests == []


def test_a_quantity_that_can_not_be_is_refused_unsent(harness: AmazonHarness) -> None:
    assert write(harness, "A", -1).code == "invalid_quantity"
    assert harness.wire.requests == []


# --- reading --------------------------------------------------------------------------------------------------------


def test_twenty_skus_are_read_in_one_call_and_those_with_a_comma_one_by_one() -> None:
    harness = AmazonHarness(rate_factor=1.0)
    levels = [harness.account.add_item(sku, number) for number, sku in enumerate(["A", "B,C", "D"])]
    answer = harness.platform.read([*levels, LevelReference("X,Y")])
    assert [reading.quantity for reading in answer.readings] == [0, 1, 2, None]
    assert [urlsplit(request.url).path.count("/") for request in harness.wire.requests] == [4, 5, 5]
    assert asked(harness.wire.requests[0])["identifiers"] == "A,D"
    assert answer.budget is not None
    assert answer.budget.spent == 3


def test_a_sku_that_two_marketplaces_offer_is_one_level(harness: AmazonHarness) -> None:
    level = harness.account.add_item("A", 7, marketplaces=(FIRST, SECOND))
    (reading,) = harness.platform.read([level]).readings
    assert (reading.level, reading.quantity) == (LevelReference("A"), 7)
    assert asked(harness.wire.requests[0])["marketplaceIds"] == f"{FIRST},{SECOND}"


def test_fba_stock_is_for_review_with_the_reason_and_shows_no_number(harness: AmazonHarness) -> None:
    level = harness.account.add_item("F", None, fulfilled_by_amazon=True)
    both = harness.account.add_item("G", 3)
    harness.account.item("G").availability["AMAZON_EU"] = {"fulfillment_channel_code": "AMAZON_EU"}
    for reading in harness.platform.read([level, both]).readings:
        assert reading.quantity is None
        assert reading.problem is not None
        assert (reading.problem.recovery, reading.problem.code) == (Recovery.REVIEW, "fba")
        assert "FBA" in reading.problem.message


def test_a_sku_that_the_first_marketplace_does_not_offer_is_for_review(harness: AmazonHarness) -> None:
    level = harness.account.add_item("F", 4, marketplaces=(SECOND,))
    (reading,) = harness.platform.read([level]).readings
    assert reading.problem is not None
    assert reading.problem.code == "elsewhere"


def test_a_listing_without_a_number_yet_shows_none_in_stock(harness: AmazonHarness) -> None:
    level = harness.account.add_item("A", None)
    assert harness.platform.read([level]).readings[0].quantity == 0


@pytest.mark.parametrize("quantity", [-1, "7", 1.5, True, None])
def test_a_quantity_that_is_no_number_is_no_reading(harness: AmazonHarness, quantity: Any) -> None:
    item = {"sku": "A", "fulfillmentAvailability": [{"fulfillmentChannelCode": "DEFAULT", "quantity": quantity}]}
    body = {"numberOfResults": 1, "items": [item]}
    harness.wire.answer_next(Response(200, {}, json.dumps(body).encode()))
    with pytest.raises(PlatformError) as raised:
        harness.platform.read([LevelReference("A")])
    assert raised.value.recovery is Recovery.RETRY


def test_a_number_of_hundreds_of_digits_is_a_problem_and_no_crash(harness: AmazonHarness) -> None:
    item = {"sku": "A", "fulfillmentAvailability": [{"fulfillmentChannelCode": "DEFAULT", "quantity": 10**400}]}
    harness.wire.answer_next(Response(200, {}, json.dumps({"numberOfResults": 1, "items": [item]}).encode()))
    (reading,) = harness.platform.read([LevelReference("A")]).readings
    assert reading.quantity is None
    assert reading.problem is not None
    assert "1.00e+400 pieces" in reading.problem.message


# --- listings -------------------------------------------------------------------------------------------------------


def test_a_walk_goes_on_behind_the_thousand_items_that_one_search_gives(harness: AmazonHarness) -> None:
    skus = {f"S{number:05d}" for number in range(2150)}
    for sku in sorted(skus):
        harness.account.add_item(sku, 1)
    harness.account.add_item("FBA", None, fulfilled_by_amazon=True)
    found: list[str] = []
    problems = set()
    cursor, pages = "", 0
    while pages == 0 or cursor:
        page = harness.platform.listings(cursor)
        found += [listing.platform_sku for listing in page.listings]
        problems |= {listing.platform_sku for listing in page.listings if listing.problem}
        cursor, pages = page.cursor, pages + 1
        assert pages < 200
    assert set(found) == skus | {"FBA"}
    assert len(found) <= len(skus) + 4
    assert problems == {"FBA"}


@pytest.mark.parametrize("cursor", ["x", "a|b|c", "||"])
def test_a_foreign_cursor_is_refused(harness: AmazonHarness, cursor: str) -> None:
    with pytest.raises(ValueError, match="never given"):
        harness.platform.listings(cursor)


# --- tokens ---------------------------------------------------------------------------------------------------------


def token_calls(harness: AmazonHarness) -> list[Request]:
    return [request for request in harness.wire.requests if request.url.endswith("/auth/o2/token")]


def test_a_token_is_kept_for_the_hour_and_renewed_five_minutes_early(harness: AmazonHarness) -> None:
    level = harness.account.add_item("A", 5)
    harness.clock.advance(3290)
    harness.platform.read([level])
    assert token_calls(harness) == []
    harness.clock.advance(20)
    harness.platform.read([level])
    (call,) = token_calls(harness)
    assert call.url == "https://api.amazon.com/auth/o2/token"
    form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
    assert form["grant_type"] == "refresh_token"
    assert set(form) == {"grant_type", "refresh_token", "client_id", "client_secret"}


def test_a_renewal_that_fails_early_goes_on_with_the_token_that_is_still_good(harness: AmazonHarness) -> None:
    level = harness.account.add_item("A", 5)
    harness.clock.advance(3400)
    harness.wire.lose_request_next()
    assert harness.platform.read([level]).readings[0].quantity == 5
    harness.clock.advance(300)
    harness.wire.lose_request_next()
    with pytest.raises(PlatformError) as raised:
        harness.platform.read([level])
    assert raised.value.recovery is Recovery.RETRY


def test_a_lost_renewal_means_that_nothing_was_written(harness: AmazonHarness) -> None:
    harness.account.add_item("A", 5)
    harness.clock.advance(4000)
    harness.wire.lose_answer_next()
    outcome = write(harness, "A", 3)
    assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.RETRY)
    assert harness.account.item("A").quantity == 5


def test_a_token_that_ended_before_its_time_is_replaced_once_and_a_new_one_refused_is_the_end(
    harness: AmazonHarness,
) -> None:
    harness.account.add_item("A", 5)
    harness.clock.advance(600)
    harness.account.expire_tokens()
    outcome = write(harness, "A", 3)
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.NOT_SENT, Recovery.RETRY, "token_refused")
    assert write(harness, "A", 3).result is Result.ACCEPTED
    harness.account.expire_tokens()
    outcome = write(harness, "A", 2)
    assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.REAUTHENTICATE)
    assert "has expired" in outcome.message


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, "invalid_grant", "authorize the app again"),
        (401, "invalid_client", "client id or secret is wrong"),
        (400, "unauthorized_client", "another app's"),
        (400, "invalid_request", "check the app's client id"),
        (403, "", "check the app's client id"),
    ],
)
def test_login_with_amazon_is_quoted_and_the_mend_is_said(
    harness: AmazonHarness, status: int, error: str, words: str
) -> None:
    harness.clock.advance(4000)
    body = {"error": error, "error_description": "Because.", "error_index": "", "request_id": "r"}
    harness.wire.answer_next(Response(status, {}, json.dumps(body).encode()))
    with pytest.raises(PlatformError) as raised:
        harness.platform.check_credentials()
    assert raised.value.recovery is Recovery.REAUTHENTICATE
    assert words in raised.value.message
    assert "Because." in raised.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"access_token":"","expires_in":3600}',
        b'{"access_token":"t","expires_in":"x"}',
        b'{"access_token":"t\\n","expires_in":9}',
    ],
)
def test_what_is_no_token_is_never_used(harness: AmazonHarness, body: bytes) -> None:
    harness.clock.advance(4000)
    harness.wire.answer_next(Response(200, {}, body))
    with pytest.raises(PlatformError) as raised:
        harness.platform.read([LevelReference("A")])
    assert raised.value.recovery is Recovery.RETRY
    assert len(harness.wire.requests) == 1


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "recovery", "code"),
    [
        (answered(400, "InvalidInput", "Nope."), Recovery.REJECT, "invalid_input"),
        (answered(400, "BAD_REQUEST", "Nope."), Recovery.REJECT, "bad_request"),
        (
            answered(403, "Unauthorized", "Access to requested resource is denied."),
            Recovery.REAUTHENTICATE,
            "unauthorized",
        ),
        (answered(404, "NOT_FOUND", "Gone."), Recovery.REVIEW, "not_found"),
        (answered(404, "NotFound", "Gone."), Recovery.REVIEW, "not_found"),
        (answered(413, "", ""), Recovery.REJECT, "http_413"),
        (answered(429, "QuotaExceeded", "You exceeded your quota."), Recovery.WAIT, "throttled"),
        (answered(503, "ServiceUnavailable", "Later."), Recovery.SETTLE, "service_unavailable"),
    ],
)
def test_errors_say_what_to_do(harness: AmazonHarness, response: Response, recovery: Recovery, code: str) -> None:
    harness.wire.answer_next(response)
    outcome = write(harness, "A", 3)
    assert (outcome.recovery, outcome.code) == (recovery, code)
    assert outcome.message


def test_a_throttled_check_of_the_credentials_is_no_refusal(harness: AmazonHarness) -> None:
    listings = Response(200, {}, b'{"numberOfResults":0,"items":[]}')
    harness.wire.answer_next(listings)
    harness.wire.answer_next(answered(429, "QuotaExceeded", "You exceeded your quota."))
    harness.platform.check_credentials()
    harness.wire.answer_next(listings)
    harness.wire.answer_next(answered(403, "Unauthorized", "Access to requested resource is denied."))
    with pytest.raises(PlatformError, match="roles"):
        harness.platform.check_credentials()


# --- settings -------------------------------------------------------------------------------------------------------


def test_countries_become_marketplaces_of_the_region() -> None:
    settings = AmazonSettings.model_validate(settings_with(marketplaces=["de", "A13V1IB3VIYZZH", "A1805IZSGTT6HS"]))
    assert settings.marketplaces == (FIRST, SECOND, "A1805IZSGTT6HS")
    assert settings.api_url == "https://sellingpartnerapi-eu.amazon.com"
    assert settings.token_url == "https://api.amazon.com/auth/o2/token"


def test_a_stand_in_on_loopback_gives_its_own_tokens_and_amazons_sandbox_does_not() -> None:
    local = AmazonSettings.model_validate(settings_with(api_url="http://127.0.0.1:8790/amazon_eu/"))
    assert (local.api_url, local.token_url) == (
        "http://127.0.0.1:8790/amazon_eu",
        "http://127.0.0.1:8790/amazon_eu/auth/o2/token",
    )
    sandbox = AmazonSettings.model_validate(settings_with(api_url="https://sandbox.sellingpartnerapi-eu.amazon.com"))
    assert sandbox.token_url == "https://api.amazon.com/auth/o2/token"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"marketplaces": ["US"]}, "is in region na, not eu"),
        ({"marketplaces": ["XX"]}, "neither a marketplace id nor one of US"),
        ({"marketplaces": ["DE", FIRST]}, "named twice"),
        ({"marketplaces": []}, "at least 1"),
        ({"region": "mars"}, "region"),
        ({"seller_id": "not one"}, "seller_id"),
        ({"api_url": "https://amazon.com.evil.example"}, "address of amazon.com"),
        ({"api_url": "http://sellingpartnerapi-eu.amazon.com"}, "address of amazon.com"),
        ({"api_url": "https://user@api.amazon.com"}, "bare address"),
        ({"refresh_token_env": ...}, "refresh_token_env"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_can_not_be_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AmazonSettings.model_validate(settings_with(**changed))


def test_limits_may_be_lowered_and_not_made_up() -> None:
    assert limits_with({"rate": 2, "read_batch": 10}).read_batch == 10
    for wrong in ({"write_batch": 5.0}, {"read_batch": 21.0}, {"rate": 0.0}, {"colour": 1.0}, {"burst": -1.0}):
        with pytest.raises(ValueError, match=r"must be|unknown limit"):
            limits_with(wrong)


# --- the rates it tells -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "cost"), [(1.0, 1.0), (0.4, 2.5), (4.0, 0.25)])
def test_an_operation_takes_the_rate_that_its_answers_tell(factor: float, cost: float) -> None:
    harness = AmazonHarness(rate_factor=factor)
    harness.account.add_item("A", 5)
    assert write(harness, "A", 3).result is Result.ACCEPTED
    assert harness.platform.limits.write_cost == cost
    answer = harness.platform.read([LevelReference("A")])
    assert (harness.platform.limits.read_cost, answer.budget and answer.budget.spent) == (cost, cost)
    harness.platform.orders_changed(harness.clock.now() - timedelta(hours=1), harness.clock.now())
    assert harness.platform.limits.orders_cost == 1.0  # of another budget


def test_a_rate_of_the_channels_own_is_lowered_by_what_amazon_tells_and_never_raised() -> None:
    own = replace(LIMITS, rate=2.0)
    for told, cost in (("5.0", 1.0), ("0.5", 4.0), ("nan", 1.0), ("0", 1.0), ("", 1.0)):
        answer = Response(200, {"x-amzn-ratelimit-limit": told})
        assert limits_as_told(own, answer, writes=True, reads=False).write_cost == cost
    assert limits_as_told(own, Response(429), writes=True, reads=False) == own
