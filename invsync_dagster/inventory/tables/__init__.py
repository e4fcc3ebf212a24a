"""The tables of the stock: their columns, keys, and indexes.

Times are UTC (`UtcDateTime`), quantities are units, sequences are positions in `stock_ledger`. Alembic migrations under
`inventory/migrations` create them; a test holds the two against each other. They are imported from here, so that `metadata`
has all of them wherever it is used.

Those that are only ever found by their key of texts are kept in its order (SQLite: `sqlite_with_rowid=False`): half the
look-ups.
"""

from __future__ import annotations

from invsync_dagster.inventory.tables.channels import (
    NOT_THERE,
    NOTHING_KNOWN,
    bulk_readings,
    bulk_submissions,
    channels,
    full_sync_batches,
    inventory_levels,
    is_not_active,
    listing_walks,
    platform_mapping,
    rate_limits,
    subscription_mends,
    walked_listings,
)
from invsync_dagster.inventory.tables.columns import UtcDateTime, metadata
from invsync_dagster.inventory.tables.records import (
    APPEND_ONLY,
    alert_notices,
    alerts,
    deliveries,
    imports,
    operator_actions,
    polled_lines,
    sync_logs,
    unclear_orders,
)
from invsync_dagster.inventory.tables.stock import (
    ELSEWHERE,
    OPEN_ELSEWHERE,
    central_inventory,
    daily_closings,
    installation,
    order_lines,
    stock_counts,
    stock_ledger,
)
from invsync_dagster.inventory.tables.windows import moved_levels, source_moves
from invsync_dagster.inventory.tables.work_queue import CHANGES, is_change, is_somewhere, work_queue

__all__ = [
    "APPEND_ONLY",
    "CHANGES",
    "ELSEWHERE",
    "NOTHING_KNOWN",
    "NOT_THERE",
    "OPEN_ELSEWHERE",
    "UtcDateTime",
    "alert_notices",
    "alerts",
    "bulk_readings",
    "bulk_submissions",
    "central_inventory",
    "channels",
    "daily_closings",
    "deliveries",
    "full_sync_batches",
    "imports",
    "installation",
    "inventory_levels",
    "is_change",
    "is_not_active",
    "is_somewhere",
    "listing_walks",
    "metadata",
    "moved_levels",
    "operator_actions",
    "order_lines",
    "platform_mapping",
    "polled_lines",
    "rate_limits",
    "source_moves",
    "stock_counts",
    "stock_ledger",
    "subscription_mends",
    "sync_logs",
    "unclear_orders",
    "walked_listings",
    "work_queue",
]
