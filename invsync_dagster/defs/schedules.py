"""The schedules: incremental cycles, full runs and backups as the settings say, the audit, the daily snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.defs import names
from invsync_dagster.defs.full_sync import batch_partitions
from invsync_dagster.defs.order_counts import counted_channels
from invsync_dagster.inventory.channels import is_registered, why_at_rest
from invsync_dagster.inventory.database import DatabaseGoneError, open_database
from invsync_dagster.settings import Home

BY_SCHEDULE = {names.CAUSE: names.SCHEDULE}
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def incremental_cron(minutes: int) -> str:
    """Return the cron of a cycle every `minutes` (1 to 60)."""
    return "0 * * * *" if minutes == 60 else f"*/{minutes} * * * *"


def build_schedules(home: Home, configuration: Configuration) -> list[dg.ScheduleDefinition]:
    """Return the schedules, stopped until somebody switches them on."""
    settings = configuration.settings
    zone = settings.time_zone
    schedules = [
        dg.ScheduleDefinition(
            name="incremental_schedule",
            job_name="incremental",
            cron_schedule=incremental_cron(settings.incremental_every_minutes),
            execution_timezone=zone,
            tags=BY_SCHEDULE,
            description="A cycle every few minutes, also without webhooks: polls orders, and tries again what failed.",
        ),
        dg.ScheduleDefinition(
            name="audit_schedule",
            job_name="audit",
            cron_schedule="30 * * * *",
            execution_timezone=zone,
            tags=BY_SCHEDULE,
            description="The checks that look at everything, hourly.",
        ),
        dg.ScheduleDefinition(
            name="clean_up_schedule",
            job_name="clean_up",
            cron_schedule="45 4 * * *",
            execution_timezone=zone,
            tags=BY_SCHEDULE,
            description="Removes what is older than `retention` says, every night.",
        ),
        dg.ScheduleDefinition(
            name="forget_routine_runs_schedule",
            job_name=names.FORGET_ROUTINE_RUNS,
            cron_schedule="40 * * * *",
            execution_timezone=zone,
            tags=BY_SCHEDULE,
            description="Removes cycles and pushes that went well and are superseded, hourly.",
        ),
        dg.ScheduleDefinition(
            name="daily_snapshot_schedule",
            job_name="snapshot_day",
            cron_schedule="15 0 * * *",
            execution_timezone=zone,
            execution_fn=_yesterday(zone),
            description="The stock at the end of yesterday, a quarter of an hour after the day ended.",
        ),
    ]
    if configuration.channels:
        schedules.append(
            dg.ScheduleDefinition(
                name="listings_schedule",
                job_name="discover",
                cron_schedule=settings.listings_cron,
                execution_timezone=zone,
                execution_fn=_each(configuration.channels, names.listings_key),
                description="What each channel lists against the mapping, one run a channel.",
            )
        )
        schedules.append(
            dg.ScheduleDefinition(
                name="subscriptions_schedule",
                job_name="subscriptions",
                cron_schedule=settings.subscriptions_cron,
                execution_timezone=zone,
                tags=BY_SCHEDULE,
                description="What each platform notifies us of, looked at and mended.",
            )
        )
        schedules.append(
            dg.ScheduleDefinition(
                name="full_sync_schedule",
                job_name=names.FULL_SYNC,
                cron_schedule=settings.full_sync_cron,
                execution_timezone=zone,
                execution_fn=_all_batches(home, configuration),
                description="Every level of every channel read back and compared, one run for each that isn't paused.",
            )
        )
    if counted := counted_channels(configuration):
        schedules.append(
            dg.ScheduleDefinition(
                name="order_count_schedule",
                job_name="count_orders",
                cron_schedule=settings.order_count_cron,
                execution_timezone=zone,
                execution_fn=_each(counted, names.order_count_key),
                description="The orders of the day before, counted and compared, one run a channel.",
            )
        )
    schedules.append(
        dg.ScheduleDefinition(
            name="backup_schedule",
            job_name="backup",
            cron_schedule=settings.backup_cron,
            execution_timezone=zone,
            tags=BY_SCHEDULE,
            description="A checked copy of the database.",
        )
    )
    return schedules


def _all_batches(home: Home, configuration: Configuration) -> dg.ScheduleEvaluationFunction:
    batches = batch_partitions(configuration.settings).get_partition_keys()

    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        paused = _paused(home, configuration)
        for words in paused.values():
            context.log.info(f"passed over: {words}")
        if len(paused) == len(configuration.channels):
            yield dg.SkipReason("; ".join(paused.values()))
        for channel in configuration.channels:
            if channel.name in paused:
                continue
            yield dg.RunRequest(
                run_key=channel.name,
                asset_selection=[names.full_sync_key(channel.name)],
                tags={**BY_SCHEDULE, RANGE_START: batches[0], RANGE_END: batches[-1]},
            )

    return evaluate


def _paused(home: Home, configuration: Configuration) -> dict[str, str]:
    """Return the channels that a full run would only find paused, with the words for it. A run of another that has no full run
    says itself why: of one that isn't registered yet, or of all while the stock's database can't be used."""
    engine = open_database(home.database_url)
    try:
        with engine.connect() as connection:
            registered = [one.name for one in configuration.channels if is_registered(connection, one.name)]
            return {name: words for name in registered if (words := why_at_rest(connection, name))}
    except DatabaseGoneError:
        return {}
    finally:
        engine.dispose()


def _each(channels: Sequence[Channel], key: Callable[[str], dg.AssetKey]) -> dg.ScheduleEvaluationFunction:
    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        for channel in channels:
            yield dg.RunRequest(run_key=channel.name, asset_selection=[key(channel.name)], tags=BY_SCHEDULE)

    return evaluate


def _yesterday(zone: str) -> dg.ScheduleEvaluationFunction:
    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        day = previous_day(context.scheduled_execution_time, zone)
        yield dg.RunRequest(run_key=day, partition_key=day, tags=BY_SCHEDULE)

    return evaluate


def previous_day(moment: datetime, zone: str) -> str:
    """Return the day before `moment` in `zone`, as YYYY-MM-DD."""
    return (moment.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)).isoformat()
