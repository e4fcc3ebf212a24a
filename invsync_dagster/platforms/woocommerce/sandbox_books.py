"""The stand-in store's own books: products and variations, orders, and what each change of an order does to the numbers.

Nothing of the client is used here, so that the books can be held against it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

_FIRST_POST = 101
_FIRST_ITEM = 9001
# States in which WooCommerce takes the units off its number, and in which it puts them back (wc-stock-functions.php);
# before 11.0 a failed order kept what it had taken.
_TAKING = frozenset({"processing", "on-hold", "completed"})
_GIVING_BACK = frozenset({"cancelled", "pending", "failed"})
# WC_Order::is_editable.
_EDITABLE = frozenset({"pending", "on-hold", "checkout-draft"})
STATES = _TAKING | _GIVING_BACK | {"refunded", "checkout-draft", "trash"}


class StoreError(ValueError):
    """What the store can't do: the article is sold out, the order has no such line."""


@dataclass
class Article:
    """A product, or with a `parent` a variation. `managed`: "Track stock quantity" is on for it itself."""

    number: int
    sku: str
    quantity: int | None
    kind: str = "simple"
    parent: int = 0
    name: str = ""
    status: str = "publish"
    managed: bool = True
    backorders: bool = False


@dataclass
class SoldLine:
    """A line of an order; `reduced` is what the store has taken off its number for it (meta `_reduced_stock`).

    What WooCommerce keeps no record of, its seller does: `shipped` units left the house, `returned` ones came back and are
    sold again, `lost` ones were paid back and are not.
    """

    line: int
    product: int
    variation: int
    quantity: int
    sku: str = ""
    reduced: int = 0
    shipped: int = 0
    returned: int = 0
    lost: int = 0

    @property
    def article(self) -> int:
        return self.variation or self.product


@dataclass
class RefundRecord:
    """A refund: units per line id."""

    number: int
    created: str
    units: dict[int, int]


@dataclass
class Order:
    """A buyer's order; times as WooCommerce writes them: GMT, in whole seconds, without their zone.

    `completed` stays when the order is opened again: that it was, the seller knows (`opened_again`), the store doesn't.
    `trashed_from` is the state that it was put into the trash from, "" while it isn't there.
    """

    number: int
    status: str
    created: str
    modified: str
    lines: dict[int, SoldLine]
    paid: str | None = None
    completed: str | None = None
    opened_again: bool = False
    trashed_from: str = ""
    refunds: list[RefundRecord] = field(default_factory=list)

    def refunded(self, line: int) -> int:
        """Return the refunded units of a line."""
        return sum(refund.units.get(line, 0) for refund in self.refunds)

    @property
    def is_open(self) -> bool:
        """Tell whether units wait to be shipped; before 11.0 those of a failed order do, off the number as they are."""
        kept = self.status == "failed" and any(line.reduced > line.shipped for line in self.lines.values())
        return self.status in ("processing", "on-hold") or kept


