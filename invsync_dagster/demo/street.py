"""What people do: buyers buy, orders are shipped, cancelled and sent back, goods come in; one thing after the other.

The shelf is the ERP's: what a shop ships leaves it a moment later, as when the warehouse books what it packed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from invsync_dagster.demo.shops import RefusedError, Shops
from invsync_dagster.demo.stage import Stage

# Of a hundred things that happen; what can't be done just now becomes a sale.
_WHAT = {"buy": 66, "ship": 20, "cancel": 4, "send back": 4, "goods in": 6}
_GOODS_IN = (6, 12, 24)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a shop, in words."""

    what: str
    shop: str
    words: str


class Street:
    """The people before and in the shops; not for several threads at once."""

    def __init__(self, stage: Stage, shops: Shops, random: Random) -> None:
        """Orders that are open from an earlier start are known and get shipped as well."""
        self._stage = stage
        self._shops = shops
        self._random = random
        self._central = {(one.shop, one.shop_sku): one.sku for one in stage.catalogue.listings}
        self._at_erp = {one.sku: one.shop_sku for one in stage.catalogue.of_shop(stage.erp)}
        self._open = [(shop, order) for shop in stage.shops for order in shops.open_orders(shop)]
        self._shipped: list[tuple[str, str, dict[str, int]]] = []
        self._wanted: list[str] = []
        self.counts: Counter[str] = Counter()

    def step(self) -> Event | None:
        """Let one thing happen and return it; None where nobody could do anything."""
        what = self._random.choices(list(_WHAT), list(_WHAT.values()))[0]
        if what == "ship" and self._open:
            event = self._ship()
        elif what == "cancel" and self._open:
            event = self._cancel()
        elif what == "send back" and self._shipped:
            event = self._send_back()
        elif what == "goods in" and self._wanted:
            event = self._goods_in()
        else:
            event = self.buy()
        return event

    def buy(self) -> Event | None:
        """Let a buyer buy in a shop or at a desk; None where all is sold out."""
        shop = self._random.choice(self._stage.channels)
        try:
            sale = self._shops.buy(shop)
        except RefusedError:
            return None
        if not sale.units:
            return None
        if sale.order:
            self._open.append((shop, sale.order))
        self._wanted = [*self._wanted[-50:], *self._shelf(shop, sale.units)]
        return self._event("sale", shop, sale.units)

    def _ship(self) -> Event | None:
        shop, order = self._open.pop(self._random.randrange(len(self._open)))
        units = self._shops.unshipped(shop, order)
        shelf = self._shelf(shop, units)
        on_hand = {book.item_id: book.on_hand or 0 for book in self._shops.books(self._stage.erp)}
        if not units or any(on_hand[sku] < quantity for sku, quantity in shelf.items()):
            # Sold twice within the seconds before the others knew: nobody can pack it, so the buyer is told.
            return self._call_off(shop, order, units) if units else None
        self._shops.fulfil(shop, order)
        for sku, quantity in shelf.items():
            self._shops.move(self._stage.erp, "ship", sku, quantity)
        self._shipped = [*self._shipped[-50:], (shop, order, units)]
        return self._event("shipped", shop, units)

    def _cancel(self) -> Event | None:
        shop, order = self._open.pop(self._random.randrange(len(self._open)))
        return self._call_off(shop, order, self._shops.unshipped(shop, order))

    def _call_off(self, shop: str, order: str, units: Mapping[str, int]) -> Event | None:
        self._shops.cancel(shop, order)
        return self._event("cancelled", shop, units)

    def _send_back(self) -> Event | None:
        shop, order, units = self._shipped.pop(self._random.randrange(len(self._shipped)))
        self._shops.refund(shop, order)
        for sku, quantity in self._shelf(shop, units).items():
            self._shops.move(self._stage.erp, "restock", sku, quantity)
        return self._event("sent back", shop, units)

    def _goods_in(self) -> Event | None:
        sku, quantity = self._random.choice(self._wanted), self._random.choice(_GOODS_IN)
        self._shops.move(self._stage.erp, "restock", sku, quantity)
        return self._event("goods in", self._stage.erp, {sku: quantity})

    def _shelf(self, shop: str, units: Mapping[str, int]) -> dict[str, int]:
        """Return units by the ERP's SKU instead of the shop's."""
        return {self._at_erp[self._central[shop, sku]]: quantity for sku, quantity in units.items()}

    def _event(self, what: str, shop: str, units: Mapping[str, int]) -> Event:
        self.counts[what] += 1
        return Event(what, shop, ", ".join(f"{quantity} × {sku}" for sku, quantity in units.items()))
