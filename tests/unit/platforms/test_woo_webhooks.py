"""WooCommerce's webhooks: the secret that WordPress decodes, the ping, what each topic says, and no second delivery."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from invsync_dagster.events import Content
from invsync_dagster.platforms.doors import GreetedDoor
from invsync_dagster.platforms.erp.webhooks import ErpWebhookDoor
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.transport import Request
from invsync_dagster.platforms.woocommerce import WooCommerceDoor
from invsync_dagster.platforms.woocommerce.webhooks import needed
from tests.contract.wire import ManualClock
from tests.unit.platforms.woo_stage import SECRETS, WooStage

NOW = ManualClock().now()
SECRET = SECRETS["webhook_secret_env"]


def signed(body: bytes, secret: str = SECRET, **headers: str) -> dict[str, str]:
    signature = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()
    return {"x-wc-webhook-signature": signature, "x-wc-webhook-topic": "order.updated"} | headers


def parsed(topic: str, payload: Any) -> Content:
    body = json.dumps(payload).encode()
    return WooCommerceDoor("https://shop.example.com", [SECRET]).parse(
        signed(body) | {"x-wc-webhook-topic": topic}, body
    )


def test_the_secret_counts_as_wordpress_decodes_it() -> None:
    WooCommerceDoor("https://x", ["a&amp;b &#039;c&quot;"]).verify(signed(b"{}", "a&b 'c\""), b"{}", NOW)
    WooCommerceDoor("https://x", ["a&b"]).verify(signed(b"{}", "a&b"), b"{}", NOW)
    WooCommerceDoor("https://x", ["&amp;lt;"]).verify(signed(b"{}", "&lt;"), b"{}", NOW)


def test_the_old_secret_is_valid_beside_the_new_one() -> None:
    door = WooCommerceDoor("https://x", ["new", "old"])
    door.verify(signed(b"{}", "old"), b"{}", NOW)
    with pytest.raises(SignatureError):
        door.verify(signed(b"{}", "older"), b"{}", NOW)


@pytest.mark.parametrize("secrets", [[], [""], ["new", ""]])
def test_an_empty_secret_is_refused(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        WooCommerceDoor("https://x", secrets)


@pytest.mark.parametrize("topic", ["order.created", "order.updated", "order.restored"])
def test_an_order_is_its_document(topic: str) -> None:
    stage = WooStage()
    stage.store.buy({stage.store.add_product("HAT", 5): 2})
    (document,) = parsed(topic, json.loads(stage.store.take_outgoing()[0].body)).documents
    assert (document.lines[0].ordered, document.lines[0].cancelled) == (2, 0)


def test_an_order_with_refunds_and_a_deleted_one_are_to_be_asked_for() -> None:
    payload = {"id": 9, "refunds": [{"id": 3, "total": "-1.00"}]}
    assert parsed("order.updated", payload) == Content(unclear_orders=("9",))
    assert parsed("order.deleted", {"id": 9}) == Content(unclear_orders=("9",))


@pytest.mark.parametrize("topic", ["order.created", "order.updated"])
def test_an_order_deleted_for_good_before_its_webhook_left_says_nothing(topic: str) -> None:
    error = {"code": "woocommerce_rest_shop_order_invalid_id", "message": "Invalid ID.", "data": {"status": 404}}
    assert parsed(topic, error) == Content()
    less = needed(error)
    assert parsed(topic, less) == Content()


def test_an_error_instead_of_an_order_is_not_understood_in_the_stores_words() -> None:
    error = {
        "code": "woocommerce_rest_cannot_view",
        "message": "Sorry, you cannot view this resource.",
        "data": {"status": 403},
    }
    with pytest.raises(NotUnderstoodError, match=r"you cannot view this resource.*user who made the webhook"):
        parsed("order.updated", error)


def test_a_changed_product_is_never_a_count() -> None:
    stage = WooStage()
    stage.write(stage.store.add_product("HAT", 5), 3)
    (delivery,) = stage.store.take_outgoing()
    assert json.loads(delivery.body)["stock_quantity"] == 3
    assert parsed("product.updated", json.loads(delivery.body)) == Content()


@pytest.mark.parametrize("topic", ["", "customer.created", "action.woocommerce_add_to_cart"])
def test_other_topics_are_not_understood(topic: str) -> None:
    with pytest.raises(NotUnderstoodError):
        parsed(topic, {"id": 9})


def test_the_ping_of_a_new_webhook_is_a_greeting_and_nothing_else_is() -> None:
    door = WooCommerceDoor("https://x", [SECRET])
    ping = WooStage().store.ping()
    headers = {name.lower(): value for name, value in ping.headers.items()}
    assert isinstance(door, GreetedDoor)
    assert door.is_greeting(headers, ping.body)
    for body in (b"", b"webhook_id=", b"webhook_id=7&x=1", b"id=7", b'{"webhook_id":7}', b"webhook_id=" + b"9" * 30):
        assert not door.is_greeting(headers, body)
    assert not door.is_greeting(headers | {"x-wc-webhook-signature": "AAAA"}, ping.body)
    assert not isinstance(ErpWebhookDoor(("secret",)), GreetedDoor)


def test_both_deliveries_of_one_checkout_say_the_same_under_one_delivery_id() -> None:
    stage = WooStage()
    stage.store.buy({stage.store.add_product("HAT", 5): 2})
    first, second = stage.store.take_outgoing()
    assert first.headers["X-WC-Webhook-Delivery-ID"] == second.headers["X-WC-Webhook-Delivery-ID"]
    assert parsed("order.created", json.loads(first.body)) == parsed("order.updated", json.loads(second.body))


def test_the_seventh_failure_in_a_row_switches_the_webhook_off_until_somebody_switches_it_on() -> None:
    stage = WooStage()
    hat = stage.store.add_product("HAT", 50)
    for _ in range(6):
        stage.store.delivery_ended(answered_well=False)
    assert stage.store.webhooks.status == "active"
    stage.store.delivery_ended(answered_well=False)
    assert stage.store.webhooks.status == "disabled"
    begin = stage.clock.now()
    order_id = stage.store.buy({hat: 2})
    assert stage.store.take_outgoing() == []
    # The poll is the net under it.
    stage.clock.advance(60)
    (document,) = stage.platform.orders_changed(begin, stage.clock.now()).content.documents
    assert document.order_id == order_id
    basic = stage.wire.requests[0].headers["Authorization"]
    for number in (7, 8):
        url = f"https://shop.example.com/wp-json/wc/v3/webhooks/{number}"
        answer = stage.store.handle(Request("PUT", url, {"Authorization": basic}, b'{"status":"active"}'))
        assert (answer.status, stage.store.webhooks.status) == (200, "active")
    stage.store.buy({hat: 2})
    assert len(stage.store.take_outgoing()) == 2


def test_a_webhook_that_was_switched_on_again_has_no_failure_left_until_a_success() -> None:
    store = WooStage().store
    for _ in range(7):
        store.delivery_ended(answered_well=False)
    store.webhooks.switch("order.updated", "active")
    store.delivery_ended(answered_well=False)
    assert store.webhooks.status == "disabled"
    store.webhooks.switch("order.updated", "active")
    store.delivery_ended(answered_well=True)
    for _ in range(6):
        store.delivery_ended(answered_well=False)
    assert store.webhooks.status == "active"


def test_a_success_forgets_the_failures_before_it() -> None:
    store = WooStage().store
    for _ in range(20):
        for _ in range(6):
            store.delivery_ended(answered_well=False)
        store.delivery_ended(answered_well=True)
    assert store.webhooks.status == "active"
