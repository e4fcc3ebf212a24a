"""WooCommerce's orders as order documents: what each line has taken off the store's own stock, shipped and put back.

WooCommerce keeps no history of a line. What it has taken off its own number for a line stands in the line's meta
`_reduced_stock` (wc-stock-functions.php); it takes it when the order becomes processing, on-hold or completed, puts all
back when it becomes cancelled or pending (from 11.0 on also when it becomes failed, PR 66256), and puts refunded units
back where the refund was told to restock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import identity, moment, objects, text

# The line's meta that says how many units the store has taken off its own number for it.
TAKEN = "_reduced_stock"
# The order's meta that says what state it was put into the trash from, as `wc-completed`; either storage writes it
# (OrdersTableDataStore::trash_order, wp_trash_post).
TRASHED_FROM = "_wp_trash_meta_status"

NO_ARTICLE = "a line of no product and without SKU (a fee, a service): there is no stock of it"

MOST_UNITS = 1_000_000_000
BEYOND_ANY_SHELF = 10**15

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# States that take the units off the store's number (wc_maybe_reduce_stock_levels).
_TAKES = frozenset({"processing", "on-hold", "completed", "refunded"})
# What is left of the order in these has gone out of the house: nothing of it is waited for any more.
_ENDED = frozenset({"completed", "refunded"})
# In these nothing is going to be shipped.
_CANCELLED = frozenset({"cancelled", "trash"})
# WooCommerce's own states; plugins add others.
_STATES = _TAKES | _CANCELLED | {"checkout-draft", "pending", "failed"}


@dataclass(frozen=True, slots=True)
class Refund:
    """Units per line id that one refund names; whether they were restocked, the line's meta tells."""

    at: datetime
    units: Mapping[str, int]


def has_refunds(order: Mapping[str, Any]) -> bool:
    """Tell whether an order has refunds: it names their ids and totals only, so they are to be asked for."""
    return bool(objects(order, "refunds", optional=True))


def document_of(order: Mapping[str, Any], refunds: Sequence[Refund] = ()) -> OrderDocument:
    """Turn a REST order (the body of a webhook has the same form) and its refunds into a document.

    Raises `NotUnderstoodError`.
    """
    updated_at = moment(order, "date_modified_gmt")
    state = _state(order, updated_at)
    return OrderDocument(
        order_id=identity(order, "id"),
        revision=(updated_at - _EPOCH) // timedelta(microseconds=1),
        created_at=moment(order, "date_created_gmt"),
        updated_at=updated_at,
        lines=tuple(_line(item, state, refunds) for item in objects(order, "line_items")),
        # The order's editor takes lines out without a trace.
        whole=True,
        # Times are in whole seconds, and an order runs through several states in one, forwards and back (on-hold, failed
        # and processing again): of two documents of one second nobody can tell which is the newer. And a store that keeps
        # its orders as posts writes an edited line without touching the order's time.
        revision_may_stay=True,
    )


def refund_of(refund: Mapping[str, Any]) -> Refund:
    """Read one entry of /orders/<id>/refunds; its quantities are negative. Raises `NotUnderstoodError`."""
    units: dict[str, int] = {}
    for item in objects(refund, "line_items", optional=True):
        line = _meta(item, "_refunded_item_id")
        if line is not None and str(line).isdecimal():
            quantity = _number(item.get("quantity"), "quantity")
            units[str(line)] = units.get(str(line), 0) + math.floor(abs(quantity))
    return Refund(moment(refund, "date_created_gmt"), units)


@dataclass(frozen=True, slots=True)
class _State:
    """What the order as a whole says about its lines."""

    status: str
    paid: bool
    completed_at: datetime | None
    updated_at: datetime


def _state(order: Mapping[str, Any], updated_at: datetime) -> _State:
    """Return the state that counts for the lines.

    An order in the trash that was over before says what it said then; any other is released. `date_completed` alone can't
    tell: the store keeps it when the order is opened again. Where the state before is missing or a plugin's, an order with
    that date counts as shipped: it brings nothing back. An order that fails after it was completed is a parcel that comes
    back, as one that is cancelled then.
    """
    status, completed_at = text(order, "status"), _optional_moment(order, "date_completed_gmt")
    if status == "trash":
        before = str(_meta(order, TRASHED_FROM) or "").removeprefix("wc-")
        if before in _ENDED or before == "cancelled" or (before == "failed" and completed_at is not None):
            status = before
        elif before in _STATES:
            completed_at = None
    if status == "failed" and completed_at is not None:
        status = "cancelled"
    return _State(status, _optional_moment(order, "date_paid_gmt") is not None, completed_at, updated_at)


def _line(item: Mapping[str, Any], state: _State, refunds: Sequence[Refund]) -> OrderLine:
    """Return a line; one that names nothing, and of which the store has taken nothing, is without effect here."""
    line = _counted(item, state, refunds)
    return line._replace(ignored=NO_ARTICLE) if line.reference == LineReference() and _held(item) is None else line


