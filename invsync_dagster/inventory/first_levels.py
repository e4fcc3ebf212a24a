"""Levels that begin: of listings that are alone on their item, made complete instead of stopped and recomputed.

A first mapping file is nearly all of them. A level that is made and then changed is two rows and twice its indexes' entries to
PostgreSQL: half of the import's time there, and a fifth with SQLite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from invsync_dagster.inventory.bulk import as_parameter, found_by, insert_rows
from invsync_dagster.inventory.joining import levels_at
from invsync_dagster.inventory.levels import NEVER_READ, why_stopped
from invsync_dagster.inventory.rules import RULES, Rules, desired
from invsync_dagster.inventory.tables import central_inventory, channels, inventory_levels


def begin(
    connection: Connection,
    channel: str,
    listings: Mapping[tuple[str, str], Mapping[str, Any]],
    revision: int,
    now: datetime,
) -> dict[tuple[str, str], int]:
    """Make the levels of new listings as `levels.recompute` would leave them; returns their ids by item and location.

    `listings`: by item and location, the columns of `platform_mapping` that each sets; each is the only one of its item, which
    has no level yet. What it desires comes from its one listing: its item's stock is parted with no other location, it shows
    nothing yet that a dead band could keep, and nothing that the breaker could hold. `revision` is newer than any of the rules.
    """
    if not listings:
        return {}
    status, *rules = connection.execute(_CHANNEL, {"channel": channel}).one()
    of_channel = Rules(*rules)
    skus = as_parameter({listing["central_sku"] for listing in listings.values()})
    stocks = {sku: stock for sku, *stock in connection.execute(_STOCK, {"skus": skus}).all()}
    rows: list[tuple[Any, ...]] = []
    for (item_id, location_id), listing in listings.items():
        sku = listing["central_sku"]
        place = (channel, item_id, location_id, sku)
        if stopped := why_stopped(status, listing["status"]):
            rows.append((*place, False, stopped, 0, 0, revision, None, None, None, now))
        else:
            quantity, reserved, sold, version = stocks[sku]
            shown, _ = desired(quantity - reserved, _rules(listing, of_channel), active=sold == "active")
            rows.append((*place, True, "", shown, version, revision, now, NEVER_READ, now, now))
    insert_rows(connection, inventory_levels, _COLUMNS, rows)
    return levels_at(connection, channel, [item_id for item_id, _ in listings])


def _rules(listing: Mapping[str, Any], of_channel: Rules) -> Rules:
    own = {name: listing[name] for name in RULES if listing[name] is not None}
    return replace(of_channel, **own) if own else of_channel


_CHANNEL = select(
    channels.c.status,
    channels.c.buffer,
    channels.c.percent,
    channels.c.minimum,
    channels.c.maximum,
    channels.c.dead_band,
).where(channels.c.name == bindparam("channel"))
_STOCK = select(
    central_inventory.c.sku,
    central_inventory.c.quantity,
    central_inventory.c.reserved_quantity,
    central_inventory.c.status,
    central_inventory.c.version,
).where(found_by(central_inventory.c.sku, "skus"))
_COLUMNS = tuple(
    inventory_levels.c[name]
    for name in (
        "channel",
        "item_id",
        "location_id",
        "central_sku",
        "pushable",
        "stopped_reason",
        "desired",
        "desired_sequence",
        "rules_revision",
        "out_of_step_since",
        "uncertain",
        "uncertain_since",
        "due_at",
    )
)
