"""Puts the definitions together for one home and one configuration; reads no file and opens no database."""

from __future__ import annotations

import dagster as dg

from invsync_dagster.channels import Configuration
from invsync_dagster.defs.alerting import build_alerts_sensor
from invsync_dagster.defs.checks import build_audit_checks
from invsync_dagster.defs.daily import build_daily
from invsync_dagster.defs.full_sync import build_full_sync
from invsync_dagster.defs.housekeeping import build_forgetting, build_housekeeping
from invsync_dagster.defs.imports import imports_asset
from invsync_dagster.defs.jobs import build_jobs
from invsync_dagster.defs.listings import build_listings
from invsync_dagster.defs.order_counts import build_order_counts
from invsync_dagster.defs.push import build_push
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.defs.schedules import build_schedules
from invsync_dagster.defs.sensors import build_sensors
from invsync_dagster.defs.status import build_status, build_status_sensor
from invsync_dagster.defs.stock import build_stock
from invsync_dagster.defs.subscriptions import build_subscriptions
from invsync_dagster.defs.upkeep import database_backup
from invsync_dagster.settings import Home


def build(home: Home, configuration: Configuration, invsync: Invsync) -> dg.Definitions:
    """Return everything that Dagster shows and runs.

    Steps run in the run's own process: another process a step would cost 0.9 s each.
    """
    audit_checks = build_audit_checks(configuration)
    assets = [
        imports_asset,
        *build_stock(configuration),
        *build_daily(configuration),
        *build_push(configuration),
        *build_status(configuration),
        *build_full_sync(configuration),
        *build_listings(configuration),
        *build_subscriptions(configuration),
        *build_order_counts(configuration),
        database_backup,
    ]
    checks = {key for one in [*assets, *audit_checks] if isinstance(one, dg.AssetsDefinition) for key in one.check_keys}
    return dg.Definitions(
        assets=[*assets, *build_housekeeping(configuration, checks)],
        asset_checks=audit_checks,
        jobs=[*build_jobs(configuration, audit_checks), build_forgetting(configuration, checks)],
        schedules=build_schedules(home, configuration),
        sensors=[
            *build_sensors(home),
            build_alerts_sensor(home, configuration, checks),
            build_status_sensor(home, configuration, checks),
        ],
        resources={"invsync": invsync},
        executor=dg.in_process_executor,
    )
