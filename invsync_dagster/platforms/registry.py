"""Which platforms there are: one `Vendor` a platform, the only place that names the vendors' folders.

Every vendor's folder offers the same four names: its settings model, `connect`, `door` and `needed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms import alibaba, amazon, ebay, erp, shopify, woocommerce
from invsync_dagster.platforms.alibaba.settings import limits_with as alibaba_limits
from invsync_dagster.platforms.amazon.settings import limits_with as amazon_limits
from invsync_dagster.platforms.contract import Limits, Platform
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.ebay.settings import limits_with as ebay_limits
from invsync_dagster.platforms.erp.settings import limits_with as erp_limits
from invsync_dagster.platforms.settings import VendorSettings
from invsync_dagster.platforms.shopify.settings import limits_with as shopify_limits
from invsync_dagster.platforms.transport import Transport
from invsync_dagster.platforms.woocommerce.settings import limits_with as woocommerce_limits

Connect = Callable[[Any, Mapping[str, str], Mapping[str, float], Transport, Clock], Platform]
Door = Callable[[Any, Mapping[str, str]], WebhookDoor]


@dataclass(frozen=True)
class Vendor:
    """How channels of one platform are configured, connected and listened to.

    `settings` is the model of the channel's `settings:` block; its fields that end in `_env` hold names of
    environment variables. `connect(settings, secrets, limit_overrides, transport, clock)` and `door(settings, secrets)`
    take that model, and the secrets by the name of their `_env` field (`access_token_env` -> the token itself).
    `limits(limit_overrides)` gives the limits in force. Raises `ValueError` for an override that can't be.
    `needed` takes the JSON of a webhook and returns what the door's `parse` reads of it, which says the same: nothing of
    the buyer is in it.
    `moves_own_number`: the platform takes a sold unit off its own number by itself.
    """

    settings: type[VendorSettings]
    connect: Connect
    door: Door
    limits: Callable[[Mapping[str, float]], Limits]
    needed: Callable[[Any], Any]
    moves_own_number: bool


VENDORS: dict[str, Vendor] = {
    "alibaba": Vendor(
        alibaba.AlibabaSettings,
        alibaba.connect,
        alibaba.door,
        alibaba_limits,
        alibaba.needed,
        moves_own_number=True,
    ),
    "amazon": Vendor(
        amazon.AmazonSettings, amazon.connect, amazon.door, amazon_limits, amazon.needed, moves_own_number=True
    ),
    "shopify": Vendor(
        shopify.ShopifySettings,
        shopify.connect,
        shopify.door,
        shopify_limits,
        shopify.needed,
        moves_own_number=True,
    ),
    "woocommerce": Vendor(
        woocommerce.WooCommerceSettings,
        woocommerce.connect,
        woocommerce.door,
        woocommerce_limits,
        woocommerce.needed,
        moves_own_number=True,
    ),
    "ebay": Vendor(ebay.EbaySettings, ebay.connect, ebay.door, ebay_limits, ebay.needed, moves_own_number=True),
    "erp": Vendor(erp.ErpSettings, erp.connect, erp.door, erp_limits, erp.needed, moves_own_number=False),
}
