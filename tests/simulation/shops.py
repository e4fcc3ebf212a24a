"""The shops of the small world behind one face: what buyers and staff do there, whatever the platform is."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.platforms.woocommerce.sandbox import WooCommerceSandbox
from tests.simulation.stock import WOO, is_listed, level_of, variant_of


class Sold(NamedTuple):
    """A line of an order: units that are still to be shipped, and what left the shop's number and didn't come back."""

    line_id: str
    sku: str
    unshipped: int
    gone: int


class Webhook(Protocol):
    """A webhook as a stand-in gives it out."""

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def body(self) -> bytes: ...


class Shop(Protocol):
    """One shop of the world; articles go by their SKU."""

    def handle(self, request: Request) -> Response: ...

    def take_outgoing(self) -> Sequence[Webhook]: ...

    def open_orders(self) -> list[str]: ...

    def order_ids(self) -> list[str]: ...

    def sell(self, units: Mapping[str, int]) -> str: ...

    def cancel(self, order_id: str) -> None: ...

    def fulfil(self, order_id: str) -> None: ...

    def send_back(self, order_id: str, line_id: str, *, restock: bool) -> None: ...

    def edit(self, sku: str, quantity: int) -> None: ...

    def lines_of(self, order_id: str) -> list[Sold]: ...

    def shows(self) -> dict[str, int]: ...

    def show(self, sku: str) -> int: ...


class ShopifyShop(ShopifySandbox):
    """A Shopify shop that has listed what the world says."""

    def __init__(
        self, name: str, secrets: Mapping[str, str], shown: Mapping[str, int], clock: Clock, rng: random.Random
    ) -> None:
        super().__init__(
            access_token=secrets["TOKEN"],
            webhook_secret=secrets["HOOK"],
            clock=clock,
            random=rng,
            domain=f"{name.replace('_', '-')}.myshopify.com",
        )
        self._world_levels = {sku: level_of(name, sku) for sku in shown if is_listed(name, sku)}
        self._skus = {level: sku for sku, level in self._world_levels.items()}
        for sku, level in self._world_levels.items():
            self.add_article(sku, shown[sku], item_id=level.item_id, location_id=level.location_id)

    def order_ids(self) -> list[str]:
        return [str(number) for number in self._books.orders]

    def sell(self, units: Mapping[str, int]) -> str:
        return self.buy({self._world_levels[sku]: quantity for sku, quantity in units.items()})

    def send_back(self, order_id: str, line_id: str, *, restock: bool) -> None:
        self.refund(order_id, {line_id: 1}, "return" if restock else "no_restock")

    def edit(self, sku: str, quantity: int) -> None:
        self.edit_stock(self._world_levels[sku], quantity)

    def lines_of(self, order_id: str) -> list[Sold]:
        order = self._books.order(int(order_id))
        sold = []
        for line in order.lines.values():
            returned = sum(part.units.get(line.line, 0) for part in order.refunds if part.restock_type == "return")
            sku = self._books.article(line.item).sku
            sold.append(Sold(str(line.line), sku, line.unfulfilled, line.quantity - line.released - returned))
        return sold

    def shows(self) -> dict[str, int]:
        return {self._skus[level]: quantity for level, quantity in self.books().items()}

    def show(self, sku: str) -> int:
        return self.available(self._world_levels[sku])


class WooCommerceShop(WooCommerceSandbox):
    """A WooCommerce store with products, variations of shared products, and products that keep a variation's stock."""

    def __init__(
        self, secrets: Mapping[str, str], shown: Mapping[str, int], clock: Clock, *, failed_gives_back: bool
    ) -> None:
        super().__init__(
            consumer_key=secrets["TOKEN"],
            consumer_secret=secrets["SIGN"],
            webhook_secret=secrets["HOOK"],
            clock=clock,
            failed_gives_back=failed_gives_back,
        )
        self._offers: dict[str, LevelReference] = {}
        for sku, quantity in shown.items():
            if not is_listed(WOO, sku):
                continue
            level, variant = level_of(WOO, sku), variant_of(WOO, sku)
            self._offers[sku] = level
            if level.location_id:
                if int(level.location_id) not in self._books.articles:
                    self.add_product("", None, number=int(level.location_id), kind="variable", managed=False)
                self.add_variation(LevelReference(level.location_id), sku, quantity, number=int(level.item_id))
            elif variant:
                product = self.add_product("", quantity, number=int(level.item_id), kind="variable")
                self._offers[sku] = self.add_variation(product, sku, None, number=int(variant), managed=False)
            else:
                self.add_product(sku, quantity, number=int(level.item_id))

    def order_ids(self) -> list[str]:
        return [str(order.number) for order in self.orders()]

    def sell(self, units: Mapping[str, int]) -> str:
        return self.buy({self._offers[sku]: quantity for sku, quantity in units.items()})

    def cancel(self, order_id: str) -> None:
        self.set_status(order_id, "cancelled")

    def fulfil(self, order_id: str) -> None:
        self.set_status(order_id, "completed")

    def send_back(self, order_id: str, line_id: str, *, restock: bool) -> None:
        self.refund(order_id, {line_id: 1}, restock=restock)

    def edit(self, sku: str, quantity: int) -> None:
        self.edit_stock(level_of(WOO, sku), quantity)

    def lines_of(self, order_id: str) -> list[Sold]:
        order = self.order(order_id)
        return [
            Sold(str(line.line), line.sku, line.reduced if order.is_open else 0, line.reduced)
            for line in order.lines.values()
        ]

    def shows(self) -> dict[str, int]:
        return {sku: self.show(sku) for sku in self._offers}

    def show(self, sku: str) -> int:
        return self.shown(self._offers[sku]) or 0
