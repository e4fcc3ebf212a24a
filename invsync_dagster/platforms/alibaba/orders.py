"""Alibaba.com's orders as order documents, and the windows in which they are listed.

An order is one state for all of its lines: nothing tells of a part that was shipped, cancelled or refunded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.platforms.alibaba.errors import layers
from invsync_dagster.platforms.alibaba.products import identity, is_id, units, unwrapped_list
from invsync_dagster.platforms.errors import NotUnderstoodError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The zone of `date_str` (documentation of /alibaba/order/list).
_THEIRS = ZoneInfo("America/Los_Angeles")

# The states of the documentation (docId=131), in the order of an order's life; the place of a state breaks a tie between
# two documents of one second. An unknown state counts as one that is to be shipped.
_LIFE = (
    "to_be_audited",
    "unpay",
    "paying",
    "paid",
    "captured",
    "undeliver",
    "delivering",
    "wait_confirm_receipt",
    "trade_success",
    "frozen",
    "charge_back",
    "trade_close",
)
# Nothing is sold yet; Alibaba.com closes such an order by itself when nobody pays.
_NOT_YET = frozenset({"to_be_audited", "unpay"})
_SHIPPED = frozenset({"wait_confirm_receipt", "trade_success"})
CLOSED = frozenset({"trade_close", "trade_closed", "cancel"})
# Of these the logistics tell whether the goods left, and when: an order may have changed again since.
DEPENDING = CLOSED | _SHIPPED | {"frozen", "charge_back"}
OPEN = ("paying", "paid", "captured", "undeliver", "delivering", "frozen", "charge_back")


@dataclass(frozen=True, slots=True)
class ListedOrder:
    """One order of a list: its id and when it changed last."""

    order_id: str
    changed_at: datetime


def listed_orders(answer: Mapping[str, Any]) -> tuple[list[ListedOrder], int | None]:
    """Return the orders of a page, and how many there are in all if it says so. Raises `NotUnderstoodError`."""
    for layer in layers(answer):
        if "order_list" in layer or "total_count" in layer:
            entries = unwrapped_list(layer.get("order_list"))
            found = [ListedOrder(identity(entry, "trade_id"), _changed_at(entry)) for entry in entries]
            return found, units(layer.get("total_count"))
    raise NotUnderstoodError("order_list is missing")


def masked(answer: Mapping[str, Any]) -> bool:
    """Tell whether a list hides its orders' ids from this app (`21***54`), as it does without the right to them."""
    return any(
        isinstance(order, Mapping) and isinstance(order.get("trade_id"), str) and "*" in order["trade_id"]
        for layer in layers(answer)
        for order in (layer.get("order_list") if isinstance(layer.get("order_list"), list) else ())  # type: ignore[union-attr]
    )


