"""The stand-in shop's own books: articles at locations, buyers' orders, and what each of them does to the numbers.

Nothing of the client is used here, so that the books can be held against it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

# As in Shopify's own test payloads, ids are beyond what a double can hold exactly.
_FIRST_ORDER = 820_982_911_946_154_508
_FIRST_PART = 866_550_311_766_439_020
_FIRST_ITEM = 44_821_100_000_001
_FIRST_VARIANT = 41_203_700_000_001
_FIRST_LOCATION = 124_656_943


class ShopError(ValueError):
    """What the shop can't do: the article is sold out, the order has no such units left."""


@dataclass
class Article:
    """A variant with its inventory item; `available` per location id, only where it is stocked."""

    item: int
    variant: int
    sku: str
    tracked: bool = True
    continue_selling: bool = False
    mutable: bool = True
    available: dict[int, int] = field(default_factory=dict)


@dataclass
class SoldLine:
    """A line of an order: `released` units will not be shipped, `refunded` ones had been shipped before."""

    line: int
    item: int
    location: int
    quantity: int
    shipped: int = 0
    released: int = 0
    refunded: int = 0

    @property
    def unfulfilled(self) -> int:
        return self.quantity - self.shipped - self.released

    @property
    def current(self) -> int:
        return self.quantity - self.released - self.refunded


@dataclass
class Fulfilment:
    """A shipment: units per line id."""

    number: int
    created_at: str
    units: dict[int, int]
    status: str = "success"


@dataclass
class RefundRecord:
    """A refund: units per line id, all with one restock type."""

    number: int
    created_at: str
    units: dict[int, int]
    restock_type: str


