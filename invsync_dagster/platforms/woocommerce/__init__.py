"""WooCommerce through its REST API v3: absolute stock quantities in batches, orders, signed webhooks."""

from __future__ import annotations

from collections.abc import Mapping

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.settings import valid_secrets
from invsync_dagster.platforms.transport import Transport
from invsync_dagster.platforms.woocommerce.client import WooCommercePlatform
from invsync_dagster.platforms.woocommerce.settings import WooCommerceSettings, limits_with
from invsync_dagster.platforms.woocommerce.signing import Signer
from invsync_dagster.platforms.woocommerce.webhooks import WooCommerceDoor, needed

__all__ = ["WooCommerceDoor", "WooCommercePlatform", "WooCommerceSettings", "connect", "door", "needed"]


def connect(
    settings: WooCommerceSettings,
    secrets: Mapping[str, str],
    limit_overrides: Mapping[str, float],
    transport: Transport,
    clock: Clock,
) -> WooCommercePlatform:
    """Connect a channel; `secrets` by the name of their `_env` field. Raises `KeyError`, `ValueError`."""
    signer = Signer(secrets["consumer_key_env"], secrets["consumer_secret_env"])
    limits, webhook_secret = limits_with(limit_overrides), secrets["webhook_secret_env"]
    return WooCommercePlatform(settings, signer, limits, transport, clock, webhook_secret)


def door(settings: WooCommerceSettings, secrets: Mapping[str, str]) -> WooCommerceDoor:
    """Return the channel's webhook door. Raises `KeyError`, `ValueError` if a secret is missing or empty."""
    return WooCommerceDoor(settings.store_url, valid_secrets(secrets))
