"""What staff and buyers can do with an order on each platform, and what the stand-in's own books then say of its lines."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tests.simulation.markets import AlibabaShop, AmazonShop, EbayShop
from tests.simulation.shops import Shop, ShopifyShop, WooCommerceShop
from tests.simulation.stock import ALIBABA, EBAY, level_of


class Told(NamedTuple):
    """One line by the stand-in's books, in units. `known`: the platform's API can still tell each total apart; else only
    what is still to ship and what stays away is told."""

    sku: str
    ordered: int
    cancelled: int = 0
    shipped: int = 0
    restocked: int = 0
    written_off: int = 0
    known: bool = True

    @property
    def left(self) -> int:
        return self.ordered - self.cancelled - self.shipped


class Step(NamedTuple):
    """Something that can be done with an order now: `shelf` are the units by SKU that leave the house (below 0) or come
    back. `then` must follow: the parcel that came back goes out again."""

    name: str
    work: Callable[[], None]
    shelf: Mapping[str, int] = {}
    then: str = ""


class Desk(Protocol):
    """The people around one shop."""

    def buy(self, units: Mapping[str, int], rng: random.Random) -> str:
        """Take an order and return its id; raises the stand-in's error if there aren't enough."""
        ...

    def steps(self, order_id: str, rng: random.Random) -> Sequence[Step]:
        """Return what can be done with an order now."""
        ...

    def told(self) -> dict[tuple[str, str], Told]:
        """Return the books: every line of every order."""
        ...


def desk_of(shop: Shop) -> Desk:
    """Return the people around a shop."""
    for kind, desk in _DESKS.items():
        if isinstance(shop, kind):
            return desk(shop)
    raise ValueError(f"nobody works at {shop!r}")


class ShopifyDesk:
    """Parts are shipped, taken back, cancelled, returned and refunded; the order is edited up and down."""

    def __init__(self, shop: ShopifyShop) -> None:
        self._shop = shop

    def buy(self, units: Mapping[str, int], rng: random.Random) -> str:
        return self._shop.sell(units)

    def steps(self, order_id: str, rng: random.Random) -> Sequence[Step]:
        shop = self._shop
        order = shop._books.order(int(order_id))
        line = rng.choice(list(order.lines.values()))
        sku, number = self._sku(line.item), str(line.line)
        kept = line.shipped - line.refunded
        found = []
        if kept:
            found.append(Step("return", lambda: shop.refund(order_id, {number: 1}, "return"), {sku: 1}))
        if kept and not line.unfulfilled:
            found.append(Step("refund", lambda: shop.refund(order_id, {number: 1}, "no_restock")))
        if order.cancelled_at is not None:
            return found
        if line.unfulfilled:
            some = rng.randint(1, line.unfulfilled)
            left = self._summed((each.item, -each.unfulfilled) for each in order.lines.values())
            restock = rng.random() < 0.8
            found += [
                Step("ship", lambda: shop.fulfil(order_id), left),
                Step("ship a part", lambda: shop.fulfil(order_id, {number: some}), {sku: -some}),
                Step("cancel a part", lambda: shop.refund(order_id, {number: some}, "cancel")),
                Step("refund unshipped", lambda: shop.refund(order_id, {number: some}, "no_restock")),
                Step("edit down", lambda: shop.remove_units(order_id, number, some)),
                Step("cancel", lambda: shop.cancel(order_id, restock=restock)),
            ]
        level = shop._world_levels[sku]
        found.append(Step("edit up", lambda: shop.add_units(order_id, level, 1)))
        parts = [part for part in order.fulfilments if part.status == "success"]
        if parts and not any(order.lines[each].refunded for each in parts[-1].units):
            back = self._summed((order.lines[each].item, units) for each, units in parts[-1].units.items())
            found.append(Step("unship", lambda: shop.cancel_fulfilment(order_id), back, "ship"))
        return found

    def told(self) -> dict[tuple[str, str], Told]:
        books = {}
        for order in self._shop._books.orders.values():
            for line in order.lines.values():
                back = sum(each.units.get(line.line, 0) for each in order.refunds if each.restock_type == "return")
                books[str(order.number), str(line.line)] = Told(
                    self._sku(line.item), line.quantity, line.released, line.shipped, back, line.refunded - back
                )
        return books

    def _summed(self, units: Iterable[tuple[int, int]]) -> dict[str, int]:
        """Return units by SKU; an order may have several lines of one."""
        found: dict[str, int] = {}
        for item, count in units:
            found[self._sku(item)] = found.get(self._sku(item), 0) + count
        return found

    def _sku(self, item: int) -> str:
        return self._shop._books.article(item).sku


class WooCommerceDesk:
    """Orders wait for their payment, fail and are paid again, are edited, completed, cancelled, re-opened, put into the
    trash and out of it."""

    def __init__(self, shop: WooCommerceShop) -> None:
        self._shop = shop

    def buy(self, units: Mapping[str, int], rng: random.Random) -> str:
        offers = self._shop._offers
        # `created` shows the order as it is by then: paid, or waiting.
        status = rng.choice(["processing", "processing", "processing", "on-hold", "pending"])
        return self._shop.buy({offers[sku]: quantity for sku, quantity in units.items()}, status=status)

    def steps(self, order_id: str, rng: random.Random) -> Sequence[Step]:
        shop, order = self._shop, self._shop.order(order_id)
        if not order.lines:
            return []
        line = rng.choice(list(order.lines.values()))
        number, left_to_refund = str(line.line), line.quantity - order.refunded(line.line)
        status, shipped = order.status, any(each.shipped for each in order.lines.values())
        found = []
        if status in ("pending", "on-hold"):
            found += [
                Step("pay", lambda: shop.set_status(order_id, "processing")),
                Step("edit up", lambda: shop.edit_line(order_id, number, line.quantity + 1)),
                Step("cancel", lambda: shop.set_status(order_id, "cancelled")),
            ]
            if line.quantity > 1 or len(order.lines) > 1:
                found.append(Step("edit down", lambda: shop.edit_line(order_id, number, line.quantity - 1)))
            if order.completed is None:
                found.append(Step("fail", lambda: shop.set_status(order_id, "failed")))
        if status == "failed":
            found.append(Step("pay again", lambda: shop.set_status(order_id, "processing")))
        if status == "processing":
            left = self._units(lambda each: -each.reduced, order_id)
            found += [
                Step("ship", lambda: shop.set_status(order_id, "completed"), left),
                Step("cancel", lambda: shop.set_status(order_id, "cancelled")),
                Step("unpay", lambda: shop.set_status(order_id, "pending"), then="pay"),
                Step("trash", lambda: shop.set_status(order_id, "trash")),
            ]
            if left_to_refund:
                # A refund of all that is left ends the order: what wasn't put back is gone then.
                ends = sum(each.quantity - order.refunded(each.line) for each in order.lines.values()) == 1
                gone = left if ends else {}
                rest = gone | ({line.sku: gone[line.sku] + 1} if line.sku in gone else {})
                found += [
                    Step("cancel a part", lambda: shop.refund(order_id, {number: 1}, restock=True), rest),
                    Step("refund unshipped", lambda: shop.refund(order_id, {number: 1}, restock=False), gone),
                ]
        if status == "completed":
            back = self._units(lambda each: each.shipped - each.returned, order_id)
            found += [
                Step("cancel shipped", lambda: shop.set_status(order_id, "cancelled"), back),
                Step("re-open shipped", lambda: shop.set_status(order_id, "processing"), back, "ship"),
                Step("trash shipped", lambda: shop.set_status(order_id, "trash")),
            ]
            if left_to_refund and line.reduced:
                found += [
                    Step("return", lambda: shop.refund(order_id, {number: 1}, restock=True), {line.sku: 1}),
                    Step("refund", lambda: shop.refund(order_id, {number: 1}, restock=False)),
                ]
        if status == "cancelled" and not shipped:
            found.append(Step("re-open", lambda: shop.set_status(order_id, "processing")))
        if status == "trash" and not shipped:
            found.append(Step("restore", lambda: shop.set_status(order_id, "processing")))
        return found

    def told(self) -> dict[tuple[str, str], Told]:
        books = {}
        for order in self._shop.orders():
            for line in order.lines.values():
                taken = line.reduced if order.is_open else 0
                # A cancelled order has no record of what was taken, nor of what was refunded before it; nor does any of which
                # of its refunds was restocked, the one before it shipped or the one after. One that was completed, opened
                # again and refunded in whole reads like one whose parcel came back.
                unclear = order.status in ("cancelled", "trash") or (order.status == "refunded" and order.opened_again)
                told = Told(
                    line.sku,
                    line.quantity,
                    line.quantity - line.shipped - taken,
                    line.shipped,
                    line.returned,
                    line.lost,
                    known=not unclear and not (line.lost and line.returned),
                )
                waiting = order.status == "pending" or (order.status == "failed" and not taken)
                books[str(order.number), str(line.line)] = Told(line.sku, 0) if waiting else told
        return books

    def _units(self, units_of: Callable[..., int], order_id: str) -> dict[str, int]:
        return {line.sku: units for line in self._shop.order(order_id).lines.values() if (units := units_of(line))}


class AmazonDesk:
    """Orders wait for their authorization, are shipped and cancelled in parts; some are fulfilled by Amazon itself."""

    def __init__(self, shop: AmazonShop) -> None:
        self._shop = shop

    def buy(self, units: Mapping[str, int], rng: random.Random) -> str:
        by = "AMAZON" if rng.random() < 0.1 else "MERCHANT"
        return self._shop.buy(units, status=rng.choice(["PENDING", "UNSHIPPED"]), fulfilled_by=by)

    def steps(self, order_id: str, rng: random.Random) -> Sequence[Step]:
        shop, order = self._shop, self._shop.order(order_id)
        own = order.fulfilled_by == "MERCHANT"
        line = rng.choice(list(order.lines.values()))
        if not order.is_open:
            # Amazon says nothing of what comes back to the seller.
            return [Step("return", lambda: None, {line.sku: 1})] if own and line.shipped else []
        found = [Step("cancel", lambda: shop.cancel(order_id))]
        if order.status == "PENDING":
            return [*found, Step("confirm", lambda: shop.confirm(order_id))]
        left = {each.sku: -each.open for each in order.lines.values() if each.open}
        found.append(Step("ship", lambda: shop.ship(order_id), left if own else {}))
        if line.open:
            some = {line.line: rng.randint(1, line.open)}
            gone = {line.sku: -some[line.line]} if own else {}
            found += [
                Step("ship a part", lambda: shop.ship(order_id, some), gone),
                Step("cancel a part", lambda: shop.cancel_units(order_id, some)),
            ]
        return found

    def told(self) -> dict[tuple[str, str], Told]:
        return {
            (order.number, line.line): Told(line.sku, line.ordered, line.cancelled, line.shipped)
            if order.fulfilled_by == "MERCHANT"
            else Told(line.sku, 0)
            for order in self._shop.orders()
            for line in order.lines.values()
        }


class EbayDesk:
    """Parts are shipped, the rest cancelled or paid back; eBay notifies of a sale once a line, and of no cancel."""

    def __init__(self, shop: EbayShop) -> None:
        self._shop = shop

    def buy(self, units: Mapping[str, int], rng: random.Random) -> str:
        return self._shop.buy({level_of(EBAY, sku): quantity for sku, quantity in units.items()})

    def steps(self, order_id: str, rng: random.Random) -> Sequence[Step]:
        shop, order = self._shop, self._shop.order(order_id)
        line = rng.choice(list(order.lines.values()))
        found = [] if order.refunded or order.cancelled else [Step("refund", lambda: shop.refund(order_id))]
        if not order.is_open:
            gone = line.quantity > line.open
            return [*found, Step("return", lambda: None, {line.sku: 1})] if gone else found
        left = {each.sku: -each.open for each in order.lines.values() if each.open}
        found += [
            Step("ship", lambda: shop.ship(order_id), left),
            Step("cancel", lambda: shop.cancel(order_id)),
        ]
        if line.open:
            some = rng.randint(1, line.open)
            found.append(Step("ship a part", lambda: shop.ship(order_id, {line.line: some}), {line.sku: -some}))
        return found

    def told(self) -> dict[tuple[str, str], Told]:
        return {
            (order.number, line.line): Told(
                line.sku,
                line.quantity,
                line.open if order.cancelled or order.refunded else 0,
                line.quantity - line.open,
            )
            for order in self._shop._books.orders.values()
            for line in order.lines.values()
        }


class AlibabaDesk:
    """An order is one state for all of its lines: drafted anew until it is paid, frozen and released, shipped, closed."""

    def __init__(self, shop: AlibabaShop) -> None:
        self._shop = shop

    def buy(self, units: Mapping[str, int], rng: random.Random) -> str:
        wanted = {level_of(ALIBABA, sku): quantity for sku, quantity in units.items()}
        return self._shop.buy(wanted, state=rng.choice(["unpay", "undeliver", "undeliver"]))

    def steps(self, order_id: str, rng: random.Random) -> Sequence[Step]:
        shop, order = self._shop, self._shop.order(order_id)
        line = rng.choice(order.lines)
        left = {each.code: -each.quantity for each in order.lines}
        close = Step("close", lambda: shop.bring(order_id, "trade_close"))
        if order.state == "unpay":
            pieces = rng.choice([0, 1, 2]) if len(order.lines) > 1 else rng.choice([1, 2])
            found = [close, Step("draft anew", lambda: shop.redraft(order_id, {line.line: pieces}))]
            if all(shop.show(each.code) >= each.quantity for each in order.lines):
                found.append(Step("pay", lambda: shop.bring(order_id, "undeliver")))
            return found
        if order.state == "undeliver":
            return [
                close,
                Step("ship", lambda: shop.bring(order_id, "wait_confirm_receipt"), left),
                Step("freeze", lambda: shop.bring(order_id, "frozen")),
            ]
        if order.state == "frozen" and not order.shipped:
            return [close, Step("release", lambda: shop.bring(order_id, "undeliver"))]
        if order.state == "wait_confirm_receipt":
            return [
                Step("confirm", lambda: shop.bring(order_id, "trade_success")),
                Step("freeze", lambda: shop.bring(order_id, "frozen")),
                close,
            ]
        return [Step("return", lambda: None, {line.code: 1})] if order.shipped else []

    def told(self) -> dict[tuple[str, str], Told]:
        books = {}
        for order in self._shop.orders():
            for line in order.lines:
                closed = order.state == "trade_close" and not order.shipped
                told = Told(
                    line.code,
                    line.quantity,
                    line.quantity if closed else 0,
                    line.quantity if order.shipped else 0,
                )
                books[str(order.trade), line.line] = Told(line.code, 0) if order.state == "unpay" else told
        return books


_DESKS: dict[type, Callable[..., Desk]] = {
    ShopifyShop: ShopifyDesk,
    WooCommerceShop: WooCommerceDesk,
    AmazonShop: AmazonDesk,
    EbayShop: EbayDesk,
    AlibabaShop: AlibabaDesk,
}
