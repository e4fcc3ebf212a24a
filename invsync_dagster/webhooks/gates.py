"""Which channel's webhooks are let in: the door of each usable channel, and the reason where one is closed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from invsync_dagster.channels import Configuration
from invsync_dagster.inventory.database import DatabaseUrlError, open_database
from invsync_dagster.inventory.tables import channels as channels_table
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.registry import VENDORS

log = logging.getLogger("invsync.receiver")


@dataclass(frozen=True)
class Gates:
    """The doors by channel; `closed` has the reason for each channel that takes nothing now but will again (503).

    `plain` is the channel that /inventory-webhook belongs to, "" for none.
    """

    doors: Mapping[str, WebhookDoor]
    closed: Mapping[str, str] = field(default_factory=dict)
    plain: str = ""


def gates_of(configuration: Configuration, stocked: frozenset[str], environ: Mapping[str, str]) -> Gates:
    """Return the gates of a configuration; `stocked` are the channels that the stock knows and that aren't retired.

    A channel that was disabled, or has left the file without being retired, is closed rather than unknown: its sender
    keeps what it could not deliver.
    """
    doors = {}
    closed = dict.fromkeys(stocked, "it isn't in the channels file any more and hasn't been retired")
    plain = ""
    for channel in configuration.channels:
        closed.pop(channel.name, None)
        if channel.disabled_reason:
            closed[channel.name] = channel.disabled_reason
        else:
            doors[channel.name] = VENDORS[channel.platform].door(channel.settings, channel.secrets(environ))
        if channel.inventory_webhook:
            plain = channel.name
    return Gates(doors, closed, plain)


def stocked_channels(database_url: str) -> frozenset[str]:
    """Return the channels of the stock that aren't retired; none if the database can't be asked, which is logged: the
    receiver takes webhooks also while the database is away."""
    try:
        engine = open_database(database_url)
    except DatabaseUrlError as error:
        log.warning("the stock's channels can't be read (%s): only the channels file counts", error)
        return frozenset()
    try:
        with engine.connect() as connection:
            query = select(channels_table.c.name).where(channels_table.c.status != "retired")
            return frozenset(connection.execute(query).scalars())
    except DBAPIError as error:
        log.warning("the stock's channels can't be read (%s): only the channels file counts", type(error.orig).__name__)
        return frozenset()
    finally:
        engine.dispose()
