"""docs/orders.md says what each state of an order means: every row of its tables, driven through the platform's parser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.events import OrderDocument
from invsync_dagster.platforms.alibaba import orders as alibaba
from invsync_dagster.platforms.amazon import orders as amazon
from invsync_dagster.platforms.ebay import orders as ebay
from invsync_dagster.platforms.erp import wire
from invsync_dagster.platforms.erp.webhooks import ErpWebhookDoor
from invsync_dagster.platforms.shopify import orders as shopify
from invsync_dagster.platforms.woocommerce import orders as woocommerce

PAGE = Path(__file__).parents[3] / "docs" / "orders.md"
SAID = re.compile(r"`([\w.]+): ([^`]+)`")
CREATED, CHANGED = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
NOW = datetime(2026, 1, 3, tzinfo=UTC)

Row = tuple[dict[str, str], list[str]]


def table(platform: str) -> list[Row]:
    """The rows of a platform's table: what the order says by field, and the other cells."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {platform}\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [(dict(SAID.findall(first)), rest) for first, *rest in cells[2:]]


class Said(dict[str, Any]):
    """What a row says, taken field by field: one that nobody takes is one that the table has made up."""

    def take(self, name: str, default: Any) -> Any:
        value = self.pop(name, default)
        if value == "null":
            return None
        return int(value) if isinstance(value, str) and value.isdecimal() else value


def of_shopify(said: Said) -> OrderDocument:
    quantity = said.take("quantity", 3)
    order = {
        "id": 1,
        "created_at": CREATED,
        "updated_at": CHANGED,
        "cancelled_at": said.take("cancelled_at", None),
        "line_items": [
            {
                "id": 7,
                "variant_id": said.take("variant_id", 5),
                "sku": said.take("sku", "A"),
                "variant_inventory_management": said.take("variant_inventory_management", "shopify"),
                "quantity": quantity,
                "current_quantity": said.take("current_quantity", quantity),
                "fulfillable_quantity": said.take("fulfillable_quantity", quantity),
            }
        ],
    }
    if shipped := said.take("fulfillments.quantity", 0):
        status = said.take("fulfillments.status", "success")
        parts = [{"id": 7, "quantity": shipped}]
        order["fulfillments"] = [{"created_at": CHANGED, "status": status, "line_items": parts}]
    if refunded := said.take("refunds.quantity", 0):
        part = {"line_item_id": 7, "quantity": refunded, "restock_type": said.take("refunds.restock_type", "")}
        order["refunds"] = [{"created_at": CHANGED, "refund_line_items": [part]}]
    return shopify.document_of_webhook(order)


def of_woocommerce(said: Said) -> OrderDocument:
    held, refunded = said.take("_reduced_stock", None), said.take("refunded", 0)
    item = {
        "id": 7,
        "product_id": 5,
        "quantity": 3,
        "meta_data": [] if held is None else [{"key": "_reduced_stock", "value": str(held)}],
    }
    order = {
        "id": 1,
        "status": said.take("status", ""),
        "date_created_gmt": CREATED,
        "date_modified_gmt": CHANGED,
        "date_paid_gmt": said.take("date_paid_gmt", None),
        "date_completed_gmt": said.take("date_completed_gmt", None),
        "meta_data": [{"key": name, "value": said.take(name, "")} for name in ("_wp_trash_meta_status",)],
        "line_items": [item],
    }
    refunds = [woocommerce.Refund(NOW, {"7": refunded})] if refunded else []
    return woocommerce.document_of(order, refunds)


def of_amazon(said: Said) -> OrderDocument:
    done = {name: said.take(name, None) for name in ("quantityFulfilled", "quantityUnfulfilled")}
    item: dict[str, Any] = {"orderItemId": "7", "quantityOrdered": 3, "product": {"sellerSku": "A"}}
    item["fulfillment"] = {name: units for name, units in done.items() if units is not None}
    if by := said.take("cancelledBy", ""):
        item["cancellation"] = {"cancellationExecution": {"cancelledBy": by}}
    fulfillment = {
        "fulfillmentStatus": said.take("fulfillmentStatus", ""),
        "fulfilledBy": said.take("fulfilledBy", "MERCHANT"),
    }
    order = {"orderId": "1", "createdTime": CREATED, "lastUpdatedTime": CHANGED, "orderItems": [item]}
    return amazon.document_of(order | {"fulfillment": fulfillment})


