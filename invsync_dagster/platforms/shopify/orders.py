"""Shopify's orders as order documents: one function of totals for both shapes, GraphQL nodes and webhook bodies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import identity, mapping, objects, text

# Above it Shopify itself refuses a quantity (INVALID_QUANTITY_TOO_HIGH).
MOST_UNITS = 1_000_000_000

# The search for orders with something to ship: https://shopify.dev/docs/api/usage/search-syntax
OPEN = "status:open AND (fulfillment_status:unshipped OR fulfillment_status:partial)"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Why a line moves no number at Shopify.
UNTRACKED = "Shopify doesn't track the quantity of this item"
CUSTOM = "a custom item without SKU (a tip, a service): there is no stock of it"

# A fulfilment in one of these states moved nothing, or no longer does.
_NOT_SHIPPED = frozenset({"cancelled", "error", "failure"})


@dataclass(frozen=True, slots=True)
class Refund:
    """Units of one line in one refund; `restock_type` in lower case: cancel, return, no_restock, legacy_restock."""

    quantity: int
    at: datetime
    restock_type: str


@dataclass(slots=True)
class Line:
    """One line of an order as Shopify states it, with the fulfilments and refunds that touch it.

    `quantity` was ordered in all; `current` leaves out what was refunded or removed; `unfulfilled` is left to ship;
    `ignored` says why Shopify keeps no stock of it, if it doesn't.
    """

    line_id: str
    reference: LineReference
    quantity: int
    current: int
    unfulfilled: int
    ignored: str = ""
    shipments: list[Movement] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)

    def totals(self, *, order_cancelled: bool) -> OrderLine:
        """Return the line's cumulative totals.

        - A `return` came back onto the shelf, as far as there was something shipped; a `cancel` never left it. What is
          more than that is the other kind: a fulfilment may have been cancelled since, and old orders know only
          `legacy_restock` for both.
        - Units gone from `current` without a refund were removed by an edit of the order: cancelled.
        - `no_restock` is said of shipped units that stay with the buyer (written off) and of units that will not be
          shipped (cancelled); what is left to ship tells which.
        - Once the order is cancelled, nothing more of it will be shipped.
        """
        shipments = sorted(self.shipments, key=lambda movement: movement.at)
        shipped = sum(movement.quantity for movement in shipments)
        unshipped = max(0, self.quantity - shipped)
        if not self.refunds:  # what follows would say the same; a day of webhooks is of such lines
            removed = self.quantity if order_cancelled else max(0, self.quantity - self.current)
            return OrderLine(
                self.line_id,
                self.reference,
                self.quantity,
                min(removed, unshipped),
                tuple(shipments),
                ignored=self.ignored,
            )
        refunds = sorted(self.refunds, key=lambda refund: refund.at)
        returned = [refund for refund in refunds if refund.restock_type in {"return", "legacy_restock"}]
        cancels = [refund for refund in refunds if refund.restock_type == "cancel"]
        without = [refund for refund in refunds if refund.restock_type == "no_restock"]
        kept = sum(refund.quantity for refund in without)
        removed = max(0, self.quantity - self.current - sum(refund.quantity for refund in refunds))

        restocks, more_cancelled = _split(returned, shipped)
        released, more_returned = _take(cancels, unshipped)
        restocks += _split(more_returned, shipped - sum(movement.quantity for movement in restocks))[0]
        surely = released + removed + more_cancelled
        cancelled = min(max(self.quantity - shipped - self.unfulfilled, surely), surely + kept)
        still_out = shipped - sum(movement.quantity for movement in restocks)
        # What was refunded before it could ship came first: the latest ones are those of shipped units.
        write_offs = _split(reversed(without), min(surely + kept - cancelled, still_out))[0]
        return OrderLine(
            line_id=self.line_id,
            reference=self.reference,
            ordered=self.quantity,
            cancelled=unshipped if order_cancelled else min(cancelled, unshipped),
            shipments=tuple(shipments),
            restocks=tuple(sorted(restocks, key=lambda movement: movement.at)),
            write_offs=tuple(reversed(write_offs)),
            ignored=self.ignored,
        )


def _split(refunds: Iterable[Refund], room: int) -> tuple[list[Movement], int]:
    """Return the first `room` units of `refunds` as movements, and how many units are left over."""
    movements, over = [], 0
    for refund in refunds:
        units = min(refund.quantity, room)
        if units > 0:
            movements.append(Movement(units, refund.at))
        room -= units
        over += refund.quantity - units
    return movements, over


def _take(refunds: Iterable[Refund], room: int) -> tuple[int, list[Refund]]:
    """Return how many units of `refunds` find room, and the rest as refunds."""
    taken, rest = 0, []
    for refund in refunds:
        units = min(refund.quantity, room - taken)
        taken += units
        if refund.quantity > units:
            rest.append(Refund(refund.quantity - units, refund.at, refund.restock_type))
    return taken, rest


def document_of_webhook(order: Mapping[str, Any]) -> OrderDocument:
    """Turn the body of `orders/create`, `orders/updated`, `orders/cancelled` into a document.

    Test orders (`test: true`) count: they move Shopify's stock as others do. Raises `NotUnderstoodError`.
    """
    lines: dict[str, Line] = {}
    for item in objects(order, "line_items"):
        line = _line_of_webhook(item)
        lines[line.line_id] = line
    for fulfilment in objects(order, "fulfillments", optional=True):
        # One without a state counts as one that went out.
        if _optional_text(fulfilment, "status").lower() in _NOT_SHIPPED:
            continue
        at = moment(fulfilment, "created_at")
        for item in objects(fulfilment, "line_items"):
            _ship(lines, identity(item, "id"), integer(item, "quantity"), at)
    for refund in objects(order, "refunds", optional=True):
        at = moment(refund, "created_at")
        for item in objects(refund, "refund_line_items"):
            _refund(lines, identity(item, "line_item_id"), integer(item, "quantity"), at, text(item, "restock_type"))
    return _document(
        identity(order, "id"),
        moment(order, "created_at"),
        moment(order, "updated_at"),
        lines.values(),
        cancelled=order.get("cancelled_at") is not None,
    )


def document_of_node(order: Mapping[str, Any]) -> OrderDocument:
    """Turn a whole `Order` node (every connection a `{"nodes": [...]}` with all its nodes) into a document.

    Raises `NotUnderstoodError`.
    """
    lines: dict[str, Line] = {}
    for item in nodes(order, "lineItems"):
        line = _line_of_node(item)
        lines[line.line_id] = line
    for fulfilment in objects(order, "fulfillments"):
        if text(fulfilment, "status").lower() in _NOT_SHIPPED:
            continue
        at = moment(fulfilment, "createdAt")
        for item in nodes(fulfilment, "fulfillmentLineItems"):
            _ship(lines, _line_id(item), integer(item, "quantity"), at)
    updated_at = moment(order, "updatedAt")
    for refund in objects(order, "refunds"):
        # The schema lets a refund be without a time; then the order's last change is the latest that it can be.
        at = updated_at if refund.get("createdAt") is None else moment(refund, "createdAt")
        for item in nodes(refund, "refundLineItems"):
            _refund(lines, _line_id(item), integer(item, "quantity"), at, text(item, "restockType"))
    _place(order, lines)
    return _document(
        numeric_id(text(order, "id")),
        moment(order, "createdAt"),
        updated_at,
        lines.values(),
        cancelled=order.get("cancelledAt") is not None,
    )


def _place(order: Mapping[str, Any], lines: Mapping[str, Line]) -> None:
    """Note the locations that each line is assigned to, as the fulfilment orders tell that we may see; a location that was
    deleted, or a cancelled one's, tells of none."""
    places: dict[str, set[str]] = defaultdict(set)
    for part in nodes(order, "fulfillmentOrders"):
        location = mapping(part, "assignedLocation").get("location")
        if text(part, "status") == "CANCELLED" or location is None:
            continue
        for item in nodes(part, "lineItems"):
            if integer(item, "totalQuantity"):
                places[_line_id(item)].add(text(mapping(mapping(part, "assignedLocation"), "location"), "id"))
    for line_id, locations in places.items():
        if (line := lines.get(line_id)) is not None:
            line.reference = line.reference._replace(locations=tuple(sorted(locations)))


