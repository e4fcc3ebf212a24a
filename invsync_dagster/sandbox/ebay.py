"""The stand-in eBay account on the server: what buyers and the seller do there, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.ebay.sandbox import EbaySandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.shops import ShopStandIn, units_on_show


class EbayStandIn(ShopStandIn):
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
        account = EbaySandbox(
            client_id=secrets["client_id_env"],
            client_secret=secrets["client_secret_env"],
            refresh_token=secrets["refresh_token_env"],
            clock=clock,
            random=random,
            # Calls arrive on a socket some milliseconds apart from when they were sent.
            rate=2 * rate,
            burst=2 * limits.get("burst", 30.0) + rate,
        )
        levels = {
            each.sku: account.add_item(
                each.item_id or each.sku, units_on_show(each), own=bool(each.location_id), offer=each.location_id
            )
            for each in articles
        }
        actions = {
            "cancel": lambda given: account.cancel(faces.text(given, "order")),
            "fulfil": lambda given: account.ship(faces.text(given, "order")),
            "refund": lambda given: account.refund(faces.text(given, "order")),
            "credentials": lambda given: account.access.change(faces.text(given, "key")),
            "expire": lambda given: account.access.expire(),
        }
        super().__init__(account, levels, random, actions, buy=account.buy, edit=account.edit_stock)
