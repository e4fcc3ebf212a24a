"""The stand-in account's own books: items with their attributes, submissions that are worked on later, and orders.

Nothing of the client is used here, so that the books can be held against it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

_FIRST_ORDER = 1
_FIRST_LINE = 68_000_000_000_001


class AccountError(ValueError):
    """What can't be done in the account: the article is sold out, the order has no such line."""


@dataclass
class Item:
    """A listings item; `availability` is its attribute `fulfillment_availability` by fulfilment channel."""

    sku: str
    availability: dict[str, dict[str, Any]]
    marketplaces: list[str]
    created: str
    asin: str = ""
    product_type: str = "HOME"

    @property
    def quantity(self) -> int | None:
        """The seller's own number, None if it keeps none."""
        own = self.availability.get("DEFAULT")
        return None if own is None else int(own.get("quantity", 0))


@dataclass
class Submission:
    """Patches that were taken and not worked on yet."""

    number: str
    sku: str
    due: str
    patches: list[dict[str, Any]]


@dataclass
class SoldLine:
    """A line of an order."""

    line: str
    sku: str
    ordered: int
    shipped: int = 0
    cancelled: int = 0

    @property
    def open(self) -> int:
        return self.ordered - self.shipped - self.cancelled


@dataclass
class Package:
    """What left together: units per line id, and when."""

    number: int
    shipped: str
    units: dict[str, int]


@dataclass
class Order:
    """A buyer's order; times as ISO texts."""

    number: str
    status: str
    created: str
    updated: str
    marketplace: str
    fulfilled_by: str = "MERCHANT"
    lines: dict[str, SoldLine] = field(default_factory=dict)
    packages: list[Package] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.status in ("PENDING", "UNSHIPPED", "PARTIALLY_SHIPPED")


