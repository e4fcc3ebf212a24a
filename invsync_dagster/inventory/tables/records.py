"""The tables of what came and what was done: attempts, deliveries, unclear orders, imports, people's decisions, alerts."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, Table, false

from invsync_dagster.inventory.tables.columns import Identity, Text, UtcDateTime, metadata

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
    Index("ix_sync_logs_timestamp", "timestamp"),
)

# The tables whose rows the database refuses to change, by triggers of the first migration.
APPEND_ONLY = ("stock_ledger", "sync_logs", "operator_actions")

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

# What polls have told of order lines that changed them: totals and revision as stated, without which nothing would be left to
# hold the books against. `source` is what the ledger's entries of it have as their reference.
polled_lines = Table(
    "polled_lines",
    metadata,
    Column("told_at", UtcDateTime, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("order_id", Text, primary_key=True),
    Column("line_id", Text, primary_key=True),
    Column("source", Text, nullable=False),  # poll | order | cut_over
    Column("revision", BigInteger, nullable=False),
    Column("ordered", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("shipped", BigInteger, nullable=False),
    Column("restocked", BigInteger, nullable=False),
    Column("written_off", BigInteger, nullable=False),
    Column("revision_may_stay", Boolean, nullable=False, server_default=false()),
    sqlite_with_rowid=False,
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
    Column("state", Text, nullable=False),  # applied | held | dropped | rejected | undone
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

# One row a cause that was ever alerted: what is wrong, or was. It stays when it is over, so that one that comes and goes is
# told from one that is new.
#   gone_since    since when it hasn't been seen; it is over only after a while of that (alerts/book.py)
#   recovered_at  when it was declared over (NULL: open)
#   returns       how often it came back within a day
alerts = Table(
    "alerts",
    metadata,
    Column("cause", Text, primary_key=True),  # <kind>:<subject>
    Column("channel", Text, nullable=False, default=""),
    Column("severity", Text, nullable=False),  # warning | error
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("page", Text, nullable=False, default=""),  # of Dagster's UI, from its root
    Column("since", UtcDateTime, nullable=False),
    Column("gone_since", UtcDateTime),
    Column("recovered_at", UtcDateTime),
    Column("returns", BigInteger, nullable=False, default=0),
)

# What is to be told to each target (the environment variable that holds its address), and what became of it.
alert_notices = Table(
    "alert_notices",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("cause", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("kind", Text, nullable=False),  # opened | recovered
    Column("severity", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state", Text, nullable=False, default="waiting"),  # waiting | sent | given_up
    Column("due_at", UtcDateTime, nullable=False),
    Column("attempts", BigInteger, nullable=False, default=0),
    Column("sent_at", UtcDateTime),
    Column("last_error", Text, nullable=False, default=""),
    Index("ix_alert_notices_target", "target", "state"),
)
