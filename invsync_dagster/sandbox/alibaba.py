"""The stand-in Alibaba.com account on the server: what buyers and the seller do there, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba.sandbox import AlibabaSandbox
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.sandbox.faces import Action, Article, Shown


class AlibabaStandIn:
    """An Alibaba.com account on the server; an article without a product of its own gets one. A refund moves nothing."""

    # It tells nobody of anything.
    webhook_retries = 0

    def __init__(
        self,
        limits: Mapping[str, float],
        secrets: Mapping[str, str],
        articles: Sequence[Article],
        clock: Clock,
        random: Random,
    ) -> None:
        rate = limits.get("rate", 5.0)
        self._account = AlibabaSandbox(
            app_key=secrets["app_key_env"],
            app_secret=secrets["app_secret_env"],
            refresh_token=secrets.get("refresh_token_env", ""),
            session=secrets.get("session_env", ""),
            clock=clock,
            # Calls arrive on a socket some milliseconds apart from when they were sent.
            rate=1.2 * rate,
            burst=2 * limits.get("burst", 5.0) + rate,
        )
        self._levels: dict[str, LevelReference] = {}
        for article in articles:
            shown = article.quantity if article.shown is None else article.shown
            product = int(article.location_id or 0)
            if article.item_id and article.item_id == article.location_id:
                self._levels[article.sku] = self._account.add_product(article.sku, shown, product=product)
            else:
                sku = int(article.item_id or 0)
                self._levels[article.sku] = self._account.add_sku(article.sku, shown, product=product, sku=sku)
        self._skus = {level: sku for sku, level in self._levels.items()}
        self._buyers = Buyers(random)
        self.actions: Mapping[str, Action] = {
            "buy": self._buy,
            "cancel": lambda given: self._bring(given, "trade_close"),
            "fulfil": lambda given: self._bring(given, "wait_confirm_receipt"),
            "refund": lambda given: str(self._account.order(faces.text(given, "order")).trade),
            "edit": self._edit,
            "open_orders": lambda given: self._account.open_orders(),
            "unshipped": lambda given: self._promised(faces.text(given, "order")),
            "promised": lambda given: self._promised(""),
            "revoke": lambda given: self._account.revoke(),
        }
        self.handle = self._account.handle
        self.dump = self._account.dump
        self.load = self._account.load

    def books(self) -> Sequence[Shown]:
        return [
            Shown(level.item_id, level.location_id, self._skus[level], quantity)
            for level, quantity in self._account.books().items()
        ]

    def take_outgoing(self) -> Sequence[faces.Webhook]:
        """Return nothing: there are no webhooks."""
        return ()

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers as they are."""
        return dict(headers)

    def _buy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take an order for what is asked for, or else for a basket of the buyers' own choice."""
        basket = faces.wanted(given) or self._buyers.basket({shown.sku: shown.quantity for shown in self.books()})
        if not basket:
            return {"order": "", "lines": []}
        order = self._account.buy({self._levels[sku]: units for sku, units in basket.items()})
        return {"order": order, "lines": faces.lines(basket)}

    def _bring(self, given: Mapping[str, Any], state: str) -> dict[str, Any]:
        order = faces.text(given, "order")
        self._account.bring(order, state)
        return {"order": order}

    def _promised(self, order: str) -> list[dict[str, Any]]:
        return faces.lines({self._skus[level]: units for level, units in self._account.promised(order).items()})

    def _edit(self, given: Mapping[str, Any]) -> dict[str, Any]:
        sku = faces.text(given, "sku")
        self._account.edit_stock(self._levels[sku], faces.units(given))
        return {"sku": sku}
