"""eBay through its Inventory, Fulfillment and Notification APIs: absolute quantities in batches, orders, signed notifications."""

from __future__ import annotations

from collections.abc import Mapping

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.ebay.client import EbayPlatform
from invsync_dagster.platforms.ebay.quota import Quota
from invsync_dagster.platforms.ebay.settings import EbaySettings, limits_with
from invsync_dagster.platforms.ebay.subscriptions import Subscriptions
from invsync_dagster.platforms.ebay.tokens import APPLICATION, seller_grant, tokens_of
from invsync_dagster.platforms.ebay.webhooks import EbayDoor, needed
from invsync_dagster.platforms.transport import Transport

__all__ = ["EbayDoor", "EbayPlatform", "EbaySettings", "connect", "door", "needed"]


def connect(
    settings: EbaySettings,
    secrets: Mapping[str, str],
    limit_overrides: Mapping[str, float],
    transport: Transport,
    clock: Clock,
) -> EbayPlatform:
    """Connect a channel; `secrets` by the name of their `_env` field. Raises `KeyError`, `ValueError`."""
    url, app = settings.api_url, (secrets["client_id_env"], secrets["client_secret_env"])
    tokens = tokens_of(url, *app, seller_grant(secrets["refresh_token_env"]))
    own, verification = tokens_of(url, *app, APPLICATION), secrets["verification_token_env"]
    notifications = Subscriptions(url, tokens, own, verification, settings.alert_email, transport, clock)
    quota = Quota(url, own, transport, clock)
    return EbayPlatform(settings, tokens, limits_with(limit_overrides), transport, clock, notifications, quota)


def door(settings: EbaySettings, secrets: Mapping[str, str]) -> EbayDoor:
    """Return the channel's webhook door; public keys are asked for with the application's own token.

    Raises `KeyError`, `ValueError` for a secret that is missing or can't be one.
    """
    tokens = tokens_of(settings.api_url, secrets["client_id_env"], secrets["client_secret_env"], APPLICATION)
    return EbayDoor(settings, secrets["verification_token_env"], tokens)
