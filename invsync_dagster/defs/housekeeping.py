"""What keeps the installation from growing without end: old runs, attempts, receipts, raw webhooks and reports go."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from sqlalchemy import Engine, create_engine, func, select

from invsync_dagster.alerts import book
from invsync_dagster.alerts.conditions import FREE_SHARE
from invsync_dagster.channels import Configuration
from invsync_dagster.clock import Clock
from invsync_dagster.defs.metadata import cause_of
from invsync_dagster.defs.names import (
    CAUSE,
    FORGET_ROUTINE_RUNS,
    HOUSEKEEPING,
    INCREMENTAL,
    OWNERS,
    SCHEDULE,
    UPKEEP,
    WEBHOOK,
    WEBHOOKS,
    WORK_LEFT,
)
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.defs.storage_url import VARIABLE
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.inventory.imports import keeping
from invsync_dagster.inventory.retention import archive_logs, forget_polled, forget_receipts
from invsync_dagster.inventory.walks import forget_given_up
from invsync_dagster.settings import Home
from invsync_dagster.sync.erasure import Erased, erase_buyers
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.seals import Seals

# What is left over is done the next day, or the next hour; a run is deleted in about 15 ms.
RUNS_SECONDS = 900.0
ROUTINE_SECONDS = 600.0

# What comes by itself, hundreds or thousands of times a day, and says of its success nothing that the stock's own logs don't.
ROUTINE_JOBS = (INCREMENTAL, WEBHOOKS, FORGET_ROUTINE_RUNS)
ROUTINE_CAUSES = [SCHEDULE, WEBHOOK, WORK_LEFT]

# Dagster hands records out in pages.
PAGE = 1000
MOST_A_PASS = 50_000
EXECUTIONS_OF = 500


@dataclass(slots=True)
class RunsDeleted:
    """`kept` are runs that are old enough, and made the latest materialisation or check of something."""

    deleted: int = 0
    kept: int = 0


def runs_of_the_latest(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> set[str]:
    """Return the runs that made the latest materialisation or observation of an asset or partition, or the latest check.

    Dagster deletes these records with their run: the partition would be missing again, the asset never materialised.
    """
    kept: set[str] = set()
    for key in instance.get_asset_keys():
        kept |= {record.run_id for record in instance.fetch_materializations(key, limit=1).records}
        kept |= {record.run_id for record in instance.fetch_observations(key, limit=1).records}
        latest = instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
        ids = sorted(latest.values())
        for start in range(0, len(ids), PAGE):
            some = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[start : start + PAGE])
            kept |= {record.run_id for record in instance.fetch_materializations(some, limit=PAGE).records}
    evaluated = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    return kept | {record.run_id for record in evaluated.values()}


def delete_old_runs(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], before: datetime, clock: Clock
) -> RunsDeleted:
    """Delete finished runs created before `before`, oldest first, with their events and logs; see `runs_of_the_latest`."""
    filters = dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before)
    return _delete_runs(instance, checks, [filters], clock, RUNS_SECONDS)


def delete_routine_runs(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], before: datetime, clock: Clock
) -> RunsDeleted:
    """Delete of `ROUTINE_JOBS` the runs that succeeded, were started by nobody and created before `before`."""
    filters = [
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS],
            job_name=job_name,
            tags={CAUSE: ROUTINE_CAUSES},
            created_before=before,
        )
        for job_name in ROUTINE_JOBS
    ]
    return _delete_runs(instance, checks, filters, clock, ROUTINE_SECONDS)


def _delete_runs(
    instance: dg.DagsterInstance,
    checks: Iterable[dg.AssetCheckKey],
    filters: Iterable[dg.RunsFilter],
    clock: Clock,
    seconds: float,
) -> RunsDeleted:
    # What ends after this look only supersedes more: a run that isn't spared by it is the latest of nothing later either.
    spared = runs_of_the_latest(instance, checks)
    until = clock.now() + timedelta(seconds=seconds)
    result = RunsDeleted()
    deleted: list[str] = []
    for run_id in (run_id for one in filters for run_id in _found(instance, one)):
        if clock.now() >= until:
            break
        if run_id in spared:
            result.kept += 1
            continue
        _delete_run(instance, run_id)
        result.deleted += 1
        deleted.append(run_id)
        if len(deleted) >= EXECUTIONS_OF:
            _delete_executions(instance, deleted)
            deleted = []
    _delete_executions(instance, deleted)
    return result


def _found(instance: dg.DagsterInstance, filters: dg.RunsFilter) -> list[str]:
    """Return the runs, oldest first, as many as a pass may take. All at once: a page can't go on from a run that is deleted."""
    found: list[str] = []
    while len(found) < MOST_A_PASS and (
        page := instance.get_run_records(filters, limit=PAGE, cursor=found[-1] if found else None, ascending=True)
    ):
        found += [record.dagster_run.run_id for record in page]
    return found


