"""How often a listing may be written in 24 hours, where its platform counts: what is left, and which writes wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, distinct, func, select, union

from invsync_dagster.inventory.bulk import as_parameter, found_by
from invsync_dagster.inventory.tables import (
    CHANGES,
    inventory_levels,
    listing_walks,
    sync_logs,
    walked_listings,
    work_queue,
)
from invsync_dagster.platforms.contract import Limits, Outcome, Result
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.sync.claims import Claim

# The platform's day may begin at any hour of ours: no 24 hours hold more than a calendar day may.
_DAY = timedelta(days=1)
# Shares of the limit. Rises are folded once half is used, and stop at four fifths: what is left is for falls, since a number
# that is too high sells what isn't there; the last twenty-fifth is for zeros.
_FOLDED_FROM, _RISES, _FALLS = 0.5, 0.8, 0.96

# Part of the words by which a level that waits is known.
_USED = "writes in 24 hours are used"

# Only what reached the listing counts, or may have.
_WRITTEN = (str(Result.ACKNOWLEDGED), str(Result.ACCEPTED), str(Result.UNKNOWN))
_CLAIMED, _OTHER = inventory_levels.alias("claimed"), inventory_levels.alias("other")
_SEEN, _BESIDE = walked_listings.alias("seen"), walked_listings.alias("beside")
_LATEST_WALK = (
    select(func.max(listing_walks.c.id))
    .where(listing_walks.c.channel == bindparam("of_channel"), listing_walks.c.ended_at.is_not(None))
    .scalar_subquery()
)
# A claimed level, and those of its listing's other variations, as the latest walk through the channel's listings saw them.
_OF_LISTING = union(
    select(_CLAIMED.c.id.label("claimed_id"), _CLAIMED.c.id.label("level_id")).where(found_by(_CLAIMED.c.id, "ids")),
    select(_CLAIMED.c.id, _OTHER.c.id)
    .join(_SEEN, and_(_SEEN.c.item_id == _CLAIMED.c.item_id, _SEEN.c.location_id == _CLAIMED.c.location_id))
    .join(_BESIDE, and_(_BESIDE.c.walk_id == _SEEN.c.walk_id, _BESIDE.c.listing_id == _SEEN.c.listing_id))
    .join(
        _OTHER,
        and_(
            _OTHER.c.channel == _CLAIMED.c.channel,
            _OTHER.c.item_id == _BESIDE.c.item_id,
            _OTHER.c.location_id == _BESIDE.c.location_id,
        ),
    )
    .where(found_by(_CLAIMED.c.id, "ids"), _SEEN.c.walk_id == _LATEST_WALK),
).subquery("of_listing")
# A call revises a listing once, however many of its variations are in it.
_COUNT = (
    select(
        _OF_LISTING.c.claimed_id,
        func.count(distinct(sync_logs.c.idempotency_key)),
        func.max(sync_logs.c.timestamp),
        func.min(sync_logs.c.timestamp),
    )
    .join(sync_logs, sync_logs.c.level_id == _OF_LISTING.c.level_id)
    .where(sync_logs.c.timestamp > bindparam("since"), sync_logs.c.action == "push", sync_logs.c.status.in_(_WRITTEN))
    .group_by(_OF_LISTING.c.claimed_id)
)


def waiting(
    connection: Connection, channel: str, claims: Sequence[Claim], limits: Limits, now: datetime
) -> dict[int, Outcome]:
    """Return, by level id, the outcome of the claims that are not to be sent now; {} where the platform doesn't count.

    Between half and four fifths of the limit, rises are spread over the day: each waits its share of it after the write
    before, and shows the sum of what happened meanwhile.
    """
    if not limits.writes_a_day:
        return {}
    values = {"of_channel": channel, "ids": as_parameter([claim.level_id for claim in claims]), "since": now - _DAY}
    most = limits.writes_a_day
    apart = _DAY / max(1.0, most * (_RISES - _FOLDED_FROM))
    held: dict[int, Outcome] = {}
    by_level = {claim.level_id: claim for claim in claims}
    for level_id, used, last, first in connection.execute(_COUNT, values):
        kind, allowed = _allowed(by_level[level_id], most)
        until = now
        if used >= allowed:
            # Nothing is free before the oldest write is a day old.
            until = first + _DAY
        elif kind == "rise" and used >= most * _FOLDED_FROM:
            until = last + apart
        if until > now:
            words = f"{used} of {most} {_USED}: this {kind} waits until {until:%H:%M} UTC"
            seconds = (until - now).total_seconds()
            held[level_id] = Outcome(Result.REJECTED, Recovery.WAIT, "day_limit", words, seconds)
    return held


_LEVEL = inventory_levels.c
_NOW_WAITING = (
    select(func.count())
    .select_from(CHANGES)
    .where(
        work_queue.c.channel == bindparam("of_channel"),
        work_queue.c.due_at > bindparam("now"),
        _LEVEL.last_error.contains(_USED, autoescape=True),
    )
)


def now_waiting(connection: Connection, channel: str, now: datetime) -> int:
    """Return how many levels of a channel wait because their listing's writes of the day are used."""
    return connection.execute(_NOW_WAITING, {"of_channel": channel, "now": now}).scalar_one()


def _allowed(claim: Claim, most: int) -> tuple[str, int]:
    """Return what kind of a write a claim is, and how many writes of the day are open to that kind (1 at least is kept for
    each kind that is more urgent)."""
    if claim.quantity == 0:
        return "zero", most
    # Where nobody knows what is shown, it may be too high.
    if claim.compare is None or claim.quantity < claim.compare:
        return "fall", min(int(most * _FALLS), most - 1)
    return "rise", min(int(most * _RISES), most - 2)
