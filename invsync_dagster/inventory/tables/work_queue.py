"""The work queue: a row for each level that is a change, that somebody has claimed, or that an open submission holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Index, Table, and_, literal_column, or_

from invsync_dagster.inventory.tables.channels import inventory_levels
from invsync_dagster.inventory.tables.columns import Identity, Text, UtcDateTime, metadata

# Triggers of `inventory_levels` keep it (migration 0004): its columns repeat the level's. A table of its own, not indexes of the
# levels: PostgreSQL makes new entries in all indexes of a row for a change of any column that one of them, or its condition,
# names, and each level of a sale changes three times until its channel shows it (docs/decisions/0040).
work_queue = Table(
    "work_queue",
    metadata,
    Column("level_id", Identity, primary_key=True, autoincrement=False),
    Column("channel", Text, nullable=False),
    Column("location_id", Text, nullable=False),
    Column("is_change", Boolean, nullable=False),
    Column("desired", BigInteger, nullable=False),
    Column("effective_quantity", BigInteger, nullable=False),
    Column("expected", BigInteger),
    Column("uncertain", Text),
    Column("due_at", UtcDateTime, nullable=False),
    Column("claim", Text),
    Column("bulk_handle", Text),
)

_QUEUED = work_queue.c


def is_change() -> ColumnElement[bool]:
    """The condition of a level that is a change: pushable, and out of step or uncertain.

    It reads every level: what is queued is found by `CHANGES`.
    """
    level = inventory_levels.c
    return and_(level.pushable.is_(True), or_(level.desired != level.effective_quantity, level.uncertain.is_not(None)))


CHANGES = inventory_levels.join(
    work_queue, and_(_QUEUED.level_id == inventory_levels.c.id, _QUEUED.is_change.is_(True))
)
"""The levels that are changes, to select from; by the queue's channel: by the level's SQLite walks through all levels."""


def is_somewhere() -> Any:
    """The condition of a queued level at a location of the platform's, or of a product that it is a variation of."""
    return _QUEUED.location_id != literal_column("''")


# Zeros and low stock go first, so the queue is ordered by what the level should show. With the claim in it PostgreSQL walks
# through it in that order, and clears away the entries of what is done; else it would collect them all, and sort.
Index(
    "ix_work_queue_changes",
    _QUEUED.channel,
    _QUEUED.desired,
    _QUEUED.due_at,
    _QUEUED.claim,
    sqlite_where=_QUEUED.is_change.is_(True),
    postgresql_where=_QUEUED.is_change.is_(True),
)

# The changes of one product, or location, which one call writes or reads together: spread all over the queue.
Index(
    "ix_work_queue_places",
    _QUEUED.channel,
    _QUEUED.location_id,
    sqlite_where=_QUEUED.is_change.is_(True) & is_somewhere(),
    postgresql_where=_QUEUED.is_change.is_(True) & is_somewhere(),
)

# Each push looks for claims that were left behind, and finds its own by their token.
Index(
    "ix_work_queue_claims",
    _QUEUED.channel,
    _QUEUED.claim,
    sqlite_where=_QUEUED.claim.is_not(None),
    postgresql_where=_QUEUED.claim.is_not(None),
)

# The levels of an open submission, which its report is about.
Index(
    "ix_work_queue_bulk",
    _QUEUED.channel,
    _QUEUED.bulk_handle,
    sqlite_where=_QUEUED.bulk_handle.is_not(None),
    postgresql_where=_QUEUED.bulk_handle.is_not(None),
)