def order_of(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the order of an answer, None where there is none."""
    return next((layer for layer in layers(answer) if layer.get("trade_id")), None)


def state_of(order: Mapping[str, Any]) -> str:
    """Return an order's state. Raises `NotUnderstoodError`."""
    state = order.get("trade_status")
    if not isinstance(state, str) or not state:
        raise NotUnderstoodError("trade_status is missing")
    return state


def left_at(answer: Mapping[str, Any], otherwise: datetime) -> datetime | None:
    """Return when an order's goods left the house by its logistics (`otherwise` if they don't say), None if they didn't."""
    for layer in layers(answer):
        if layer.get("shipping_order_list"):
            return _optional_moment(layer.get("shipment_date")) or otherwise
    return None


def changed_at(order: Mapping[str, Any], now: datetime) -> datetime:
    """Return when an order changed last; one that doesn't say is as of `now`. Raises `NotUnderstoodError`."""
    return _optional_moment(order.get("modify_date")) or now


def document_of(order: Mapping[str, Any], now: datetime, shipped_at: datetime | None = None) -> OrderDocument:
    """Turn an order into a document; `shipped_at` is what the logistics told of one in a `DEPENDING` state.

    Raises `NotUnderstoodError`.
    """
    state = state_of(order)
    created_at = _optional_moment(order.get("create_date"))
    if created_at is None:
        raise NotUnderstoodError("create_date is missing")
    updated_at = changed_at(order, now)
    if state in _SHIPPED:
        shipped_at = shipped_at or updated_at
    life = _LIFE.index(state) if state in _LIFE else _LIFE.index("trade_close" if state in CLOSED else "undeliver")
    lines: dict[str, OrderLine] = {}
    for place, product in enumerate(unwrapped_list(order.get("order_products"))):
        line = _line(product, place, state, shipped_at)
        if line.line_id in lines:
            raise NotUnderstoodError(f"the line {line.line_id!r:.60} stands twice")
        lines[line.line_id] = line
    return OrderDocument(
        order_id=identity(order, "trade_id"),
        revision=(updated_at - _EPOCH) // timedelta(microseconds=1) + life,
        created_at=created_at,
        updated_at=updated_at,
        lines=tuple(lines.values()),
        # The seller may draft an order anew until it is paid.
        whole=True,
    )


def _line(product: Mapping[str, Any], place: int, state: str, shipped_at: datetime | None) -> OrderLine:
    """Return a line's totals: unpaid nothing is ordered yet; closed before shipping all is cancelled; shipped all has left.

    What comes back after shipping isn't told: it returns to the shelf by a count.
    """
    told = product.get("id")
    line_id = told if isinstance(told, str) and told else str(told if type(told) is int else place)
    quantity = units(product.get("quantity"))
    if quantity is None or quantity < 0:
        raise NotUnderstoodError("the quantity of a line is not a number of pieces")
    if float(str(product.get("quantity"))) > quantity:
        quantity = math.ceil(float(str(product.get("quantity"))))
    if state in _NOT_YET:
        return OrderLine(line_id, _reference(product), 0)
    if shipped_at is not None:
        shipments = (Movement(quantity, shipped_at),) if quantity else ()
        return OrderLine(line_id, _reference(product), quantity, shipments=shipments)
    return OrderLine(line_id, _reference(product), quantity, quantity if state in CLOSED else 0)


def _reference(product: Mapping[str, Any]) -> LineReference:
    """Name what was sold: the SKU by its id, or a product without SKUs by its own; else by the seller's code."""
    sku, item, code = product.get("sku_id"), product.get("product_id"), product.get("sku_code")
    sku_id = str(sku) if is_id(str(sku)) else ""
    item_id = sku_id or (str(item) if is_id(str(item)) else "")
    return LineReference(platform_sku=code if isinstance(code, str) else "", item_id=item_id, variant_id=sku_id)


def _changed_at(entry: Mapping[str, Any]) -> datetime:
    changed = _optional_moment(entry.get("modify_date")) or _optional_moment(entry.get("create_date"))
    if changed is None:
        raise NotUnderstoodError("modify_date is missing")
    return changed


def _optional_moment(value: Any) -> datetime | None:
    """Read a `{"timestamp": "<ms>"}`; None where there is none. Raises `NotUnderstoodError`."""
    if not isinstance(value, Mapping) or value.get("timestamp") in (None, ""):
        return None
    try:
        return _EPOCH + timedelta(milliseconds=int(value["timestamp"]))
    except (ValueError, TypeError, OverflowError):
        raise NotUnderstoodError("a timestamp is not a time") from None


# --- windows --------------------------------------------------------------------------------------------------------


def window_start(at: datetime) -> dict[str, str]:
    """Return the beginning of a window as the list takes it: in words of California, and in milliseconds.

    The documents prefer the words, other clients send the milliseconds. Both say the same, a second early: what is on
    the edge is sorted out by the orders' own times.
    """
    return _bound(at - timedelta(seconds=1), earlier=True)


def window_end(at: datetime) -> dict[str, str]:
    """Return the end of a window, a second late."""
    return _bound(at + timedelta(seconds=1), earlier=False)


def _bound(at: datetime, *, earlier: bool) -> dict[str, str]:
    local = at.astimezone(_THEIRS)
    if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        # An hour that California has twice (the end of summer time): its words name both, so the window takes in both.
        at += timedelta(hours=-1 if earlier else 1)
        local = at.astimezone(_THEIRS)
    return {"date_str": local.strftime("%Y-%m-%d %H:%M:%S"), "date_timestamp": str(int(at.timestamp() * 1000))}