class Books:
    """Articles and orders of one store, and every movement of their numbers.

    `failed_gives_back`: as WooCommerce from 11.0 on.
    """

    def __init__(self, *, orders_as_posts: bool = False, failed_gives_back: bool = True) -> None:
        self._orders_as_posts = orders_as_posts
        self._giving_back = _GIVING_BACK if failed_gives_back else _GIVING_BACK - {"failed"}
        self.articles: dict[int, Article] = {}
        self.orders: dict[int, Order] = {}
        self.managing = True
        self._next_post = _FIRST_POST
        self._next_item = _FIRST_ITEM

    def add(self, article: Article) -> Article:
        """Add an article; a number of 0 is replaced by a fresh one. WordPress numbers products and orders alike."""
        article.number = article.number or self._post()
        if article.number in self.articles:
            raise StoreError(f"there is an article {article.number} already")
        if article.parent and self.article(article.parent).kind != "variable":
            raise StoreError(f"product {article.parent} has no variations")
        self._next_post = max(self._next_post, article.number + 1)
        self.articles[article.number] = article
        return article

    def article(self, number: int) -> Article:
        """Return an article. Raises `StoreError`."""
        if number not in self.articles:
            raise StoreError(f"there is no article {number}")
        return self.articles[number]

    def keeper(self, number: int) -> Article | None:
        """Return the article that keeps the stock of one: itself, or its product; None if nobody does."""
        article = self.article(number)
        if not self.managing:
            return None
        if article.managed:
            return article
        if article.parent and self.article(article.parent).managed:
            return self.article(article.parent)
        return None

    def sku(self, number: int) -> str:
        """Return the SKU that the store shows: a variation without one of its own bears its product's."""
        article = self.article(number)
        return article.sku or (self.article(article.parent).sku if article.parent else "")

    def shown(self, number: int) -> int | None:
        """Return the number that the store shows for an article, None where it keeps none."""
        keeper = self.keeper(number)
        return None if keeper is None else keeper.quantity or 0

    def take_order(self, units: dict[int, int], now: datetime, *, status: str, checked: bool) -> Order:
        """Sell units per article. `checked`: as the checkout does, refuse what isn't there; the REST API doesn't."""
        if not units or any(quantity < 1 for quantity in units.values()):
            raise StoreError("an order has at least one unit of each of its lines")
        for number, quantity in units.items():
            keeper = self.keeper(number)
            if checked and keeper is not None and not keeper.backorders and (keeper.quantity or 0) < quantity:
                raise StoreError(f"{keeper.sku} is sold out: {keeper.quantity} shown, {quantity} wanted")
        lines = {}
        for number, quantity in units.items():
            article = self.article(number)
            line = SoldLine(
                self._item(), article.parent or number, number if article.parent else 0, quantity, self.sku(number)
            )
            lines[line.line] = line
        order = Order(self._post(), "checkout-draft", told(now), told(now), lines)
        self.orders[order.number] = order
        self.set_status(order.number, status, now)
        return order

    def set_status(self, number: int, status: str, now: datetime) -> Order:
        """Bring an order into a state; the numbers follow."""
        order = self.order(number)
        if status not in STATES:
            raise StoreError(f"an order can't be {status}")
        for line in order.lines.values():
            if status in ("processing", "on-hold", "pending"):
                line.shipped = line.returned = line.lost = 0  # the parcel is in the house again
            elif status in self._giving_back:
                line.returned, line.lost = line.shipped, 0
        if status != order.status:
            order.trashed_from = order.status if status == "trash" else ""
        order.status, order.modified = status, told(now)
        if status in ("processing", "completed"):
            order.paid = order.paid or told(now)
        if status == "completed":
            order.completed, order.opened_again = told(now), False
        elif status in ("processing", "on-hold", "pending"):
            order.opened_again = order.completed is not None
        for line in order.lines.values():
            keeper = self.keeper(line.article)
            if keeper is None:
                continue
            if status in _TAKING and not line.reduced and line.quantity > order.refunded(line.line):
                line.reduced = line.quantity - order.refunded(line.line)
                keeper.quantity = (keeper.quantity or 0) - line.reduced
            elif status in self._giving_back and line.reduced:
                keeper.quantity = (keeper.quantity or 0) + line.reduced
                line.reduced = 0
        if status == "completed":
            self._leave(order)
        return order

    @staticmethod
    def _leave(order: Order) -> None:
        for line in order.lines.values():
            if not line.shipped:
                line.shipped = line.reduced
                line.lost = line.reduced - (line.quantity - order.refunded(line.line))

    def refund(self, number: int, units: dict[int, int], now: datetime, *, restock: bool) -> Order:
        """Refund units per line id; `restock` puts them back into the store's number."""
        order = self.order(number)
        for line_number, quantity in units.items():
            line = self._line(order, line_number)
            if not 1 <= quantity <= line.quantity - order.refunded(line_number):
                raise StoreError(f"line {line_number} has no {quantity} units left to refund")
        for line_number, quantity in units.items():
            line = order.lines[line_number]
            back = min(quantity, line.reduced)
            keeper = self.keeper(line.article)
            if restock and back and keeper is not None:
                line.reduced -= back
                keeper.quantity = (keeper.quantity or 0) + back
            if line.shipped:
                line.returned += back if restock else 0
                line.lost += 0 if restock else quantity
        order.refunds.append(RefundRecord(self._post(), told(now), dict(units)))
        if all(line.quantity == order.refunded(line.line) for line in order.lines.values()):
            order.status = "refunded"
            self._leave(order)
        order.modified = told(now)
        return order

    def edit_line(self, number: int, line_number: int, quantity: int, now: datetime) -> Order:
        """Change the units of a line in the order's editor, 0 removes it; the numbers follow. Only open states can be."""
        order = self.order(number)
        if order.status not in _EDITABLE:
            raise StoreError(f"an order that is {order.status} can't be edited")
        line = self._line(order, line_number)
        keeper = self.keeper(line.article)
        if order.status in _TAKING and keeper is not None:
            wanted = max(0, quantity - order.refunded(line_number))
            keeper.quantity = (keeper.quantity or 0) + line.reduced - wanted
            line.reduced = wanted
        line.quantity = quantity
        if not quantity:
            del order.lines[line_number]
        if not self._orders_as_posts:
            order.modified = told(now)
        return order

    def order(self, number: int) -> Order:
        """Return an order. Raises `StoreError`."""
        if number not in self.orders:
            raise StoreError(f"there is no order {number}")
        return self.orders[number]

    def dump(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "articles": [asdict(article) for article in self.articles.values()],
            "orders": [asdict(order) for order in self.orders.values()],
            "next_post": self._next_post,
            "next_item": self._next_item,
            "managing": self.managing,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.articles = {entry["number"]: Article(**entry) for entry in state["articles"]}
        self.orders = {}
        for entry in state["orders"]:
            order = Order(**entry)
            order.lines = {int(number): SoldLine(**line) for number, line in entry["lines"].items()}
            order.refunds = [
                RefundRecord(**{**part, "units": {int(line): units for line, units in part["units"].items()}})
                for part in entry["refunds"]
            ]
            self.orders[order.number] = order
        self._next_post, self._next_item = state["next_post"], state["next_item"]
        self.managing = state["managing"]

    @staticmethod
    def _line(order: Order, number: int) -> SoldLine:
        if number not in order.lines:
            raise StoreError(f"order {order.number} has no line {number}")
        return order.lines[number]

    def _post(self) -> int:
        self._next_post += 1
        return self._next_post - 1

    def _item(self) -> int:
        self._next_item += 1
        return self._next_item - 1


def told(moment: datetime) -> str:
    """Write a time as WooCommerce does in its `…_gmt` fields."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