def _line_of_webhook(item: Mapping[str, Any]) -> Line:
    """Read one line, and whether Shopify keeps stock of it.

    A variant without inventory management is untracked, and a line with neither variant nor SKU is a custom item
    (a tip, a service): selling them moves no number anywhere. A line whose variant was deleted keeps its SKU.
    """
    variant, sku = item.get("variant_id"), _optional_text(item, "sku")
    ignored = CUSTOM if variant is None and not sku else ""
    if variant is not None and "variant_inventory_management" in item and not item["variant_inventory_management"]:
        ignored = UNTRACKED
    variant_gid = "" if variant is None else f"gid://shopify/ProductVariant/{identity(item, 'variant_id')}"
    return Line(
        identity(item, "id"),
        LineReference(platform_sku=sku, variant_id=variant_gid),
        integer(item, "quantity"),
        integer(item, "current_quantity"),
        integer(item, "fulfillable_quantity"),
        ignored,
    )


def _line_of_node(item: Mapping[str, Any]) -> Line:
    """Read one line, and whether Shopify keeps stock of it, as in a webhook."""
    variant, sku = item.get("variant"), _optional_text(item, "sku")
    if variant is None:
        ignored = "" if sku else CUSTOM
        reference = LineReference(platform_sku=sku)
    else:
        variant = mapping(item, "variant")
        stock = mapping(variant, "inventoryItem")
        ignored = UNTRACKED if stock.get("tracked") is False else ""
        reference = LineReference(platform_sku=sku, item_id=text(stock, "id"), variant_id=text(variant, "id"))
    return Line(
        numeric_id(text(item, "id")),
        reference,
        integer(item, "quantity"),
        integer(item, "currentQuantity"),
        integer(item, "unfulfilledQuantity"),
        ignored,
    )


