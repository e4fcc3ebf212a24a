"""How often a level may be written in 24 hours, where its platform counts: what is left, and which writes wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, func, select

from invsync_dagster.inventory.bulk import among, as_parameter
from invsync_dagster.inventory.tables import sync_logs
from invsync_dagster.platforms.contract import Limits, Outcome, Result
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.sync.claims import Claim

# The platform's day may begin at any hour of ours: no 24 hours hold more than a calendar day may.
_DAY = timedelta(days=1)
# Shares of the limit. Rises are folded once half is used, and stop at four fifths: what is left is for falls, since a number
# that is too high sells what isn't there; the last twenty-fifth is for zeros.
_FOLDED_FROM, _RISES, _FALLS = 0.5, 0.8, 0.96

# Only what reached the listing counts, or may have.
_WRITTEN = (str(Result.ACKNOWLEDGED), str(Result.ACCEPTED), str(Result.UNKNOWN))
_COUNT = (
    select(sync_logs.c.level_id, func.count(), func.max(sync_logs.c.timestamp), func.min(sync_logs.c.timestamp))
    .where(
        among(sync_logs.c.level_id, "ids"),
        and_(
            sync_logs.c.timestamp > bindparam("since"),
            sync_logs.c.action == "push",
            sync_logs.c.status.in_(_WRITTEN),
        ),
    )
    .group_by(sync_logs.c.level_id)
)


def waiting(connection: Connection, claims: Sequence[Claim], limits: Limits, now: datetime) -> dict[int, Outcome]:
    """Return, by level id, the outcome of the claims that are not to be sent now; {} where the platform doesn't count.

    Between half and four fifths of the limit, rises are spread over the day: each waits its share of it after the write
    before, and shows the sum of what happened meanwhile.
    """
    if not limits.writes_a_day:
        return {}
    ids = as_parameter([claim.level_id for claim in claims])
    most = limits.writes_a_day
    apart = _DAY / max(1.0, most * (_RISES - _FOLDED_FROM))
    held: dict[int, Outcome] = {}
    by_level = {claim.level_id: claim for claim in claims}
    for level_id, used, last, first in connection.execute(_COUNT, {"ids": ids, "since": now - _DAY}):
        kind, allowed = _allowed(by_level[level_id], most)
        until = now
        if used >= allowed:
            # Nothing is free before the oldest write is a day old.
            until = first + _DAY
        elif kind == "rise" and used >= most * _FOLDED_FROM:
            until = last + apart
        if until > now:
            words = f"{used} of {most} writes in 24 hours are used: this {kind} waits until {until:%H:%M} UTC"
            seconds = (until - now).total_seconds()
            held[level_id] = Outcome(Result.REJECTED, Recovery.WAIT, "day_limit", words, seconds)
    return held


def _allowed(claim: Claim, most: int) -> tuple[str, int]:
    """Return what kind of a write a claim is, and how many writes of the day are open to that kind (1 at least is kept for
    each kind that is more urgent)."""
    if claim.quantity == 0:
        return "zero", most
    # Where nobody knows what is shown, it may be too high.
    if claim.compare is None or claim.quantity < claim.compare:
        return "fall", min(int(most * _FALLS), most - 1)
    return "rise", min(int(most * _RISES), most - 2)
