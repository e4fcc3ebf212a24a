"""Fuzz of all that reads what strangers and platforms send: headers, bodies, true documents that were changed anywhere.

Whatever comes, a door says `SignatureError` or `NotUnderstoodError`, or understands it: another exception would be met by
the next run again, and by the one after it. INVSYNC_FUZZ sets the number of examples a test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.events import Content
from invsync_dagster.platforms.alibaba.door import ShutDoor
from invsync_dagster.platforms.doors import ChallengedDoor, GreetedDoor, KeyedDoor, WebhookDoor
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.webhooks.segments import Damaged, Delivery, decode, encode
from tests.contract.amazon_harness import AmazonHarness
from tests.contract.ebay_harness import EbayHarness
from tests.contract.erp_harness import ErpHarness, an_event, signed
from tests.contract.suite import Harness
from tests.contract.test_shopify import ShopifyHarness
from tests.contract.test_woocommerce import WooCommerceHarness
from tests.unit.webhooks.changing import ODD, broken, changed

EXAMPLES = int(os.environ.get("INVSYNC_FUZZ", "40"))
fuzzed = settings(max_examples=EXAMPLES)

HARNESSES: Mapping[str, Callable[[], Harness]] = {
    "shopify": ShopifyHarness,
    "woocommerce": lambda: WooCommerceHarness("https://shop.example.com"),
    "amazon": AmazonHarness,
    "ebay": EbayHarness,
    "erp": ErpHarness,
}
NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
LINE = {"id": 7, "variant_id": 9, "sku": "A", "quantity": 3, "current_quantity": 2, "fulfillable_quantity": 1}
# What the stand-ins' first deliveries don't hold.
MORE: Mapping[str, list[tuple[dict[str, str], Any]]] = {
    "shopify": [
        (
            {"x-shopify-topic": "orders/updated"},
            {
                "id": 1,
                "created_at": "2026-11-20T10:00:00+01:00",
                "updated_at": "2026-11-20T11:00:00+01:00",
                "cancelled_at": None,
                "line_items": [LINE | {"variant_inventory_management": "shopify"}],
                "fulfillments": [
                    {
                        "status": "success",
                        "created_at": "2026-11-20T10:30:00Z",
                        "line_items": [{"id": 7, "quantity": 1}],
                    }
                ],
                "refunds": [
                    {
                        "created_at": "2026-11-20T10:40:00Z",
                        "refund_line_items": [{"line_item_id": 7, "quantity": 1, "restock_type": "return"}],
                    }
                ],
            },
        ),
        ({"x-shopify-topic": "refunds/create"}, {"id": 2, "order_id": 1}),
        ({"x-shopify-topic": "orders/edited"}, {"order_edit": {"order_id": 1}}),
        ({"x-shopify-topic": "inventory_levels/update"}, {"inventory_item_id": 3, "available": 4}),
    ],
    "woocommerce": [
        (
            {"x-wc-webhook-topic": "order.updated"},
            {
                "id": 5,
                "status": "completed",
                "date_created_gmt": "2026-11-20T10:00:00",
                "date_modified_gmt": "2026-11-20T11:00:00",
                "date_paid_gmt": "2026-11-20T10:01:00",
                "date_completed_gmt": "2026-11-20T11:00:00",
                "line_items": [
                    {
                        "id": 7,
                        "product_id": 8,
                        "variation_id": 9,
                        "sku": "A",
                        "quantity": 2,
                        "meta_data": [{"id": 1, "key": "_reduced_stock", "value": "2"}],
                    }
                ],
                "refunds": [],
            },
        ),
        ({"x-wc-webhook-topic": "order.updated"}, {"id": 5, "refunds": [{"id": 6, "total": "-1.00"}]}),
        ({"x-wc-webhook-topic": "order.deleted"}, {"id": 5}),
        ({"x-wc-webhook-topic": "product.updated"}, {"id": 5, "stock_quantity": 3}),
    ],
    "amazon": [
        (
            {},
            {
                "notificationType": "FEED_PROCESSING_FINISHED",
                "payload": {"feedProcessingFinishedNotification": {"sellerId": "A2XYZ", "feedId": "7"}},
            },
        )
    ],
    "ebay": [],
    "erp": [({"x-invsync-timestamp": "1795248000"}, {"events": [an_event(), an_event(event_id="e-2", version=18)]})],
}


@dataclass(frozen=True)
class Vendor:
    """A platform's door, and true deliveries for it as headers and documents."""

    door: WebhookDoor
    samples: tuple[tuple[Mapping[str, str], Any], ...]


@cache
def vendor(name: str) -> Vendor:
    harness = HARNESSES[name]()
    level = harness.make_level(5)
    harness.change(level)
    told = [(headers, json.loads(body)) for headers, body in [*harness.deliveries(), harness.unknown_delivery()]]
    return Vendor(harness.door, (*told, *MORE[name]))


