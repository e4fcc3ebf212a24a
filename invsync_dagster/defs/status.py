"""The state of the whole: as an asset with its trend as plots, and as the document that the receiver serves."""

import os
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from invsync_dagster.alerts.book import Alert, book
from invsync_dagster.channels import Configuration
from invsync_dagster.clock import SystemClock
from invsync_dagster.defs.names import CHANGES, DATABASE_BACKUP, OWNERS, STOCK, SYNC_STATUS, push_key
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.defs.sensors import SensorFunction
from invsync_dagster.environment import Environment
from invsync_dagster.inventory.database import DatabaseGoneError, open_database
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.status import COLUMNS, status
from invsync_dagster.settings import Home
from invsync_dagster.sync.hearing import oldest_waiting
from invsync_dagster.sync.quarantined import in_quarantine
from invsync_dagster.sync.standing import Standing
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.status import document

# The daemon looks whose turn it is every 5 s: so this is 15 to 20 s.
EVERY_SECONDS = 15

# Of the table `channels`, as people read it.
COLUMN_SCHEMA = dg.TableSchema(columns=[dg.TableColumn(name, type="text") for name in COLUMNS])


def build_status(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """Return the status asset, downstream of all pushes."""

    @dg.asset(
        key=SYNC_STATUS,
        deps=[push_key(channel.name) for channel in configuration.channels] or [CHANGES],
        group_name=STOCK,
        owners=OWNERS,
        kinds={"table"},
        metadata={"dagster/column_schema": COLUMN_SCHEMA},
        description=(
            "How things stand, per channel: listings active, in step, held and in review, the oldest change, the "
            "success rate of the last hour. The push step writes it with every scheduled cycle and whenever a channel "
            "failed; materialise it to see the present.\n\n"
            "*Red* means that the database could not be read. Look at the run's error; once the database is back, the next "
            "cycle writes it. What needs a person stands under `notes`, each with what to do."
        ),
    )
    def sync_status(invsync: Invsync) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=status_metadata(invsync.workspace))

    return [sync_status]


def status_metadata(ws: Workspace) -> dict[str, Any]:
    """Return the status as metadata: figures that plot, the table of channels, and what needs attention."""
    with ws.engine.connect() as connection:
        now = status(connection, ws.clock.now(), in_quarantine(ws).deliveries)
        alerts = book(connection, None)
    waiting = oldest_waiting(ws.home.inbox, ws.clock.now())
    channels = now.channels
    ages = [one.oldest_change_seconds for one in channels if one.oldest_change_seconds is not None]
    done = sum(one.syncs_last_hour for one in channels)
    failed = sum(one.failed_last_hour for one in channels)
    records = [dg.TableRecord(dict(zip(COLUMNS, row, strict=True))) for row in now.rows()]
    notes = now.notes()
    return {
        # First, since the UI shows the keys in this order and what needs a person must not be scrolled for.
        **({"notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in notes))} if notes else {}),
        **({"alerts": dg.MetadataValue.table([_alert(alert) for alert in alerts])} if alerts else {}),
        **({"channels": dg.MetadataValue.table(records)} if records else {}),
        "skus": now.skus,
        "units": now.units,
        "reserved": now.reserved,
        "negative_skus": now.negative,
        "ledger_sequence": now.ledger_sequence,
        "listings_active": sum(one.active for one in channels),
        "listings_in_step": sum(one.in_step for one in channels),
        "listings_out_of_step": now.out_of_step,
        "listings_held": sum(one.held for one in channels),
        "listings_in_review": sum(one.review for one in channels),
        "open_cases": now.open_cases,
        "quarantined": now.quarantined,
        "open_alerts": len(alerts),
        "oldest_delivery_s": round(waiting.total_seconds(), 1) if waiting else 0.0,
        "oldest_change_s": round(max(ages, default=0.0), 1),
        "syncs_last_hour": done,
        "failed_last_hour": failed,
    }


def _alert(alert: Alert) -> dg.TableRecord:
    columns = {
        "since": in_utc(alert.since),
        "severity": alert.severity,
        "alert": alert.title,
        "what to do": alert.message,
    }
    return dg.TableRecord(columns)


def status_sensor_function(standing: Callable[[], Standing], checks: Collection[dg.AssetCheckKey]) -> SensorFunction:
    """Return what the status sensor evaluates; `standing` gives the one of this process, opened with the first look."""
    of_backup = [key for key in checks if key.asset_key == DATABASE_BACKUP]

    def evaluate(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now = standing()
        before = document.read(now.home.status)
        try:
            told = now.document(before, backup_verified=_verified(context.instance, of_backup))
        except DatabaseGoneError as error:
            if before is None:
                return dg.SkipReason(str(error))
            told = now.without_database(before, str(error))
        document.write(now.home.status, told)
        return dg.SkipReason(f"written: {len(told['problems'])} problems")

    return evaluate


def _verified(instance: dg.DagsterInstance, checks: Collection[dg.AssetCheckKey]) -> bool | None:
    """Return whether the latest backup passed its checks; None where none has judged one."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks)) if checks else {}
    judged = [one.status for one in latest.values() if one.status is not AssetCheckExecutionRecordStatus.PLANNED]
    return all(one is AssetCheckExecutionRecordStatus.SUCCEEDED for one in judged) if judged else None


def build_status_sensor(
    home: Home, configuration: Configuration, checks: Collection[dg.AssetCheckKey]
) -> dg.SensorDefinition:
    """Return the sensor that writes the status document, stopped until somebody switches it on."""

    @cache
    def standing() -> Standing:
        return Standing(home, configuration, Environment(os.environ), open_database(home.database_url), SystemClock())

    return dg.SensorDefinition(
        name="status_sensor",
        evaluation_fn=status_sensor_function(standing, checks),
        minimum_interval_seconds=EVERY_SECONDS,
        description="Writes how all stands into data/status/, from where the receiver serves it as a page, as JSON and as "
        "metrics (docs/status.md). Starts nothing. Off: the page says that nobody writes it.",
    )
