"""What stands behind the status: how long news takes to the shops, and the first of what is held and in review, with why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, func, select

from invsync_dagster.inventory.tables import inventory_levels, is_not_active, platform_mapping, stock_ledger, sync_logs

# Of latencies: so far back, and so many attempts at the most, so that a look after a burst costs no more than another.
WINDOW = timedelta(hours=1)
ATTEMPTS = 2_000
# Rows that are named; the rest is a number.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from the receipt of what changed a number elsewhere to the channel's acknowledgement of it (acceptance, where
    the platform works on it later): the median, the 95th percentile, and of how many."""

    p50: float
    p95: float
    changes: int


@dataclass(frozen=True, slots=True)
class Why:
    """How many levels are held for one reason."""

    reason: str
    levels: int


@dataclass(frozen=True, slots=True)
class HeldLevel:
    """A level that the breaker holds: what it shows, and what the change wants."""

    sku: str
    shows: int
    wanted: int | None


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A listing in review, and why."""

    sku: str
    platform_sku: str
    reason: str
    since: datetime


_LOG, _ENTRY, _SKUS = sync_logs.c, stock_ledger.alias("entry"), stock_ledger.alias("skus")
# The last entry that an attempt's number contains and that made it: what moved available, and not at the channel itself.
_MADE_BY = (
    select(_SKUS.c.sequence)
    .where(
        _SKUS.c.sku == _LOG.sku,
        _SKUS.c.sequence <= _LOG.ledger_sequence,
        _SKUS.c.quantity_delta != _SKUS.c.reserved_delta,
        _SKUS.c.channel != _LOG.platform,
    )
    .order_by(_SKUS.c.sequence.desc())
    .limit(1)
    .correlate(sync_logs)
    .scalar_subquery()
)
_TAKEN = (
    select(_LOG.platform, _LOG.level_id, _ENTRY.c.sequence, _ENTRY.c.received_at, _LOG.timestamp)
    .select_from(sync_logs)
    .join(_ENTRY, _ENTRY.c.sequence == _MADE_BY)
    .where(
        _LOG.id > select(func.max(_LOG.id)).scalar_subquery() - ATTEMPTS,
        _LOG.timestamp > bindparam("since"),
        _LOG.action == "push",
        _LOG.status.in_(("acknowledged", "accepted")),
        _ENTRY.c.channel != "",
        _ENTRY.c.received_at > bindparam("since"),
    )
    .order_by(_LOG.id)
)


def latencies(connection: Connection, now: datetime) -> dict[str, Latency]:
    """Return the latency of each channel that took news in the last hour, of the latest `ATTEMPTS` attempts of all."""
    seconds: dict[str, list[float]] = {}
    told: set[tuple[int, int]] = set()
    for channel, level_id, sequence, received_at, taken_at in connection.execute(_TAKEN, {"since": now - WINDOW}):
        # The number may have been written again for another reason.
        if (level_id, sequence) not in told:
            told.add((level_id, sequence))
            seconds.setdefault(channel, []).append(max(0.0, (taken_at - received_at).total_seconds()))
    return {channel: _latency(sorted(each)) for channel, each in seconds.items()}


def _latency(seconds: Sequence[float]) -> Latency:
    def at(share: float) -> float:
        return seconds[math.ceil(share * len(seconds)) - 1]

    return Latency(at(0.5), at(0.95), len(seconds))


_LEVEL, _LISTING = inventory_levels.c, platform_mapping.c
_OF = _LEVEL.channel == bindparam("of_channel")
# Nothing more waits for who decided that it stays so.
_IS_HELD = and_(_OF, _LEVEL.held_quantity.is_not(None), _LEVEL.held_dropped_at.is_(None))
_HELD_WHY = (
    select(_LEVEL.held_reason, func.count())
    .where(_IS_HELD)
    .group_by(_LEVEL.held_reason)
    .order_by(func.count().desc(), _LEVEL.held_reason)
    .limit(NAMED)
)
_HELD = (
    select(_LEVEL.central_sku, _LEVEL.desired, _LEVEL.held_desired)
    .where(_IS_HELD)
    .order_by(func.abs(func.coalesce(_LEVEL.held_desired, _LEVEL.desired) - _LEVEL.desired).desc(), _LEVEL.central_sku)
    .limit(NAMED)
)
_IN_REVIEW = (
    select(_LISTING.central_sku, _LISTING.platform_sku, _LISTING.status_reason, _LISTING.updated_at)
    .where(_LISTING.platform_name == bindparam("of_channel"), is_not_active(), _LISTING.status == "needs_review")
    .order_by(_LISTING.updated_at, _LISTING.id)
    .limit(NAMED)
)


def held_why(connection: Connection, channel: str) -> list[Why]:
    """Return the reasons for which most levels of a channel are held and undecided."""
    return [Why(*row) for row in connection.execute(_HELD_WHY, {"of_channel": channel})]


def held_levels(connection: Connection, channel: str) -> list[HeldLevel]:
    """Return the held, undecided levels of a channel that the change would move farthest."""
    return [HeldLevel(*row) for row in connection.execute(_HELD, {"of_channel": channel})]


def in_review(connection: Connection, channel: str) -> list[Reviewed]:
    """Return the listings of a channel that have been in review for longest."""
    return [Reviewed(*row) for row in connection.execute(_IN_REVIEW, {"of_channel": channel})]
