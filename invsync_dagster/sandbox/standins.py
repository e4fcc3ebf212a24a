"""Which stand-in a channel has on the server: the only place that names them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from invsync_dagster.channels import Channel
from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba import AlibabaSettings
from invsync_dagster.platforms.amazon import AmazonSettings
from invsync_dagster.platforms.ebay import EbaySettings
from invsync_dagster.platforms.erp import ErpSettings
from invsync_dagster.platforms.shopify import ShopifySettings
from invsync_dagster.platforms.woocommerce import WooCommerceSettings
from invsync_dagster.sandbox.alibaba import AlibabaStandIn
from invsync_dagster.sandbox.amazon import AmazonStandIn
from invsync_dagster.sandbox.ebay import EbayStandIn
from invsync_dagster.sandbox.erp import ErpStandIn
from invsync_dagster.sandbox.faces import Article, StandIn
from invsync_dagster.sandbox.shopify import ShopifyStandIn
from invsync_dagster.sandbox.woocommerce import WooCommerceStandIn


def stand_in(
    channel: Channel, environ: Mapping[str, str], articles: Sequence[Article], clock: Clock, random: Random
) -> StandIn:
    """Return a fresh stand-in for a usable channel, stocked with its articles.

    Raises `ValueError` for a platform without a stand-in here.
    """
    secrets = channel.secrets(environ)
    if isinstance(channel.settings, AlibabaSettings):
        return AlibabaStandIn(channel.limits, secrets, articles, clock, random)
    if isinstance(channel.settings, AmazonSettings):
        return AmazonStandIn(channel.settings, secrets, articles, clock, random)
    if isinstance(channel.settings, EbaySettings):
        return EbayStandIn(channel.limits, secrets, articles, clock, random)
    if isinstance(channel.settings, ErpSettings):
        return ErpStandIn(secrets, articles, clock, random)
    if isinstance(channel.settings, ShopifySettings):
        return ShopifyStandIn(channel.settings, channel.limits, secrets, articles, clock, random)
    if isinstance(channel.settings, WooCommerceSettings):
        return WooCommerceStandIn(channel.limits, secrets, articles, clock, random)
    raise ValueError(f"channel {channel.name!r}: there is no stand-in for platform {channel.platform!r}")
