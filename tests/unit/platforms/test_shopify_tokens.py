"""The client-credentials grant at Shopify: a token of a day, asked for anew, with the app's own secret."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydantic import ValidationError

from invsync_dagster.platforms.contract import Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.shopify import ShopifySettings
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.transport import Response
from tests.contract.wire import ManualClock, Wire

ID, SECRET = "0123456789abcdef", "shpss_fedcba9876543210"
SHOP: dict[str, Any] = {"shop_url": "https://x.myshopify.com", "webhook_secret_env": "S"}


class Granted:
    """A stand-in shop that gives tokens, and its client."""

    def __init__(self, secret: str = SECRET) -> None:
        self.clock = ManualClock()
        self.shop = ShopifySandbox(
            access_token="", webhook_secret=SECRET, clock=self.clock, random=Random(3), client_id=ID
        )
        self.wire = Wire(self.shop.handle)
        settings = ShopifySettings(**SHOP, client_id_env="I")
        secrets = {"client_id_env": ID, "webhook_secret_env": secret}
        self.platform = VENDORS["shopify"].connect(settings, secrets, {}, self.wire, self.clock)

    def grants(self) -> list[dict[str, str]]:
        asked = [each for each in self.wire.requests if each.url.endswith("/admin/oauth/access_token")]
        return [dict(parse_qsl(each.body.decode())) for each in asked]


def test_a_token_is_asked_for_once_a_day_with_the_apps_credentials() -> None:
    at = Granted()
    at.platform.check_credentials()
    at.clock.advance(82_000)
    at.platform.check_credentials()
    assert at.grants() == [{"grant_type": "client_credentials", "client_id": ID, "client_secret": SECRET}]
    at.clock.advance(1_000)
    at.platform.check_credentials()
    assert len(at.grants()) == 2
    assert at.wire.requests[-1].headers["X-Shopify-Access-Token"] == "shpat_granted_00000002"


def test_a_wrong_secret_stops_the_channel_in_shopifys_words() -> None:
    at = Granted(secret="wrong-secret")
    level = at.shop.add_article("A", 5)
    (outcome,) = at.platform.write([WriteRow(level, 3)], key="k").outcomes
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.NOT_SENT, Recovery.REAUTHENTICATE, "no_token")
    assert "Client authentication failed" in outcome.message
    assert "wrong-secret" not in outcome.message
    assert at.shop.available(level) == 5


def test_an_old_token_that_is_refused_is_replaced_once() -> None:
    at = Granted()
    at.platform.check_credentials()
    at.clock.advance(600)
    at.shop.grants.revoke()
    with pytest.raises(PlatformError) as raised:
        at.platform.check_credentials()
    assert raised.value.recovery is Recovery.RETRY
    at.platform.check_credentials()
    at.shop.grants.revoke()
    with pytest.raises(PlatformError) as raised:
        at.platform.check_credentials()
    assert raised.value.recovery is Recovery.REAUTHENTICATE


@pytest.mark.parametrize(
    ("answer", "recovery"),
    [
        (Response(503, {}, b""), Recovery.RETRY),
        (Response(429, {"retry-after": "4"}, b""), Recovery.WAIT),
        (Response(200, {}, b"<html>"), Recovery.RETRY),
        (Response(200, {}, json.dumps({"access_token": "t", "expires_in": "soon"}).encode()), Recovery.RETRY),
        (Response(200, {}, json.dumps({"access_token": "a\nb", "expires_in": 9}).encode()), Recovery.RETRY),
        (Response(404, {}, b""), Recovery.REAUTHENTICATE),
    ],
)
def test_a_token_that_doesnt_come_fails_the_call_before_it_is_sent(answer: Response, recovery: Recovery) -> None:
    at = Granted()
    at.wire.answer_next(answer)
    with pytest.raises(PlatformError) as raised:
        at.platform.check_credentials()
    assert raised.value.recovery is recovery
    assert len(at.wire.requests) == 1


def test_a_token_is_used_on_while_a_new_one_cannot_be_had() -> None:
    at = Granted()
    at.platform.check_credentials()
    at.clock.advance(84_000)
    at.wire.answer_next(Response(503, {}, b""))
    at.platform.check_credentials()
    assert len(at.grants()) == 2


@pytest.mark.parametrize("given", [{}, {"access_token_env": "T", "client_id_env": "I"}])
def test_a_channel_says_which_of_the_two_ways_in_it_takes(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="name one of access_token_env"):
        ShopifySettings.model_validate(SHOP | given)
