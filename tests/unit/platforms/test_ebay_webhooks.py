"""eBay's door: the challenge of its address, keys that are fetched and kept, and what its notifications say."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from invsync_dagster.events import Content
from invsync_dagster.platforms.ebay import door as door_of
from invsync_dagster.platforms.ebay.settings import EbaySettings
from invsync_dagster.platforms.ebay.webhooks import EbayDoor
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, SignatureError
from invsync_dagster.platforms.transport import Response
from tests.contract.ebay_harness import ENDPOINT, SECRETS, SETTINGS, VERIFICATION, EbayHarness

UNKNOWN = "0a1b2c3d-0000-0000-0000-000000000000"


def door_and(harness: EbayHarness) -> tuple[EbayDoor, dict[str, str], bytes]:
    """Return the door with one signed notification that waits before it, its key not fetched."""
    assert isinstance(harness.door, EbayDoor)
    harness.change(harness.make_level(5))
    sent = harness.account.take_outgoing()[0]
    return harness.door, {name.lower(): value for name, value in sent.headers.items()}, sent.body


def signed_by(key_id: str) -> dict[str, str]:
    header = {"alg": "ecdsa", "kid": key_id, "signature": "MEUCIQ==", "digest": "SHA1"}
    return {"x-ebay-signature": base64.b64encode(json.dumps(header).encode()).decode()}


def notification(topic: str, data: Any) -> bytes:
    return json.dumps({"metadata": {"topic": topic}, "notification": {"data": data}}).encode()


def parsed(topic: str, data: Any) -> Content:
    return EbayHarness().door.parse({}, notification(topic, data))


# --- the challenge ----------------------------------------------------------------------------------------------------


def test_the_challenge_is_answered_with_the_hash_of_code_token_and_address() -> None:
    door = door_of(EbaySettings.model_validate(SETTINGS), SECRETS)
    answer = door.challenge_answer({"challenge_code": "abc"})
    assert answer is not None
    expected = hashlib.sha256(f"abc{VERIFICATION}{ENDPOINT}".encode()).hexdigest()
    assert json.loads(answer) == {"challengeResponse": expected}
    assert door.challenge_answer({"other": "abc"}) is None


def test_the_challenge_of_ebays_own_example_is_answered_alike() -> None:
    code = "71745723-d031-455c-bfa5-f90d11b4f20a"
    settings = EbaySettings.model_validate({**SETTINGS, "webhook_url": "http://www.testendpoint.com/webhook"})
    answer = door_of(settings, {**SECRETS, "verification_token_env": code}).challenge_answer({"challenge_code": code})
    expected = "048de9ffd0e35021fefc0388d5c52e0f475324f582f3778ca81a53354ccbbc97"
    assert answer is not None
    assert json.loads(answer) == {"challengeResponse": expected}


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_fetched_once_an_hour_with_the_applications_own_token() -> None:
    harness = EbayHarness()
    door, headers, body = door_and(harness)
    with pytest.raises(SignatureError, match="not one of eBay's"):
        door.verify(headers, body, harness.clock.now())
    key = door.wanted_key(headers, harness.clock.now())
    door.fetch_key(key, harness.keys, harness.clock.now())
    door.verify(headers, body, harness.clock.now())
    assert b"client_credentials" in harness.keys.requests[0].body
    assert harness.keys.requests[1].url.endswith(f"/commerce/notification/v1/public_key/{key}")
    assert door.wanted_key(headers, harness.clock.now() + timedelta(minutes=59)) == ""
    assert door.wanted_key(headers, harness.clock.now() + timedelta(minutes=61)) == key


def test_an_old_key_is_good_for_a_day_while_it_cant_be_fetched_again() -> None:
    harness = EbayHarness()
    door, headers, body = door_and(harness)
    began = harness.clock.now()
    key = door.wanted_key(headers, began)
    door.fetch_key(key, harness.keys, began)
    harness.keys.refuse_next()
    later = began + timedelta(hours=2)
    with pytest.raises(PlatformError):
        door.fetch_key(key, harness.keys, later)
    door.verify(headers, body, later)
    with pytest.raises(SignatureError):
        door.verify(headers, body, began + timedelta(hours=25))


def test_an_id_that_ebay_does_not_know_is_not_asked_for_again_soon() -> None:
    harness = EbayHarness()
    assert isinstance(harness.door, EbayDoor)
    now = harness.clock.now()
    assert harness.door.wanted_key(signed_by(UNKNOWN.upper()), now) == UNKNOWN
    harness.door.fetch_key(UNKNOWN, harness.keys, now)
    assert harness.door.wanted_key(signed_by(UNKNOWN), now + timedelta(minutes=9)) == ""
    assert harness.door.wanted_key(signed_by(UNKNOWN), now + timedelta(minutes=11)) == UNKNOWN


@pytest.mark.parametrize("key_id", ["", "../token", "1", 7, None, UNKNOWN + "/x"])
def test_a_name_that_cant_be_a_keys_is_never_asked_for(key_id: Any) -> None:
    harness = EbayHarness()
    assert isinstance(harness.door, EbayDoor)
    assert harness.door.wanted_key(signed_by(key_id), harness.clock.now()) == ""
    with pytest.raises(SignatureError):
        harness.door.verify(signed_by(key_id), b"{}", harness.clock.now())


@pytest.mark.parametrize(
    "answer",
    [
        {"key": "no key", "algorithm": "ECDSA", "digest": "SHA1"},
        {"key": "-----BEGIN PUBLIC KEY-----AAAA-----END PUBLIC KEY-----", "digest": "SHA1"},
        {"key": "-----BEGIN PUBLIC KEY-----AAAA-----END PUBLIC KEY-----", "digest": "MD5"},
        {"nothing": 1},
    ],
)
def test_a_key_that_cant_be_read_is_a_failure_that_may_pass(answer: dict[str, Any]) -> None:
    harness = EbayHarness()
    door, headers, _ = door_and(harness)
    harness.keys.answer_next(Response(200, {}, b'{"access_token": "token", "expires_in": 7200}'))
    harness.keys.answer_next(Response(200, {}, json.dumps(answer).encode()))
    now = harness.clock.now()
    with pytest.raises(PlatformError):
        door.fetch_key(door.wanted_key(headers, now), harness.keys, now)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_an_order_is_asked_for_as_a_whole_since_its_notification_names_no_sku() -> None:
    data = {"user": {}, "order": {"orderId": "14-1", "orderLineItems": [{"orderLineItemId": "1", "quantity": 2}]}}
    assert parsed("ORDER_CONFIRMATION", data) == Content(unclear_orders=("14-1",))
    assert parsed("ITEM_MARKED_SHIPPED", data) == Content(unclear_orders=("14-1",))
    assert parsed("ITEM_MARKED_SHIPPED", {"orderId": "14-1"}) == Content(unclear_orders=("14-1",))


@pytest.mark.parametrize("topic", ["MARKETPLACE_ACCOUNT_DELETION", "AUTHORIZATION_REVOCATION", "ITEM_AVAILABILITY"])
def test_what_says_nothing_of_an_order_has_no_effect(topic: str) -> None:
    assert parsed(topic, {"username": "x"}) == Content()


@pytest.mark.parametrize("data", [None, {}, {"order": {}}, {"order": {"orderId": 7}}, []])
def test_an_order_without_its_id_is_not_understood(data: Any) -> None:
    with pytest.raises(NotUnderstoodError):
        parsed("ORDER_CONFIRMATION", data)