def _ship(lines: Mapping[str, Line], line_id: str, quantity: int, at: datetime) -> None:
    if (line := lines.get(line_id)) is not None and quantity:
        line.shipments.append(Movement(quantity, at))


def _refund(lines: Mapping[str, Line], line_id: str, quantity: int, at: datetime, restock_type: str) -> None:
    if (line := lines.get(line_id)) is not None and quantity:
        line.refunds.append(Refund(quantity, at, restock_type.lower()))


def _line_id(item: Mapping[str, Any]) -> str:
    return numeric_id(text(mapping(item, "lineItem"), "id"))


def _document(
    order_id: str, created_at: datetime, updated_at: datetime, lines: Iterable[Line], *, cancelled: bool
) -> OrderDocument:
    return OrderDocument(
        order_id=order_id,
        revision=(updated_at - _EPOCH) // timedelta(microseconds=1),
        created_at=created_at,
        updated_at=updated_at,
        lines=tuple(line.totals(order_cancelled=cancelled) for line in lines),
    )


def numeric_id(gid: str) -> str:
    """Return the number at the end of a gid as text (`gid://shopify/Order/1` -> `1`), as webhooks name the object."""
    number = gid.rpartition("/")[2]
    if not (gid.startswith("gid://shopify/") and number.isascii() and number.isdecimal()):
        raise NotUnderstoodError("an id is not a gid of Shopify")
    return number


def integer(item: Mapping[str, Any], name: str) -> int:
    """Return a number of units. Raises `NotUnderstoodError` unless it is a whole number from 0 to Shopify's limit."""
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_UNITS:
        raise NotUnderstoodError(f"{name} is not a whole number of at least 0 and at most {MOST_UNITS}")
    return value


def moment(item: Mapping[str, Any], name: str) -> datetime:
    """Return a time in UTC. Raises `NotUnderstoodError` if it is missing or without a time zone."""
    try:
        value = datetime.fromisoformat(text(item, name))
        if value.tzinfo is None:
            raise ValueError("without a time zone")
        return value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotUnderstoodError(f"{name} is not a time with a time zone") from None


def nodes(item: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    """Return the nodes of a connection. Raises `NotUnderstoodError` if it is missing."""
    return objects(mapping(item, name), "nodes")


def _optional_text(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""
