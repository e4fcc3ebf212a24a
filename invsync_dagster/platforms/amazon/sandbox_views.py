"""What the stand-in account shows of its books: items, orders and notifications as JSON values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from invsync_dagster.platforms.amazon.sandbox_books import Item, Order, told

_NOTIFIED = {
    "PENDING": "Pending",
    "UNSHIPPED": "Unshipped",
    "PARTIALLY_SHIPPED": "PartiallyShipped",
    "SHIPPED": "Shipped",
    "CANCELLED": "Canceled",
}


def item_view(item: Item, marketplaces: Sequence[str], data: Collection[str]) -> dict[str, Any]:
    """Return an item with the data sets that were asked for; FBA stock is shown without its quantity."""
    view: dict[str, Any] = {"sku": item.sku}
    if "summaries" in data:
        view["summaries"] = [
            {
                "marketplaceId": number,
                "asin": item.asin,
                "productType": item.product_type,
                "status": ["BUYABLE", "DISCOVERABLE"] if item.quantity else ["DISCOVERABLE"],
                "itemName": f"Item {item.sku}",
                "createdDate": item.created,
                "lastUpdatedDate": item.created,
            }
            for number in item.marketplaces
            if number in marketplaces
        ]
    if "fulfillmentAvailability" in data:
        view["fulfillmentAvailability"] = [
            {"fulfillmentChannelCode": code, **({"quantity": value["quantity"]} if "quantity" in value else {})}
            for code, value in item.availability.items()
        ]
    if "issues" in data:
        view["issues"] = []
    return view


def order_view(order: Order, data: Collection[str]) -> dict[str, Any]:
    """Return an order as the Orders API shows it."""
    items = []
    for line in order.lines.values():
        item: dict[str, Any] = {
            "orderItemId": line.line,
            "quantityOrdered": line.ordered,
            "product": {"asin": "B000000000", "title": f"Item {line.sku}", "sellerSku": line.sku},
        }
        if "FULFILLMENT" in data:
            item["fulfillment"] = {"quantityFulfilled": line.shipped, "quantityUnfulfilled": line.open}
        if "CANCELLATION" in data and line.cancelled:
            item["cancellation"] = {
                "cancellationExecution": {"cancelledBy": "BUYER", "cancelReason": "NO_LONGER_NEEDED"}
            }
        items.append(item)
    view: dict[str, Any] = {
        "orderId": order.number,
        "createdTime": order.created,
        "lastUpdatedTime": order.updated,
        "salesChannel": {"channelName": "AMAZON", "marketplaceId": order.marketplace},
        "orderItems": items,
    }
    if "FULFILLMENT" in data:
        view["fulfillment"] = {"fulfillmentStatus": order.status, "fulfilledBy": order.fulfilled_by}
    if "PACKAGES" in data:
        view["packages"] = [
            {
                "packageReferenceId": str(package.number),
                "createdTime": package.shipped,
                "shipTime": package.shipped,
                "packageStatus": {"status": "SHIPPED"},
                "packageItems": [{"orderItemId": line, "quantity": units} for line, units in package.units.items()],
            }
            for package in order.packages
        ]
    return view


def order_change(order: Order, seller_id: str) -> dict[str, Any]:
    """Return the content of an ORDER_CHANGE notification."""
    own = order.fulfilled_by == "MERCHANT"
    status = _NOTIFIED[order.status]
    lines = order.lines.values()
    return {
        "OrderChangeNotification": {
            "NotificationLevel": "OrderLevel",
            "SellerId": seller_id,
            "AmazonOrderId": order.number,
            "OrderChangeType": "OrderStatusChange",
            "OrderChangeTrigger": {"TimeOfOrderChange": order.updated, "ChangeReason": "Order status change"},
            "Summary": {
                "MarketplaceId": order.marketplace,
                "OrderStatus": status,
                "PurchaseDate": order.created,
                "DestinationPostalCode": None,
                "FulfillmentType": "MFN" if own else "AFN",
                "OrderType": "StandardOrder",
                "NumberOfItemsShipped": sum(line.shipped for line in lines),
                "NumberOfItemsUnshipped": sum(line.open for line in lines),
                "OrderPrograms": [],
                "ShippingPrograms": [],
                "OrderItems": [
                    {
                        "OrderItemId": line.line,
                        "SellerSKU": line.sku,
                        "SupplySourceId": None,
                        "OrderItemStatus": "Shipped" if line.shipped == line.ordered else "Unshipped",
                        "Quantity": line.ordered,
                        "QuantityShipped": line.shipped,
                        "IsBuyerRequestedCancel": False,
                    }
                    for line in lines
                ],
            },
        }
    }


def notification(kind: str, payload: dict[str, Any], number: int, now: datetime) -> dict[str, Any]:
    """Return a notification around its content."""
    return {
        "NotificationVersion": "1.0",
        "NotificationType": kind,
        "PayloadVersion": "1.0",
        "EventTime": told(now),
        "Payload": payload,
        "NotificationMetadata": {
            "ApplicationId": "amzn1.sellerapps.app.stand-in",
            "SubscriptionId": "stand-in-subscription",
            "PublishTime": told(now),
            "NotificationId": f"{number:032x}",
        },
    }


def event(notification: dict[str, Any], number: int, now: datetime) -> dict[str, Any]:
    """Return what EventBridge makes of a notification."""
    return {
        "version": "0",
        "id": f"{number:032x}",
        "detail-type": notification.get("NotificationType") or notification["notificationType"],
        "source": "aws.partner/sellingpartnerapi.amazon.com/stand-in",
        "account": "000000000000",
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "us-east-1",
        "resources": [],
        "detail": notification,
    }
