"""Shopify's orders become documents with the right totals, the same from a webhook and from the API."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.oauth import StaticToken
from invsync_dagster.platforms.shopify import ShopifyDoor, ShopifyPlatform, ShopifySettings
from invsync_dagster.platforms.shopify.orders import CUSTOM, UNTRACKED, Line, Refund, document_of_webhook
from invsync_dagster.platforms.shopify.sandbox import ShopError, ShopifySandbox
from invsync_dagster.platforms.shopify.settings import LIMITS
from invsync_dagster.platforms.transport import Response
from tests.contract.wire import ManualClock, Wire

T1 = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
T2 = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
T3 = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def line(quantity: int, current: int, unfulfilled: int, **more: Any) -> Line:
    return Line("1", LineReference(platform_sku="A"), quantity, current, unfulfilled, **more)


def totals(entry: OrderLine) -> tuple[int, int, int, int]:
    return entry.ordered, entry.cancelled, entry.shipped, entry.restocked


@pytest.mark.parametrize(
    ("what", "entry", "cancelled_order", "expected"),
    [
        ("untouched", line(3, 3, 3), False, (3, 0, 0, 0)),
        ("shipped in part", line(3, 3, 1, shipments=[Movement(2, T1)]), False, (3, 0, 2, 0)),
        ("cancel before shipping", line(3, 1, 1, refunds=[Refund(2, T1, "cancel")]), False, (3, 2, 0, 0)),
        ("order cancelled", line(3, 3, 3), True, (3, 3, 0, 0)),
        ("order cancelled after a shipment", line(3, 3, 2, shipments=[Movement(1, T1)]), True, (3, 2, 1, 0)),
        (
            "shipped and returned",
            line(3, 1, 0, shipments=[Movement(3, T1)], refunds=[Refund(2, T2, "return")]),
            False,
            (3, 0, 3, 2),
        ),
        (
            "shipped and refunded without restock",
            line(3, 1, 0, shipments=[Movement(3, T1)], refunds=[Refund(2, T2, "no_restock")]),
            False,
            (3, 0, 3, 0),
        ),
        (
            "refunded without restock before shipping",
            line(3, 1, 1, refunds=[Refund(2, T1, "no_restock")]),
            False,
            (3, 2, 0, 0),
        ),
        (
            "half shipped, the shipped half refunded without restock",
            line(4, 2, 2, shipments=[Movement(2, T1)], refunds=[Refund(2, T2, "no_restock")]),
            False,
            (4, 0, 2, 0),
        ),
        (
            "half shipped, the other half refunded without restock",
            line(4, 2, 0, shipments=[Movement(2, T1)], refunds=[Refund(2, T2, "no_restock")]),
            False,
            (4, 2, 2, 0),
        ),
        ("removed by an edit", line(3, 1, 1), False, (3, 2, 0, 0)),
        ("removed after all was shipped", line(2, 0, 0, shipments=[Movement(2, T1)]), False, (2, 0, 2, 0)),
        (
            "legacy restock before shipping",
            line(2, 1, 1, refunds=[Refund(1, T1, "legacy_restock")]),
            False,
            (2, 1, 0, 0),
        ),
        (
            "legacy restock after shipping",
            line(2, 1, 0, shipments=[Movement(2, T1)], refunds=[Refund(1, T2, "legacy_restock")]),
            False,
            (2, 0, 2, 1),
        ),
        (
            "more cancelled than was left unshipped",
            line(2, 0, 0, shipments=[Movement(1, T1)], refunds=[Refund(2, T2, "cancel")]),
            False,
            (2, 1, 1, 1),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_totals_of_a_line(what: str, entry: Line, cancelled_order: bool, expected: tuple[int, int, int, int]) -> None:
    assert totals(entry.totals(order_cancelled=cancelled_order)) == expected


def test_movements_keep_their_times_in_order() -> None:
    entry = line(
        4,
        1,
        0,
        shipments=[Movement(1, T2), Movement(3, T1)],
        refunds=[Refund(1, T3, "return"), Refund(2, T2, "return")],
    ).totals(order_cancelled=False)
    assert entry.shipments == (Movement(3, T1), Movement(1, T2))
    assert entry.restocks == (Movement(2, T2), Movement(1, T3))


class Shop:
    """A stand-in shop with three articles, its client and its door."""

    def __init__(self, burst: float = 1e9) -> None:
        self.clock = ManualClock()
        self.sandbox = ShopifySandbox(
            access_token="t", webhook_secret="s", clock=self.clock, random=Random(3), burst=burst
        )
        config = ShopifySettings(shop_url="https://x.myshopify.com", access_token_env="T", webhook_secret_env="S")
        self.wire = Wire(self.sandbox.handle)
        self.client = ShopifyPlatform(config, StaticToken("t"), LIMITS, self.wire)
        self.door = ShopifyDoor("https://sandbox.myshopify.com", ["s"])
        self.levels = [self.sandbox.add_article(f"SKU-{number}", 50) for number in range(3)]

    def told_by_webhooks(self) -> list[OrderDocument]:
        found: list[OrderDocument] = []
        for delivery in self.sandbox.take_outgoing():
            headers = {name.lower(): value for name, value in delivery.headers.items()}
            self.door.verify(headers, delivery.body, self.clock.now())
            found += self.door.parse(headers, delivery.body).documents
        return found

    def asked(self, order_id: str) -> OrderDocument:
        (document,) = self.client.orders([order_id]).content.documents
        return document


def without_items(document: OrderDocument) -> OrderDocument:
    """Webhooks know neither inventory items nor locations, so a reference without them is what both have."""
    lines = tuple(each._replace(reference=each.reference._replace(item_id="", locations=())) for each in document.lines)
    return document._replace(lines=lines)


Action = tuple[str, int, int]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ship", "unship", "return", "cancel", "no_restock", "remove", "add", "cancel_order"]),
        st.integers(0, 2),
        st.integers(1, 4),
    ),
    max_size=8,
)


def act(shop: Shop, order: str, action: Action) -> None:
    kind, index, units = action
    line_id = list(shop.sandbox.lines(order))[index]
    if kind == "ship":
        shop.sandbox.fulfil(order, {line_id: units})
    elif kind == "unship":
        shop.sandbox.cancel_fulfilment(order)
    elif kind == "remove":
        shop.sandbox.remove_units(order, line_id, units)
    elif kind == "add":
        shop.sandbox.add_units(order, shop.levels[index], units)
    elif kind == "cancel_order":
        shop.sandbox.cancel(order)
    else:
        shop.sandbox.refund(order, {line_id: units}, kind)


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_whatever_happens_webhook_and_api_tell_the_totals_of_the_shops_books(actions: list[Action]) -> None:
    shop = Shop()
    order = shop.sandbox.buy(dict.fromkeys(shop.levels, 5))
    for action in actions:
        shop.clock.advance(60)
        try:
            act(shop, order, action)
        except ShopError:
            continue
    asked = shop.asked(order)
    assert without_items(asked) == without_items(shop.told_by_webhooks()[-1])
    book = shop.sandbox.dump()["books"]["orders"][0]
    returned = {
        line_id: sum(part["units"].get(line_id, 0) for part in book["refunds"] if part["restock_type"] == "return")
        for line_id in book["lines"]
    }
    assert [(*totals(entry), entry.written_off) for entry in asked.lines] == [
        (
            entry["quantity"],
            entry["released"],
            entry["shipped"],
            returned[line_id],
            entry["refunded"] - returned[line_id],
        )
        for line_id, entry in book["lines"].items()
    ]


def test_each_line_names_the_location_that_ships_it_also_once_it_was_moved_or_has_left() -> None:
    shop = Shop()
    far = shop.sandbox.add_location()
    order = shop.sandbox.buy(dict.fromkeys(shop.levels, 1))
    here = shop.levels[0].location_id
    assert [each.reference.locations for each in shop.asked(order).lines] == [(here,)] * 3
    shop.sandbox.move(order, far)
    assert [each.reference.locations for each in shop.asked(order).lines] == [(far,)] * 3
    shop.sandbox.fulfil(order)
    assert [each.reference.locations for each in shop.asked(order).lines] == [(far,)] * 3
    assert all(each.reference.locations == () for each in shop.told_by_webhooks()[-1].lines)


@pytest.mark.parametrize(
    ("status", "location", "units", "locations"),
    [
        ("OPEN", {"id": "gid://shopify/Location/7"}, 2, ("gid://shopify/Location/7",)),
        ("CANCELLED", {"id": "gid://shopify/Location/7"}, 2, ()),
        ("OPEN", None, 2, ()),
        ("CLOSED", {"id": "gid://shopify/Location/7"}, 0, ()),
    ],
)
def test_a_fulfilment_order_that_says_nothing_of_where_its_units_are_names_no_location(
    status: str, location: Any, units: int, locations: tuple[str, ...]
) -> None:
    shop = Shop()
    order = shop.sandbox.buy({shop.levels[0]: 2})
    shop.asked(order)
    answer = json.loads(shop.sandbox.handle(shop.wire.requests[-1]).body)
    (part,) = answer["data"]["nodes"][0]["fulfillmentOrders"]["nodes"]
    part["status"], part["assignedLocation"]["location"] = status, location
    part["lineItems"]["nodes"][0]["totalQuantity"] = units
    shop.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))
    (line,) = shop.asked(order).lines
    assert line.reference.locations == locations


def test_a_large_order_is_unclear_in_the_list_and_whole_when_asked_for() -> None:
    shop = Shop()
    levels = [shop.sandbox.add_article(f"MANY-{number}", 9) for number in range(130)]
    begin = shop.clock.now()
    large = shop.sandbox.buy(dict.fromkeys(levels, 2))
    small = shop.sandbox.buy({shop.levels[0]: 1})
    lines = list(shop.sandbox.lines(large))
    shop.clock.advance(60)
    shop.sandbox.fulfil(large, dict.fromkeys(lines, 1))
    for each in lines[:4]:
        shop.sandbox.refund(large, {each: 1}, "return")
    shop.clock.advance(60)
    content = shop.client.orders_changed(begin, shop.clock.now()).content
    assert [document.order_id for document in content.documents] == [small]
    assert content.unclear_orders == (large,)
    document = shop.asked(large)
    assert [totals(entry) for entry in document.lines] == [(2, 0, 1, 1)] * 4 + [(2, 0, 1, 0)] * 126
    assert without_items(document) == without_items(shop.told_by_webhooks()[-1])


def test_orders_with_something_to_ship_are_open_and_those_shipped_or_cancelled_are_not() -> None:
    shop = Shop()
    bought = [shop.sandbox.buy({shop.levels[0]: 2}) for _ in range(14)]
    shop.sandbox.cancel(bought[0])
    shop.sandbox.fulfil(bought[1], {next(iter(shop.sandbox.lines(bought[1]))): 2})
    shop.sandbox.fulfil(bought[2], {next(iter(shop.sandbox.lines(bought[2]))): 1})
    shop.clock.advance(86_400)
    pages = [shop.client.open_orders()]
    while pages[-1].cursor:
        pages.append(shop.client.open_orders(pages[-1].cursor))
    found = [[document.order_id for document in page.content.documents] for page in pages]
    assert sorted(chain.from_iterable(found)) == sorted(bought[2:])
    assert [len(page) for page in found] == [3] * 4


def test_many_orders_are_fetched_and_unknown_ones_left_out() -> None:
    shop = Shop()
    ids = [shop.sandbox.buy({shop.levels[0]: 1}) for _ in range(23)]
    page = shop.client.orders([*ids, "12", "not a number"])
    assert [document.order_id for document in page.content.documents] == ids
    assert page.cursor == ""


def test_ids_beyond_doubles_are_kept_exactly() -> None:
    shop = Shop()
    order = shop.sandbox.buy({shop.levels[0]: 1})
    (first, *_) = shop.told_by_webhooks()
    assert first.order_id == order == "820982911946154508"
    assert int(float(first.order_id)) != int(first.order_id)


def webhook(**changes: Any) -> dict[str, Any]:
    entry = {
        "id": 866550311766439020,
        "variant_id": 808950810,
        "sku": "IPOD2008PINK",
        "quantity": 2,
        "current_quantity": 2,
        "fulfillable_quantity": 2,
        "variant_inventory_management": "shopify",
    }
    return {
        "id": 820982911946154508,
        "created_at": "2021-12-31T19:00:00-05:00",
        "updated_at": "2021-12-31T19:00:01-05:00",
        "cancelled_at": None,
        "test": True,
        "line_items": [{**entry, **changes}],
        "fulfillments": [],
        "refunds": [],
    }


def test_a_webhooks_order_is_read_to_the_microsecond_revision() -> None:
    document = document_of_webhook(webhook())
    assert document == OrderDocument(
        order_id="820982911946154508",
        revision=1640995201_000000,
        created_at=datetime(2022, 1, 1, tzinfo=UTC),
        updated_at=datetime(2022, 1, 1, 0, 0, 1, tzinfo=UTC),
        lines=(
            OrderLine(
                "866550311766439020",
                LineReference(platform_sku="IPOD2008PINK", variant_id="gid://shopify/ProductVariant/808950810"),
                ordered=2,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"variant_inventory_management": None}, UNTRACKED),
        ({"variant_id": None, "sku": None}, CUSTOM),
        ({"variant_id": None, "sku": ""}, CUSTOM),
    ],
)
def test_lines_that_shopify_keeps_no_stock_of_say_why_they_have_no_effect(changes: dict[str, Any], reason: str) -> None:
    (entry,) = document_of_webhook(webhook(**changes)).lines
    assert (entry.ignored, entry.ordered) == (reason, 2)


def test_an_item_that_isnt_tracked_says_so_through_the_api_too() -> None:
    shop = Shop()
    tip = shop.sandbox.add_article("TIP", 0, tracked=False)
    entries = shop.asked(shop.sandbox.buy({tip: 1, shop.levels[0]: 1})).lines
    assert [entry.ignored for entry in entries] == [UNTRACKED, ""]


def test_a_line_whose_variant_was_deleted_is_known_by_its_sku() -> None:
    (entry,) = document_of_webhook(webhook(variant_id=None, variant_inventory_management=None)).lines
    assert entry.reference == LineReference(platform_sku="IPOD2008PINK")


def test_a_fulfilment_that_failed_shipped_nothing() -> None:
    body = webhook()
    body["fulfillments"] = [
        {
            "id": number,
            "created_at": "2022-01-01T00:00:00Z",
            "status": status,
            "line_items": [{"id": 866550311766439020, "quantity": 1}],
        }
        for number, status in enumerate(["cancelled", "failure", "error", "success"])
    ]
    assert document_of_webhook(body).lines[0].shipped == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": -1},
        {"quantity": 1.0},
        {"quantity": True},
        {"quantity": "2"},
        {"current_quantity": None},
        {"id": 8.66e17},
        {"id": None},
        {"variant_id": 1.5},
    ],
)
def test_a_line_that_is_not_as_promised_is_not_understood(changes: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstoodError):
        document_of_webhook(webhook(**changes))


@pytest.mark.parametrize("text", ["2021-12-31T19:00:00", "yesterday", "", None, 0])
def test_an_order_without_a_time_with_its_zone_is_not_understood(text: Any) -> None:
    with pytest.raises(NotUnderstoodError, match="updated_at"):
        document_of_webhook({**webhook(), "updated_at": text})


def test_the_vendors_samples_are_read(contracts: Path) -> None:
    samples = contracts / "shopify" / "webhook_samples"
    created = document_of_webhook(json.loads((samples / "orders_create.json").read_text()))
    cancelled = document_of_webhook(json.loads((samples / "orders_cancelled.json").read_text()))
    assert created.order_id == cancelled.order_id == "820982911946154508"
    assert [totals(entry) for entry in created.lines] == [(1, 0, 0, 0)]
    assert [totals(entry) for entry in cancelled.lines] == [(1, 1, 0, 0)]
    door = ShopifyDoor("https://x.myshopify.com", ["s"])
    refund = door.parse({"x-shopify-topic": "refunds/create"}, (samples / "refunds_create.json").read_bytes())
    assert refund.unclear_orders == ("820982911946154508",)
    level = (samples / "inventory_levels_update.json").read_bytes()
    assert door.parse({"x-shopify-topic": "inventory_levels/update"}, level).counts == ()
