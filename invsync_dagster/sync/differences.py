"""What a full run finds: levels that show something else than was acknowledged, why probably, and what was done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from sqlalchemy import Connection, func, select, update

from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.tables import channels, inventory_levels, platform_mapping
from invsync_dagster.settings import ImportLimits
from invsync_dagster.sync.levels import Doubt, LevelState

# What a channel's differences lead to: written over, only told, or taken into the stock.
Policy = Literal["repair", "report", "adopt"]


class Cause(StrEnum):
    """The likely cause of a difference, as a name that plots and reports keep."""

    NOT_VISIBLE = "not_visible"
    FAILED_ROW = "failed_row"
    UNSEEN_ORDER = "unseen_order"
    FOREIGN_EDIT = "foreign_edit"
    NEVER_WRITTEN = "never_written"
    GONE = "gone"


@dataclass(slots=True)
class Difference:
    """One level that showed something else than it should. `observed` None: no number; `done`: what was done about it."""

    sku: str
    item_id: str
    location_id: str
    acknowledged: int | None
    observed: int | None
    desired: int
    cause: Cause
    words: str
    done: str


@dataclass(frozen=True, slots=True)
class Adoptable:
    """A level whose channel is to be right: what it showed, and when the request for it began."""

    level_id: int
    observed: int
    at: datetime
    difference: Difference


def likely_cause(state: LevelState, observed: int) -> tuple[Cause, str]:
    """Return the likely cause of a reading that differs from what is acknowledged, and the words for it."""
    acknowledged = state.acknowledged_quantity
    if acknowledged is None:
        return Cause.NEVER_WRITTEN, "never acknowledged by us"
    if state.failures:
        return Cause.FAILED_ROW, f"our last write failed: {state.last_error}"
    if observed < acknowledged:
        return (
            Cause.UNSEEN_ORDER,
            f"{acknowledged - observed} fewer than acknowledged: an order that we haven't seen, or a foreign edit",
        )
    return (
        Cause.FOREIGN_EDIT,
        f"{observed - acknowledged} more than acknowledged: a foreign edit, or a restock or cancel that we haven't seen",
    )


def difference(state: LevelState, observed: int | None, cause: Cause, words: str, done: str) -> Difference:
    """Return the report's row of a level."""
    place = (state.central_sku, state.item_id, state.location_id)
    return Difference(*place, state.acknowledged_quantity, observed, state.desired, cause, words, done)


def adopt(
    connection: Connection, channel: str, found: Sequence[Adoptable], limits: ImportLimits, now: datetime, run_id: str
) -> set[str]:
    """Take what the channel shows into the stock, as a count of what is available; return the SKUs to push.

    Only where one number on hand follows from it: a listing with a percentage or a maximum, or one that shows 0 below its
    buffer or minimum, is reported instead. Beyond the import limits all of it is held for a person (`invsync imports`).
    """
    fitting = []
    buffers = _plain_buffers(connection, [one.level_id for one in found])
    for one in found:
        buffer = buffers.get(one.level_id)
        if buffer is None or (one.observed == 0 and buffer > 0):
            one.difference.done = "reported: its rules leave open how many are on hand"
        else:
            fitting.append((one, Count(one.difference.sku, one.observed + buffer, one.at, basis="available")))
    source = CountSource(channel, contains=(channel,))
    applied = apply_counts(
        connection,
        [count for _, count in fitting],
        source,
        now=now,
        run_id=run_id,
        reference="full run",
        limits=limits,
    )
    desired = _desired(connection, [one.level_id for one, _ in fitting])
    level, adopted = inventory_levels.c, set()
    for one, _ in fitting:
        if applied.held_id:
            one.difference.done = f"held: {applied.held_reason}"
        elif desired[one.level_id] != one.observed:
            one.difference.done = "reported: a newer count is in force"
        else:
            adopted.add(one.difference.sku)
            values = {"uncertain": Doubt.DRIFT, "uncertain_since": now, "expected": one.observed, "due_at": now}
            connection.execute(
                update(inventory_levels).where(level.id == one.level_id, level.uncertain.is_(None)).values(values)
            )
    return adopted


def _desired(connection: Connection, level_ids: Sequence[int]) -> dict[int, int]:
    level = inventory_levels.c
    query = select(level.id, level.desired)
    return {
        row.id: row.desired for part in chunks(level_ids) for row in connection.execute(query.where(level.id.in_(part)))
    }


def _plain_buffers(connection: Connection, level_ids: Sequence[int]) -> dict[int, int]:
    """Return the buffer of each level whose rules keep nothing back but a buffer; shared levels have several rules."""
    listing, channel, level = platform_mapping.c, channels.c, inventory_levels.c
    buffer = func.coalesce(listing.buffer, channel.buffer)
    query = (
        select(level.id, buffer)
        .join(platform_mapping, listing.level_id == level.id)
        .join(channels, channel.name == level.channel)
        .where(
            level.shared.is_(False),
            func.coalesce(listing.percent, channel.percent) == 100,
            func.coalesce(listing.minimum, channel.minimum) == 0,
            func.coalesce(listing.maximum, channel.maximum).is_(None),
        )
    )
    found: dict[int, int] = {}
    for part in chunks(level_ids):
        found |= {row[0]: row[1] for row in connection.execute(query.where(level.id.in_(part)))}
    return found