@dataclass
class Order:
    """A buyer's order; times as Shopify writes them, in whole seconds."""

    number: int
    created_at: str
    updated_at: str
    lines: dict[int, SoldLine]
    fulfilments: list[Fulfilment] = field(default_factory=list)
    refunds: list[RefundRecord] = field(default_factory=list)
    cancelled_at: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is still to be shipped."""
        return self.cancelled_at is None and any(line.unfulfilled > 0 for line in self.lines.values())

    def line(self, number: int) -> SoldLine:
        """Return a line. Raises `ShopError`."""
        if number not in self.lines:
            raise ShopError(f"order {self.number} has no line {number}")
        return self.lines[number]


class Books:
    """Articles, locations and orders of one shop, and every movement of their numbers."""

    def __init__(self) -> None:
        self.articles: dict[int, Article] = {}
        self.locations: set[int] = {_FIRST_LOCATION}
        self.orders: dict[int, Order] = {}
        self._next_part = _FIRST_PART

    @property
    def main_location(self) -> int:
        """The location where an article is stocked unless another is named."""
        return _FIRST_LOCATION

    def sells_from(self, article: Article) -> int:
        """Return the location that an article's orders are taken from: the main one if it is stocked there, else its
        first."""
        if self.main_location in article.available:
            return self.main_location
        return next(iter(article.available), self.main_location)

    def add_location(self) -> int:
        """Open another location and return its id."""
        number = _FIRST_LOCATION + len(self.locations)
        self.locations.add(number)
        return number

    def add_article(
        self,
        sku: str,
        available: int,
        *,
        item: int | None = None,
        variant: int | None = None,
        location: int | None = None,
        tracked: bool = True,
        continue_selling: bool = False,
    ) -> Article:
        """Add an article stocked at one location (the main one unless named); ids are given out unless named."""
        number = len(self.articles)
        item = item or _FIRST_ITEM + number
        if item in self.articles:
            raise ShopError(f"there is an inventory item {item} already")
        place = location or self.main_location
        self.locations.add(place)
        self.articles[item] = Article(
            item, variant or _FIRST_VARIANT + number, sku, tracked, continue_selling, available={place: available}
        )
        return self.articles[item]

    def take_order(self, units: dict[int, int], now: datetime) -> Order:
        """Sell units per item id from where each is sold. Raises `ShopError` where `available` doesn't show enough."""
        if not units or any(quantity < 1 for quantity in units.values()):
            raise ShopError("an order has at least one unit of each of its lines")
        for item, quantity in units.items():
            article = self.article(item)
            shown = article.available.get(self.sells_from(article), 0)
            if article.tracked and not article.continue_selling and shown < quantity:
                raise ShopError(f"{article.sku} is sold out: {shown} shown, {quantity} wanted")
        lines = {}
        for item, quantity in units.items():
            number = self._part()
            place = self.sells_from(self.article(item))
            lines[number] = SoldLine(number, item, place, quantity)
            self._move(item, place, -quantity)
        at = told(now)
        order = Order(_FIRST_ORDER + len(self.orders), at, at, lines)
        self.orders[order.number] = order
        return order

    def cancel_order(self, number: int, now: datetime, *, restock: bool) -> Order:
        """Cancel an order: what isn't shipped yet never will be, and is sold again if restocked."""
        order = self.order(number)
        if order.cancelled_at is not None:
            raise ShopError(f"order {number} is cancelled already")
        units = {line.line: line.unfulfilled for line in order.lines.values() if line.unfulfilled}
        order.cancelled_at = told(now)
        if units:
            self._release(order, units, now, restock=restock)
        order.updated_at = told(now)
        return order

    def fulfil_order(self, number: int, now: datetime, units: dict[int, int] | None = None) -> Order:
        """Ship units per line id, all that is left unless named: on hand falls, `available` stays."""
        order = self.order(number)
        units = units or {line.line: line.unfulfilled for line in order.lines.values() if line.unfulfilled}
        if not units or any(not 1 <= quantity <= order.line(line).unfulfilled for line, quantity in units.items()):
            raise ShopError(f"order {number} has no such units left to ship")
        for line, quantity in units.items():
            order.lines[line].shipped += quantity
        order.fulfilments.append(Fulfilment(self._part(), told(now), dict(units)))
        order.updated_at = told(now)
        return order

    def cancel_fulfilment(self, number: int, fulfilment: int, now: datetime) -> Order:
        """Take a shipment back: its units are to be shipped again."""
        order = self.order(number)
        if order.cancelled_at is not None:
            raise ShopError(f"order {number} is cancelled, nothing of it is to be shipped again")
        for entry in order.fulfilments:
            if entry.number == fulfilment and entry.status == "success":
                if any(
                    order.lines[line].shipped - units < order.lines[line].refunded
                    for line, units in entry.units.items()
                ):
                    raise ShopError(f"units of shipment {fulfilment} were refunded")
                entry.status = "cancelled"
                for line, quantity in entry.units.items():
                    order.lines[line].shipped -= quantity
                order.updated_at = told(now)
                return order
        raise ShopError(f"order {number} has no such shipment")

    def refund_order(self, number: int, units: dict[int, int], restock_type: str, now: datetime) -> Order:
        """Refund units per line id: `cancel` unshipped ones, `return` shipped ones, `no_restock` either.

        `no_restock` takes a line's unshipped units if there are enough of them, else shipped ones.
        """
        order = self.order(number)
        for line_number, quantity in units.items():
            line = order.line(line_number)
            kept = line.shipped - line.refunded
            room = {"cancel": line.unfulfilled, "return": kept, "no_restock": max(line.unfulfilled, kept)}
            if restock_type not in room or not 1 <= quantity <= room[restock_type]:
                raise ShopError(f"line {line_number} has no {quantity} units to refund as {restock_type}")
        for line_number, quantity in units.items():
            line = order.lines[line_number]
            if restock_type == "cancel" or (restock_type == "no_restock" and line.unfulfilled >= quantity):
                line.released += quantity
            else:
                line.refunded += quantity
            if restock_type != "no_restock":
                self._move(line.item, line.location, quantity)
        order.refunds.append(RefundRecord(self._part(), told(now), dict(units), restock_type))
        order.updated_at = told(now)
        return order

    def remove_units(self, number: int, line: int, quantity: int, now: datetime) -> Order:
        """Edit an order: take unshipped units off a line, without a refund, and sell them again."""
        order = self.order(number)
        if not 1 <= quantity <= order.line(line).unfulfilled:
            raise ShopError(f"line {line} has no {quantity} units to remove")
        order.lines[line].released += quantity
        self._move(order.lines[line].item, order.lines[line].location, quantity)
        order.updated_at = told(now)
        return order

    def add_units(self, number: int, item: int, quantity: int, now: datetime) -> Order:
        """Edit an order: add units of an item, to its line if there is one with units left to ship, else as a line of their
        own. Raises `ShopError`."""
        order = self.order(number)
        article = self.article(item)
        place = self.sells_from(article)
        if order.cancelled_at is not None:
            raise ShopError(f"order {number} is cancelled")
        if article.tracked and not article.continue_selling and article.available.get(place, 0) < quantity:
            raise ShopError(f"{article.sku} is sold out")
        line = next((each for each in order.lines.values() if each.item == item and each.unfulfilled), None)
        if line is None:
            line = SoldLine(self._part(), item, place, 0)
            order.lines[line.line] = line
        line.quantity += quantity
        self._move(item, line.location, -quantity)
        order.updated_at = told(now)
        return order

    def move_order(self, number: int, location: int, now: datetime) -> Order:
        """Have all that is unshipped of an order shipped from another location, which stocks it: the numbers follow."""
        order = self.order(number)
        for line in order.lines.values():
            self._move(line.item, line.location, line.unfulfilled)
            self._move(line.item, location, -line.unfulfilled)
            line.location = location
        order.updated_at = told(now)
        return order

    def set_available(self, item: int, location: int, quantity: int) -> None:
        """Write the number of a level; an untracked article keeps none."""
        article = self.article(item)
        if article.tracked:
            article.available[location] = quantity

    def article(self, item: int) -> Article:
        """Return an article by its item id. Raises `ShopError`."""
        if item not in self.articles:
            raise ShopError(f"there is no inventory item {item}")
        return self.articles[item]

    def order(self, number: int) -> Order:
        """Return an order. Raises `ShopError`."""
        if number not in self.orders:
            raise ShopError(f"there is no order {number}")
        return self.orders[number]

    def dump(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "articles": [asdict(article) for article in self.articles.values()],
            "locations": sorted(self.locations),
            "orders": [asdict(order) for order in self.orders.values()],
            "next_part": self._next_part,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.articles = {
            entry["item"]: Article(**{**entry, "available": _by_number(entry["available"])})
            for entry in state["articles"]
        }
        self.locations = set(state["locations"])
        self.orders = {}
        for entry in state["orders"]:
            order = Order(**entry)
            order.lines = {int(number): SoldLine(**line) for number, line in entry["lines"].items()}
            order.fulfilments = [
                Fulfilment(**{**part, "units": _by_number(part["units"])}) for part in entry["fulfilments"]
            ]
            order.refunds = [RefundRecord(**{**part, "units": _by_number(part["units"])}) for part in entry["refunds"]]
            self.orders[order.number] = order
        self._next_part = state["next_part"]

    def _release(self, order: Order, units: dict[int, int], now: datetime, *, restock: bool) -> None:
        for line_number, quantity in units.items():
            line = order.lines[line_number]
            line.released += quantity
            if restock:
                self._move(line.item, line.location, quantity)
        kind = "cancel" if restock else "no_restock"
        order.refunds.append(RefundRecord(self._part(), told(now), dict(units), kind))

    def _move(self, item: int, location: int, difference: int) -> None:
        article = self.articles[item]
        if article.tracked:
            article.available[location] = article.available.get(location, 0) + difference

    def _part(self) -> int:
        self._next_part += 1
        return self._next_part


def told(moment: datetime) -> str:
    """Write a time as Shopify does: whole seconds."""
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _by_number(units: dict[str, int]) -> dict[int, int]:
    return {int(number): quantity for number, quantity in units.items()}
