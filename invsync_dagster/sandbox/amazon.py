"""The stand-in Amazon account on the server: what buyers and the seller do there, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.amazon import AmazonSettings
from invsync_dagster.platforms.amazon.sandbox import AmazonSandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.shops import ShopStandIn, units_on_show

# Amazon needs minutes for a patch and for a feed, and lists orders two minutes late and once in three; here it is seconds,
# so that something is seen of it.
_PROCESSING = 1.0
_FEED = 10.0
_ORDERS_EVERY = 0.2


class AmazonStandIn(ShopStandIn):
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
        account = AmazonSandbox(
            seller_id=settings.seller_id,
            client_id=secrets["client_id_env"],
            client_secret=secrets["client_secret_env"],
            refresh_token=secrets["refresh_token_env"],
            notification_key=secrets.get("webhook_secret_env", ""),
            clock=clock,
            marketplaces=settings.marketplaces,
            processing_seconds=_PROCESSING,
            feed_seconds=_FEED,
            orders_lag=0.0,
            orders_every=_ORDERS_EVERY,
            # Calls arrive on a socket some milliseconds apart from when they were sent.
            rate_factor=1.2,
        )
        levels = {each.sku: account.add_item(each.item_id or each.sku, units_on_show(each)) for each in articles}
        actions = {
            "cancel": lambda given: account.cancel(faces.text(given, "order")),
            "fulfil": lambda given: account.ship(faces.text(given, "order")),
            "refund": lambda given: account.order(faces.text(given, "order")).number,
            "revoke": lambda given: account.revoke(),
            "expire": lambda given: account.expire_tokens(),
        }
        super().__init__(
            account,
            levels,
            random,
            actions,
            buy=lambda lines: account.buy({level.item_id: units for level, units in lines.items()}),
            edit=lambda level, quantity: account.edit_stock(level.item_id, quantity),
        )
