"""eBay's orders as order documents: what each line has taken off eBay's number, what was shipped and what was cancelled.

The Fulfillment API tells a line's units and, in the order's shipping fulfillments, which of them left when. A cancellation is
of the whole order (`cancelStatus`); a refund is of money and names no units, so what a buyer sends back is booked by a count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.platforms.contract import MAX_QUANTITY
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import mapping, moment, objects, text

FULFILLED_BY_EBAY = "eBay fulfils the order from its own warehouse"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_shipped_in_part(order: Mapping[str, Any]) -> bool:
    """Tell whether units of an order have left: what left when is told apart from the order, so it is to be asked for."""
    return bool(order.get("fulfillmentHrefs")) or any(
        item.get("lineItemFulfillmentStatus") in ("FULFILLED", "IN_PROGRESS") for item in objects(order, "lineItems")
    )


def document_of(order: Mapping[str, Any], fulfillments: Sequence[Mapping[str, Any]] = ()) -> OrderDocument:
    """Turn an order and its shipping fulfillments into a document. Raises `NotUnderstoodError`.

    A line that is FULFILLED without a fulfillment that names it (marked as shipped without tracking) left at the order's
    last change. Nothing more is waited for of an order that is cancelled or refunded in full. Of an order that eBay
    fulfils (told once it is paid) nothing is ordered from our stock.
    """
    updated_at = moment(order, "lastModifiedDate")
    left = _shipments(fulfillments)
    return OrderDocument(
        order_id=text(order, "orderId"),
        revision=(updated_at - _EPOCH) // timedelta(microseconds=1),
        created_at=moment(order, "creationDate"),
        updated_at=updated_at,
        lines=tuple(
            _line_of_ebay(item)
            if _is_ebays(order)
            else _line(item, left.get(text(item, "lineItemId"), ()), updated_at, ended=_is_ended(order))
            for item in objects(order, "lineItems")
        ),
        whole=True,
    )


def _is_ended(order: Mapping[str, Any]) -> bool:
    status = order.get("cancelStatus")
    if isinstance(status, Mapping) and status.get("cancelState") == "CANCELED":
        return True
    return order.get("orderPaymentStatus") == "FULLY_REFUNDED"


def _is_ebays(order: Mapping[str, Any]) -> bool:
    programs = mapping(order, "program", optional=True)
    return mapping(programs, "fulfillmentProgram", optional=True).get("fulfilledBy") == "EBAY"


def _line_of_ebay(item: Mapping[str, Any]) -> OrderLine:
    return OrderLine(text(item, "lineItemId"), _reference(item), 0, ignored=FULFILLED_BY_EBAY)


def _line(item: Mapping[str, Any], left: Sequence[Movement], updated_at: datetime, *, ended: bool) -> OrderLine:
    ordered = units(item, "quantity")
    shipments = tuple(left)
    shipped = sum(movement.quantity for movement in shipments)
    if item.get("lineItemFulfillmentStatus") == "FULFILLED" and shipped < ordered:
        shipments += (Movement(ordered - shipped, updated_at),)
        shipped = ordered
    return OrderLine(
        line_id=text(item, "lineItemId"),
        reference=_reference(item),
        ordered=ordered,
        cancelled=max(0, ordered - shipped) if ended else 0,
        shipments=shipments,
    )


def _reference(item: Mapping[str, Any]) -> LineReference:
    """Name what was sold by its SKU; a listing without one isn't in the Inventory API, so its number stands in the case."""
    sku = item.get("sku")
    if isinstance(sku, str) and sku:
        return LineReference(platform_sku=sku, item_id=sku)
    listing = item.get("legacyItemId")
    return LineReference(item_id=f"listing {listing}" if isinstance(listing, str) else "")


def _shipments(fulfillments: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Movement, ...]]:
    """Return what left per line. A fulfillment that gives a line without a quantity ships one (its default)."""
    found: dict[str, tuple[Movement, ...]] = {}
    for fulfillment in fulfillments:
        at = moment(fulfillment, "shippedDate")
        for item in objects(fulfillment, "lineItems"):
            line = text(item, "lineItemId")
            count = units(item, "quantity") if item.get("quantity") is not None else 1
            found[line] = (*found.get(line, ()), Movement(count, at))
    return found


def units(item: Mapping[str, Any], name: str) -> int:
    """Return a number of units. Raises `NotUnderstoodError`."""
    value = item.get(name)
    if type(value) is not int or not 0 <= value <= MAX_QUANTITY:
        raise NotUnderstoodError(f"{name} is not a number of units")
    return value
