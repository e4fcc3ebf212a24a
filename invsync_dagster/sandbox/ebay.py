"""The stand-in eBay account on the server: what buyers and the seller do there, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.ebay.sandbox import EbaySandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.sandbox.faces import Action, Article, Shown


class EbayStandIn:
    """An eBay account on the server. An article with a location has an offer of that number with its own quantity."""

    # eBay publishes no number; an address that goes on failing is marked as down.
    webhook_retries = 3

    def __init__(
        self,
        limits: Mapping[str, float],
        secrets: Mapping[str, str],
        articles: Sequence[Article],
        clock: Clock,
        random: Random,
    ) -> None:
        rate = limits.get("rate", 5.0)
        self._account = EbaySandbox(
            client_id=secrets["client_id_env"],
            client_secret=secrets["client_secret_env"],
            refresh_token=secrets["refresh_token_env"],
            clock=clock,
            random=random,
            # Calls arrive on a socket some milliseconds apart from when they were sent.
            rate=2 * rate,
            burst=2 * limits.get("burst", 30.0) + rate,
        )
        self._levels: dict[str, LevelReference] = {}
        for article in articles:
            self._levels[article.sku] = self._account.add_item(
                article.item_id or article.sku,
                article.quantity if article.shown is None else article.shown,
                own=bool(article.location_id),
                offer=article.location_id,
            )
        self._skus = {level: sku for sku, level in self._levels.items()}
        self._buyers = Buyers(random)
        self.actions: Mapping[str, Action] = {
            "buy": self._buy,
            "cancel": lambda given: self._account.cancel(faces.text(given, "order")),
            "fulfil": lambda given: self._account.ship(faces.text(given, "order")),
            "refund": lambda given: self._account.refund(faces.text(given, "order")),
            "edit": self._edit,
            "open_orders": lambda given: self._account.open_orders(),
            "unshipped": lambda given: self._promised(faces.text(given, "order")),
            "promised": lambda given: self._promised(""),
            "credentials": lambda given: self._account.access.change(faces.text(given, "key")),
            "expire": lambda given: self._account.access.expire(),
        }
        self.handle = self._account.handle
        self.take_outgoing = self._account.take_outgoing
        self.dump = self._account.dump
        self.load = self._account.load

    def books(self) -> Sequence[Shown]:
        return [
            Shown(level.item_id, level.location_id, self._skus[level], quantity)
            for level, quantity in self._account.books().items()
        ]

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers as they are: the signature covers the body alone."""
        return dict(headers)

    def _buy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take an order for what is asked for, or else for a basket of the buyers' own choice."""
        basket = faces.wanted(given) or self._buyers.basket({shown.sku: shown.quantity for shown in self.books()})
        if not basket:
            return {"order": "", "lines": []}
        order = self._account.buy({self._levels[sku]: units for sku, units in basket.items()})
        return {"order": order, "lines": faces.lines(basket)}

    def _promised(self, order: str) -> list[dict[str, Any]]:
        return faces.lines({self._skus[level]: units for level, units in self._account.promised(order).items()})

    def _edit(self, given: Mapping[str, Any]) -> dict[str, Any]:
        sku = faces.text(given, "sku")
        self._account.edit_stock(self._levels[sku], faces.units(given))
        return {"sku": sku}
