"""What makes listings and levels one: a level for each place, and one SKU for each level."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from invsync_dagster.inventory.bulk import among, as_parameter, chunks, found_by, insert_rows
from invsync_dagster.inventory.tables import inventory_levels, platform_mapping

_L = inventory_levels.c
_LEVELS = select(_L.item_id, _L.location_id, _L.id).where(
    _L.channel == bindparam("of_channel"), found_by(_L.item_id, "items")
)
_OWNERS = select(_L.id, _L.central_sku).where(found_by(_L.id, "ids"))
_M = platform_mapping.c
_Joined = Row[int, int, str, str, str]
_JOINED = select(_M.id, _M.level_id, _M.central_sku, _M.status, _M.status_reason).where(found_by(_M.level_id, "ids"))
_NEW_LEVEL = (_L.channel, _L.item_id, _L.location_id, _L.central_sku, _L.pushable, _L.due_at)

# A platform's parent whose stock two SKUs claim can't be right: a write for one would be wrong for the other.
TWO_SKUS = "the level is mapped to several SKUs"


def listing_rows(connection: Connection, column: Any, values: Collection[Any]) -> list[dict[str, Any]]:
    """Return the rows of the listings where `column` has one of the values."""
    query = select(platform_mapping).where(among(column, "values")).order_by(platform_mapping.c.id)
    return [dict(row) for row in connection.execute(query, {"values": as_parameter(values)}).mappings()]


def levels_for(
    connection: Connection, channel: str, places: Mapping[tuple[str, str], str], now: datetime
) -> dict[tuple[str, str], int]:
    """Return the levels at `places` (item and location, with their SKU); those that aren't there are made, stopped until they
    are recomputed."""
    if not places:
        return {}
    items = {item_id for item_id, _ in places}
    ids = levels_at(connection, channel, items)
    new = [(channel, *place, sku, False, now) for place, sku in places.items() if place not in ids]
    if new:
        insert_rows(connection, inventory_levels, _NEW_LEVEL, new)
        ids = levels_at(connection, channel, items)
    return {place: ids[place] for place in places}


def levels_at(connection: Connection, channel: str, item_ids: Collection[str]) -> dict[tuple[str, str], int]:
    """Return the levels of items by item and location."""
    found = connection.execute(_LEVELS, {"of_channel": channel, "items": as_parameter(item_ids)}).all()
    return {(item_id, location_id): level_id for item_id, location_id, level_id in found}


def join(connection: Connection, level_ids: Collection[int], revision: int, now: datetime) -> tuple[set[str], int]:
    """Make each level belong to the one SKU of its listings; where they name several, all go to review.

    Returns the SKUs whose levels are to be recomputed, and how many listings went to review.
    """
    offered: dict[int, list[_Joined]] = defaultdict(list)
    listed: Counter[int] = Counter()
    keys = {"ids": as_parameter(level_ids)}
    for row in connection.execute(_JOINED, keys).all():
        listed[row.level_id] += 1
        if row.status != "retired":
            offered[row.level_id].append(row)
    level = inventory_levels.c
    owners: dict[int, str] = {row.id: row.central_sku for row in connection.execute(_OWNERS, keys).all()}
    for part in chunks(level_id for level_id, number in listed.items() if number > 1):
        connection.execute(update(inventory_levels).where(level.id.in_(part)).values(shared=True))
    skus = set(owners.values())
    moved: list[dict[str, Any]] = []
    review: list[dict[str, Any]] = []
    for level_id, rows in offered.items():
        named = {row.central_sku for row in rows}
        skus |= named
        if len(named) > 1:
            review += [
                {"key": row.id, "revision": revision, "now": now} for row in rows if row.status_reason != TWO_SKUS
            ]
        elif named != {owners[level_id]}:
            moved.append({"key": level_id, "sku": named.pop()})
    if moved:
        # Stopped for the moment, so that it is recomputed as a level that begins anew: read before written. What it was
        # held at was a number of another SKU.
        connection.execute(
            update(inventory_levels)
            .where(level.id == bindparam("key"))
            .values(
                central_sku=bindparam("sku"),
                pushable=False,
                touched=level.touched + 1,
                held_quantity=None,
                held_limit=None,
                held_zeroes=None,
                held_sequence=None,
                held_desired=None,
                held_reason="",
            ),
            moved,
        )
    if review:
        connection.execute(
            update(platform_mapping)
            .where(platform_mapping.c.id == bindparam("key"))
            .values(
                status="needs_review",
                status_reason=TWO_SKUS,
                rules_revision=bindparam("revision"),
                updated_at=bindparam("now"),
            ),
            review,
        )
    return skus, len(review)