class Books:
    """Items, submissions and orders of one account, and every movement of their numbers."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.submissions: list[Submission] = []
        self.orders: dict[str, Order] = {}
        self._next_order = _FIRST_ORDER
        self._next_line = _FIRST_LINE
        self._next_submission = 1

    def add(self, item: Item) -> Item:
        """Add an item. Raises `AccountError` if the SKU is there already."""
        if item.sku in self.items:
            raise AccountError(f"there is an item {item.sku} already")
        item.asin = item.asin or f"B{len(self.items):09d}"
        self.items[item.sku] = item
        return item

    def item(self, sku: str) -> Item:
        """Return an item. Raises `AccountError`."""
        if sku not in self.items:
            raise AccountError(f"there is no item {sku}")
        return self.items[sku]

    def submit(self, sku: str, patches: list[dict[str, Any]], now: datetime, seconds: float) -> str:
        """Take patches, to be worked on after `seconds`; return the submission's id."""
        number = f"{self._next_submission:032x}"
        self._next_submission += 1
        self.submissions.append(Submission(number, sku, told(now + timedelta(seconds=seconds)), patches))
        return number

    def work(self, now: datetime) -> None:
        """Work on the submissions that are due, in the order they were taken."""
        if not self.submissions:
            return
        at = told(now)
        due = [each for each in self.submissions if each.due <= at]
        if not due:
            return
        self.submissions = [each for each in self.submissions if each.due > at]
        for each in due:
            for patch in each.patches:
                self._apply(self.items[each.sku], patch)

    @staticmethod
    def _apply(item: Item, patch: dict[str, Any]) -> None:
        values = {value["fulfillment_channel_code"]: dict(value) for value in patch.get("value", [])}
        if patch["op"] == "merge":
            for code, value in values.items():
                item.availability[code] = {**item.availability.get(code, {}), **value}
        elif patch["op"] == "delete":
            item.availability = {code: each for code, each in item.availability.items() if code not in values}
        else:
            item.availability = values

    def take_order(
        self, units: dict[str, int], now: datetime, *, status: str, marketplace: str, fulfilled_by: str
    ) -> Order:
        """Sell units per SKU; a seller-fulfilled order takes them off the seller's number. Raises `AccountError`."""
        if not units or any(quantity < 1 for quantity in units.values()):
            raise AccountError("an order has at least one unit of each of its lines")
        own = fulfilled_by == "MERCHANT"
        for sku, quantity in units.items():
            if own and (self.item(sku).quantity or 0) < quantity:
                raise AccountError(f"{sku} is sold out: {self.item(sku).quantity} shown, {quantity} wanted")
        order = Order(f"902-{self._next_order:07d}-0000001", status, told(now), told(now), marketplace, fulfilled_by)
        self._next_order += 1
        for sku, quantity in units.items():
            line = SoldLine(str(self._next_line), sku, quantity)
            self._next_line += 1
            order.lines[line.line] = line
            if own:
                self.move(sku, -quantity)
        self.orders[order.number] = order
        return order

    def ship(self, number: str, units: dict[str, int] | None, now: datetime) -> Order:
        """Ship units per line id, or all. Raises `AccountError`."""
        order = self.order(number)
        if not order.is_open:
            raise AccountError(f"order {number} is {order.status}")
        wanted = {line.line: line.open for line in order.lines.values() if line.open} if units is None else units
        for line_number, quantity in wanted.items():
            if not 1 <= quantity <= order.lines[line_number].open:
                raise AccountError(f"line {line_number} has no {quantity} units left to ship")
        for line_number, quantity in wanted.items():
            order.lines[line_number].shipped += quantity
        order.packages.append(Package(len(order.packages) + 1, told(now), dict(wanted)))
        self._changed(order, now)
        return order

    def cancel_units(self, number: str, units: dict[str, int], now: datetime) -> Order:
        """Cancel some units per line id, as a seller does who can't deliver them; the numbers go back up. Raises
        `AccountError`."""
        order = self.order(number)
        if not order.is_open:
            raise AccountError(f"order {number} is {order.status}")
        for line_number, quantity in units.items():
            if not 1 <= quantity <= order.lines[line_number].open:
                raise AccountError(f"line {line_number} has no {quantity} units left to cancel")
        for line_number, quantity in units.items():
            line = order.lines[line_number]
            line.cancelled += quantity
            if order.fulfilled_by == "MERCHANT":
                self.move(line.sku, quantity)
        self._changed(order, now)
        return order

    @staticmethod
    def _changed(order: Order, now: datetime) -> None:
        order.updated = told(now)
        shipped = any(line.shipped for line in order.lines.values())
        if not any(line.open for line in order.lines.values()):
            order.status = "SHIPPED" if shipped else "CANCELLED"
        elif shipped:
            order.status = "PARTIALLY_SHIPPED"

    def cancel(self, number: str, now: datetime) -> Order:
        """Cancel what isn't shipped; the numbers go back up. Raises `AccountError`."""
        order = self.order(number)
        if not order.is_open:
            raise AccountError(f"order {number} is {order.status}")
        for line in order.lines.values():
            if order.fulfilled_by == "MERCHANT":
                self.move(line.sku, line.open)
            line.cancelled += line.open
        order.status, order.updated = "CANCELLED", told(now)
        return order

    def order(self, number: str) -> Order:
        """Return an order. Raises `AccountError`."""
        if number not in self.orders:
            raise AccountError(f"there is no order {number}")
        return self.orders[number]

    def move(self, sku: str, units: int) -> None:
        """Move the seller's own number, which never falls below 0."""
        own = self.item(sku).availability.setdefault("DEFAULT", {"fulfillment_channel_code": "DEFAULT"})
        own["quantity"] = max(0, int(own.get("quantity", 0)) + units)

    def dump(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "items": [asdict(item) for item in self.items.values()],
            "submissions": [asdict(each) for each in self.submissions],
            "orders": [asdict(order) for order in self.orders.values()],
            "next": [self._next_order, self._next_line, self._next_submission],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.items = {entry["sku"]: Item(**entry) for entry in state["items"]}
        self.submissions = [Submission(**entry) for entry in state["submissions"]]
        self.orders = {}
        for entry in state["orders"]:
            lines = {number: SoldLine(**line) for number, line in entry["lines"].items()}
            packages = [Package(**package) for package in entry["packages"]]
            self.orders[entry["number"]] = Order(**{**entry, "lines": lines, "packages": packages})
        self._next_order, self._next_line, self._next_submission = state["next"]


def told(moment: datetime) -> str:
    """Write a time so that times compare as texts."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
