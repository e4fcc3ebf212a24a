"""Alibaba.com's open platform for sellers (ICBU): quantities a product at a time, signed calls, orders by asking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba.client import AlibabaPlatform
from invsync_dagster.platforms.alibaba.door import ShutDoor, needed
from invsync_dagster.platforms.alibaba.gateway import Gop, Top
from invsync_dagster.platforms.alibaba.settings import AlibabaSettings, limits_of
from invsync_dagster.platforms.alibaba.tokens import KeptTokens
from invsync_dagster.platforms.oauth import StaticToken
from invsync_dagster.platforms.transport import Transport

__all__ = ["AlibabaPlatform", "AlibabaSettings", "connect", "door", "needed"]


def connect(
    settings: AlibabaSettings,
    secrets: Mapping[str, str],
    limit_overrides: Mapping[str, float],
    transport: Transport,
    clock: Clock,
) -> AlibabaPlatform:
    """Connect a channel; `secrets` by the name of their `_env` field. Raises `KeyError`, `ValueError`."""
    key, secret = secrets["app_key_env"], secrets["app_secret_env"]
    limits = limits_of(settings, limit_overrides)
    if settings.gateway == "top":
        top = Top(settings.url, key, secret)
        return AlibabaPlatform(settings, top, StaticToken(secrets["session_env"]), limits, transport, clock)
    gop = Gop(settings.url, key, secret, settings.token_parameter)
    file = Path(settings.token_file or "")
    tokens = KeptTokens(gop, secrets["refresh_token_env"], file, transport, clock)
    return AlibabaPlatform(settings, gop, tokens, limits, transport, clock)


def door(settings: AlibabaSettings, secrets: Mapping[str, str]) -> ShutDoor:
    """Return the channel's webhook door, which takes nothing."""
    return ShutDoor()
