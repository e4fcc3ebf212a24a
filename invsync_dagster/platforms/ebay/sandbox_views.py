"""What the stand-in account's API shows of its books, in the fields of eBay's specifications."""

from __future__ import annotations

from typing import Any

from invsync_dagster.platforms.ebay.sandbox_books import Item, Order

_MONEY = {"value": "10.00", "currency": "EUR"}


def error(number: int, message: str, *, category: str = "REQUEST", domain: str = "API_INVENTORY") -> dict[str, Any]:
    """Return an error object."""
    return {
        "errorId": number,
        "domain": domain,
        "category": category,
        "message": message,
        "longMessage": message,
        "parameters": [],
    }


def item_view(item: Item) -> dict[str, Any]:
    """Return an item as the Inventory API shows it."""
    return {
        "sku": item.sku,
        "locale": "en_US",
        "condition": "NEW",
        "product": {"title": f"Article {item.sku}"},
        "availability": {
            "shipToLocationAvailability": {
                "quantity": item.quantity,
                "allocationByFormat": {"auction": 0, "fixedPrice": item.quantity},
            }
        },
    }


def offer_view(item: Item) -> dict[str, Any]:
    """Return the offer of an item; its quantity only where it keeps one."""
    view: dict[str, Any] = {
        "offerId": item.offer,
        "sku": item.sku,
        "marketplaceId": "EBAY_DE",
        "format": "FIXED_PRICE",
        "status": "PUBLISHED" if item.published else "UNPUBLISHED",
    }
    if item.published:
        view["listing"] = {"listingId": item.listing, "listingStatus": "ACTIVE", "soldQuantity": 0}
    if item.own is not None:
        view["availableQuantity"] = item.own
    return view


def order_view(order: Order, root: str) -> dict[str, Any]:
    """Return an order as the Fulfillment API shows it; `root` is the API's address."""
    shipped = any(line.shipped for line in order.lines.values())
    done = not any(line.open for line in order.lines.values())
    refunds = [{"amount": _MONEY, "refundDate": order.refunded, "refundId": "1"}] if order.refunded else []
    return {
        "orderId": order.number,
        "creationDate": order.created,
        "lastModifiedDate": order.modified,
        "orderFulfillmentStatus": "FULFILLED" if done else "IN_PROGRESS" if shipped else "NOT_STARTED",
        "orderPaymentStatus": "FULLY_REFUNDED" if order.refunded else "PAID",
        "cancelStatus": {
            "cancelState": "CANCELED" if order.cancelled else "NONE_REQUESTED",
            "cancelRequests": [],
            **({"cancelledDate": order.cancelled} if order.cancelled else {}),
        },
        "fulfillmentHrefs": [f"{root}/order/{order.number}/shipping_fulfillment/1"] if shipped else [],
        "lineItems": [
            {
                "lineItemId": line.line,
                "legacyItemId": line.listing,
                "sku": line.sku,
                "title": f"Article {line.sku}",
                "quantity": line.quantity,
                "soldFormat": "FIXED_PRICE",
                "lineItemCost": _MONEY,
                "lineItemFulfillmentStatus": "NOT_STARTED"
                if not line.shipped
                else "IN_PROGRESS"
                if line.open
                else "FULFILLED",
                "refunds": refunds,
            }
            for line in order.lines.values()
        ],
    }


def fulfillments_view(order: Order) -> dict[str, Any]:
    """Return what was shipped of an order, one fulfillment a shipment of a line."""
    found = [
        {
            "fulfillmentId": f"9{line.line}{number}",
            "shippedDate": at,
            "shippingCarrierCode": "DHL",
            "lineItems": [{"lineItemId": line.line, "quantity": count}],
        }
        for line in order.lines.values()
        for number, (count, at) in enumerate(line.shipped)
    ]
    return {"fulfillments": found, "total": len(found)}
