"""The own ERP: our contract both ways (docs/erp-contract.md), its client, its webhooks and its stand-in."""

from __future__ import annotations

from collections.abc import Mapping

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.erp.client import ErpPlatform
from invsync_dagster.platforms.erp.settings import ErpSettings, limits_with
from invsync_dagster.platforms.erp.webhooks import ErpWebhookDoor, needed
from invsync_dagster.platforms.settings import valid_secrets
from invsync_dagster.platforms.transport import Transport

__all__ = ["ErpPlatform", "ErpSettings", "ErpWebhookDoor", "connect", "door", "needed"]


def connect(
    settings: ErpSettings, secrets: Mapping[str, str], limits: Mapping[str, float], transport: Transport, clock: Clock
) -> ErpPlatform:
    """Return the client of one ERP channel; `secrets` by the names of the settings' `_env` fields.

    Raises `ValueError` for a limit that can't be, `KeyError` for a missing secret.
    """
    return ErpPlatform(
        settings.base_url,
        secrets["api_key_env"],
        secrets["signing_secret_env"],
        transport,
        clock,
        limits_with(limits),
    )


def door(settings: ErpSettings, secrets: Mapping[str, str]) -> ErpWebhookDoor:
    """Return what reads one ERP channel's webhooks. Raises `KeyError` for a missing secret."""
    return ErpWebhookDoor(valid_secrets(secrets))
