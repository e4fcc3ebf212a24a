"""The registry names every vendor's settings, connection and door."""

from __future__ import annotations

from random import Random

import pytest

from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from tests.contract.wire import ManualClock, Wire


def test_the_vendors_and_which_of_them_moves_its_own_number() -> None:
    assert {name: vendor.moves_own_number for name, vendor in VENDORS.items()} == {
        "alibaba": True,
        "amazon": True,
        "shopify": True,
        "woocommerce": True,
        "ebay": True,
        "erp": False,
    }


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_every_field_of_a_vendors_settings_is_described(name: str) -> None:
    for field_name, field in VENDORS[name].settings.model_fields.items():
        assert field.description, field_name


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_a_vendors_settings_refuse_what_they_do_not_know(name: str) -> None:
    assert VENDORS[name].settings.model_config.get("extra") == "forbid"


def test_a_channel_is_connected_with_its_secrets_by_the_name_of_their_field() -> None:
    clock = ManualClock()
    shop = ShopifySandbox(access_token="token", webhook_secret="secret", clock=clock, random=Random(1))
    vendor = VENDORS["shopify"]
    settings = vendor.settings.model_validate(
        {"shop_url": "https://x.myshopify.com", "access_token_env": "A", "webhook_secret_env": "B"}
    )
    secrets = {"access_token_env": "token", "webhook_secret_env": "secret"}
    platform = vendor.connect(settings, secrets, {"write_batch": 7}, Wire(shop.handle), clock)
    platform.check_credentials()
    assert platform.limits.write_batch == 7
    shop.send_webhook("orders/paid", {})
    (delivery,) = shop.take_outgoing()
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    vendor.door(settings, secrets).verify(headers | {"x-shopify-shop-domain": ""}, delivery.body, clock.now())


@pytest.mark.parametrize("missing", ["access_token_env", "webhook_secret_env"])
def test_a_missing_secret_is_named(missing: str) -> None:
    vendor = VENDORS["shopify"]
    settings = vendor.settings.model_validate(
        {"shop_url": "https://x.myshopify.com", "access_token_env": "A", "webhook_secret_env": "B"}
    )
    with pytest.raises(KeyError, match=missing):
        if missing == "access_token_env":
            vendor.connect(settings, {}, {}, Wire(lambda request: pytest.fail("sent")), ManualClock())
        else:
            vendor.door(settings, {})
