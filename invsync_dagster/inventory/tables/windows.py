"""What changes and sources moved lately: the rolling windows of the breaker, in which many small moves add up."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Table

from invsync_dagster.inventory.tables.columns import Text, UtcDateTime, metadata

# One row a level that a change of rules, mapping or status has set to 0 or raised within the window, unseen by a person.
# `base` is what it should have shown before the first of them.
moved_levels = Table(
    "moved_levels",
    metadata,
    Column("level_id", BigInteger, primary_key=True, autoincrement=False),
    Column("channel", Text, nullable=False),
    Column("direction", Text, nullable=False),  # zeroed | raised
    Column("base", BigInteger, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_moved_levels_channel", "channel", "at", "direction"),
)

# What a source (an import, a channel's counts) moved in a minute, unseen by a person. `stocked` SKUs and `units` on hand are
# the stock as a whole at the window's beginning, in the row whose minute had to know it.
source_moves = Table(
    "source_moves",
    metadata,
    Column("minute", UtcDateTime, nullable=False),
    Column("source", Text, nullable=False),  # channel or import id
    Column("zeroed", BigInteger, nullable=False),
    Column("moved", BigInteger, nullable=False),
    Column("stocked", BigInteger),
    Column("units", BigInteger),
    PrimaryKeyConstraint("minute", "source"),
)
