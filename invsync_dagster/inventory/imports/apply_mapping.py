"""Puts the rows of a mapping file into the stock as listings, and says what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Row, bindparam, select

from invsync_dagster.inventory.bulk import as_parameter, collector_paused, found_by
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.mapping_file import Item, Level, MappingRow, shown_twice, two_skus
from invsync_dagster.inventory.imports.mapping_spool import MappingSpool
from invsync_dagster.inventory.imports.reading import MAPPING
from invsync_dagster.inventory.imports.refusals import Rejection
from invsync_dagster.inventory.imports.results import Preview
from invsync_dagster.inventory.listings import Listing, ListingKey, listing_key, set_listings_in_parts
from invsync_dagster.inventory.tables import central_inventory, channels, inventory_levels, platform_mapping

# item id, location id, platform SKU, variant id, central SKU, percent, status
_Known = Row[str, str, str, str, str, int | None, str]
_M = platform_mapping.c
_L = inventory_levels.c
# By their levels, which have but one index that begins with the channel.
_KNOWN = (
    select(
        _M.platform_item_id,
        _M.platform_location_id,
        _M.platform_sku,
        _M.platform_variant_id,
        _M.central_sku,
        _M.percent,
        _M.status,
    )
    .join(inventory_levels, _L.id == _M.level_id)
    .where(_L.channel == bindparam("of_channel"), found_by(_L.item_id, "items"), _M.status != "retired")
)
_KNOWN_SKUS = select(central_inventory.c.sku).where(found_by(central_inventory.c.sku, "skus"))


def known_channels(connection: Connection) -> set[str]:
    """Return the names of the channels that aren't retired."""
    query = select(channels.c.name).where(channels.c.status != "retired")
    return set(connection.execute(query).scalars())


def known_skus(connection: Connection, skus: Collection[str]) -> set[str]:
    """Return those of `skus` that are in the stock."""
    return set(connection.execute(_KNOWN_SKUS, {"skus": as_parameter(skus)}).scalars().all())


def contradicted(connection: Connection, file: str, rows: Sequence[MappingRow]) -> list[Rejection]:
    """Return why rows can't go in: their level has another SKU by a listing that the file doesn't name, or their item would
    show more than its stock at several locations. All rows of an item are given at once."""
    others = _others(connection, rows)
    if not others and len({row.item for row in rows}) == len(rows):  # nearly always, and a quarter of the time
        return []
    owners = {level: one.central_sku for (_, level), some in others.items() for one in some}
    good: list[MappingRow] = []
    bad: list[Rejection] = []
    for row in rows:
        # A row that retires its listing leaves the level to the others.
        owner = owners.get(row.level, row.central_sku)
        if row.status == "retired" or owner == row.central_sku:
            good.append(row)
        else:
            bad.append(two_skus(file, row, f"another listing maps it to '{owner}'"))
    return bad + _beyond_their_stock(file, good, others)


def _others(connection: Connection, rows: Sequence[MappingRow]) -> dict[tuple[Item, Level], list[_Known]]:
    """Return the listings of the rows' items that the file doesn't name, by item and level."""
    found: dict[tuple[Item, Level], list[_Known]] = defaultdict(list)
    items: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        items[row.channel].add(row.item_id)
    for channel, item_ids in items.items():
        known = connection.execute(_KNOWN, {"of_channel": channel, "items": as_parameter(item_ids)}).all()
        named: set[ListingKey] = {row.key for row in rows} if known else set()
        for one in known:
            level = (channel, one.platform_item_id, one.platform_location_id)
            if listing_key(*level, one.platform_sku, one.platform_variant_id) not in named:
                found[(*level[:2], one.central_sku), level].append(one)
    return found


def _beyond_their_stock(
    file: str, rows: list[MappingRow], others: dict[tuple[Item, Level], list[_Known]]
) -> list[Rejection]:
    """Return the rows of an item that is at several locations of a channel with more than 100 % of its stock in all: the shop
    adds its locations up. A level of several listings shows the least of them."""
    shares: dict[Item, dict[Level, int]] = defaultdict(dict)

    def count(item: Item, level: Level, percent: int | None) -> None:
        own = 100 if percent is None else percent
        shares[item][level] = min(own, shares[item].get(level, own))

    for row in rows:
        if row.status not in ("retired", "excluded"):
            count(row.item, row.level, row.percent)
    for (item, level), some in others.items():
        for one in some:
            if one.status != "excluded" and item in shares:
                count(item, level, one.percent)
    too_much = {item: levels for item, levels in shares.items() if len(levels) > 1 and sum(levels.values()) > 100}
    return [
        shown_twice(file, row, too_much[row.item])
        for row in rows
        if row.status not in ("retired", "excluded") and row.item in too_much
    ]


def apply_mapping(connection: Connection, spool: MappingSpool, basis: Basis, import_id: str) -> Preview:
    """Set the listings in the caller's transaction; returns what changed, in listings.

    No limit holds a mapping: what it would zero or raise on a channel is held per level, before the wire.
    """
    parts = (list(map(_listing, part)) for part in spool.by_item())
    with collector_paused():
        done = set_listings_in_parts(
            connection,
            parts,
            actor=basis.actor,
            reason=f"import {import_id}",
            now=basis.now,
            run_id=basis.run_id,
            progress=lambda rows: basis.progress("applied", rows),
        )
    return Preview(
        kind=MAPPING,
        rows=spool.count,
        added=done.created,
        changed=done.changed,
        unchanged=done.unchanged,
        renumbered=done.renumbered,
        held_levels=done.held,
    )


def _listing(row: MappingRow) -> Listing:
    return Listing(
        row.channel,
        row.central_sku,
        row.item_id,
        row.location_id,
        row.platform_sku,
        row.variant_id,
        row.status,
        row.buffer,
        row.percent,
        row.minimum,
        row.maximum,
        row.dead_band,
    )