def _delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    # Imported here: it brings Alembic along, 0.1 s, and every run loads this module.
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.delete_run(run_id)
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        # It empties a run's own file, too, and leaves it as large as it was: 140 KB a run.
        shard = Path(storage.path_for_shard(run_id))
        for path in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            path.unlink(missing_ok=True)


def _delete_executions(instance: dg.DagsterInstance, run_ids: list[str]) -> None:
    """Delete the executions of checks, which Dagster leaves behind: 1.7 KB each, and no index leads to those of a run."""
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    if run_ids and isinstance(storage, SqlEventLogStorage):
        with storage.index_connection() as connection:
            executions = AssetCheckExecutionsTable
            connection.execute(executions.delete().where(executions.c.run_id.in_(run_ids)))


def remove_old_folders(folder: Path, before: datetime) -> int:
    """Remove the folders in `folder` that nobody has written into since `before`; return how many. Raises OSError."""
    old = [path for path in folder.glob("*") if path.is_dir() and path.stat().st_mtime < before.timestamp()]
    for path in old:
        shutil.rmtree(path)
    return len(old)


def size(path: Path) -> int:
    """Return the bytes of all files below a folder; those that go meanwhile count nothing."""
    total = 0
    for one in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += one.stat().st_size
    return total


def build_housekeeping(configuration: Configuration, checks: Iterable[dg.AssetCheckKey]) -> list[dg.AssetsDefinition]:
    """Return the asset that keeps the records bounded; `checks` are all checks of the definitions."""
    keep = configuration.settings.retention

    @dg.asset(
        key=HOUSEKEEPING,
        group_name=UPKEEP,
        owners=OWNERS,
        kinds={"file"},
        check_specs=[
            dg.AssetCheckSpec("disk", asset=HOUSEKEEPING, description="At least a tenth of the disk is free."),
            dg.AssetCheckSpec(
                "buyers_erased",
                asset=HOUSEKEEPING,
                description="No raw webhook older than `retention.buyers_days` holds a buyer's data.",
            ),
        ],
        description=(
            "Daily: removes what is older than `retention` in channels.yaml says: finished runs (never one that made the "
            "latest of an asset, a partition or a check), attempts and readings (to data/archive/, as CSV), receipts and "
            "raw webhooks that are applied, copies of imported files, reports; and from raw webhooks, sooner, all that a "
            "replay doesn't need: names, addresses, notes. The ledger, orders and decisions stay for good. Its plots show how "
            "fast the database and Dagster's own records grow.\n\n"
            "*Red* `disk` means that it is nearly full: webhooks are refused (503) once it is. Make room, or shorten "
            "`retention`. *Red* `buyers_erased`: deliveries that would say something else without the fields that we don't "
            "know; of those kept they go with `retention.deliveries_days` at the latest."
        ),
    )  # fmt: skip
    def housekeeping(context: dg.AssetExecutionContext, invsync: Invsync) -> Iterator[Any]:
        ws = invsync.workspace
        home, now = ws.home, ws.clock.now()
        deliveries_before = now - timedelta(days=keep.deliveries_days)
        # What makes room comes first: a full disk takes no archive.
        reports = remove_old_folders(home.reports, now - timedelta(days=keep.reports_days))
        copies = keeping.forget(home.imports, deliveries_before)
        segments = Kept(home.inbox, Seals.from_environment(ws.environ)).forget(deliveries_before.date())
        runs = delete_old_runs(context.instance, checks, now - timedelta(days=keep.runs_days), ws.clock)
        receipts = forget_receipts(ws.engine, deliveries_before)
        polled = forget_polled(ws.engine, deliveries_before)
        forget_given_up(ws.engine, now)
        book.forget(ws.engine, now - timedelta(days=keep.logs_days))
        yield _disk(home)
        try:
            erased = erase_buyers(ws, now - timedelta(days=keep.buyers_days))
            yield _buyers(erased)
            archived = archive_logs(ws.engine, home.data / "archive", now - timedelta(days=keep.logs_days), now)
        except OSError as error:
            raise dg.Failure(
                f"Buyers' data could not be erased, or the old attempts not be archived: {error}. Nothing that was not is "
                "removed; make room, and run it again.",
                allow_retries=False,
            ) from error
        yield dg.MaterializeResult(
            metadata={
                "runs_deleted": runs.deleted,
                "runs_kept_as_latest": runs.kept,
                "log_rows_archived": archived.rows,
                "segments_removed": segments,
                "import_files_removed": copies,
                "receipts_removed": receipts,
                "polled_lines_removed": polled,
                "deliveries_erased": erased.deliveries + erased.quarantined,
                "reports_removed": reports,
                "stock_mb": _megabytes(database_size(ws.engine)),
                "dagster_mb": _megabytes(_dagster_size(ws)),
                "data_mb": _megabytes(size(home.data)),
                **({"archive": dg.MetadataValue.path(archived.path)} if archived.path else {}),
            }
        )

    return [housekeeping]


