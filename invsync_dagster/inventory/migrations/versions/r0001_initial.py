"""The first schema: all tables of `inventory.tables`, and the triggers that keep the logs append-only."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite's rowid alias must be spelled INTEGER; PostgreSQL needs 64 bits.
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Texts compare by their code points on both databases; a server's own collation may follow its country.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_OPEN_ELSEWHERE = "ignored_reason = 'sold from a location that is not kept in step' AND ordered > shipped"

APPEND_ONLY = ("stock_ledger", "sync_logs", "operator_actions")


def upgrade() -> None:
    """Create the tables, their indexes and the triggers."""
    op.create_table(
        "alert_notices",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("cause", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("severity", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_notices")),
    )
    op.create_index("ix_alert_notices_target", "alert_notices", ["target", "state"], unique=False)
    op.create_table(
        "alerts",
        sa.Column("cause", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("severity", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("page", TEXT, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("gone_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recovered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("returns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cause", name=op.f("pk_alerts")),
    )
    op.create_table(
        "central_inventory",
        sa.Column("sku", TEXT, nullable=False),
        sa.Column("product_name", TEXT, nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("reserved_quantity", sa.BigInteger(), nullable=False),
        sa.Column("reserved_external", sa.BigInteger(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("last_updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("count_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("sku", name=op.f("pk_central_inventory")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "channels",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("platform", TEXT, nullable=False),
        sa.Column("environment", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("status_reason", TEXT, nullable=False),
        sa.Column("moves_own_number", sa.Boolean(), nullable=False),
        sa.Column("buffer", sa.BigInteger(), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.Column("minimum", sa.BigInteger(), nullable=False),
        sa.Column("maximum", sa.BigInteger(), nullable=True),
        sa.Column("dead_band", sa.BigInteger(), nullable=False),
        sa.Column("low_stock", sa.BigInteger(), nullable=False),
        sa.Column("zeroed_share", sa.Float(), nullable=False),
        sa.Column("raised_share", sa.Float(), nullable=False),
        sa.Column("moved_minimum", sa.BigInteger(), nullable=False),
        sa.Column("moved_window_minutes", sa.BigInteger(), nullable=False),
        sa.Column("rules_revision", sa.BigInteger(), nullable=False),
        sa.Column("recomputed_revision", sa.BigInteger(), nullable=False),
        sa.Column("contains_orders_of", sa.JSON(), nullable=False),
        sa.Column("count_lag_seconds", sa.Float(), nullable=False),
        sa.Column("restock", TEXT, nullable=False),
        sa.Column("push_approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("push_approved_by", TEXT, nullable=True),
        sa.Column("cut_over_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("orders_known_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped_reason", TEXT, nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recognised", TEXT, nullable=False),
        sa.Column("unanswered", sa.BigInteger(), nullable=False),
        sa.Column("unreachable_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unreachable_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clock_ahead", sa.Float(), nullable=False),
        sa.Column("last_push_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_problem", TEXT, nullable=False),
        sa.Column("last_delivery_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("subscribed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("silent_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_channels")),
    )
    op.create_table(
        "daily_closings",
        sa.Column("day", TEXT, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_daily_closings")),
    )
    op.create_table(
        "deliveries",
        sa.Column("receipt_id", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("topic", TEXT, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_deliveries")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "polled_lines",
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("line_id", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("ordered", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("shipped", sa.BigInteger(), nullable=False),
        sa.Column("restocked", sa.BigInteger(), nullable=False),
        sa.Column("written_off", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("told_at", "channel", "order_id", "line_id", name=op.f("pk_polled_lines")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "full_sync_batches",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("batch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("levels", sa.BigInteger(), nullable=False),
        sa.Column("drift", sa.BigInteger(), nullable=False),
        sa.Column("failed_rows", sa.BigInteger(), nullable=False),
        sa.Column("missing", sa.BigInteger(), nullable=False),
        sa.Column("problem", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("channel", "batch", name=op.f("pk_full_sync_batches")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "imports",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("file_name", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("applied_rows", sa.Integer(), nullable=False),
        sa.Column("rejected_rows", sa.Integer(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_table(
        "inventory_levels",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("item_id", TEXT, nullable=False),
        sa.Column("location_id", TEXT, nullable=False),
        sa.Column("central_sku", TEXT, nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("pushable", sa.Boolean(), nullable=False),
        sa.Column("stopped_reason", TEXT, nullable=False),
        sa.Column("desired", sa.BigInteger(), nullable=False),
        sa.Column("desired_sequence", sa.BigInteger(), nullable=False),
        sa.Column("rules_revision", sa.BigInteger(), nullable=False),
        sa.Column("out_of_step_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("effective_quantity", sa.BigInteger(), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("sent_quantity", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_sequence", sa.BigInteger(), nullable=True),
        sa.Column("accepted_quantity", sa.BigInteger(), nullable=True),
        sa.Column("accepted_handle", TEXT, nullable=True),
        sa.Column("accepted_check_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("bulk_handle", TEXT, nullable=True),
        sa.Column("acknowledged_quantity", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_attempt", sa.BigInteger(), nullable=True),
        sa.Column("observed_quantity", sa.BigInteger(), nullable=True),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_whole_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("uncertain", TEXT, nullable=True),
        sa.Column("uncertain_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("linger_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("touched", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claim", TEXT, nullable=True),
        sa.Column("claim_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_worker", TEXT, nullable=True),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("last_error", TEXT, nullable=False),
        sa.Column("held_quantity", sa.BigInteger(), nullable=True),
        sa.Column("held_limit", sa.BigInteger(), nullable=True),
        sa.Column("held_zeroes", sa.Boolean(), nullable=True),
        sa.Column("held_sequence", sa.BigInteger(), nullable=True),
        sa.Column("held_desired", sa.BigInteger(), nullable=True),
        sa.Column("held_reason", TEXT, nullable=False),
        sa.Column("held_revision", sa.BigInteger(), nullable=True),
        sa.Column("held_dropped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inventory_levels")),
        sa.UniqueConstraint(
            "channel", "item_id", "location_id", name=op.f("uq_inventory_levels_channel_item_id_location_id")
        ),
    )
    op.create_index("ix_inventory_levels_central_sku", "inventory_levels", ["central_sku"], unique=False)
    op.create_index(
        "ix_inventory_levels_changes",
        "inventory_levels",
        [
            "channel",
            "desired",
            "due_at",
            "claim",
            "uncertain",
            "expected",
            "effective_quantity",
            "pushable",
            "central_sku",
        ],
        unique=False,
        sqlite_where=sa.text("pushable IS 1 AND ((desired = effective_quantity) IS 0 OR uncertain IS NOT NULL)"),
        postgresql_where=sa.text(
            "pushable IS true AND ((desired = effective_quantity) IS false OR uncertain IS NOT NULL)"
        ),
    )
    op.create_index(
        "ix_inventory_levels_places",
        "inventory_levels",
        ["channel", "location_id"],
        unique=False,
        sqlite_where=sa.text(
            "pushable IS 1 AND ((desired = effective_quantity) IS 0 OR uncertain IS NOT NULL) AND location_id != ''"
        ),
        postgresql_where=sa.text(
            "pushable IS true AND ((desired = effective_quantity) IS false OR uncertain IS NOT NULL) AND location_id != ''"
        ),
    )
    op.create_index(
        "ix_inventory_levels_claims",
        "inventory_levels",
        ["channel"],
        unique=False,
        sqlite_where=sa.text("claim IS NOT NULL"),
        postgresql_where=sa.text("claim IS NOT NULL"),
    )
    op.create_index(
        "ix_inventory_levels_bulk",
        "inventory_levels",
        ["channel", "bulk_handle"],
        unique=False,
        sqlite_where=sa.text("bulk_handle IS NOT NULL"),
        postgresql_where=sa.text("bulk_handle IS NOT NULL"),
    )
    op.create_index(
        "ix_inventory_levels_held",
        "inventory_levels",
        ["channel"],
        unique=False,
        sqlite_where=sa.text("held_quantity IS NOT NULL"),
        postgresql_where=sa.text("held_quantity IS NOT NULL"),
    )
    op.create_index(
        "ix_inventory_levels_stopped",
        "inventory_levels",
        ["channel"],
        unique=False,
        sqlite_where=sa.text("pushable IS 0"),
        postgresql_where=sa.text("pushable IS false"),
    )
    op.create_index(
        "ix_inventory_levels_shared",
        "inventory_levels",
        ["central_sku"],
        unique=False,
        sqlite_where=sa.text("shared IS 1"),
        postgresql_where=sa.text("shared IS true"),
    )
    # Few levels are out of step; that PostgreSQL can't know from what it knows of the two columns.
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE STATISTICS st_inventory_levels_steps ON (desired = effective_quantity) FROM inventory_levels"
        )
    op.create_table(
        "moved_levels",
        sa.Column("level_id", sa.BigInteger(), nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("direction", TEXT, nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("level_id", name=op.f("pk_moved_levels")),
    )
    op.create_index("ix_moved_levels_channel", "moved_levels", ["channel", "at", "direction"], unique=False)
    op.create_table(
        "source_moves",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("zeroed", sa.BigInteger(), nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("stocked", sa.BigInteger(), nullable=True),
        sa.Column("units", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("minute", "source", name=op.f("pk_source_moves")),
    )
    op.create_table(
        "operator_actions",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator_actions")),
    )
    op.create_table(
        "order_lines",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("line_id", TEXT, nullable=False),
        sa.Column("sku", TEXT, nullable=True),
        sa.Column("level_id", sa.BigInteger(), nullable=True),
        sa.Column("platform_sku", TEXT, nullable=False),
        sa.Column("item_id", TEXT, nullable=False),
        sa.Column("variant_id", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("ordered", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("shipped", sa.BigInteger(), nullable=False),
        sa.Column("restocked", sa.BigInteger(), nullable=False),
        sa.Column("written_off", sa.BigInteger(), nullable=False),
        sa.Column("shipments", sa.JSON(), nullable=False),
        sa.Column("restocks", sa.JSON(), nullable=False),
        sa.Column("write_offs", sa.JSON(), nullable=False),
        sa.Column("bookings", sa.BigInteger(), nullable=False),
        sa.Column("booked_reserved", sa.BigInteger(), nullable=False),
        sa.Column("booked_shipped", sa.BigInteger(), nullable=False),
        sa.Column("booked_restocked", sa.BigInteger(), nullable=False),
        sa.Column("declined", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ignored_reason", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("channel", "order_id", "line_id", name=op.f("pk_order_lines")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_order_lines_sku", "order_lines", ["sku"], unique=False)
    op.create_index(
        "ix_order_lines_unresolved",
        "order_lines",
        ["channel", "platform_sku"],
        unique=False,
        sqlite_where=sa.text("sku IS NULL"),
        postgresql_where=sa.text("sku IS NULL"),
    )
    op.create_index(
        "ix_order_lines_elsewhere",
        "order_lines",
        ["ignored_reason"],
        unique=False,
        sqlite_where=sa.text(_OPEN_ELSEWHERE),
        postgresql_where=sa.text(_OPEN_ELSEWHERE),
    )
    op.create_table(
        "bulk_submissions",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("handle", TEXT, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("check_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("channel", "handle", name=op.f("pk_bulk_submissions")),
    )
    op.create_table(
        "bulk_readings",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("handle", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("check_after", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_bulk_readings")),
    )
    op.create_table(
        "rate_limits",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("ready_at", sa.Float(), nullable=False),
        sa.Column("blocked_until", sa.Float(), nullable=False),
        sa.Column("pace", TEXT, nullable=False),
        sa.Column("refusals", sa.BigInteger(), nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_rate_limits")),
    )
    op.create_table(
        "stock_counts",
        sa.Column("id", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("sku", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("basis", TEXT, nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("contains", sa.JSON(), nullable=False),
        sa.Column("lag_seconds", sa.Float(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stock_counts")),
    )
    op.create_index("ix_stock_counts_sku", "stock_counts", ["sku"], unique=False)
    op.create_table(
        "stock_ledger",
        sa.Column("sequence", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("sku", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("quantity_delta", sa.BigInteger(), nullable=False),
        sa.Column("reserved_delta", sa.BigInteger(), nullable=False),
        sa.Column("moved_delta", sa.BigInteger(), nullable=False),
        sa.Column("quantity_after", sa.BigInteger(), nullable=False),
        sa.Column("reserved_after", sa.BigInteger(), nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("line_id", TEXT, nullable=False),
        sa.Column("reference", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_stock_ledger")),
        sa.UniqueConstraint("event_id", name=op.f("uq_stock_ledger_event_id")),
    )
    op.create_index("ix_stock_ledger_sku_sequence", "stock_ledger", ["sku", "sequence"], unique=False)
    op.create_table(
        "subscription_mends",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("topic", TEXT, nullable=False),
        sa.Column("mended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mended_before_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("channel", "topic", name=op.f("pk_subscription_mends")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sync_logs",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("platform", TEXT, nullable=False),
        sa.Column("sku", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("old_quantity", sa.BigInteger(), nullable=True),
        sa.Column("new_quantity", sa.BigInteger(), nullable=True),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("error_message", TEXT, nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("level_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("ledger_sequence", sa.BigInteger(), nullable=False),
        sa.Column("rules_revision", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idempotency_key", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_logs")),
    )
    op.create_index("ix_sync_logs_level_id", "sync_logs", ["level_id", "id"], unique=False)
    op.create_index("ix_sync_logs_sku", "sync_logs", ["sku", "id"], unique=False)
    op.create_index("ix_sync_logs_timestamp", "sync_logs", ["timestamp"], unique=False)
    op.create_table(
        "unclear_orders",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("channel", "order_id", name=op.f("pk_unclear_orders")),
    )
    op.create_table(
        "platform_mapping",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("central_sku", TEXT, nullable=False),
        sa.Column("platform_name", TEXT, nullable=False),
        sa.Column("platform_sku", TEXT, nullable=False),
        sa.Column("platform_item_id", TEXT, nullable=False),
        sa.Column("platform_location_id", TEXT, nullable=False),
        sa.Column("platform_variant_id", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("status_reason", TEXT, nullable=False),
        sa.Column("buffer", sa.BigInteger(), nullable=True),
        sa.Column("percent", sa.BigInteger(), nullable=True),
        sa.Column("percent_before", sa.BigInteger(), nullable=True),
        sa.Column("minimum", sa.BigInteger(), nullable=True),
        sa.Column("maximum", sa.BigInteger(), nullable=True),
        sa.Column("dead_band", sa.BigInteger(), nullable=True),
        sa.Column("rules_revision", sa.BigInteger(), nullable=False),
        sa.Column("level_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["level_id"], ["inventory_levels.id"], name=op.f("fk_platform_mapping_level_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_platform_mapping")),
        sa.UniqueConstraint(
            "platform_name",
            "platform_item_id",
            "platform_location_id",
            "platform_sku",
            name=op.f("uq_platform_mapping_platform_name_platform_item_id_platform_location_id_platform_sku"),
        ),
    )
    op.create_index("ix_platform_mapping_central_sku", "platform_mapping", ["central_sku"], unique=False)
    op.create_index("ix_platform_mapping_level_id", "platform_mapping", ["level_id"], unique=False)
    op.create_index(
        "ix_platform_mapping_not_active",
        "platform_mapping",
        ["platform_name", "status"],
        unique=False,
        sqlite_where=sa.text("status != 'active'"),
        postgresql_where=sa.text("status != 'active'"),
    )
    op.create_index(
        "ix_platform_mapping_platform_sku", "platform_mapping", ["platform_name", "platform_sku"], unique=False
    )
    op.create_index(
        "ix_platform_mapping_variant", "platform_mapping", ["platform_name", "platform_variant_id"], unique=False
    )

    installation = op.create_table(
        "installation",
        sa.Column("id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.bulk_insert(installation, [{"id": secrets.token_hex(8)}])

    for name in APPEND_ONLY:
        _refuse_changes(name)


def _refuse_changes(name: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION {name}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{name} is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {name}_is_append_only()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {name}_no_{change.lower()} BEFORE {change} ON {name}"
            f" BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
        )
