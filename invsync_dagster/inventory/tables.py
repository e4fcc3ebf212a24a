"""The tables of the stock: their columns, keys, and the partial index that is the work queue.

Times are UTC (`UtcDateTime`), quantities are units, sequences are positions in `stock_ledger`. Alembic migrations under
`inventory/migrations` create them; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    or_,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Texts compare by their code points on both databases; a server's own collation may follow its country, in which "A-1" and
# "a1" stand side by side.
Text = sqlalchemy.Text().with_variant(sqlalchemy.Text(collation="C"), "postgresql")

# SQLite's rowid alias must be spelled INTEGER; PostgreSQL needs 64 bits.
Identity = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; naive values are refused, since nobody could say which moment they mean."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return _to_sqlite if dialect.name == "sqlite" else _to_utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _from_sqlite if dialect.name == "sqlite" else _to_utc


def _to_utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"a time without a time zone can't be stored: {value.isoformat()}")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _to_sqlite(value: datetime | None) -> str | None:
    if value is not None and value.tzinfo is UTC:
        return _text_of_utc(value)
    utc = _to_utc(value)
    return None if utc is None else _text_of_utc(utc)


# The text that SQLAlchemy's own type stores. Made once for the several places of a time: a ledger entry has three times, and
# its order line and delivery repeat them. Only for UTC: elsewhere equal times can be an hour apart (end of summer time).
@lru_cache(maxsize=32_768)
def _text_of_utc(value: datetime) -> str:
    return value.isoformat(" ", "microseconds").removesuffix("+00:00")


def _from_sqlite(value: str | None) -> datetime | None:
    return None if value is None else _utc_of_text(value)


# The counts of one file have one time, and a ledger entry repeats that of its delivery.
@lru_cache(maxsize=32_768)
def _utc_of_text(value: str) -> datetime:
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


# Tables that are only ever found by their text key are kept in its order (SQLite: WITHOUT ROWID): half the look-ups.

# One row a SKU: the balance. `version` is the sequence of the last ledger entry that touched it.
# `reserved_external` is the part of `reserved_quantity` that an import stated, not the channels' orders.
# `count_id` is the latest count in force: older counts and on-hand movements that it already contains are not applied.
central_inventory = Table(
    "central_inventory",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("product_name", Text, nullable=False, default=""),
    Column("quantity", BigInteger, nullable=False, default=0),
    Column("reserved_quantity", BigInteger, nullable=False, default=0),
    Column("reserved_external", BigInteger, nullable=False, default=0),
    Column("status", Text, nullable=False, default="active"),  # active | inactive
    Column("last_updated", UtcDateTime, nullable=False),
    Column("version", BigInteger, nullable=False, default=0),
    Column("count_id", BigInteger),
    sqlite_with_rowid=False,
)

# Append-only: triggers refuse UPDATE and DELETE. The balance of a SKU is the sum of its entries.
# `moved_delta` is what left or re-entered the shelf at `occurred_at`; `quantity_delta` differs from it where the count in
# force already contained the movement.
stock_ledger = Table(
    "stock_ledger",
    metadata,
    Column("sequence", Identity, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False, unique=True),
    Column("sku", Text, nullable=False),
    Column("kind", Text, nullable=False),  # reserve release ship restock undo count import adopt
    Column("quantity_delta", BigInteger, nullable=False),
    Column("reserved_delta", BigInteger, nullable=False),
    Column("moved_delta", BigInteger, nullable=False, default=0),
    Column("quantity_after", BigInteger, nullable=False),
    Column("reserved_after", BigInteger, nullable=False),
    Column("channel", Text, nullable=False, default=""),
    Column("order_id", Text, nullable=False, default=""),
    Column("line_id", Text, nullable=False, default=""),
    Column("reference", Text, nullable=False, default=""),  # receipt id, import id, poll window
    Column("reason", Text, nullable=False, default=""),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("applied_at", UtcDateTime, nullable=False),
    Column("run_id", Text, nullable=False, default=""),
    Index("ix_stock_ledger_sku_sequence", "sku", "sequence"),
)

# The totals of each order line and what of them is booked; `sku` is NULL while the line resolves to no listing
# (an open case), and stays what it was first booked on. `ignored_reason` says why a line has no effect.
order_lines = Table(
    "order_lines",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("order_id", Text, primary_key=True),
    Column("line_id", Text, primary_key=True),
    Column("sku", Text),
    Column("level_id", BigInteger),
    Column("platform_sku", Text, nullable=False, default=""),
    Column("item_id", Text, nullable=False, default=""),
    Column("variant_id", Text, nullable=False, default=""),
    Column("revision", BigInteger, nullable=False),
    Column("ordered", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("shipped", BigInteger, nullable=False),
    Column("restocked", BigInteger, nullable=False),
    Column("shipments", JSON, nullable=False),  # [[units, ISO time], …] for a line that is booked later
    Column("restocks", JSON, nullable=False),
    Column(
        "bookings", BigInteger, nullable=False, default=0
    ),  # documents that were booked: part of the entries' event ids
    Column("booked_reserved", BigInteger, nullable=False, default=0),
    Column("booked_shipped", BigInteger, nullable=False, default=0),
    Column("booked_restocked", BigInteger, nullable=False, default=0),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("ignored_reason", Text, nullable=False, default=""),
    Index("ix_order_lines_sku", "sku"),
    Index(
        "ix_order_lines_unresolved",
        "channel",
        "platform_sku",
        sqlite_where=Column("sku").is_(None),
        postgresql_where=Column("sku").is_(None),
    ),
    sqlite_with_rowid=False,
)

# Each count that was taken into force, with what it says of itself (DESIGN: counts and imports say what they are).
stock_counts = Table(
    "stock_counts",
    metadata,
    Column("id", Identity, primary_key=True, autoincrement=False),
    Column("sku", Text, nullable=False),
    Column("source", Text, nullable=False),  # channel or import id
    Column("basis", Text, nullable=False),  # on_hand | available
    Column("quantity", BigInteger, nullable=False),
    Column("as_of", UtcDateTime, nullable=False),
    Column("version", BigInteger, nullable=False, default=0),
    Column("contains", JSON, nullable=False),  # names of the channels whose orders it contains
    Column("lag_seconds", Float, nullable=False, default=0.0),
    Column("sequence", BigInteger, nullable=False),
    Index("ix_stock_counts_sku", "sku"),
)

# One row a channel: the rules in force, its life cycle, and what is known of it. `channels.yaml` feeds the first part.
channels = Table(
    "channels",
    metadata,
    Column("name", Text, primary_key=True),
    Column("platform", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("status", Text, nullable=False, default="active"),  # active | paused | retired
    Column("status_reason", Text, nullable=False, default=""),
    Column("moves_own_number", Boolean, nullable=False, default=True),
    Column("buffer", BigInteger, nullable=False, default=0),
    Column("percent", BigInteger, nullable=False, default=100),
    Column("minimum", BigInteger, nullable=False, default=0),
    Column("maximum", BigInteger),
    Column("dead_band", BigInteger, nullable=False, default=0),
    Column("low_stock", BigInteger, nullable=False, default=5),  # at or below it no dead band holds
    Column("zeroed_share", Float, nullable=False, default=0.2),  # limits of a change: see settings.ChangeLimits
    Column("raised_share", Float, nullable=False, default=0.5),
    Column("moved_minimum", BigInteger, nullable=False, default=20),
    Column("rules_revision", BigInteger, nullable=False, default=0),
    Column(
        "recomputed_revision", BigInteger, nullable=False, default=0
    ),  # below rules_revision: levels are still to be recomputed
    Column(
        "contains_orders_of", JSON, nullable=False, default=list
    ),  # of a channel that sends counts: see stock_counts
    Column("count_lag_seconds", Float, nullable=False, default=0.0),
    Column("push_approved_at", UtcDateTime),  # nothing is written before the first push is approved
    Column("push_approved_by", Text),
    Column("cut_over_at", UtcDateTime),  # orders created before have no effect
    Column("orders_known_until", UtcDateTime),  # end of the last order window that was applied
    Column("stopped_reason", Text, nullable=False, default=""),  # dead credentials: no attempt until checked again
    Column("stopped_at", UtcDateTime),
    Column("last_push_at", UtcDateTime),
    Column("last_success_at", UtcDateTime),
)

# One row a listing (a channel's offer of one SKU); `platform_name` holds the channel's name.
platform_mapping = Table(
    "platform_mapping",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("central_sku", Text, nullable=False),
    Column("platform_name", Text, nullable=False),
    Column("platform_sku", Text, nullable=False, default=""),
    Column("platform_item_id", Text, nullable=False),
    Column("platform_location_id", Text, nullable=False, default=""),
    Column("platform_variant_id", Text, nullable=False, default=""),
    Column("status", Text, nullable=False, default="active"),  # active paused needs_review excluded retired
    Column("status_reason", Text, nullable=False, default=""),
    Column("buffer", BigInteger),  # NULL: the channel's rule holds
    Column("percent", BigInteger),
    Column("minimum", BigInteger),
    Column("maximum", BigInteger),
    Column("dead_band", BigInteger),
    Column("rules_revision", BigInteger, nullable=False, default=0),
    Column("level_id", BigInteger, ForeignKey("inventory_levels.id"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("platform_name", "platform_item_id", "platform_location_id", "platform_sku"),
    Index("ix_platform_mapping_central_sku", "central_sku"),
    Index("ix_platform_mapping_level_id", "level_id"),
    Index("ix_platform_mapping_variant", "platform_name", "platform_variant_id"),
    Index("ix_platform_mapping_platform_sku", "platform_name", "platform_sku"),
)

NOTHING_KNOWN = -1  # of `effective_quantity`: no number of ours was ever acknowledged or accepted

# One row a level. Every number stands beside its basis (ledger sequence, rules revision) and time.
#   shared               whether several listings point at it
#   desired              what it should show now, kept current in the transaction that changes the stock
#   effective_quantity   what is on its way (accepted), else acknowledged: a change is measured against it
#   expected             acknowledged, less own sales booked since (NULL: nothing known)
#   uncertain            why the platform's number may differ from ours (NULL: certain)
#   linger_until         until then a write whose answer was lost may still land
#   touched              counts attempts and own-channel events; a reading is valid only if it stood still meanwhile
#   held_*               a level that the breaker holds: its number when held, less what was sold since
inventory_levels = Table(
    "inventory_levels",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("location_id", Text, nullable=False, default=""),
    Column("central_sku", Text, nullable=False),
    Column("shared", Boolean, nullable=False, default=False),
    Column("pushable", Boolean, nullable=False, default=True),
    Column("stopped_reason", Text, nullable=False, default=""),
    Column("desired", BigInteger, nullable=False, default=0),
    Column("desired_sequence", BigInteger, nullable=False, default=0),
    Column("rules_revision", BigInteger, nullable=False, default=0),
    Column("out_of_step_since", UtcDateTime),
    Column("effective_quantity", BigInteger, nullable=False, default=NOTHING_KNOWN),
    Column("expected", BigInteger),
    Column("attempt", BigInteger, nullable=False, default=0),
    Column("sent_quantity", BigInteger),
    Column("sent_at", UtcDateTime),
    Column("sent_sequence", BigInteger),
    Column("accepted_quantity", BigInteger),
    Column("accepted_handle", Text),
    Column("accepted_check_after", UtcDateTime),
    Column("acknowledged_quantity", BigInteger),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_attempt", BigInteger),
    Column("observed_quantity", BigInteger),
    Column("observed_at", UtcDateTime),
    Column("uncertain", Text),
    Column("uncertain_since", UtcDateTime),
    Column("linger_until", UtcDateTime),
    Column("touched", BigInteger, nullable=False, default=0),
    Column("due_at", UtcDateTime, nullable=False),
    Column("claim", Text),
    Column("claim_until", UtcDateTime),
    Column("claim_worker", Text),
    Column("failures", BigInteger, nullable=False, default=0),
    Column("last_error", Text, nullable=False, default=""),
    Column("held_quantity", BigInteger),
    Column("held_sequence", BigInteger),
    Column("held_desired", BigInteger),
    Column("held_reason", Text, nullable=False, default=""),
    UniqueConstraint("channel", "item_id", "location_id"),
    Index("ix_inventory_levels_central_sku", "central_sku"),
)


Index(
    "ix_inventory_levels_shared",
    inventory_levels.c.central_sku,
    sqlite_where=inventory_levels.c.shared.is_(True),
    postgresql_where=inventory_levels.c.shared.is_(True),
)


# Each push looks for claims that were left behind: few among millions.
Index(
    "ix_inventory_levels_claims",
    inventory_levels.c.channel,
    sqlite_where=inventory_levels.c.claim.is_not(None),
    postgresql_where=inventory_levels.c.claim.is_not(None),
)


# What the breaker holds: none on most days, and each cycle counts it.
Index(
    "ix_inventory_levels_held",
    inventory_levels.c.channel,
    sqlite_where=inventory_levels.c.held_quantity.is_not(None),
    postgresql_where=inventory_levels.c.held_quantity.is_not(None),
)


def is_change() -> Any:
    """The condition of the work queue: a pushable level that is out of step or uncertain."""
    level = inventory_levels.c
    return level.pushable.is_(True) & or_(level.desired != level.effective_quantity, level.uncertain.is_not(None))


# Zeros and low stock go first, so the queue is ordered by what the level should show. The columns behind are what decides
# whether and how a change is attempted: with them, finding 2,500 changes reads no row of a table of millions.
Index(
    "ix_inventory_levels_changes",
    inventory_levels.c.channel,
    inventory_levels.c.desired,
    inventory_levels.c.due_at,
    inventory_levels.c.claim,
    inventory_levels.c.uncertain,
    inventory_levels.c.expected,
    inventory_levels.c.effective_quantity,
    inventory_levels.c.pushable,
    inventory_levels.c.central_sku,
    sqlite_where=is_change(),
    postgresql_where=is_change(),
)

# Append-only: every attempt, reading and repair with its outcome; `platform` holds the channel's name.
sync_logs = Table(
    "sync_logs",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("timestamp", UtcDateTime, nullable=False),
    Column("platform", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("action", Text, nullable=False),  # push read drift take_over hold approve
    Column("old_quantity", BigInteger),
    Column("new_quantity", BigInteger),
    Column("status", Text, nullable=False),  # acknowledged accepted rejected not_sent unknown observed
    Column("error_message", Text, nullable=False, default=""),
    Column("code", Text, nullable=False, default=""),
    Column("level_id", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False, default=0),
    Column("ledger_sequence", BigInteger, nullable=False, default=0),
    Column("rules_revision", BigInteger, nullable=False, default=0),
    Column("started_at", UtcDateTime),
    Column("idempotency_key", Text, nullable=False, default=""),
    Column("run_id", Text, nullable=False, default=""),
    Index("ix_sync_logs_level_id", "level_id", "id"),
    Index("ix_sync_logs_sku", "sku", "id"),
    Index("ix_sync_logs_timestamp", "timestamp"),
)

# One row a delivery, written in the ledger's transaction: two runs over one file change nothing.
deliveries = Table(
    "deliveries",
    metadata,
    Column("receipt_id", Text, primary_key=True),  # <segment>:<index>
    Column("channel", Text, nullable=False),
    Column("topic", Text, nullable=False, default=""),
    Column("received_at", UtcDateTime, nullable=False),
    Column("applied_at", UtcDateTime, nullable=False),
    Column("state", Text, nullable=False),  # applied | quarantined | held
    Column("reason", Text, nullable=False, default=""),
    Column("run_id", Text, nullable=False, default=""),
    sqlite_with_rowid=False,
)

# Orders whose whole document must be asked of the platform before they can be booked.
unclear_orders = Table(
    "unclear_orders",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("order_id", Text, primary_key=True),
    Column("reason", Text, nullable=False, default=""),
    Column("since", UtcDateTime, nullable=False),
)

# Imports and held counts: what came, what it would do, who decided.
imports = Table(
    "imports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # inventory | mapping | counts | unknown (a file that could not be read)
    Column("file_name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("path", Text, nullable=False),  # the kept copy that an approval applies, from the imports folder
    Column("state", Text, nullable=False),  # applied | held | dropped | rejected
    Column("rows", Integer, nullable=False, default=0),
    Column("applied_rows", Integer, nullable=False, default=0),
    Column("rejected_rows", Integer, nullable=False, default=0),
    Column("summary", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Column("decided_by", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("run_id", Text, nullable=False, default=""),
)

# Append-only: what people and configuration changed (rules, status, mappings, approvals); its id is the rules revision.
operator_actions = Table(
    "operator_actions",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    Column("reason", Text, nullable=False, default=""),
)

# One reserved-time row a channel, shared by all processes: `ready_at` is when the bucket is full again,
# in seconds since the epoch, `blocked_until` what a throttled answer told us.
rate_limits = Table(
    "rate_limits",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("ready_at", Float, nullable=False, default=0.0),
    Column("blocked_until", Float, nullable=False, default=0.0),
)

# The last ledger sequence of each day in the configured time zone, fixed once when the day has ended.
daily_closings = Table(
    "daily_closings",
    metadata,
    Column("day", Text, primary_key=True),  # YYYY-MM-DD
    Column("sequence", BigInteger, nullable=False),
    Column("closed_at", UtcDateTime, nullable=False),
)

# One row a walk through all that a channel lists: the latest one that was believed (`ended_at` set), and one under way.
listing_walks = Table(
    "listing_walks",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("listings", BigInteger, nullable=False, default=0),
    Column("run_id", Text, nullable=False, default=""),
    Index("ix_listing_walks_channel", "channel"),
)

# What a walk saw; `position` is the platform's order. Several listings may share a level, and an item may have several
# levels. In the order of the levels, since nearly all questions ask for one: SQLite rather reads a whole walk by the primary
# key than a level of it by another index.
walked_listings = Table(
    "walked_listings",
    metadata,
    Column("walk_id", BigInteger, ForeignKey("listing_walks.id"), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("location_id", Text, nullable=False, default=""),
    Column("listing_id", Text, nullable=False, default=""),
    Column("variant_id", Text, nullable=False, default=""),
    Column("platform_sku", Text, nullable=False, default=""),
    Column("title", Text, nullable=False, default=""),
    Column("quantity", BigInteger),
    Column("problem", Text, nullable=False, default=""),
    PrimaryKeyConstraint("walk_id", "item_id", "location_id", "position"),
    Index("ix_walked_listings_position", "walk_id", "position"),
    Index("ix_walked_listings_platform_sku", "walk_id", "platform_sku"),
    sqlite_with_rowid=False,
)
