"""What the stand-in shops on the server have alike: baskets, orders, edits and books, all by our SKUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.sandbox.faces import Action, Article, Shown


class Shop(Protocol):
    """A vendor's stand-in behind the door."""

    def handle(self, request: Request) -> Response: ...

    def open_orders(self) -> list[str]: ...

    def promised(self, order_id: str = "") -> dict[LevelReference, int]: ...

    def books(self) -> dict[LevelReference, int]: ...

    def take_outgoing(self) -> Sequence[faces.Webhook]: ...

    def dump(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


class ShopStandIn:
    """A shop on the server, with what is done in every shop; `actions` are what is done in this vendor's besides.

    `buy` takes an order and returns its id, `edit` sets a level's number. `levels` are those of our SKUs, `offers` what is
    bought where that is not the level itself.
    """

    def __init__(
        self,
        shop: Shop,
        levels: Mapping[str, LevelReference],
        random: Random,
        actions: Mapping[str, Action],
        *,
        buy: Callable[[Mapping[LevelReference, int]], str],
        edit: Callable[[LevelReference, int], None],
        offers: Mapping[str, LevelReference] | None = None,
    ) -> None:
        self._shop = shop
        self._levels = levels
        self._offers = levels if offers is None else offers
        self._take_order = buy
        self._set_stock = edit
        self._buyers = Buyers(random)
        self.actions: Mapping[str, Action] = {
            "buy": self._buy,
            "edit": self._edit,
            "open_orders": lambda given: shop.open_orders(),
            "unshipped": lambda given: self._promised(faces.text(given, "order")),
            "promised": lambda given: self._promised(""),
            **actions,
        }
        self.handle = shop.handle
        self.take_outgoing = shop.take_outgoing
        self.dump = shop.dump
        self.load = shop.load

    def books(self) -> Sequence[Shown]:
        """Return what the levels of our SKUs show."""
        skus = {level: sku for sku, level in self._levels.items()}
        shown = self._shop.books().items()
        return [
            Shown(level.item_id, level.location_id, skus[level], quantity) for level, quantity in shown if level in skus
        ]

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers as they are: what is sent again is what was sent."""
        return dict(headers)

    def _on_offer(self) -> dict[str, int]:
        """Return what buyers see of each of our SKUs."""
        return {shown.sku: shown.quantity for shown in self.books()}

    def _buy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take an order for what is asked for, or else for a basket of the buyers' own choice."""
        basket = faces.wanted(given) or self._buyers.basket(self._on_offer())
        if not basket:
            return {"order": "", "lines": []}
        order = self._take_order({self._offers[sku]: units for sku, units in basket.items()})
        return {"order": order, "lines": faces.lines(basket)}

    def _promised(self, order: str) -> list[dict[str, Any]]:
        skus = {offer: sku for sku, offer in self._offers.items()}
        return faces.lines({skus[offer]: units for offer, units in self._shop.promised(order).items()})

    def _edit(self, given: Mapping[str, Any]) -> dict[str, Any]:
        sku = faces.text(given, "sku")
        self._set_stock(self._levels[sku], faces.units(given))
        return {"sku": sku}


def units_on_show(article: Article) -> int:
    """Return the number that an article's level begins with."""
    return article.quantity if article.shown is None else article.shown
