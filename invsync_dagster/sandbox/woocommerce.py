"""The stand-in WooCommerce store on the server: what buyers and the shopkeeper do there, and its host's pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.woocommerce.sandbox import WooCommerceSandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.shops import ShopStandIn, units_on_show


class WooCommerceStandIn(ShopStandIn):
    """A WooCommerce store on the server."""

    # A delivery that fails is lost; after seven in a row the webhook is switched off (class-wc-webhook.php).
    webhook_retries = 0

    def __init__(
        self,
        limits: Mapping[str, float],
        secrets: Mapping[str, str],
        articles: Sequence[Article],
        clock: Clock,
        random: Random,
    ) -> None:
        rate = limits.get("rate", 2.0)
        self._store = store = WooCommerceSandbox(
            consumer_key=secrets["consumer_key_env"],
            consumer_secret=secrets["consumer_secret_env"],
            webhook_secret=secrets["webhook_secret_env"],
            clock=clock,
            # Calls arrive on a socket some milliseconds apart from when they were sent: the host allows for that.
            rate=2 * rate,
            burst=2 * limits.get("burst", 4.0) + rate,
        )
        levels: dict[str, LevelReference] = {}
        offers: dict[str, LevelReference] = {}
        for article in articles:
            levels[article.sku], offers[article.sku] = self._added(article)
        actions = {
            "cancel": lambda given: self._bring(given, "cancelled"),
            "fulfil": lambda given: self._bring(given, "completed"),
            "refund": self._refund,
        }
        super().__init__(store, levels, random, actions, buy=store.buy, edit=store.edit_stock, offers=offers)

    def _added(self, article: Article) -> tuple[LevelReference, LevelReference]:
        """Add a product, a variation (its product is the location), or a variation whose product keeps its stock.

        Return its level and what is bought.
        """
        shown = units_on_show(article)
        number, product = int(article.item_id), int(article.location_id or 0)
        if product:
            if product not in self._store:
                self._store.add_product("", None, number=product, kind="variable", managed=False)
            level = offer = self._store.add_variation(
                LevelReference(article.location_id), article.sku, shown, number=number
            )
        elif article.variant_id:
            level = LevelReference(article.item_id)
            if number not in self._store:
                self._store.add_product("", shown, number=number, kind="variable")
            offer = self._store.add_variation(level, article.sku, None, number=int(article.variant_id), managed=False)
        else:
            level = offer = self._store.add_product(article.sku, shown, number=number)
        return level, offer

    def _on_offer(self) -> dict[str, int]:
        return {sku: self._store.shown(offer) or 0 for sku, offer in self._offers.items()}

    def _bring(self, given: Mapping[str, Any], status: str) -> dict[str, Any]:
        order = faces.text(given, "order")
        self._store.set_status(order, status)
        return {"order": order}

    def _refund(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order, restock = faces.text(given, "order"), faces.text(given, "restock_type") != "no_restock"
        units = {str(line.line): line.quantity for line in self._store.order(order).lines.values()}
        self._store.refund(order, units, restock=restock)
        return {"order": order}
