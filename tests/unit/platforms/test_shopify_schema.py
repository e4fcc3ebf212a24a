"""Our GraphQL documents and the stand-in's answers against Shopify's own schemas."""

from __future__ import annotations

import contextlib
import gzip
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from graphql import GraphQLResolveInfo, GraphQLSchema, build_client_schema, execute_sync, parse, validate

from invsync_dagster.platforms.contract import LevelReference, WriteRow
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.platforms.oauth import StaticToken
from invsync_dagster.platforms.shopify import ShopifyPlatform, ShopifySettings, documents
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.shopify.settings import LIMITS
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionState
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.wire import ManualClock

VERSIONS = ["2026-04", "2026-07", "2026-10"]
TEXTS = {
    name: value
    for name, value in vars(documents).items()
    if isinstance(value, str) and name.isupper() and not name.startswith("_")
}
TEXTS |= {f"read_levels_{count}": documents.read_levels(count) for count in (1, 2, 5)}
TEXTS |= {
    f"activate_{count}_{quantities}": documents.activate_levels(count, quantities=quantities)
    for count in (1, 25)
    for quantities in (False, True)
}


@cache
def load_schema(folder: Path, version: str) -> GraphQLSchema:
    with gzip.open(folder / "shopify" / f"admin_{version}.json.gz") as file:
        return build_client_schema(json.load(file)["data"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_document_is_valid_in_this_version(contracts: Path, version: str, name: str) -> None:
    assert validate(load_schema(contracts, version), parse(TEXTS[name])) == []


class Recorder:
    """Keeps each query with the stand-in's answer to it."""

    def __init__(self, shop: ShopifySandbox) -> None:
        self._shop = shop
        self.calls: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def send(self, request: Request, *, deadline: float) -> Response:
        response = self._shop.handle(request)
        self.calls.append((json.loads(request.body), json.loads(response.body)))
        return response


def every_call() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Drive the client through all its queries: small and large orders, shipments, refunds, refusals."""
    clock = ManualClock()
    shop = ShopifySandbox(access_token="t", webhook_secret="s", clock=clock, random=Random(1), burst=1e6)
    wire = Recorder(shop)
    settings = ShopifySettings(
        shop_url="https://sandbox.myshopify.com", access_token_env="T", webhook_secret_env="S", unstocked="activate"
    )
    client = ShopifyPlatform(settings, StaticToken("t"), LIMITS, wire)
    other = shop.add_location()
    levels = [shop.add_article(f"SKU-{number}", 20) for number in range(8)]
    far = shop.add_article("FAR", 3, location_id=other)
    untracked = shop.add_article("UNTRACKED", 0, tracked=False)
    unknown = LevelReference("gid://shopify/InventoryItem/1", levels[0].location_id)
    begin = clock.now()
    small = shop.buy({levels[0]: 3})
    shop.fulfil(small, {next(iter(shop.lines(small))): 1})
    shop.refund(small, {next(iter(shop.lines(small))): 1}, "return")
    large = shop.buy(dict.fromkeys(levels, 2))
    for line in list(shop.lines(large))[:4]:
        shop.fulfil(large, {line: 1})
        shop.refund(large, {line: 1}, "no_restock")
    shop.cancel(shop.buy({levels[1]: 1}))
    clock.advance(60)
    client.write([WriteRow(levels[0], 4), WriteRow(far, 5, expected=3)], key="k-1")
    client.write([WriteRow(levels[0], 5, expected=99), WriteRow(unknown, 1)], key="k-2")
    client.write([WriteRow(LevelReference(level.item_id, other), 7, absent=True) for level in levels[:2]], key="k-3")
    again = [WriteRow(level, 7, absent=True) for level in (LevelReference(levels[0].item_id, other), unknown)]
    client.write([WriteRow(levels[2], 5), *again], key="k-4")
    client.read([levels[0], far, untracked, unknown, LevelReference(far.item_id, levels[0].location_id)])
    client.orders_changed(begin, clock.now())
    client.open_orders()
    client.listings()
    client.orders([small, large, "1"])
    client.check_credentials()
    address = "https://sync.example.com/webhooks/shopify_main"
    for one in client.subscriptions(address).subscriptions:
        client.subscribe(one, address)
    with contextlib.suppress(PlatformError):
        client.subscribe(Subscription("orders/create", SubscriptionState.MISSING), address)
    for one in client.subscriptions(address).subscriptions:
        client.subscribe(one, address)
    shop.bulk.end_next("FAILED", "TIMEOUT", share=0.5)
    for _ in range(2):
        handle = client.read_all().handle
        client.read_all()
        client.reading_of_all(handle)
        clock.advance(60)
        client.reading_of_all(handle)
    return wire.calls


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stand_in_answers_with_the_fields_and_types_of_the_schema(contracts: Path, version: str) -> None:
    schema = load_schema(contracts, version)

    def field(source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
        return source[info.path.key]

    def kind(value: Any, info: GraphQLResolveInfo, abstract: Any) -> str:
        if "id" in value:  # else it is a page of a node's list
            return str(value["id"]).split("/")[3]
        name = next(iter(value))
        if name == "lineItems" and any("totalQuantity" in node for node in value[name]["nodes"]):
            return "FulfillmentOrder"
        return {"fulfillmentLineItems": "Fulfillment", "refundLineItems": "Refund"}.get(name, "Order")

    operations = set()
    for question, answer in every_call():
        result = execute_sync(
            schema,
            parse(question["query"]),
            root_value=answer["data"],
            variable_values=question["variables"],
            field_resolver=field,
            type_resolver=kind,
        )
        assert result.errors is None
        assert result.data == answer["data"]
        operations.add(question["query"].split("(")[0].split("{")[0].split()[1])
    assert operations == {
        "SetQuantities",
        "ActivateLevels",
        "ReadLevels",
        "OrdersChanged",
        "Listings",
        "OrdersById",
        "OrderLines",
        "OrderParts",
        "FulfillmentLines",
        "RefundLines",
        "Assignments",
        "AssignedLines",
        "CheckAccess",
        "RunInBulk",
        "BulkOperationState",
        "Subscriptions",
        "Subscribe",
        "MendSubscription",
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stand_ins_bulk_file_has_the_lines_of_the_bulk_query(contracts: Path, version: str) -> None:
    clock = ManualClock()
    shop = ShopifySandbox(access_token="t", webhook_secret="s", clock=clock, random=Random(1))
    shop.stock(LevelReference(shop.add_article("A", 2).item_id, shop.add_location()), 3)
    shop.add_article("B", 0, tracked=False)
    shop.bulk.run(documents.READ_ALL, clock.now())
    clock.advance(60)
    file = shop.bulk.file(Request("GET", "https://x.myshopify.com/bulk-files/1.jsonl"), clock.now())
    assert file is not None
    items: dict[str, Any] = {}
    for line in map(json.loads, file.body.splitlines()):
        if parent := line.pop("__parentId", ""):
            items[parent]["inventoryLevels"]["edges"].append({"node": line})
        else:
            items[line["id"]] = {**line, "inventoryLevels": {"edges": []}}
    answer = {"inventoryItems": {"edges": [{"node": item} for item in items.values()]}}
    result = execute_sync(
        load_schema(contracts, version),
        parse(documents.READ_ALL),
        root_value=answer,
        field_resolver=lambda source, info, **_: source[info.path.key],
    )
    assert (result.errors, result.data) == (None, answer)