def test_every_platform_is_fuzzed() -> None:
    assert set(HARNESSES) | {"alibaba"} == set(VENDORS)
    with pytest.raises(NotUnderstoodError):
        ShutDoor().parse({}, b"{}")


RAW = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"null", b"[]", b"{}", b"NaN", b"1" * 5_000, b"\xef\xbb\xbf{}", b"{" * 50_000, b'{"a":' * 50_000]
    ),
    st.sampled_from(["{}", '{"id": 1}', '{"metadata": {"topic": "X"}}']).flatmap(
        lambda text: st.sampled_from(["utf-16", "utf-32", "utf-16-be"]).map(text.encode)
    ),
    st.recursive(
        ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ).map(lambda value: json.dumps(value).encode()),
)
HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"), max_size=60)


def read(door: WebhookDoor, headers: Mapping[str, str], body: bytes) -> None:
    """Let a door read a delivery. Raises whatever isn't one of its two errors."""
    try:
        topic = door.topic(headers, body)
        # It goes into the inbox, the database and the log, before anything is parsed.
        assert topic.isprintable() and len(topic) <= 100, ascii(topic[:200])
        content = door.parse(headers, body)
    except NotUnderstoodError as error:
        assert len(str(error)) < 500
        str(error).encode()
        return
    assert isinstance(content, Content)
    for document in content.documents:
        for line in document.lines:
            totals = (line.ordered, line.cancelled, *(movement.quantity for movement in line.shipments + line.restocks))
            assert all(type(number) is int and number >= 0 for number in totals)
    assert all(0 <= count.quantity <= 10**9 for count in content.counts)


@pytest.mark.parametrize("name", HARNESSES)
@given(data=st.data())
@fuzzed
def test_a_true_document_changed_anywhere_is_understood_or_not_and_nothing_else(name: str, data: st.DataObject) -> None:
    one = vendor(name)
    headers, document = data.draw(st.sampled_from(one.samples))
    read(one.door, headers, data.draw(changed(document) | broken(document)))


@pytest.mark.parametrize("name", HARNESSES)
@given(body=RAW, data=st.data())
@fuzzed
def test_any_bytes_under_any_topic_are_understood_or_not_and_nothing_else(
    name: str, body: bytes, data: st.DataObject
) -> None:
    one = vendor(name)
    headers = dict(data.draw(st.sampled_from(one.samples))[0])
    another: bool = data.draw(st.booleans())
    if headers and another:
        headers[data.draw(st.sampled_from(sorted(headers)))] = data.draw(HEADER)
    with suppress(NotUnderstoodError):
        one.door.topic(headers, body)
    try:
        one.door.parse(headers, body)
    except NotUnderstoodError as error:
        str(error).encode()


@pytest.mark.parametrize("name", HARNESSES)
@given(body=RAW, data=st.data())
@fuzzed
def test_whatever_stands_in_the_headers_only_the_true_signature_passes(
    name: str, body: bytes, data: st.DataObject
) -> None:
    one = vendor(name)
    headers = dict(one.samples[0][0])
    # What EventBridge sends is proved by its key alone.
    field = "x-invsync-key" if name == "amazon" else data.draw(st.sampled_from(sorted(headers)))
    odd = HEADER | st.sampled_from([headers[field] + "=", headers[field][:-4], "", "eyJraWQiOjF9", "W10=", "e30=" * 9])
    headers[field] = data.draw(odd)
    for door in (one.door, ShutDoor()):
        with pytest.raises(SignatureError):
            door.verify(headers, b"x" + body, NOW)
        if isinstance(door, KeyedDoor):
            assert isinstance(door.wanted_key(headers, NOW), str)
        if isinstance(door, GreetedDoor):
            assert not door.is_greeting({}, b"x" + body)
        if isinstance(door, ChallengedDoor):
            assert door.challenge_answer({"challenge_code": headers[field]}) is None or headers[field]


@given(st.text(st.characters(max_codepoint=255), max_size=20))
@fuzzed
def test_a_time_that_is_no_number_of_seconds_is_refused(timestamp: str) -> None:
    headers, body = signed(NOW, b"{}")
    if timestamp.isascii() and timestamp.isdigit():
        return
    with pytest.raises(SignatureError):
        vendor("erp").door.verify(headers | {"x-invsync-timestamp": timestamp}, body, NOW)


@given(content=st.binary(max_size=300), data=st.data())
@fuzzed
def test_a_segment_of_any_bytes_is_read_and_what_isnt_ours_is_named(content: bytes, data: st.DataObject) -> None:
    good = encode([Delivery("shop", "t", NOW, {}, content)])
    at = data.draw(st.integers(0, len(good)))
    for items in (decode("s", content), decode("s", good[:at] + content + good[at:])):
        assert all(isinstance(item, Delivery | Damaged) for item in items)


def test_the_flag_that_fuzzes_longer_is_in_the_docs() -> None:
    assert "INVSYNC_FUZZ=" in (Path(__file__).parents[3] / "docs" / "development.md").read_text(encoding="utf-8")
