"""Amazon's orders as order documents: of the Orders API 2026-01-01, and of the notification ORDER_CHANGE.

Amazon takes the units of a seller-fulfilled order off its own number when the order is placed (Pending). Orders that
Amazon fulfils are sold from its own stock, and have no effect here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import mapping, moment, objects, text

MOST_UNITS = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The API writes PARTIALLY_SHIPPED and CANCELLED, notifications PartiallyShipped and Canceled. In the order of an order's
# life: of two documents of one moment the one further on is the newer.
_LIFE = (
    "PENDINGAVAILABILITY",
    "PENDING",
    "INVOICEUNCONFIRMED",
    "UNSHIPPED",
    "PARTIALLYSHIPPED",
    "SHIPPED",
    "CANCELLED",
)
_SPELLED = {"CANCELED": "CANCELLED", "UNFULFILLABLE": "CANCELLED"}


def document_of(order: Mapping[str, Any]) -> OrderDocument | None:
    """Turn an order of the API into a document; None if Amazon fulfils it. Raises `NotUnderstoodError`."""
    fulfillment = mapping(order, "fulfillment")
    status = _status(text(fulfillment, "fulfillmentStatus"))
    if fulfillment.get("fulfilledBy") == "AMAZON":
        return None
    updated_at = moment(order, "lastUpdatedTime")
    lines = []
    for item in objects(order, "orderItems"):
        done = mapping(item, "fulfillment", optional=True)
        cancelled = bool(mapping(mapping(item, "cancellation", optional=True), "cancellationExecution", optional=True))
        ordered = _units(item, "quantityOrdered")
        shipped = min(ordered, _units(done, "quantityFulfilled", 0))
        open_units = _units(done, "quantityUnfulfilled", 0 if cancelled else ordered - shipped)
        gone = status == "CANCELLED" or cancelled
        lines.append(
            _line(
                identity(item, "orderItemId"),
                text(mapping(item, "product"), "sellerSku"),
                ordered,
                # Nothing of a cancelled order is going to be shipped; of a line that was cancelled in part, what is open.
                cancelled=ordered - shipped - (0 if status == "CANCELLED" else open_units) if gone else 0,
                shipped=ordered if status == "SHIPPED" and not done else shipped,
                at=updated_at,
            )
        )
    return OrderDocument(
        order_id=identity(order, "orderId"),
        revision=_revision(updated_at, status),
        created_at=moment(order, "createdTime"),
        updated_at=updated_at,
        lines=tuple(lines),
    )


def document_of_change(change: Mapping[str, Any]) -> OrderDocument | None:
    """Turn an ORDER_CHANGE into a document; None if it is too little for one, and the order is to be asked for.

    Its time is that of the change, which the API tells as the order's last update; without it the notification can't be
    put into order with what a poll told. Raises `NotUnderstoodError`.
    """
    summary = mapping(change, "Summary")
    trigger = mapping(change, "OrderChangeTrigger", optional=True)
    items = objects(summary, "OrderItems", optional=True)
    if trigger.get("TimeOfOrderChange") is None or summary.get("PurchaseDate") is None or not items:
        return None
    status = _status(text(summary, "OrderStatus"))
    updated_at = moment(trigger, "TimeOfOrderChange")
    lines = []
    for item in items:
        ordered = _units(item, "Quantity")
        shipped = min(ordered, _units(item, "QuantityShipped", 0))
        lines.append(
            _line(
                identity(item, "OrderItemId"),
                text(item, "SellerSKU"),
                ordered,
                cancelled=ordered - shipped if status == "CANCELLED" else 0,
                shipped=shipped,
                at=updated_at,
            )
        )
    return OrderDocument(
        order_id=identity(change, "AmazonOrderId"),
        revision=_revision(updated_at, status),
        created_at=moment(summary, "PurchaseDate"),
        updated_at=updated_at,
        lines=tuple(lines),
    )


def _line(line_id: str, sku: str, ordered: int, *, cancelled: int, shipped: int, at: datetime) -> OrderLine:
    # Amazon tells no time of a shipment without the packages' addresses, so it is that of the change that shows it.
    shipments = (Movement(shipped, at),) if shipped else ()
    return OrderLine(line_id, LineReference(platform_sku=sku, item_id=sku), ordered, max(0, cancelled), shipments)


def _status(name: str) -> str:
    plain = name.upper().replace("_", "")
    plain = _SPELLED.get(plain, plain)
    if plain not in _LIFE:
        raise NotUnderstoodError(f"the order's status {name!r:.40} is not one that we know")
    return plain


def _revision(updated_at: datetime, status: str) -> int:
    return (updated_at - _EPOCH) // timedelta(microseconds=1) + _LIFE.index(status)


def _units(item: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = item.get(name, default)
    if type(value) is not int or not 0 <= value <= MOST_UNITS:
        raise NotUnderstoodError(f"{name} is not a whole number from 0 to {MOST_UNITS}")
    return value


def identity(item: Mapping[str, Any], name: str) -> str:
    """Return an id, which Amazon writes as a text. Raises `NotUnderstoodError` if there is none."""
    value = text(item, name)
    if len(value) > 100:
        raise NotUnderstoodError(f"{name} is too long for an id")
    return value
