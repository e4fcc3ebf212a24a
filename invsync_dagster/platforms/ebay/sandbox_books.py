"""The stand-in account's own books: items with their offers, orders, and what each change of an order does to the numbers.

Nothing of the client is used here, so that the books can be held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

_FIRST_OFFER = 36_445_435_001
_FIRST_LISTING = 110_200_300_001
_FIRST_ORDER = 14_000_001
_FIRST_LINE = 10_050_000_001


class AccountError(ValueError):
    """What the account can't do: the article is sold out, the order has no such line."""


@dataclass
class Item:
    """A SKU of the Inventory API with its fixed-price offer. `own`: the offer keeps a quantity of its own, which is what
    buyers see; `published`: buyers see the offer at all. Variations share a `listing`."""

    sku: str
    quantity: int
    offer: str
    listing: str
    own: int | None = None
    published: bool = True

    @property
    def shown(self) -> int:
        """What buyers can buy."""
        return self.quantity if self.own is None else self.own

    def move(self, units: int) -> None:
        """Let the numbers move by themselves, as eBay does with a sale."""
        self.quantity = max(0, self.quantity + units)
        if self.own is not None:
            self.own = max(0, self.own + units)


@dataclass
class Line:
    """A line of an order; `shipped` are units and times that left."""

    line: str
    sku: str
    listing: str
    quantity: int
    shipped: list[tuple[int, str]] = field(default_factory=list)

    @property
    def open(self) -> int:
        return self.quantity - sum(count for count, _ in self.shipped)


@dataclass
class Order:
    """A buyer's order; times as eBay writes them."""

    number: str
    created: str
    modified: str
    lines: dict[str, Line]
    cancelled: str = ""
    refunded: str = ""

    @property
    def is_open(self) -> bool:
        return not self.cancelled and not self.refunded and any(line.open for line in self.lines.values())


class Books:
    """Items and orders of one account, and every movement of their numbers."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.orders: dict[str, Order] = {}
        self._revisions: dict[str, list[str]] = {}  # the times of a listing's last day
        self._made = 0

    def add(self, sku: str, quantity: int, *, own: bool, published: bool, offer: str, listing: str) -> Item:
        """Add an item with an offer, to a listing or with one of its own. Raises `AccountError`."""
        if sku in self.items or not 1 <= len(sku) <= 50:
            raise AccountError(f"{sku!r} is there already, or is no SKU")
        self._made += 1
        item = Item(
            sku,
            quantity,
            offer or str(_FIRST_OFFER + self._made),
            listing or str(_FIRST_LISTING + self._made),
            quantity if own else None,
            published,
        )
        self.items[sku] = item
        return item

    def item(self, sku: str) -> Item:
        """Return an item. Raises `AccountError`."""
        if sku not in self.items:
            raise AccountError(f"there is no SKU {sku!r}")
        return self.items[sku]

    def revise(self, listing: str, now: datetime, most: int) -> bool:
        """Count a revision of a listing; return False where the last 24 hours had `most` already."""
        since = told(now - timedelta(days=1))
        times = self._revisions[listing] = [at for at in self._revisions.get(listing, ()) if at > since]
        if len(times) >= most:
            return False
        times.append(told(now))
        return True

    def sell(self, units: Mapping[str, int], now: datetime) -> Order:
        """Sell units per SKU in one order; the numbers follow. Raises `AccountError` if there aren't enough."""
        if not units or any(quantity < 1 for quantity in units.values()):
            raise AccountError("an order has at least one unit of each of its lines")
        for sku, quantity in units.items():
            if not self.item(sku).published or self.item(sku).shown < quantity:
                raise AccountError(f"{sku} is sold out: {self.item(sku).shown} shown, {quantity} wanted")
        lines = {}
        for sku, quantity in units.items():
            item = self.item(sku)
            item.move(-quantity)
            self._made += 1
            line = Line(str(_FIRST_LINE + self._made), sku, item.listing, quantity)
            lines[line.line] = line
        self._made += 1
        number = str(_FIRST_ORDER + self._made)
        order = Order(f"{number[:2]}-{number[2:7]}-{10000 + self._made % 90000}", told(now), told(now), lines)
        self.orders[order.number] = order
        return order

    def cancel(self, number: str, now: datetime) -> Order:
        """Cancel what hasn't been shipped of an order; the numbers come back. Raises `AccountError`."""
        order = self.order(number)
        if not order.is_open:
            raise AccountError(f"order {number} can't be cancelled any more")
        for line in order.lines.values():
            if line.sku in self.items:
                self.items[line.sku].move(line.open)
        order.cancelled = order.modified = told(now)
        return order

    def ship(self, number: str, units: Mapping[str, int], now: datetime) -> Order:
        """Ship units per line id of an order. Raises `AccountError`."""
        order = self.order(number)
        if not order.is_open:
            raise AccountError(f"order {number} can't be shipped any more")
        for line, count in units.items():
            if line not in order.lines or not 1 <= count <= order.lines[line].open:
                raise AccountError(f"line {line} of order {number} has no {count} units to ship")
        for line, count in units.items():
            order.lines[line].shipped.append((count, told(now)))
        order.modified = told(now)
        return order

    def refund(self, number: str, now: datetime) -> Order:
        """Pay all of an order back; a refund moves no number. Raises `AccountError`."""
        order = self.order(number)
        if order.refunded:
            raise AccountError(f"order {number} is refunded already")
        order.refunded = order.modified = told(now)
        return order

    def order(self, number: str) -> Order:
        """Return an order. Raises `AccountError`."""
        if number not in self.orders:
            raise AccountError(f"there is no order {number}")
        return self.orders[number]

    def dump(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "items": [asdict(item) for item in self.items.values()],
            "orders": [asdict(order) for order in self.orders.values()],
            "revisions": self._revisions,
            "made": self._made,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.items = {entry["sku"]: Item(**entry) for entry in state["items"]}
        self.orders = {}
        for entry in state["orders"]:
            order = Order(**entry)
            order.lines = {
                number: Line(**{**line, "shipped": [(count, at) for count, at in line["shipped"]]})
                for number, line in entry["lines"].items()
            }
            self.orders[order.number] = order
        self._revisions = {listing: list(times) for listing, times in state["revisions"].items()}
        self._made = state["made"]


def told(moment: datetime) -> str:
    """Write a time as eBay does: UTC, in milliseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
