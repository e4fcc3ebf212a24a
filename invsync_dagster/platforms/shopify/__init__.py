"""Shopify through its GraphQL Admin API: absolute quantities with compare-and-set, orders, signed webhooks."""

from __future__ import annotations

from collections.abc import Mapping

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.shopify.client import ShopifyPlatform
from invsync_dagster.platforms.shopify.settings import ShopifySettings, limits_with
from invsync_dagster.platforms.shopify.webhooks import ShopifyDoor
from invsync_dagster.platforms.transport import Transport

__all__ = ["ShopifyDoor", "ShopifyPlatform", "ShopifySettings", "connect", "door"]


def connect(
    settings: ShopifySettings,
    secrets: Mapping[str, str],
    limit_overrides: Mapping[str, float],
    transport: Transport,
    clock: Clock,
) -> ShopifyPlatform:
    """Connect a channel; `secrets` by the name of their `_env` field. Raises `KeyError`, `ValueError`.

    Shopify signs no time into its requests: `clock` is for the platforms that do.
    """
    return ShopifyPlatform(settings, secrets["access_token_env"], limits_with(limit_overrides), transport)


def door(settings: ShopifySettings, secrets: Mapping[str, str]) -> ShopifyDoor:
    """Return the channel's webhook door. Raises `KeyError`, `ValueError` if a secret is missing or empty."""
    valid = [secrets["webhook_secret_env"]]
    if settings.webhook_previous_secret_env is not None:
        valid.append(secrets["webhook_previous_secret_env"])
    return ShopifyDoor(settings.shop_url, valid)
