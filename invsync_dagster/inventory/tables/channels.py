"""The tables of the channels: their rules and limits, their listings and levels, and what a walk saw."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    literal_column,
)

from invsync_dagster.inventory.tables.columns import Identity, Text, UtcDateTime, metadata

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
    Column("moved_window_minutes", BigInteger, nullable=False, default=60),
    Column("rules_revision", BigInteger, nullable=False, default=0),
    Column(
        "recomputed_revision", BigInteger, nullable=False, default=0
    ),  # below rules_revision: levels are still to be recomputed
    Column(
        "contains_orders_of", JSON, nullable=False, default=list
    ),  # of a channel that sends counts: see stock_counts
    Column("count_lag_seconds", Float, nullable=False, default=0.0),
    Column("restock", Text, nullable=False, default="as_told"),  # as_told | never | always: see orders.Restock
    Column("push_approved_at", UtcDateTime),  # nothing is written before the first push is approved
    Column("push_approved_by", Text),
    Column("cut_over_at", UtcDateTime),  # orders created before have no effect
    Column("orders_known_until", UtcDateTime),  # end of the last order window that was applied
    Column("stopped_reason", Text, nullable=False, default=""),  # dead credentials: no attempt until checked again
    Column("stopped_at", UtcDateTime),
    Column("recognised", Text, nullable=False, default=""),  # where its shop was: sync/recognition.py
    Column("unanswered", BigInteger, nullable=False, default=0),  # calls in a row that the host did not answer
    Column("unreachable_since", UtcDateTime),  # cut out since then: no call until `unreachable_until`, and then one
    Column("unreachable_until", UtcDateTime),
    Column("clock_ahead", Float, nullable=False, default=0.0),  # seconds of the host before ours, 0 if it matters not
    Column("last_push_at", UtcDateTime),
    Column("last_success_at", UtcDateTime),
    Column("last_problem", Text, nullable=False, default=""),  # why the last push failed as a whole; "" where it didn't
    Column("last_delivery_at", UtcDateTime),  # when the last delivery that was applied had come
    Column("subscribed_at", UtcDateTime),  # from then on deliveries are expected (NULL: nothing is subscribed to)
    Column("silent_since", UtcDateTime),  # the first order or count since then that no delivery told of
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
    Column("percent_before", BigInteger),  # NULL: the item's only location; see inventory/shares.py
    Column("minimum", BigInteger),
    Column("maximum", BigInteger),
    Column("dead_band", BigInteger),
    Column("rules_revision", BigInteger, nullable=False, default=0),
    Column("level_id", BigInteger, ForeignKey("inventory_levels.id"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # What `listings.listing_key` says.
    Index(
        "ix_platform_mapping_listing",
        "platform_name",
        "platform_item_id",
        "platform_location_id",
        "platform_sku",
        literal_column(
            "(CASE WHEN platform_location_id = '' AND platform_sku = '' THEN platform_variant_id ELSE '' END)"
        ),
        unique=True,
    ),
    Index("ix_platform_mapping_central_sku", "central_sku"),
    Index("ix_platform_mapping_level_id", "level_id"),
    Index("ix_platform_mapping_variant", "platform_name", "platform_variant_id"),
    Index("ix_platform_mapping_platform_sku", "platform_name", "platform_sku"),
)


def is_not_active() -> Any:
    """The condition of a listing that isn't active. Not by a parameter: SQLite would not find the index below by it."""
    return platform_mapping.c.status != literal_column("'active'")


# Paused, in review, excluded, retired: few among millions, and counted at every look at the status.
Index(
    "ix_platform_mapping_not_active",
    platform_mapping.c.platform_name,
    platform_mapping.c.status,
    sqlite_where=is_not_active(),
    postgresql_where=is_not_active(),
)

# Of `effective_quantity`: no number of ours was ever acknowledged or accepted; the channel has no such level yet, and the next
# write makes it.
NOTHING_KNOWN = -1
NOT_THERE = -2

