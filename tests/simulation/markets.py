"""The marketplaces of the small world: eBay, Alibaba.com and Amazon behind the face of a shop."""

from __future__ import annotations

import random
from collections.abc import Mapping

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba.sandbox import AlibabaSandbox
from invsync_dagster.platforms.amazon.sandbox import AmazonSandbox
from invsync_dagster.platforms.ebay.sandbox import EbaySandbox
from tests.simulation.shops import Sold
from tests.simulation.stock import ALIBABA, AMAZON, EBAY, is_listed, level_of

# An Amazon patch is worked on so many seconds after it was accepted.
AMAZON_WORKS_AFTER = 20.0


class EbayShop(EbaySandbox):
    """An eBay account; a return puts nothing back there, and eBay tells of no refund."""

    def __init__(self, secrets: Mapping[str, str], shown: Mapping[str, int], clock: Clock, rng: random.Random) -> None:
        super().__init__(
            client_id=secrets["TOKEN"],
            client_secret=secrets["SIGN"],
            refresh_token=secrets["HOOK"],
            clock=clock,
            random=rng,
            burst=100_000.0,
        )
        for sku, quantity in shown.items():
            if is_listed(EBAY, sku):
                self.add_item(sku, quantity)

    def order_ids(self) -> list[str]:
        return list(self._books.orders)

    def sell(self, units: Mapping[str, int]) -> str:
        return self.buy({level_of(EBAY, sku): quantity for sku, quantity in units.items()})

    def fulfil(self, order_id: str) -> None:
        self.ship(order_id)

    def send_back(self, order_id: str, line_id: str, *, restock: bool) -> None:
        self.refund(order_id)

    def edit(self, sku: str, quantity: int) -> None:
        self.edit_stock(level_of(EBAY, sku), quantity)

    def lines_of(self, order_id: str) -> list[Sold]:
        order = self.order(order_id)
        return [
            Sold(line.line, line.sku, line.open if order.is_open else 0, 0 if order.cancelled else line.quantity)
            for line in order.lines.values()
        ]

    def shows(self) -> dict[str, int]:
        return {level.item_id: quantity for level, quantity in self.books().items()}

    def show(self, sku: str) -> int:
        return self.shown(level_of(EBAY, sku))


class AlibabaShop(AlibabaSandbox):
    """An Alibaba.com account, which tells nobody of anything."""

    def __init__(self, secrets: Mapping[str, str], shown: Mapping[str, int], clock: Clock) -> None:
        super().__init__(
            app_key=secrets["TOKEN"],
            app_secret=secrets["SIGN"],
            refresh_token=secrets["HOOK"],
            clock=clock,
            rate=1e6,
            burst=1e6,
            # A renewal whose answer is lost ends the grant, and only a person can give another: none falls due here.
            token_lifetime=10 * 86_400.0,
        )
        self._world_skus = {level_of(ALIBABA, sku): sku for sku in shown if is_listed(ALIBABA, sku)}
        for level, sku in self._world_skus.items():
            self.add_sku(sku, shown[sku], product=int(level.location_id), sku=int(level.item_id))

    def order_ids(self) -> list[str]:
        return [str(order.trade) for order in self.orders()]

    def sell(self, units: Mapping[str, int]) -> str:
        return self.buy({level_of(ALIBABA, sku): quantity for sku, quantity in units.items()})

    def cancel(self, order_id: str) -> None:
        self.bring(order_id, "trade_close")

    def fulfil(self, order_id: str) -> None:
        self.bring(order_id, "wait_confirm_receipt")

    def send_back(self, order_id: str, line_id: str, *, restock: bool) -> None:
        """Returns are settled outside of the platform."""

    def edit(self, sku: str, quantity: int) -> None:
        self.edit_stock(level_of(ALIBABA, sku), quantity)

    def lines_of(self, order_id: str) -> list[Sold]:
        order, is_open = self.order(order_id), order_id in self.open_orders()
        gone = is_open or bool(order.shipped)
        return [
            Sold(line.line, line.code, line.quantity if is_open else 0, line.quantity if gone else 0)
            for line in order.lines
        ]

    def shows(self) -> dict[str, int]:
        return {self._world_skus[level]: quantity for level, quantity in self.books().items()}

    def show(self, sku: str) -> int:
        return self.shown(level_of(ALIBABA, sku))


class AmazonShop(AmazonSandbox):
    """An Amazon account whose patches are worked on later; returns are settled outside of the seller's number."""

    def __init__(self, secrets: Mapping[str, str], shown: Mapping[str, int], clock: Clock) -> None:
        super().__init__(
            seller_id="A2SELLER0WORLD",
            client_id=secrets["TOKEN"],
            client_secret=secrets["SIGN"],
            refresh_token=secrets["TOKEN"],
            notification_key=secrets["HOOK"],
            clock=clock,
            rate_factor=1e6,
            processing_seconds=AMAZON_WORKS_AFTER,
        )
        for sku, quantity in shown.items():
            if is_listed(AMAZON, sku):
                self.add_item(sku, quantity)

    def order_ids(self) -> list[str]:
        return [order.number for order in self.orders()]

    def sell(self, units: Mapping[str, int]) -> str:
        return self.buy(units)

    def fulfil(self, order_id: str) -> None:
        self.ship(order_id)

    def send_back(self, order_id: str, line_id: str, *, restock: bool) -> None:
        """Amazon moves no number of the seller's for a return."""

    def edit(self, sku: str, quantity: int) -> None:
        self.edit_stock(sku, quantity)

    def lines_of(self, order_id: str) -> list[Sold]:
        order = self.order(order_id)
        return [
            Sold(
                line.line,
                line.sku,
                line.open if order.is_open and order.fulfilled_by == "MERCHANT" else 0,
                line.ordered - line.cancelled,
            )
            for line in order.lines.values()
        ]

    def shows(self) -> dict[str, int]:
        return {level.item_id: quantity for level, quantity in self.books().items()}

    def show(self, sku: str) -> int:
        return self.item(sku).quantity or 0
