"""The self-audit of what was sent: attempts without a gap, and an attempt or reading behind every acknowledged number."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_, case, false, func, literal, select

from invsync_dagster.inventory.audit import LISTED, Difference
from invsync_dagster.inventory.retention import ARCHIVED
from invsync_dagster.inventory.rules import greatest
from invsync_dagster.inventory.tables import inventory_levels, operator_actions, sync_logs

# What carries an attempt's number: its outcome, and that its worker was dead or late.
_NUMBERED = ("push", "take_over")

# A restore lets the numbers go on so much higher, since those of the attempts that are lost with it may be in use.
RESTORED = 1_000_000


def audit_attempts(connection: Connection) -> list[Difference]:
    """Return what doesn't add up of the log and the levels, at most `LISTED` of each kind.

    Of what was archived nothing is proven: it is no longer in the database.
    """
    since = _archived_until(connection)
    return [*_gaps(connection, since), *_acknowledged(connection, since)]


def _archived_until(connection: Connection) -> datetime | None:
    """Return the time before which rows were archived; None if none were.

    It isn't always that of the last archiving: since then logs may be kept longer."""
    query = select(operator_actions.c.after).where(operator_actions.c.action == ARCHIVED)
    times = (datetime.fromisoformat(after["older_than"]) for after in connection.execute(query).scalars())
    return max(times, default=None)


def _gaps(connection: Connection, since: datetime | None) -> list[Difference]:
    """Each attempt of a level is logged with its number, all but one that is under way."""
    level, log = inventory_levels.c, sync_logs.c
    numbers = (
        select(
            log.level_id,
            func.count(log.attempt.distinct()).label("attempts"),
            func.min(log.attempt).label("first"),
            func.max(log.attempt).label("last"),
        )
        .select_from(sync_logs.join(inventory_levels, level.id == log.level_id))
        .where(log.action.in_(_NUMBERED), log.attempt > 0, log.attempt > level.attempt - RESTORED)
        .where(*(() if since is None else (log.timestamp >= since,)))
        .group_by(log.level_id)
        .subquery("numbers")
    )
    attempts, last = func.coalesce(numbers.c.attempts, 0), func.coalesce(numbers.c.last, 0)
    under_way = and_(level.claim.is_not(None), last < level.attempt)
    ended = level.attempt - case((under_way, 1), else_=0)
    # A level of which nothing is in the log since then has made no attempt since, or it is missing; since a restore, whose
    # levels say when they were sent before it, that can't be told.
    none_since = (
        level.attempt + 1
        if since is None
        else case((and_(level.sent_at >= since, level.attempt < RESTORED), level.attempt), else_=level.attempt + 1)
    )
    first = func.coalesce(numbers.c.first, none_since)
    whole = level.attempt < RESTORED if since is None else false()
    # Not below 0: of a level of which nothing is in the log, none is wanted while the first since is under way, or a reading.
    wanted = greatest(ended - case((whole, 1), else_=first) + 1, literal(0))
    query = (
        select(level.central_sku, level.channel, level.item_id, level.location_id, attempts, wanted)
        .select_from(inventory_levels.outerjoin(numbers, numbers.c.level_id == level.id))
        .where(attempts != wanted)
        .order_by(level.channel, level.central_sku, level.id)
        .limit(LISTED)
    )
    return [_of_level("logged attempts", *row) for row in connection.execute(query)]


def _acknowledged(connection: Connection, since: datetime | None) -> list[Difference]:
    """The number that a channel confirmed is in the log, with the time at which it did."""
    level, log = inventory_levels.c, sync_logs.c
    confirmed = log.status.in_(("acknowledged", "observed"))
    told = select(log.id).where(
        log.level_id == level.id,
        # Not the column itself: SQLite would look among all rows of that time, of a bulk submission thousands, for each level.
        func.coalesce(log.timestamp, level.acknowledged_at) == level.acknowledged_at,
        log.new_quantity == level.acknowledged_quantity,
        confirmed,
    )
    latest = (
        select(log.new_quantity)
        .where(log.level_id == level.id, confirmed, log.new_quantity.is_not(None))
        .order_by(log.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    place = (level.central_sku, level.channel, level.item_id, level.location_id)
    kept = () if since is None else (level.acknowledged_at >= since,)
    query = (
        select(*place, level.acknowledged_quantity, func.coalesce(latest, 0))
        .where(level.acknowledged_quantity.is_not(None), *kept, ~told.exists())
        .order_by(level.channel, level.central_sku, level.id)
        .limit(LISTED)
    )
    return [_of_level("acknowledged, by the log", *row) for row in connection.execute(query)]


def _of_level(
    what: str, sku: str, channel: str, item_id: str, location_id: str, stored: int, proven: int
) -> Difference:
    subject = f"{channel} level {item_id}" + (f" at {location_id}" if location_id else "")
    return Difference(sku, what, subject, int(stored), int(proven))
