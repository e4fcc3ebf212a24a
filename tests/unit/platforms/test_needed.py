"""What is kept of a webhook when buyers' fields go: it says the same, and holds nothing else of what came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import only
from invsync_dagster.platforms.registry import VENDORS
from tests.contract.amazon_harness import AmazonHarness
from tests.contract.ebay_harness import EbayHarness
from tests.contract.erp_harness import ErpHarness
from tests.contract.suite import Harness
from tests.contract.test_shopify import ShopifyHarness
from tests.contract.test_woocommerce import WooCommerceHarness

BUYER = "Ann Buyer"
HARNESSES: dict[str, Callable[[], Harness]] = {
    "amazon": AmazonHarness,
    "ebay": EbayHarness,
    "erp": ErpHarness,
    "shopify": ShopifyHarness,
    "woocommerce": lambda: WooCommerceHarness("https://shop.example.com"),
}


def with_a_buyer(value: Any) -> Any:
    """Write a buyer into every object of a body, and into every list of objects."""
    if isinstance(value, list):
        return [with_a_buyer(each) for each in value]
    if not isinstance(value, dict):
        return value
    inner = {name: with_a_buyer(each) for name, each in value.items()}
    notes = {"note": BUYER, "customer": {"name": BUYER, "addresses": [BUYER, {"street": BUYER}]}}
    if isinstance(inner.get("meta_data"), list):
        inner["meta_data"] = [*inner["meta_data"], {"id": 1, "key": "engraving", "value": BUYER}]
    return {**notes, **inner}


def deliveries(harness: Harness) -> Iterator[tuple[Mapping[str, str], bytes]]:
    level = harness.make_level(9)
    for _ in range(2):
        harness.change(level)
        harness.clock.advance(60)
        yield from harness.deliveries()


@pytest.mark.parametrize("platform", HARNESSES)
def test_what_the_parser_needs_says_the_same_and_holds_no_buyer(platform: str) -> None:
    harness = HARNESSES[platform]()
    told = 0
    for headers, body in deliveries(harness):
        full = with_a_buyer(json.loads(body))
        said = harness.door.parse(headers, json.dumps(full).encode())
        assert said == harness.door.parse(headers, body)
        less = json.dumps(VENDORS[platform].needed(full)).encode()
        assert harness.door.parse(headers, less) == said
        assert BUYER.encode() not in less
        assert VENDORS[platform].needed(json.loads(less)) == json.loads(less)
        told += len(said.documents) + len(said.counts) + len(said.unclear_orders)
    assert told >= 2


@pytest.mark.parametrize("platform", VENDORS)
@pytest.mark.parametrize("body", [None, 7, BUYER, [], [BUYER], {}, {BUYER: 1}, {"line_items": [BUYER, [BUYER]]}])
def test_of_what_is_no_webhook_nothing_stays(platform: str, body: Any) -> None:
    assert BUYER not in json.dumps(VENDORS[platform].needed(body))


def test_a_shopify_order_with_parcels_and_refunds_says_the_same() -> None:
    harness = ShopifyHarness()
    shop = harness.shop
    level = harness.make_level(9)
    order = shop.buy({level: 3})
    (line,) = shop.lines(order)
    shop.refund(order, {line: 1}, "cancel")
    kinds = set()
    for headers, body in harness.deliveries():
        full = with_a_buyer(json.loads(body))
        less = json.dumps(VENDORS["shopify"].needed(full)).encode()
        assert harness.door.parse(headers, less) == harness.door.parse(headers, body)
        assert BUYER.encode() not in less
        kinds.add(headers["x-shopify-topic"])
    assert {"orders/create", "orders/updated", "refunds/create"} <= kinds


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"a": 1, "b": {"c": "x", "d": BUYER}}, {"a": 1, "b": {"c": "x"}}),
        ({"a": {"name": BUYER}, "b": BUYER}, {"a": None, "b": None}),
        ({"b": [{"c": None}, BUYER, [{"c": 1}]]}, {"b": [{"c": None}, None, None]}),
        ([{"a": True}, 3], [{"a": True}, None]),
    ],
)
def test_only_the_named_fields_stay_and_only_in_their_form(value: Any, kept: Any) -> None:
    assert only(value, {"a": None, "b": {"c": None}}) == kept


def test_a_door_refuses_what_is_left_of_nothing() -> None:
    harness = ShopifyHarness()
    with pytest.raises(NotUnderstoodError):
        harness.door.parse({"x-shopify-topic": "orders/create"}, b"{}")
