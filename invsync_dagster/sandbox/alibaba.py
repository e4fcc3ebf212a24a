"""The stand-in Alibaba.com account on the server: what buyers and the seller do there, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba.sandbox import AlibabaSandbox
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.shops import ShopStandIn, units_on_show


class AlibabaStandIn(ShopStandIn):
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
        self._account = account = AlibabaSandbox(
            app_key=secrets["app_key_env"],
            app_secret=secrets["app_secret_env"],
            refresh_token=secrets.get("refresh_token_env", ""),
            session=secrets.get("session_env", ""),
            clock=clock,
            # Calls arrive on a socket some milliseconds apart from when they were sent.
            rate=1.2 * rate,
            burst=2 * limits.get("burst", 5.0) + rate,
        )
        levels: dict[str, LevelReference] = {}
        for article in articles:
            shown, product = units_on_show(article), int(article.location_id or 0)
            if article.item_id and article.item_id == article.location_id:
                levels[article.sku] = account.add_product(article.sku, shown, product=product)
            else:
                sku = int(article.item_id or 0)
                levels[article.sku] = account.add_sku(article.sku, shown, product=product, sku=sku)
        actions = {
            "cancel": lambda given: self._bring(given, "trade_close"),
            "fulfil": lambda given: self._bring(given, "wait_confirm_receipt"),
            "refund": lambda given: str(account.order(faces.text(given, "order")).trade),
            "revoke": lambda given: account.revoke(),
        }
        super().__init__(account, levels, random, actions, buy=account.buy, edit=account.edit_stock)

    def _bring(self, given: Mapping[str, Any], state: str) -> dict[str, Any]:
        order = faces.text(given, "order")
        self._account.bring(order, state)
        return {"order": order}