# One row a level. Every number stands beside its basis (ledger sequence, rules revision) and time.
#   shared               whether several listings point at it
#   desired              what it should show now, kept current in the transaction that changes the stock
#   effective_quantity   what is on its way (accepted), else acknowledged: a change is measured against it
#   expected             acknowledged, less own sales booked since (NULL: nothing known)
#   uncertain            why the platform's number may differ from ours (NULL: certain)
#   linger_until         until then a write whose answer was lost may still land
#   moved_at             when an own sale, cancel or restock was booked last
#   touched              counts attempts and own-channel events; a reading is valid only if it stood still meanwhile
#   held_*               a level that the breaker holds: its number when held, less what was sold since. `held_revision` is the
#                        action that held it, and names the hold; `held_dropped_at`: a person decided that it stays so
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
    Column("bulk_handle", Text),
    Column("acknowledged_quantity", BigInteger),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_attempt", BigInteger),
    Column("observed_quantity", BigInteger),
    Column("observed_at", UtcDateTime),
    # Since when is known what the platform tells of it level by level (eBay: of its offers), NULL where it isn't.
    Column("read_whole_at", UtcDateTime),
    Column("uncertain", Text),
    Column("uncertain_since", UtcDateTime),
    Column("linger_until", UtcDateTime),
    Column("moved_at", UtcDateTime),
    Column("touched", BigInteger, nullable=False, default=0),
    Column("due_at", UtcDateTime, nullable=False),
    Column("claim", Text),
    Column("claim_until", UtcDateTime),
    Column("claim_worker", Text),
    Column("failures", BigInteger, nullable=False, default=0),
    Column("last_error", Text, nullable=False, default=""),
    Column("held_quantity", BigInteger),
    Column("held_limit", BigInteger),
    Column("held_zeroes", Boolean),
    Column("held_sequence", BigInteger),
    Column("held_desired", BigInteger),
    Column("held_reason", Text, nullable=False, default=""),
    Column("held_revision", BigInteger),
    Column("held_dropped_at", UtcDateTime),
    UniqueConstraint("channel", "item_id", "location_id"),
    Index("ix_inventory_levels_central_sku", "central_sku"),
)


Index(
    "ix_inventory_levels_shared",
    inventory_levels.c.central_sku,
    sqlite_where=inventory_levels.c.shared.is_(True),
    postgresql_where=inventory_levels.c.shared.is_(True),
)


# The levels of what is paused or in review: the status counts them.
Index(
    "ix_inventory_levels_stopped",
    inventory_levels.c.channel,
    sqlite_where=inventory_levels.c.pushable.is_(False),
    postgresql_where=inventory_levels.c.pushable.is_(False),
)

# What the breaker holds: none on most days, and each cycle counts it.
Index(
    "ix_inventory_levels_held",
    inventory_levels.c.channel,
    sqlite_where=inventory_levels.c.held_quantity.is_not(None),
    postgresql_where=inventory_levels.c.held_quantity.is_not(None),
)


# What was handed in by a bulk lane and has no report yet; the levels in it carry its handle (`bulk_handle`). `rows` is 0 once
# it was given up: no level waits for it any more.
bulk_submissions = Table(
    "bulk_submissions",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("handle", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("submitted_at", UtcDateTime, nullable=False),
    Column("check_after", UtcDateTime, nullable=False),
    Column("run_id", Text, nullable=False, default=""),
)

# The reading of all levels that a channel's latest full run asked for in bulk, if it did; `state` as `BulkState` says.
bulk_readings = Table(
    "bulk_readings",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("handle", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("check_after", UtcDateTime, nullable=False),
)

# One reserved-time row a budget, shared by all processes: `ready_at` is when the bucket is full again, in seconds since the
# epoch, `blocked_until` what a throttled answer told us, in the words `why`. `refusals`: how many in a row told no time.
rate_limits = Table(
    "rate_limits",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("ready_at", Float, nullable=False, default=0.0),
    Column("blocked_until", Float, nullable=False, default=0.0),
    Column("pace", Text, nullable=False, default=""),  # what the platform learned of its host: contract.Paced
    Column("refusals", BigInteger, nullable=False, default=0),
    Column("why", Text, nullable=False, default=""),
)

# One row a batch of a channel's full runs: what came of it the last time. Dagster has the rest, and keeps no run for good.
full_sync_batches = Table(
    "full_sync_batches",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", Text, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("levels", BigInteger, nullable=False),
    Column("drift", BigInteger, nullable=False),
    Column("failed_rows", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),  # "" where it came to its end
    sqlite_with_rowid=False,
)

# One row a kind of notification that we have subscribed to, or switched on again: the last two times. A platform that drops
# one again and again is mended hourly, and somebody must be told.
subscription_mends = Table(
    "subscription_mends",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("mended_at", UtcDateTime),  # NULL: it was set up, and held since
    Column("mended_before_at", UtcDateTime),
    sqlite_with_rowid=False,
)

# One row a walk through all that a channel lists: the latest one that was believed (`ended_at` set), and one under way, or
# stopped before its end: before the page of `cursor`, or ("") behind the last one. `address`: where the channel's settings led.
listing_walks = Table(
    "listing_walks",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False, default=""),
    Column("began_at", UtcDateTime, nullable=False),
    Column("went_on_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("listings", BigInteger, nullable=False, default=0),
    Column("cursor", Text),
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
    Index("ix_walked_listings_listing", "walk_id", "listing_id"),
    sqlite_with_rowid=False,
)
