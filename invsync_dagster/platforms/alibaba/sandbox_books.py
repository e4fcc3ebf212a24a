"""The stand-in account's own books: products with SKUs, orders, and what each step of an order does to the numbers.

Nothing of the client is used here, so that the books can be held against it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

# Beyond 2^53, as real ones may be: whoever reads them as floats loses digits.
_FIRST_PRODUCT = 16_000_000_000_000_001
_FIRST_SKU = 10_561_301_815_800_001
_FIRST_TRADE = 271_207_727_001_028_893
_PAID = frozenset({"paying", "paid", "captured", "undeliver", "delivering"})


class AccountError(ValueError):
    """What the account can't do: the SKU is sold out, the order can't be shipped."""


@dataclass
class Sku:
    """A SKU of a product, or (number -1) a product without SKUs; what it showed before its last change is shown on
    for as long as the account's numbers lag."""

    number: int
    code: str
    quantity: int
    before: int = 0
    changed: float = 0.0

    def shown(self, now: float, lag: float) -> int:
        """Return the number that a reading gets."""
        return self.before if now < self.changed + lag else self.quantity

    def put(self, quantity: int, now: float, lag: float) -> None:
        """Change the number."""
        self.before, self.quantity, self.changed = self.shown(now, lag), quantity, now


@dataclass
class Product:
    """A product with its SKUs by number; one without SKUs has a single one, -1."""

    number: int
    title: str
    skus: dict[int, Sku] = field(default_factory=dict)
    status: str = "online"


@dataclass
class Line:
    """A line of an order."""

    line: str
    product: int
    sku: int
    code: str
    quantity: int


@dataclass
class Order:
    """A buyer's order; times in milliseconds since the epoch, in whole seconds as Alibaba.com has them. `taken`: its units
    are off the numbers."""

    trade: int
    state: str
    created: int
    modified: int
    lines: list[Line]
    shipped: int = 0
    taken: bool = False


class Books:
    """Products and orders of one account. `lag`: seconds until a changed number is shown."""

    def __init__(self, lag: float = 0.0) -> None:
        self.lag = lag
        self.products: dict[int, Product] = {}
        self.orders: dict[int, Order] = {}

    def add(self, code: str, quantity: int, *, product: int = 0, sku: int = 0, title: str = "") -> tuple[int, int]:
        """Add a SKU to a product (made if it isn't there) and return both numbers; `sku` -1 is a product without SKUs."""
        product = product or max(self.products, default=_FIRST_PRODUCT - 1) + 1
        into = self.products.setdefault(product, Product(product, title or f"Product {code}"))
        numbers = (number for each in self.products.values() for number in each.skus)
        sku = sku or max((*numbers, _FIRST_SKU - 1)) + 1
        if sku in into.skus or (into.skus and -1 in (sku, *into.skus)):
            raise AccountError(f"product {product} can't have a SKU {sku} besides")
        into.skus[sku] = Sku(sku, code, quantity, quantity)
        return product, sku

    def sku(self, product: int, sku: int) -> Sku:
        """Return a SKU. Raises `AccountError`."""
        found = self.products.get(product)
        if found is None or sku not in found.skus:
            raise AccountError(f"there is no SKU {sku} of product {product}")
        return found.skus[sku]

    def buy(self, units: dict[tuple[int, int], int], now: datetime, *, state: str) -> Order:
        """Take an order for units per (product, SKU); a paid one takes them off the numbers. Raises `AccountError`."""
        if not units or any(quantity < 1 for quantity in units.values()):
            raise AccountError("an order has at least one unit of each of its lines")
        lines: list[Line] = []
        for (product, number), quantity in units.items():
            sku = self.sku(product, number)
            if state in _PAID and sku.quantity < quantity:
                raise AccountError(f"{sku.code} is sold out: {sku.quantity} left, {quantity} wanted")
            lines.append(Line(f"line-{len(lines)}-{number}", product, number, sku.code, quantity))
        trade = max(self.orders, default=_FIRST_TRADE - 1) + 1
        self.orders[trade] = Order(trade, "unpay", _told(now), _told(now), lines)
        return self.bring(trade, state, now)

    def bring(self, trade: int, state: str, now: datetime) -> Order:
        """Bring an order into a state; the numbers follow: paid takes its units, closed before shipping gives them back."""
        order = self.order(trade)
        takes = state in _PAID and not order.taken
        gives_back = state in ("trade_close", "unpay") and order.taken and not order.shipped
        for line in order.lines:
            sku = self.sku(line.product, line.sku)
            if takes:
                sku.put(sku.quantity - line.quantity, now.timestamp(), self.lag)
            elif gives_back:
                sku.put(sku.quantity + line.quantity, now.timestamp(), self.lag)
        order.taken = (order.taken or takes) and not gives_back
        if state == "wait_confirm_receipt" and not order.shipped:
            order.shipped = _told(now)
        order.state, order.modified = state, _told(now)
        return order

    def redraft(self, trade: int, units: dict[str, int], now: datetime) -> Order:
        """Change the units of lines of an order that isn't paid yet, 0 takes a line out. Raises `AccountError`."""
        order = self.order(trade)
        if order.state not in ("to_be_audited", "unpay"):
            raise AccountError(f"order {trade} is {order.state}")
        for line in order.lines:
            line.quantity = units.get(line.line, line.quantity)
        order.lines = [line for line in order.lines if line.quantity]
        order.modified = _told(now)
        return order

    def order(self, trade: int) -> Order:
        """Return an order. Raises `AccountError`."""
        if trade not in self.orders:
            raise AccountError(f"there is no order {trade}")
        return self.orders[trade]

    def open_orders(self) -> list[int]:
        """Return the orders whose units are sold and in the house, oldest first."""
        return [order.trade for order in self.orders.values() if order.taken and not order.shipped]

    def dump(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "products": [asdict(product) for product in self.products.values()],
            "orders": [asdict(order) for order in self.orders.values()],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.products = {
            each["number"]: Product(**{**each, "skus": {int(n): Sku(**sku) for n, sku in each["skus"].items()}})
            for each in state["products"]
        }
        self.orders = {
            each["trade"]: Order(**{**each, "lines": [Line(**line) for line in each["lines"]]})
            for each in state["orders"]
        }


def _told(moment: datetime) -> int:
    whole = moment.replace(microsecond=0) - datetime.fromtimestamp(0, moment.tzinfo)
    return whole // timedelta(milliseconds=1)
