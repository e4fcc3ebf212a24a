"""Which channel's webhooks are let in: the door of each usable channel, and the reason where one is closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from invsync_dagster.channels import Configuration
from invsync_dagster.environment import SecretFileError
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.registry import VENDORS


@dataclass(frozen=True)
class Gates:
    """The doors by channel; `closed` has the reason for each channel of the file that takes nothing now.

    `plain` is the channel that /inventory-webhook belongs to, "" for none.
    """

    doors: Mapping[str, WebhookDoor]
    closed: Mapping[str, str] = field(default_factory=dict)
    plain: str = ""


def gates_of(configuration: Configuration, environ: Mapping[str, str]) -> Gates:
    """Return the gates of a configuration. A channel that was disabled, or whose secret can't be one, is closed."""
    doors = {}
    closed = {}
    plain = ""
    for channel in configuration.channels:
        if channel.disabled_reason:
            closed[channel.name] = channel.disabled_reason
        else:
            try:
                doors[channel.name] = VENDORS[channel.platform].door(channel.settings, channel.door_secrets(environ))
            except (ValueError, SecretFileError) as error:
                closed[channel.name] = str(error)
        if channel.inventory_webhook:
            plain = channel.name
    return Gates(doors, closed, plain)
