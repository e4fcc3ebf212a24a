"""Tells a reading of the article that is mapped from one that goes by another name: other goods, or another shop's.

Ids of some platforms are small integers, so another store has the same ones. Only what the platform tells is compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, bindparam, select

from invsync_dagster.inventory.bulk import among, as_parameter
from invsync_dagster.inventory.tables import platform_mapping
from invsync_dagster.platforms.contract import Outcome, Reading
from invsync_dagster.platforms.rows import review

ANOTHER_ARTICLE = "another_article"

_LISTING = platform_mapping.c
_NAMES = select(_LISTING.level_id, _LISTING.platform_sku).where(
    among(_LISTING.level_id, "ids"),
    _LISTING.platform_name == bindparam("of_channel"),
    _LISTING.status != "retired",
    _LISTING.platform_sku != "",
)


def told_apart(connection: Connection, channel: str, readings: Mapping[int, Reading]) -> dict[int, Reading]:
    """Return the readings by level id; one of another article has no number any more, but that as its problem.

    A name that is the level's id anyway says nothing more, and a level whose mapping gives no name can't be compared.
    """
    named = {
        level_id
        for level_id, reading in readings.items()
        if reading.platform_sku not in ("", reading.level.item_id) and reading.problem is None
    }
    if not named:
        return dict(readings)
    mapped: dict[int, set[str]] = defaultdict(set)
    for row in connection.execute(_NAMES, {"ids": as_parameter(named), "of_channel": channel}):
        mapped[row.level_id].add(row.platform_sku)
    others = {
        level_id for level_id in named if mapped[level_id] and readings[level_id].platform_sku not in mapped[level_id]
    }
    return {
        level_id: replace(reading, quantity=None, absent=False, problem=_another(reading, mapped[level_id]))
        if level_id in others
        else reading
        for level_id, reading in readings.items()
    }


def _another(reading: Reading, mapped: set[str]) -> Outcome:
    names = ", ".join(f"'{name}'" for name in sorted(mapped)[:3])
    return review(
        ANOTHER_ARTICLE,
        f"the channel calls it '{reading.platform_sku}', and it is mapped as {names}: if it is still the same goods, import its "
        "new name (invsync discover proposes the row)",
    )