def build_forgetting(configuration: Configuration, checks: Iterable[dg.AssetCheckKey]) -> dg.JobDefinition:
    """Return the job that deletes routine runs; `checks` are all checks of the definitions."""
    keep = timedelta(hours=configuration.settings.retention.routine_hours)

    @dg.op(name="forget", description="Deletes cycles and pushes that went well and are superseded.")
    def forget(context: dg.OpExecutionContext, invsync: Invsync) -> None:
        cause_of(context)
        clock = invsync.workspace.clock
        runs = delete_routine_runs(context.instance, checks, clock.now() - keep, clock)
        context.log.info(f"{runs.deleted} runs deleted, {runs.kept} kept that made the latest of something")

    @dg.job(
        name=FORGET_ROUTINE_RUNS,
        run_tags={"dagster/max_runtime": "1800"},
        description="Deletes what schedules and webhooks started of cycles and pushes, once it is older than "
        "`retention.routine_hours`, went well and made the latest of nothing: what they wrote stays in the stock's own logs, "
        "and the hourly audit keeps the trend of `sync_status`.",
    )
    def forget_routine_runs() -> None:
        forget()

    return forget_routine_runs


def database_size(engine: Engine) -> int:
    """Return the bytes that a database takes on its disk."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            return int(connection.execute(select(func.pg_database_size(func.current_database()))).scalar_one())
    path = Path(str(engine.url.database))
    return sum(one.stat().st_size for one in (path, path.with_name(f"{path.name}-wal")) if one.exists())


def _dagster_size(ws: Workspace) -> int:
    url = ws.environ.get(VARIABLE)
    if not url:
        return size(ws.home.data / "dagster")
    engine = create_engine(parse_url(url))
    try:
        return database_size(engine)
    finally:
        engine.dispose()


def _megabytes(size_bytes: int) -> float:
    return round(size_bytes / 1e6, 1)


def _disk(home: Home) -> dg.AssetCheckResult:
    disk = shutil.disk_usage(home.data)
    free = disk.free / disk.total
    return dg.AssetCheckResult(
        asset_key=HOUSEKEEPING,
        check_name="disk",
        passed=free >= FREE_SHARE,
        description=f"{disk.free / 1e9:.1f} GB of {disk.total / 1e9:.0f} GB are free.",
        metadata={"free_share": round(free, 3)},
    )


def _buyers(erased: Erased) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=HOUSEKEEPING,
        check_name="buyers_erased",
        passed=erased.left_whole == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{erased.left_whole} raw deliveries still hold what buyers wrote."
        if erased.left_whole
        else "No buyer's data is older than the settings say.",
        metadata={"left_whole": erased.left_whole},
    )
