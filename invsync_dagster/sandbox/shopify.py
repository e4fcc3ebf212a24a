"""The stand-in Shopify shop on the server: what buyers and staff do there, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.shopify import ShopifySettings
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.faces import ActionError, Article
from invsync_dagster.sandbox.shops import ShopStandIn, units_on_show


class ShopifyStandIn(ShopStandIn):
    """A Shopify shop on the server."""

    # Eight retries, then the delivery is given up (webhooks, retry mechanism, 2024-09).
    webhook_retries = 8

    def __init__(
        self,
        settings: ShopifySettings,
        limits: Mapping[str, float],
        secrets: Mapping[str, str],
        articles: Sequence[Article],
        clock: Clock,
        random: Random,
    ) -> None:
        self._account = shop = ShopifySandbox(
            access_token=secrets.get("access_token_env", ""),
            client_id=secrets.get("client_id_env", ""),
            webhook_secret=secrets["webhook_secret_env"],
            clock=clock,
            random=random,
            api_version=settings.api_version,
            domain=urlsplit(settings.shop_url).hostname or "",
            # The shop is on the plan that the channel says it has, else on the Standard one.
            restore_rate=limits.get("rate", 100.0),
            burst=limits.get("burst", 2000.0),
        )
        levels = {
            each.sku: shop.add_article(
                each.sku,
                units_on_show(each),
                item_id=each.item_id,
                variant_id=each.variant_id,
                location_id=each.location_id,
            )
            for each in articles
        }
        actions = {
            "cancel": self._cancel,
            "fulfil": self._fulfil,
            "refund": self._refund,
            "credentials": self._credentials,
        }
        super().__init__(shop, levels, random, actions, buy=shop.buy, edit=shop.edit_stock)

    def _credentials(self, given: Mapping[str, Any]) -> None:
        self._account.access_token = faces.text(given, "key")

    def _cancel(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order, restock = faces.text(given, "order"), given.get("restock", True)
        if not isinstance(restock, bool):
            raise ActionError("restock must be true or false")
        self._account.cancel(order, restock=restock)
        return {"order": order}

    def _fulfil(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order = faces.text(given, "order")
        self._account.fulfil(order)
        return {"order": order}

    def _refund(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order, restock_type = faces.text(given, "order"), faces.text(given, "restock_type")
        self._account.refund(order, self._account.lines(order), restock_type)
        return {"order": order}
