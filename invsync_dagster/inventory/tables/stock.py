"""The tables of the stock itself: balances, the ledger, what orders booked, counts, where days ended, and whose it is."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Table, text

from invsync_dagster.inventory.tables.columns import Identity, Text, UtcDateTime, metadata

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
    Column("kind", Text, nullable=False),  # reserve release ship restock return undo count import adopt
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

# Of `ignored_reason`: a location ships it that isn't kept in step. A document may name another location.
ELSEWHERE = "sold from a location that is not kept in step"
OPEN_ELSEWHERE = text(f"ignored_reason = '{ELSEWHERE}' AND ordered > shipped")

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
    Column(
        "written_off", BigInteger, nullable=False, default=0
    ),  # refunded after shipping, not put back by the platform
    Column("shipments", JSON, nullable=False),  # [[units, ISO time], …] for a line that is booked later
    Column("restocks", JSON, nullable=False),
    Column("write_offs", JSON, nullable=False, default=list),
    Column(
        "bookings", BigInteger, nullable=False, default=0
    ),  # documents that were booked: part of the entries' event ids
    Column("booked_reserved", BigInteger, nullable=False, default=0),
    Column("booked_shipped", BigInteger, nullable=False, default=0),
    Column("booked_restocked", BigInteger, nullable=False, default=0),
    Column("declined", BigInteger, nullable=False, default=0),  # of restocked and written off: not put back, by policy
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
    # Each change of the mapping looks for those of its listings: few among all that were ever left out.
    Index(
        "ix_order_lines_elsewhere",
        "ignored_reason",
        sqlite_where=OPEN_ELSEWHERE,
        postgresql_where=OPEN_ELSEWHERE,
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

# The last ledger sequence of each day in the configured time zone, fixed once when the day has ended.
daily_closings = Table(
    "daily_closings",
    metadata,
    Column("day", Text, primary_key=True),  # YYYY-MM-DD
    Column("sequence", BigInteger, nullable=False),
    Column("closed_at", UtcDateTime, nullable=False),
)

# One row: the id of the installation. Backups are taken without it, and a restore that ends puts it back, so that nobody works
# on a stock that isn't restored to its end (`inventory/installation.py`).
installation = Table(
    "installation",
    metadata,
    Column("id", Text, primary_key=True),
)
