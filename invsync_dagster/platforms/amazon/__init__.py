"""Amazon through the Selling Partner API: quantities of seller-fulfilled SKUs, orders, notifications."""

from __future__ import annotations

from collections.abc import Mapping

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.amazon.client import AmazonPlatform
from invsync_dagster.platforms.amazon.notifications import AmazonDoor, needed
from invsync_dagster.platforms.amazon.queue import SqsQueue
from invsync_dagster.platforms.amazon.settings import AmazonSettings, limits_with
from invsync_dagster.platforms.amazon.tokens import app_tokens, seller_tokens
from invsync_dagster.platforms.settings import valid_secrets
from invsync_dagster.platforms.transport import Transport

__all__ = ["AmazonDoor", "AmazonPlatform", "AmazonSettings", "connect", "door", "needed"]


def connect(
    settings: AmazonSettings,
    secrets: Mapping[str, str],
    limit_overrides: Mapping[str, float],
    transport: Transport,
    clock: Clock,
) -> AmazonPlatform:
    """Connect a channel; `secrets` by the name of their `_env` field. Raises `KeyError`, `ValueError`."""
    names = ("client_id_env", "client_secret_env", "refresh_token_env")
    client_id, client_secret, refresh_token = (secrets[name] for name in names)
    tokens = seller_tokens(settings.token_url, client_id, client_secret, refresh_token)
    own = app_tokens(settings.token_url, client_id, client_secret)
    return AmazonPlatform(settings, tokens, limits_with(limit_overrides), transport, clock, own)


def door(settings: AmazonSettings, secrets: Mapping[str, str]) -> AmazonDoor:
    """Return the channel's door for notifications. Raises `KeyError`, `ValueError` if a key is missing or empty."""
    valid = valid_secrets(secrets) if settings.webhook_secret_env is not None else []
    queue = None
    if settings.webhook_queue is not None:
        own = settings.webhook_queue_key_env is not None
        keys = (secrets["webhook_queue_key_id_env"], secrets["webhook_queue_key_env"]) if own else None
        queue = SqsQueue(settings.webhook_queue, keys)
    return AmazonDoor(settings.seller_id, valid, queue)
