"""Shopify through its GraphQL Admin API: absolute quantities with compare-and-set, orders, signed webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.oauth import StaticToken, Tokens
from invsync_dagster.platforms.settings import valid_secrets
from invsync_dagster.platforms.shopify.client import ShopifyPlatform
from invsync_dagster.platforms.shopify.settings import ShopifySettings, limits_with
from invsync_dagster.platforms.shopify.tokens import ClientCredentials
from invsync_dagster.platforms.shopify.webhooks import ShopifyDoor, needed
from invsync_dagster.platforms.shopify.writes import ACTIVATIONS_A_CALL
from invsync_dagster.platforms.transport import Transport

__all__ = ["ShopifyDoor", "ShopifyPlatform", "ShopifySettings", "connect", "door", "needed"]


def connect(
    settings: ShopifySettings,
    secrets: Mapping[str, str],
    limit_overrides: Mapping[str, float],
    transport: Transport,
    clock: Clock,
) -> ShopifyPlatform:
    """Connect a channel; `secrets` by the name of their `_env` field. Raises `KeyError`, `ValueError`."""
    tokens: Tokens
    if settings.client_id_env is None:
        tokens = StaticToken(secrets["access_token_env"])
    else:
        client_id, client_secret = secrets["client_id_env"], secrets["webhook_secret_env"]
        tokens = ClientCredentials(settings.shop_url, client_id, client_secret, transport, clock)
    absent = ACTIVATIONS_A_CALL if settings.unstocked == "activate" else 0
    limits = replace(limits_with(limit_overrides), absent_a_write=absent)
    return ShopifyPlatform(settings, tokens, limits, transport)


def door(settings: ShopifySettings, secrets: Mapping[str, str]) -> ShopifyDoor:
    """Return the channel's webhook door. Raises `KeyError`, `ValueError` if a secret is missing or empty."""
    return ShopifyDoor(settings.shop_url, valid_secrets(secrets))
