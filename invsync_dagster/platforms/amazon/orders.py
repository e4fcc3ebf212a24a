"""Amazon's orders as order documents: of the Orders API 2026-01-01, and of the notification ORDER_CHANGE.

Amazon takes the units of a seller-fulfilled order off its own number when the order is placed (Pending). Orders that
Amazon fulfils are sold from its own stock: nothing of them is ordered from ours, and their lines say so. When units left,
the order's packages tell (data set PACKAGES, which names no buyer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import mapping, moment, objects, text

MOST_UNITS = 1_000_000_000

FULFILLED_BY_AMAZON = "Amazon fulfils the order from its own stock (FBA)"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# A package in one of these states hasn't left.
_NOT_SHIPPED = ("PENDING", "CANCELLED")

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
# In these the number of unshipped items counts all lines; what it counts before, no page tells.
_LEFT_IS_TOLD = frozenset({"UNSHIPPED", "PARTIALLYSHIPPED"})
_SPELLED = {"CANCELED": "CANCELLED", "UNFULFILLABLE": "CANCELLED"}


def document_of(order: Mapping[str, Any]) -> OrderDocument:
    """Turn an order of the API into a document. Raises `NotUnderstoodError`."""
    fulfillment = mapping(order, "fulfillment")
    status = _status(text(fulfillment, "fulfillmentStatus"))
    by_amazon = fulfillment.get("fulfilledBy") == "AMAZON"
    updated_at = moment(order, "lastUpdatedTime")
    packed = _packed(order)
    lines = []
    for item in objects(order, "orderItems"):
        line_id = identity(item, "orderItemId")
        done = mapping(item, "fulfillment", optional=True)
        cancelled = bool(mapping(mapping(item, "cancellation", optional=True), "cancellationExecution", optional=True))
        ordered = _units(item, "quantityOrdered")
        shipped = min(ordered, _units(done, "quantityFulfilled", 0))
        open_units = _units(done, "quantityUnfulfilled", 0 if cancelled else ordered - shipped)
        gone = status == "CANCELLED" or cancelled
        shipped = ordered if status == "SHIPPED" and not done else shipped
        lines.append(
            _line(
                line_id,
                text(mapping(item, "product"), "sellerSku"),
                ordered,
                # Nothing of a cancelled order is going to be shipped; of a line that was cancelled in part, what is open.
                cancelled=ordered - shipped - (0 if status == "CANCELLED" else open_units) if gone else 0,
                shipments=_shipments(packed.get(line_id, ()), shipped, updated_at),
                by_amazon=by_amazon,
            )
        )
    return OrderDocument(
        order_id=identity(order, "orderId"),
        revision=_revision(updated_at, status),
        created_at=moment(order, "createdTime"),
        updated_at=updated_at,
        lines=tuple(lines),
    )


def tells_of_shipments(change: Mapping[str, Any]) -> bool:
    """Tell whether an ORDER_CHANGE is about a seller's order of which units have left. Raises `NotUnderstoodError`.

    It doesn't say when they left, and a count may contain them already. The list of orders tells it within minutes; to ask
    for each order alone takes a call of two seconds (getOrder, 0.5 a second), on a day on which hundreds leave at once.
    """
    summary = mapping(change, "Summary")
    items = objects(summary, "OrderItems", optional=True)
    return summary.get("FulfillmentType") != "AFN" and any(_units(item, "QuantityShipped", 0) for item in items)


def document_of_change(change: Mapping[str, Any]) -> OrderDocument | None:
    """Turn an ORDER_CHANGE without shipped units into a document; None if it is too little for one, and the order is to be
    asked for.

    Its time is that of the change, which the API tells as the order's last update; without it the notification can't be
    put into order with what a poll told. It has no field for units cancelled of a line: of an order with fewer left to
    ship than its lines say, the API tells which. Raises `NotUnderstoodError`.
    """
    summary = mapping(change, "Summary")
    trigger = mapping(change, "OrderChangeTrigger", optional=True)
    items = objects(summary, "OrderItems", optional=True)
    if trigger.get("TimeOfOrderChange") is None or summary.get("PurchaseDate") is None or not items:
        return None
    status = _status(text(summary, "OrderStatus"))
    updated_at = moment(trigger, "TimeOfOrderChange")
    by_amazon = summary.get("FulfillmentType") == "AFN"
    lines = []
    left = 0
    for item in items:
        ordered = _units(item, "Quantity")
        left += ordered
        lines.append(
            _line(
                identity(item, "OrderItemId"),
                text(item, "SellerSKU"),
                ordered,
                cancelled=ordered if status == "CANCELLED" else 0,
                shipments=(),
                by_amazon=by_amazon,
            )
        )
    if status in _LEFT_IS_TOLD and not by_amazon and _units(summary, "NumberOfItemsUnshipped", left) < left:
        return None
    return OrderDocument(
        order_id=identity(change, "AmazonOrderId"),
        revision=_revision(updated_at, status),
        created_at=moment(summary, "PurchaseDate"),
        updated_at=updated_at,
        lines=tuple(lines),
    )


def _line(
    line_id: str, sku: str, ordered: int, *, cancelled: int, shipments: tuple[Movement, ...], by_amazon: bool
) -> OrderLine:
    if by_amazon:
        return OrderLine(line_id, LineReference(platform_sku=sku, item_id=sku), 0, ignored=FULFILLED_BY_AMAZON)
    return OrderLine(line_id, LineReference(platform_sku=sku, item_id=sku), ordered, max(0, cancelled), shipments)


def _packed(order: Mapping[str, Any]) -> dict[str, list[Movement]]:
    """Return what left in packages per line id."""
    found: dict[str, list[Movement]] = {}
    for package in objects(order, "packages", optional=True):
        if mapping(package, "packageStatus", optional=True).get("status") in _NOT_SHIPPED:
            continue
        if package.get("shipTime") is None:
            continue
        at = moment(package, "shipTime")
        for item in objects(package, "packageItems", optional=True):
            found.setdefault(identity(item, "orderItemId"), []).append(Movement(_units(item, "quantity"), at))
    return found


def _shipments(packed: Sequence[Movement], shipped: int, otherwise: datetime) -> tuple[Movement, ...]:
    """Return `shipped` units at the times of their packages, the oldest first; what no package tells left `otherwise`."""
    movements = []
    for movement in sorted(packed, key=lambda one: one.at):
        units = min(movement.quantity, shipped)
        if units:
            movements.append(Movement(units, movement.at))
        shipped -= units
    return (*movements, Movement(shipped, otherwise)) if shipped else tuple(movements)


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
