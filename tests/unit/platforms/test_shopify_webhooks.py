"""Whose a Shopify webhook is: signatures, rotated secrets, other shops; and what the topics mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invsync_dagster.events import Content
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.shopify import ShopifyDoor, ShopifySettings, door

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SHOP = "https://one.myshopify.com"


def signed(body: bytes, secret: str, **headers: str) -> dict[str, str]:
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    return {"x-shopify-hmac-sha256": signature, "x-shopify-topic": "orders/create"} | headers


def test_the_vendors_vector_verifies(contracts: Path) -> None:
    vectors = json.loads((contracts / "shopify" / "webhook_samples" / "hmac_vectors.json").read_text())["vectors"]
    (vector,) = [each for each in vectors if each["scheme"].startswith("shopify")]
    body = vector["raw_body"].encode()
    ShopifyDoor(SHOP, [vector["secret"]]).verify({"x-shopify-hmac-sha256": vector["base64"]}, body, NOW)
    with pytest.raises(SignatureError):
        ShopifyDoor(SHOP, ["other"]).verify({"x-shopify-hmac-sha256": vector["base64"]}, body, NOW)


def test_both_secrets_are_valid_while_one_is_rotated() -> None:
    settings = ShopifySettings(
        shop_url=SHOP, access_token_env="T", webhook_secret_env="S", webhook_previous_secret_env="P"
    )
    opened = door(settings, {"webhook_secret_env": "new", "webhook_previous_secret_env": "old"})
    for secret in ("new", "old"):
        opened.verify(signed(b"{}", secret), b"{}", NOW)
    with pytest.raises(SignatureError):
        opened.verify(signed(b"{}", "older"), b"{}", NOW)


@pytest.mark.parametrize("secrets", [[], [""], ["good", ""]])
def test_an_empty_secret_opens_no_door(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        ShopifyDoor(SHOP, secrets)


def test_a_webhook_of_another_shop_of_the_same_app_is_refused() -> None:
    opened = ShopifyDoor(SHOP, ["s"])
    opened.verify(signed(b"{}", "s", **{"x-shopify-shop-domain": "One.myshopify.com"}), b"{}", NOW)
    with pytest.raises(SignatureError, match="another shop"):
        opened.verify(signed(b"{}", "s", **{"x-shopify-shop-domain": "two.myshopify.com"}), b"{}", NOW)


@pytest.mark.parametrize(
    ("topic", "body", "expected"),
    [
        ("refunds/create", {"id": 1, "order_id": 9007199254740993}, Content(unclear_orders=("9007199254740993",))),
        ("orders/edited", {"order_edit": {"order_id": 7}}, Content(unclear_orders=("7",))),
        ("fulfillments/create", {"id": 1, "order_id": 7}, Content(unclear_orders=("7",))),
        ("inventory_levels/update", {"inventory_item_id": 3, "available": 4}, Content()),
    ],
)
def test_topics_that_name_an_order_or_a_level(topic: str, body: dict[str, object], expected: Content) -> None:
    opened = ShopifyDoor(SHOP, ["s"])
    assert opened.parse({"x-shopify-topic": topic}, json.dumps(body).encode()) == expected


def test_a_webhook_without_a_topic_is_not_understood() -> None:
    opened = ShopifyDoor(SHOP, ["s"])
    with pytest.raises(NotUnderstoodError, match="Topic"):
        opened.topic({}, b"{}")
    with pytest.raises(NotUnderstoodError, match="Topic"):
        opened.parse({}, b"{}")


def test_deeply_nested_json_is_not_understood() -> None:
    opened = ShopifyDoor(SHOP, ["s"])
    with pytest.raises(NotUnderstoodError):
        opened.parse({"x-shopify-topic": "orders/create"}, b"[" * 100_000)
