"""The names that people and other rooms hold on to: location, groups, asset keys, tags, and who owns what."""

from __future__ import annotations

from typing import Final

import dagster as dg

from invsync_dagster.channels import Channel
from invsync_dagster.platforms.registry import VENDORS

# Also in workspace.yaml and pyproject.toml: a different name orphans the state of schedules and sensors.
LOCATION: Final = "invsync"
OWNERS: Final = ["team:stock"]

STOCK: Final = "stock"
PUSH: Final = "push"
RECONCILIATION: Final = "reconciliation"
UPKEEP: Final = "upkeep"

WEBHOOK_FILES: Final = dg.AssetKey("webhook_files")
IMPORT_FILES: Final = dg.AssetKey("import_files")
IMPORTS: Final = dg.AssetKey("imports")
LEDGER: Final = dg.AssetKey("stock_ledger")
SNAPSHOT: Final = dg.AssetKey("inventory_snapshot")
CHANGES: Final = dg.AssetKey("inventory_changes")
DAILY_SNAPSHOT: Final = dg.AssetKey("daily_snapshot")
SYNC_STATUS: Final = dg.AssetKey("sync_status")
DATABASE_BACKUP: Final = dg.AssetKey("database_backup")
HOUSEKEEPING: Final = dg.AssetKey("housekeeping")

# The jobs that others than their own room look for.
INCREMENTAL: Final = "incremental"
WEBHOOKS: Final = "webhooks"
FORGET_ROUTINE_RUNS: Final = "forget_routine_runs"
FULL_SYNC: Final = "full_sync"
RETRY_FAILED_BATCHES: Final = "retry_failed_batches"

# The check that each channel's pushes carry.
PUSHED: Final = "pushed"

# Run tags. The Runs page filters by them, and shows the user beside the run.
USER: Final = "user"
CAUSE: Final = "invsync/cause"
WEBHOOK: Final = "webhook"
SCHEDULE: Final = "schedule"
WORK_LEFT: Final = "work_left"
IMPORT: Final = "import"
GIVEN_SKUS: Final = "given_skus"
BY_HAND: Final = "by_hand"
REASON: Final = "invsync/reason"
# On runs that may take hours: dagster.yaml limits how many of them there are at once.
LONG: Final = "invsync/long"


def platform_kinds(channel: Channel) -> set[str]:
    """The kinds of a channel's assets. A platform that we don't know is none: it may be any text."""
    return {channel.platform} & VENDORS.keys()


def platform_tags(channel: Channel) -> dict[str, str]:
    """The tags of a channel's assets, for selections such as `tag:platform=shopify`."""
    tags = {"environment": str(channel.environment)}
    if channel.platform in VENDORS:
        tags["platform"] = channel.platform
    return tags


def push_key(channel: str) -> dg.AssetKey:
    """The asset of a channel's pushes."""
    return dg.AssetKey(["push_results", channel])


def full_sync_key(channel: str) -> dg.AssetKey:
    """The asset of a channel's full runs."""
    return dg.AssetKey(["full_sync", channel])


def listings_key(channel: str) -> dg.AssetKey:
    """The asset of what a channel lists."""
    return dg.AssetKey(["listings", channel])


def subscriptions_key(channel: str) -> dg.AssetKey:
    """The asset of what a channel notifies us of."""
    return dg.AssetKey(["subscriptions", channel])


def order_count_key(channel: str) -> dg.AssetKey:
    """The asset of a channel's daily count of orders."""
    return dg.AssetKey(["order_count", channel])


def failed_channel_tag(channel: str) -> str:
    """The run tag (its value is `true`) of a run in which the channel failed."""
    return f"invsync/failed_channel/{channel}"
