"""Brings the channels in the database in line with channels.yaml, and what every level should show in line with both."""

from __future__ import annotations

from sqlalchemy import select

from invsync_dagster.inventory import channels
from invsync_dagster.inventory.catch_up import catch_up, hold_beyond_limits
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels as registered
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sync.workspace import Workspace


def register_channels(ws: Workspace) -> int:
    """Do what `register` does, and recompute what a change of rules or status touches.

    Returns how many levels were recomputed. Costs one read where nothing changed, so each cycle calls it.
    """
    register(ws)
    return catch_up(ws.engine, ws.clock.now())


def register(ws: Workspace) -> None:
    """Register each usable channel, pause those that the file has lost, hold what goes beyond the limits; in one transaction."""
    configured = ws.configuration.channels
    if not configured:
        return  # an unreadable file must not pause the whole shop
    with write_transaction(ws.engine) as connection:
        for channel in configured:
            if channel.disabled_reason:
                continue
            channels.register(
                connection,
                channel.name,
                channel.platform,
                channel.environment,
                VENDORS[channel.platform].moves_own_number,
                channel.rules,
                channel.cut_over_at,
                ws.clock.now(),
                contains_orders_of=channel.contains_orders_of,
                count_lag_seconds=channel.count_lag_seconds,
                restock=channel.restock,
                low_stock=ws.configuration.settings.low_stock,
                change_limits=ws.configuration.settings.change_limits,
            )
        channels.pause_missing(connection, [channel.name for channel in configured], ws.clock.now())
        hold_beyond_limits(connection, ws.clock.now())


def missing_channels(ws: Workspace) -> list[str]:
    """Return the channels that are paused because channels.yaml no longer names them."""
    query = select(registered.c.name).where(registered.c.status_reason == channels.MISSING)
    with ws.engine.connect() as connection:
        return list(connection.execute(query).scalars())
