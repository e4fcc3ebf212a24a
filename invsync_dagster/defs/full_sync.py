"""The full runs: one asset a channel, partitioned by batches of levels; a batch that fails can be run again alone.

Within one run each finished batch is a materialisation of its partition, and one failure ends the run: so the batches
that worked stay done. Why this combination: docs/decisions/0004-partial-success.md
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.defs.metadata import cause_of, failing, report_file, tag_failed, worst_rows
from invsync_dagster.defs.names import OWNERS, RECONCILIATION, full_sync_key, platform_kinds, platform_tags
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.channels import why_at_rest
from invsync_dagster.inventory.full_runs import NEVER_RUN, full_runs
from invsync_dagster.settings import Settings
from invsync_dagster.sync.differences import FullSyncReport
from invsync_dagster.sync.full_run import full_run
from invsync_dagster.sync.workspace import Workspace

CHECK = "shows_what_it_should"


def batch_partitions(settings: Settings) -> dg.StaticPartitionsDefinition:
    """The batches as partition keys of equal width, so that they sort as numbers do."""
    width = len(str(settings.sku_batches - 1))
    return dg.StaticPartitionsDefinition([f"{number:0{width}d}" for number in range(settings.sku_batches)])


def build_full_sync(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """Return one full-run asset a channel."""
    batches = batch_partitions(configuration.settings)
    return [_asset(channel, batches) for channel in configuration.channels]


def _asset(channel: Channel, batches: dg.StaticPartitionsDefinition) -> dg.AssetsDefinition:
    key, name = full_sync_key(channel.name), channel.name

    @dg.asset(
        key=key,
        partitions_def=batches,
        backfill_policy=dg.BackfillPolicy.single_run(),
        output_required=False,
        pool=f"full_sync_{name}",
        group_name=RECONCILIATION,
        owners=OWNERS,
        kinds=platform_kinds(channel),
        tags=platform_tags(channel),
        check_specs=[dg.AssetCheckSpec(CHECK, asset=key, description="No level showed another number than it should.")],
        description=(
            f"What **{channel.title}** really shows, batch by batch: read back, compared with what it acknowledged, explained, "
            "and repaired by the same rules as a push.\n\n"
            "*A red batch* could not be read or repaired to its end, or the channel is paused; the others are done. Run it again "
            "alone (Materialize, that partition), or all failed ones with the job `retry_failed_batches`. *A red check* "
            "means wrong numbers, in the latest run of some batch: somebody else changed them there, we missed an order, or "
            "our writes fail; the report lists each level with its likely cause. Find out who else writes there, or whether "
            "its webhooks come (docs/webhooks.md); the batch's next run without any ends it."
        ),
    )
    def full_sync_asset(context: dg.AssetExecutionContext, invsync: Invsync) -> Iterator[Any]:
        cause_of(context)
        ws = invsync.workspace
        with failing(context, name):
            before = done_before(context, key)
            left = [batch for batch in context.partition_keys if batch not in before]
            if before:
                context.log.info(f"goes on with the {len(left)} batches that the run before left")
                # Again, since Dagster planned them for this run too: if it fails they would count as failed with it.
                yield from before.values()
            done = yield from sync_batches(context, ws, name, left)
        found = drift_found(ws, name)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=CHECK,
            passed=found.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.description,
            metadata=found.metadata,
        )
        if done.failed or done.passed_over:
            tag_failed(context, [name])
            raise dg.Failure(failure_text(name, done), allow_retries=False)

    return full_sync_asset


def done_before(context: dg.AssetExecutionContext, key: dg.AssetKey) -> dict[str, dg.AssetMaterialization]:
    """Return what was done of a run before its process died, by batch, where Dagster started it again by itself.

    A run that a person starts again begins anew.
    """
    done: dict[str, dg.AssetMaterialization] = {}
    run = context.run
    while _RETRY in run.tags and (before := context.instance.get_run_by_id(run.tags[_PARENT])):
        run = before
        for entry in context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            batch = entry.asset_materialization
            if batch is not None and batch.asset_key == key and batch.partition is not None:
                done.setdefault(batch.partition, batch)
    return done


# Of a run that Dagster started by itself (`run_retries`), and of any that is made of another one.
_RETRY, _PARENT = "dagster/retry_number", "dagster/parent_run_id"


@dataclass(frozen=True, slots=True)
class BatchesDone:
    """Why batches are not done, by their keys: those that `failed`, and those `passed_over` since the channel is paused."""

    failed: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)


def sync_batches(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, ws: Workspace, name: str, batches: Sequence[str]
) -> Generator[dg.AssetMaterialization | dg.AssetObservation, None, BatchesDone]:
    """Run batches, some at once; yield each finished one as the materialisation of its partition, and at the end what came
    of them together as an observation of the asset. Return what is not done."""
    total = FullSyncReport(name, batch=-1)
    done = BatchesDone()
    began = ws.clock.now()
    keys = {int(batch): batch for batch in batches}
    for report in full_run(ws, name, list(keys), run_id=context.run.run_id):
        batch = keys[report.batch]
        _add(total, report)
        if report.problem:
            done.failed[batch] = report.problem
            context.log.error(f"batch {batch} of {name}: {report.problem}\n{report.traceback}".rstrip())
            continue
        if report.passed_over:
            done.passed_over[batch] = report.passed_over
            continue
        metadata = {
            "dagster/partition_row_count": report.levels,
            **_figures(report),
            **worst_rows(report.differences),
            **report_file(ws.home, context.run.run_id, f"differences_{name}_{batch}", report.differences),
        }
        yield dg.AssetMaterialization(full_sync_key(name), partition=batch, metadata=metadata)
    total.seconds = (ws.clock.now() - began).total_seconds()
    yield dg.AssetObservation(
        full_sync_key(name),
        metadata={
            "batches": len(keys),
            "failed_batches": len(done.failed),
            "passed_over_batches": len(done.passed_over),
            **_figures(total),
            **worst_rows(total.differences),
            **report_file(ws.home, context.run.run_id, f"differences_{name}", total.differences),
        },
    )
    return done


# The counts of a report, each the sum of its batches'.
_COUNTS = (
    *("levels", "equal", "in_bulk", "failed_rows", "drift", "uncertain", "missing", "claimed"),
    *("repaired", "left", "api_calls"),
)


def _add(total: FullSyncReport, report: FullSyncReport) -> None:
    for count in _COUNTS:
        setattr(total, count, getattr(total, count) + getattr(report, count))
    total.differences += report.differences


def failure_text(name: str, done: BatchesDone) -> str:
    """Say which batches are not done and why, and what to do."""
    kinds = (("failed batches", done.failed), ("batches not looked at", done.passed_over))
    words = "; ".join(f"{kind}: {_by_reason(batches)}" for kind, batches in kinds if batches)
    return f"{name}: {words}. The others are done; run the job retry_failed_batches once this is mended."


def _by_reason(batches: Mapping[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for batch, reason in batches.items():
        by_reason.setdefault(reason, []).append(batch)
    return ", ".join(f"{', '.join(sorted(some))} ({reason})" for reason, some in by_reason.items())


def failed_batches(instance: dg.DagsterInstance, name: str, batches: dg.StaticPartitionsDefinition) -> list[str]:
    """Return the batches whose last run failed, as Dagster knows them."""
    keys = batches.get_partition_keys()
    status = instance.get_status_by_partition(full_sync_key(name), keys, batches) or {}
    return [key for key in keys if status.get(key) is dg.AssetPartitionStatus.FAILED]


def _figures(report: FullSyncReport) -> dict[str, int | float]:
    """The numbers of a batch, or of all of a run, that become plots; the keys are stable. Counts are levels, times seconds."""
    return {
        "levels": report.levels,
        "equal": report.equal,
        "in_bulk": report.in_bulk,
        "failed_rows": report.failed_rows,
        "drift": report.drift,
        "drift_share": round(report.drift / report.levels, 5) if report.levels else 0.0,
        "uncertain": report.uncertain,
        "missing": report.missing,
        "claimed": report.claimed,
        **{f"cause_{cause}": number for cause, number in report.causes().items()},
        "repaired": report.repaired,
        "left": report.left,
        "api_calls": report.api_calls,
        "duration_s": round(report.seconds, 3),
    }


@dataclass(frozen=True, slots=True)
class DriftFound:
    """The check's verdict over all batches of a channel, each as it was run last: one batch that is run again alone says
    nothing of the others."""

    passed: bool
    description: str
    metadata: dict[str, dg.MetadataValue[Any]]


def drift_found(ws: Workspace, name: str) -> DriftFound:
    """Judge the full runs of channel `name`."""
    with ws.engine.connect() as connection:
        runs = full_runs(connection).get(name, NEVER_RUN)
        at_rest = why_at_rest(connection, name)
    share = runs.drift / runs.levels if runs.levels else 0.0
    failed = f" Of them these did not come to their end: {', '.join(map(str, runs.failed))}." if runs.failed else ""
    passed_over = f" Nothing is looked at now: {at_rest}." if at_rest else ""
    return DriftFound(
        # Where nothing was ever looked at, nothing is known to be right.
        runs.batches > 0 and not (runs.drift or runs.failed_rows or runs.missing),
        f"{runs.drift} of {runs.levels} levels had drifted, {runs.failed_rows} show a former number since our last write failed, "
        f"{runs.missing} show no number and are in review, in the latest "
        f"runs of {runs.batches} batches.{failed}{passed_over} The reports say of each why, and what was done.",
        {
            "drift": dg.MetadataValue.int(runs.drift),
            "drift_share": dg.MetadataValue.float(round(share, 5)),
            "failed_rows": dg.MetadataValue.int(runs.failed_rows),
            "missing": dg.MetadataValue.int(runs.missing),
            "batches": dg.MetadataValue.int(runs.batches),
        },
    )