def _counted(item: Mapping[str, Any], state: _State, refunds: Sequence[Refund]) -> OrderLine:
    """Return a line's cumulative totals.

    - A line of which the store has taken nothing yet (pending, failed, a draft) has ordered nothing so far. Of a
      cancelled order nobody can see any more whether it was taken, except that it was paid.
    - Units taken back are what was ordered less what the meta still holds; where there is no meta (the store keeps no
      stock of the article, or all was put back), what was refunded.
    - They are cancelled if refunded before the order was completed, restocked if after. What was refunded and not taken
      back is written off once the order is completed.
    - Once an order is completed, or refunded in whole, what wasn't taken back has left the shelf.
    """
    line_id = identity(item, "id")
    quantity = math.ceil(_number(item.get("quantity"), "quantity"))
    if not 0 <= quantity <= MOST_UNITS:
        raise NotUnderstoodError(f"quantity is not from 0 to {MOST_UNITS}")
    held = _held(item)
    status = state.status
    known = status in _STATES
    taken = status in _TAKES or held is not None or (state.paid and (status in _CANCELLED or not known))
    if not taken:
        return OrderLine(line_id, _reference(item), 0)
    named = [(refund.at, refund.units[line_id]) for refund in refunds if refund.units.get(line_id)]
    back = min(quantity, sum(units for _, units in named)) if held is None else max(0, quantity - held)
    ended = status in _ENDED or (status in _CANCELLED and state.completed_at is not None)
    if not ended:
        cancelled = quantity if status in _CANCELLED else back
        return OrderLine(line_id, _reference(item), quantity, cancelled)
    left_at = state.completed_at or state.updated_at
    cancelled = min(back, sum(units for at, units in named if at <= left_at))
    # The trash takes nothing back: what of a completed order still counts as taken has gone out of the house.
    returned = quantity - cancelled if status in _CANCELLED and held is None else back - cancelled
    shipments = (Movement(quantity - cancelled, left_at),) if quantity > cancelled else ()
    restocks = _movements([entry for entry in named if entry[0] > left_at], returned, state.updated_at)
    kept = min(sum(units for _, units in named) - cancelled - returned, quantity - cancelled - returned)
    write_offs = _movements([(max(at, left_at), units) for at, units in named], max(0, kept), state.updated_at)
    return OrderLine(line_id, _reference(item), quantity, cancelled, shipments, restocks, write_offs)


def _movements(named: Sequence[tuple[datetime, int]], units: int, otherwise: datetime) -> tuple[Movement, ...]:
    """Spread `units` that came back over the refunds that name them, the oldest first; the rest came `otherwise`."""
    movements = []
    for at, most in sorted(named):
        part = min(most, units)
        if part > 0:
            movements.append(Movement(part, at))
        units -= part
    if units > 0:
        movements.append(Movement(units, otherwise))
    return tuple(movements)


def _held(item: Mapping[str, Any]) -> int | None:
    """Return the units that the store has taken off its number for a line, None where it doesn't say."""
    value = _meta(item, TAKEN)
    if value is None or value == "":
        return None
    held = math.ceil(_number(value, TAKEN))
    return held if held > 0 else None


def _reference(item: Mapping[str, Any]) -> LineReference:
    """Name what was sold: a variation by its own id, which is a level's item id or (stock kept on the product) a
    listing's variant id; an article that was deleted since (product id 0) by its SKU alone."""
    product, variation, sku = item.get("product_id"), item.get("variation_id"), item.get("sku")
    number = identity(item, "variation_id") if variation else identity(item, "product_id") if product else ""
    return LineReference(
        platform_sku=sku if isinstance(sku, str) else "", item_id=number, variant_id=number if variation else ""
    )


def _meta(item: Mapping[str, Any], key: str) -> Any:
    for entry in objects(item, "meta_data", optional=True):
        if entry.get("key") == key:
            return entry.get("value")
    return None


def whole_units(value: Any) -> int | None:
    """Return a stock quantity in whole units, rounded down (plugins allow `4.5`); None where it is no number. One that no
    shelf holds comes as `BEYOND_ANY_SHELF`, with its sign."""
    number = _as_number(value)
    return None if number is None else math.floor(max(-BEYOND_ANY_SHELF, min(number, BEYOND_ANY_SHELF)))


def _number(value: Any, name: str) -> float:
    """Read a number of units, `_as_number`. Raises `NotUnderstoodError`."""
    number = _as_number(value)
    if number is None or abs(number) > MOST_UNITS:
        raise NotUnderstoodError(f"{name} is not a number")
    return number


def _as_number(value: Any) -> float | None:
    """Read a number that may come as text: `7`, `7.0`, `"7"`, `"7.0000"`; None where it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return value


def _optional_moment(item: Mapping[str, Any], name: str) -> datetime | None:
    return None if item.get(name) in (None, "") else moment(item, name)
