"""What a full run finds: levels that show something else than they should, why probably, and what was done about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from sqlalchemy import ColumnElement, or_

from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.tables import inventory_levels
from invsync_dagster.platforms.contract import Outcome
from invsync_dagster.sync.levels import LevelState

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
    """A level whose channel is to be right: what it showed, when the request for that began and ended, the level's `touched`
    before it, and the report's row of it."""

    level_id: int
    observed: int
    began: datetime
    ended: datetime
    touched: int
    difference: Difference


@dataclass(frozen=True, slots=True)
class Gone:
    """A level that was missing, with what the platform said, its `touched` before the request, and the report's row of it."""

    problem: Outcome
    touched: int
    difference: Difference


@dataclass
class FullSyncReport:
    """One batch of a channel's full run. Counts are levels; `problem` is "" unless the batch failed, and `traceback` is that of
    an error that nobody expected. `stops_channel`: no other batch would fare better before somebody has mended that.
    `passed_over` says why it was not looked at, or not to its end, though nothing failed: the channel is paused.

    A level counts once among `equal`, `failed_rows`, `drift`, `uncertain`, `missing` and `claimed`, unless something came in
    between, as its difference says then.
    """

    channel: str
    batch: int
    levels: int = 0
    equal: int = 0
    in_bulk: int = 0  # of the equal ones, those that the run's bulk reading cleared
    failed_rows: int = 0  # they show what was acknowledged, since a write of something else failed
    drift: int = 0
    uncertain: int = 0
    missing: int = 0
    unknown: int = 0  # of the missing ones, those that the platform doesn't have at all
    claimed: int = 0  # not judged: a push had them in hand, and records what it learns
    repaired: int = 0
    left: int = 0
    api_calls: int = 0
    seconds: float = 0.0
    problem: str = ""
    passed_over: str = ""
    traceback: str = ""
    stops_channel: bool = False
    differences: list[Difference] = field(default_factory=list)
    to_repair: set[str] = field(default_factory=set)
    gone: dict[int, Gone] = field(default_factory=dict)  # missing levels by id
    to_adopt: list[Adoptable] = field(default_factory=list)

    def causes(self) -> Counter[str]:
        """Return how many differences have which likely cause, every cause named."""
        counted = Counter({str(cause): 0 for cause in Cause})
        counted.update(str(one.cause) for one in self.differences)
        return counted


def has_failed_row(state: LevelState) -> bool:
    """Say whether a level that shows what was acknowledged should show something else, which could not be written.

    One whose number has only changed since waits for the next push, and is no difference.
    """
    return state.failures > 0 and state.desired != state.acknowledged_quantity


def has_no_failed_row() -> ColumnElement[bool]:
    """The condition that a level which shows what was acknowledged has no failed row, as `has_failed_row` says."""
    level = inventory_levels.c
    return or_(level.failures == 0, level.desired == level.acknowledged_quantity)


def failed_row_words(state: LevelState) -> str:
    """Return what is known of a write that failed, the platform's words among it."""
    return f"our last write failed: {state.last_error}"


def doubt_about(state: LevelState, observed: int | None) -> tuple[Cause, str] | None:
    """Return the likely cause of what an uncertain level shows, and what is known of it; None if it shows what it should."""
    if (observed or 0) == state.desired:
        return None
    if state.acknowledged_quantity is None and state.sent_at is None:
        return Cause.NEVER_WRITTEN, "never acknowledged by us"
    known = [f"uncertain since {in_utc(state.uncertain_since)}: {state.uncertain}"]
    if state.sent_at is not None and state.attempt != state.acknowledged_attempt:
        known.append(f"{state.sent_quantity} sent at {in_utc(state.sent_at)}")
    if state.expected is not None:
        known.append(f"{state.expected} expected")
    if state.failures and state.last_error:
        known.append(state.last_error)
    return Cause.NOT_VISIBLE, "; ".join(known)


def likely_cause(state: LevelState, observed: int | None) -> tuple[Cause, str]:
    """Return the likely cause of a reading that differs from what is acknowledged, and the words for it."""
    acknowledged = state.acknowledged_quantity
    if acknowledged is None:
        return Cause.NEVER_WRITTEN, "never acknowledged by us"
    if observed is None:
        return Cause.FOREIGN_EDIT, "it is not there any more: somebody took it off the location"
    if state.failures:
        return Cause.FAILED_ROW, failed_row_words(state)
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
