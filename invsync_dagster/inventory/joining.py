"""What makes listings and levels one: a level for each place, and one SKU for each level."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.tables import inventory_levels, platform_mapping

# A platform's parent whose stock two SKUs claim can't be right: a write for one would be wrong for the other.
TWO_SKUS = "the level is mapped to several SKUs"


def listing_rows(connection: Connection, column: Any, values: Collection[Any]) -> list[dict[str, Any]]:
    """Return the rows of the listings where `column` has one of the values."""
    query = select(platform_mapping).order_by(platform_mapping.c.id)
    return [
        dict(row) for part in chunks(values) for row in connection.execute(query.where(column.in_(part))).mappings()
    ]


def levels_for(
    connection: Connection, channel: str, places: Mapping[tuple[str, str], str], now: datetime
) -> dict[tuple[str, str], int]:
    """Return the levels at `places` (item and location, with their SKU); those that aren't there are made, stopped until they
    are recomputed."""
    if not places:
        return {}
    level = inventory_levels.c
    query = select(level.id, level.item_id, level.location_id).where(
        level.channel == channel, level.item_id.in_({item_id for item_id, _ in places})
    )
    ids = {(row.item_id, row.location_id): row.id for row in connection.execute(query)}
    rows = [
        {
            "channel": channel,
            "item_id": item_id,
            "location_id": location_id,
            "central_sku": sku,
            "pushable": False,
            "due_at": now,
        }
        for (item_id, location_id), sku in places.items()
        if (item_id, location_id) not in ids
    ]
    if rows:
        returned = connection.execute(
            insert(inventory_levels).returning(level.id, level.item_id, level.location_id), rows
        )
        ids |= {(row.item_id, row.location_id): row.id for row in returned}
    return {place: ids[place] for place in places}


def join(connection: Connection, level_ids: Collection[int], revision: int, now: datetime) -> tuple[set[str], int]:
    """Make each level belong to the one SKU of its listings; where they name several, all go to review.

    Returns the SKUs whose levels are to be recomputed, and how many listings went to review.
    """
    offered: dict[int, list[dict[str, Any]]] = defaultdict(list)
    listed: Counter[int] = Counter()
    for row in listing_rows(connection, platform_mapping.c.level_id, level_ids):
        listed[row["level_id"]] += 1
        if row["status"] != "retired":
            offered[row["level_id"]].append(row)
    level = inventory_levels.c
    owners: dict[int, str] = {}
    for part in chunks(level_ids):
        owners |= {
            row.id: row.central_sku
            for row in connection.execute(select(level.id, level.central_sku).where(level.id.in_(part)))
        }
    for part in chunks(level_id for level_id, number in listed.items() if number > 1):
        connection.execute(update(inventory_levels).where(level.id.in_(part)).values(shared=True))
    skus = set(owners.values())
    moved: list[dict[str, Any]] = []
    review: list[dict[str, Any]] = []
    for level_id, rows in offered.items():
        named = {row["central_sku"] for row in rows}
        skus |= named
        if len(named) > 1:
            review += [
                {"key": row["id"], "revision": revision, "now": now} for row in rows if row["status_reason"] != TWO_SKUS
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
