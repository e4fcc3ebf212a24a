"""The stand-in Amazon account on the server: what buyers and the seller do there, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.amazon import AmazonSettings
from invsync_dagster.platforms.amazon.sandbox import AmazonSandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.sandbox.faces import Action, Article, Shown

# Amazon needs minutes for a patch and for a feed, and lists orders two minutes late and once in three; here it is seconds,
# so that something is seen of it.
_PROCESSING = 1.0
_FEED = 10.0
_ORDERS_EVERY = 0.2


class AmazonStandIn:
    """An Amazon account on the server. Its articles' SKUs are the seller's own; a refund moves no number of them."""

    # EventBridge tries a delivery for 24 hours, 185 times at most.
    webhook_retries = 185

    def __init__(
        self,
        settings: AmazonSettings,
        secrets: Mapping[str, str],
        articles: Sequence[Article],
        clock: Clock,
        random: Random,
    ) -> None:
        self._account = AmazonSandbox(
            seller_id=settings.seller_id,
            client_id=secrets["client_id_env"],
            client_secret=secrets["client_secret_env"],
            refresh_token=secrets["refresh_token_env"],
            notification_key=secrets["webhook_secret_env"],
            clock=clock,
            marketplaces=settings.marketplaces,
            processing_seconds=_PROCESSING,
            feed_seconds=_FEED,
            orders_lag=0.0,
            orders_every=_ORDERS_EVERY,
            # Calls arrive on a socket some milliseconds apart from when they were sent.
            rate_factor=1.2,
        )
        self._skus = {article.item_id or article.sku: article.sku for article in articles}
        self._items = {sku: item for item, sku in self._skus.items()}
        for article in articles:
            shown = article.quantity if article.shown is None else article.shown
            self._account.add_item(self._items[article.sku], shown)
        self._buyers = Buyers(random)
        self.actions: Mapping[str, Action] = {
            "buy": self._buy,
            "cancel": lambda given: self._account.cancel(faces.text(given, "order")),
            "fulfil": lambda given: self._account.ship(faces.text(given, "order")),
            "refund": lambda given: self._account.order(faces.text(given, "order")).number,
            "edit": self._edit,
            "open_orders": lambda given: [order.number for order in self._account.orders() if order.is_open],
            "unshipped": lambda given: self._promised(faces.text(given, "order")),
            "promised": lambda given: self._promised(""),
            "revoke": lambda given: self._account.revoke(),
            "expire": lambda given: self._account.expire_tokens(),
        }
        self.handle = self._account.handle
        self.take_outgoing = self._account.take_outgoing
        self.dump = self._account.dump
        self.load = self._account.load

    def books(self) -> Sequence[Shown]:
        shown = self._account.books().items()
        return [Shown(level.item_id, "", self._skus[level.item_id], quantity) for level, quantity in shown]

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers as they are: EventBridge repeats a delivery as it was."""
        return dict(headers)

    def _buy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take an order for what is asked for, or else for a basket of the buyers' own choice."""
        basket = faces.wanted(given) or self._buyers.basket({shown.sku: shown.quantity for shown in self.books()})
        if not basket:
            return {"order": "", "lines": []}
        order = self._account.buy({self._items[sku]: units for sku, units in basket.items()})
        return {"order": order, "lines": faces.lines(basket)}

    def _promised(self, number: str) -> list[dict[str, Any]]:
        units: dict[str, int] = {}
        for order in self._account.orders():
            if order.is_open and number in ("", order.number):
                for line in order.lines.values():
                    sku = self._skus[line.sku]
                    units[sku] = units.get(sku, 0) + line.ordered - line.shipped
        return faces.lines(units)

    def _edit(self, given: Mapping[str, Any]) -> dict[str, Any]:
        sku = faces.text(given, "sku")
        self._account.edit_stock(self._items[sku], faces.units(given))
        return {"sku": sku}
