"""Puts the rows of a mapping file into the stock as listings, and says what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.mapping_file import Identity, Level, MappingRow, two_skus
from invsync_dagster.inventory.imports.reading import MAPPING
from invsync_dagster.inventory.imports.refusals import Rejection
from invsync_dagster.inventory.imports.results import Preview
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.tables import central_inventory, channels, platform_mapping


def known_channels(connection: Connection) -> set[str]:
    """Return the names of the channels that aren't retired."""
    query = select(channels.c.name).where(channels.c.status != "retired")
    return set(connection.execute(query).scalars())


def known_skus(connection: Connection, skus: Collection[str]) -> set[str]:
    """Return those of `skus` that are in the stock."""
    stock = central_inventory.c.sku
    return {sku for part in chunks(skus) for sku in connection.execute(select(stock).where(stock.in_(part))).scalars()}


def contradicted(
    connection: Connection, file: str, rows: Sequence[MappingRow]
) -> tuple[list[MappingRow], list[Rejection]]:
    """Part off the rows whose level has another SKU by a listing that the file doesn't name."""
    named: set[Identity] = {row.identity for row in rows}
    others: dict[Level, str] = {}
    listing = platform_mapping.c
    items: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        items[row.channel].add(row.item_id)
    for channel, item_ids in items.items():
        for part in chunks(item_ids):
            query = select(
                listing.platform_item_id, listing.platform_location_id, listing.platform_sku, listing.central_sku
            ).where(listing.platform_name == channel, listing.platform_item_id.in_(part), listing.status != "retired")
            for item_id, location_id, platform_sku, sku in connection.execute(query):
                if (channel, item_id, location_id, platform_sku) not in named:
                    others[channel, item_id, location_id] = sku
    good: list[MappingRow] = []
    bad: list[MappingRow] = []
    for row in rows:
        # A row that retires its listing leaves the level to the others.
        fits = row.status == "retired" or others.get(row.level, row.central_sku) == row.central_sku
        (good if fits else bad).append(row)
    return good, [two_skus(file, row, f"another listing maps it to '{others[row.level]}'") for row in bad]


def apply_mapping(connection: Connection, rows: Sequence[MappingRow], basis: Basis, import_id: str) -> Preview:
    """Set the listings in the caller's transaction; returns what changed, in listings.

    No limit holds a mapping: what it would zero or raise on a channel is held per level, before the wire.
    """
    listings = [
        Listing(
            channel=row.channel,
            sku=row.central_sku,
            item_id=row.item_id,
            location_id=row.location_id,
            platform_sku=row.platform_sku,
            variant_id=row.variant_id,
            status=row.status,
            buffer=row.buffer,
            percent=row.percent,
            minimum=row.minimum,
            maximum=row.maximum,
            dead_band=row.dead_band,
        )
        for row in rows
    ]
    done = set_listings(
        connection, listings, actor=basis.actor, reason=f"import {import_id}", now=basis.now, run_id=basis.run_id
    )
    return Preview(
        kind=MAPPING,
        rows=len(rows),
        added=done.created,
        changed=done.changed,
        unchanged=done.unchanged,
        held_levels=done.held,
    )