def of_ebay(said: Said) -> OrderDocument:
    shipped = said.take("shipping_fulfillment.quantity", 0)
    order = {
        "orderId": "1",
        "creationDate": CREATED,
        "lastModifiedDate": CHANGED,
        "orderPaymentStatus": said.take("orderPaymentStatus", "PAID"),
        "cancelStatus": {"cancelState": said.take("cancelState", "NONE_REQUESTED")},
        "lineItems": [
            {
                "lineItemId": "7",
                "sku": "A",
                "quantity": 3,
                "lineItemFulfillmentStatus": said.take("lineItemFulfillmentStatus", "NOT_STARTED"),
            }
        ],
    }
    if by := said.take("program.fulfilledBy", ""):
        order["program"] = {"fulfillmentProgram": {"fulfilledBy": by}}
    fulfillments = [{"shippedDate": CHANGED, "lineItems": [{"lineItemId": "7", "quantity": shipped}]}]
    return ebay.document_of(order, fulfillments if shipped else [])


def of_alibaba(said: Said) -> OrderDocument:
    order = {
        "trade_id": "1",
        "trade_status": said.take("trade_status", ""),
        "create_date": {"timestamp": "1767225600000"},
        "modify_date": {"timestamp": "1767398400000"},
        "order_products": [{"id": "7", "product_id": "5", "quantity": "3"}],
    }
    shipped = said.take("shipping_order_list", 0)
    return alibaba.document_of(order, NOW, NOW if shipped else None)


PARSERS: Mapping[str, Callable[[Said], OrderDocument]] = {
    "Shopify": of_shopify,
    "WooCommerce": of_woocommerce,
    "Amazon": of_amazon,
    "eBay": of_ebay,
    "Alibaba.com": of_alibaba,
}
ROWS = [(platform, row) for platform in PARSERS for row in table(platform)]


@pytest.mark.parametrize(("platform", "row"), ROWS, ids=[f"{name} {', '.join(row[0].values())}" for name, row in ROWS])
def test_an_order_counts_as_its_row_of_the_page_says(platform: str, row: Row) -> None:
    fields, (*numbers, why) = row
    said = Said(fields)
    (line,) = PARSERS[platform](said).lines
    assert not said, f"the page names fields that no order has: {said}"
    left = line.ordered - line.cancelled - line.shipped
    told = [left, line.shipped, line.cancelled, line.restocked, line.written_off]
    if numbers[0] == "–":
        assert why.startswith("ignored: ")
        assert line.ignored
    else:
        assert not line.ignored
        assert told == [int(number) for number in numbers]


STATES = {
    "WooCommerce": ("status", set(woocommerce._STATES)),
    "Amazon": (
        "fulfillmentStatus",
        {"PENDING_AVAILABILITY", "PENDING", "UNSHIPPED", "PARTIALLY_SHIPPED", "SHIPPED", "CANCELLED", "UNFULFILLABLE"},
    ),
    "Alibaba.com": ("trade_status", set(alibaba._LIFE)),
    "Shopify": ("refunds.restock_type", {"cancel", "return", "no_restock", "legacy_restock"}),
    "eBay": ("orderPaymentStatus", {"FAILED", "FULLY_REFUNDED", "PAID", "PARTIALLY_REFUNDED", "PENDING"}),
}


@pytest.mark.parametrize("platform", PARSERS)
def test_every_state_that_a_platform_has_stands_in_its_table(platform: str) -> None:
    field, states = STATES[platform]
    assert states <= {fields[field] for fields, _ in table(platform) if field in fields}


def test_amazons_states_are_those_of_its_model(contracts: Path) -> None:
    model = json.loads((contracts / "amazon/models/orders_2026-01-01.json").read_text(encoding="utf-8"))
    assert STATES["Amazon"][1] == set(model["definitions"]["FulfillmentStatus"]["enum"])


def test_a_change_of_the_erp_is_a_count_whatever_it_is_called() -> None:
    rows = table("The own ERP")
    assert {fields["change_type"] for fields, _ in rows} == set(wire.CHANGE_TYPES)
    for fields, (on_hand, _) in rows:
        event = {"event_id": "1", "sku": "A", "version": 1, "occurred_at": CREATED, **fields}
        body = json.dumps(event | {"quantity": int(fields["quantity"])}).encode()
        headers = {wire.TIMESTAMP_HEADER.lower(): str(int((NOW + timedelta(days=1)).timestamp()))}
        content = ErpWebhookDoor(("s",)).parse(headers, body)
        assert content.documents == ()
        assert [count.quantity for count in content.counts] == [int(on_hand)]
