"""The jobs: the incremental run, the full run, given SKUs, imports, the audit, and what a person starts by hand."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from invsync_dagster.channels import Configuration
from invsync_dagster.clock import parse_moment
from invsync_dagster.defs import names
from invsync_dagster.defs.deciding import approver, decide_job
from invsync_dagster.defs.explaining import explain_job
from invsync_dagster.defs.full_sync import (
    CHECK,
    batch_partitions,
    drift_found,
    failed_batches,
    failure_text,
    sync_batches,
)
from invsync_dagster.defs.metadata import SHOWN, cause_of, failing, report_file, tag_failed, worst_rows
from invsync_dagster.defs.order_counts import counted_channels
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.defs.undoing import undo_job
from invsync_dagster.inventory.channels import why_at_rest
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.sync.preview import AnotherShopError, approve, preview_channel
from invsync_dagster.sync.replay import replay

# Incremental work goes before full runs in the queue, and a run that hangs is ended (seconds).
URGENT = {"dagster/priority": "10", "dagster/max_runtime": "300"}
PATIENT = {"dagster/priority": "0", "dagster/max_runtime": "14400"}
# One a channel, or as long as a channel's limits want: together they may not have every place (dagster.yaml).
LONG = {**PATIENT, names.LONG: "true"}


class PreviewConfig(dg.Config):
    """Which channel to preview."""

    channel: str = Field(description="The channel's name in channels.yaml.")


class ApprovalConfig(dg.Config):
    """Who approves which channel's first push, and why."""

    channel: str = Field(description="The channel's name in channels.yaml.")
    actor: str = Field(
        default="", description="Who approves; kept with the decision. Empty: who started the run, as the proxy says."
    )
    reason: str = Field(min_length=1, description="Why it may write, for whoever asks later.")


class ReplayConfig(dg.Config):
    """Which kept deliveries to apply again."""

    since: str = Field(description="Received from this time, with its zone: 2026-07-01T06:00:00+00:00.")
    until: str = Field(description="To before this time, with its zone.")
    channel: str = Field(default="", description="One channel alone; empty: all.")


@dg.op(
    name="read_and_compare", description="Reads every listing of the channel and shows what a push would change there."
)
def preview_op(context: dg.OpExecutionContext, config: PreviewConfig, invsync: Invsync) -> None:
    """Observe the channel's push asset with the preview: totals, largest moves, and the whole as a report."""
    cause_of(context)
    ws = invsync.workspace
    with failing(context, config.channel):
        preview = preview_channel(ws, config.channel)
    metadata: dict[str, Any] = {
        **preview.totals(),
        **worst_rows(preview.changes),
        **report_file(ws.home, context.run.run_id, f"preview_{config.channel}", preview.rows),
    }
    context.log_event(dg.AssetObservation(names.push_key(config.channel), metadata=metadata))


@dg.op(name="approve", description="Lets the channel be written from now on. Look at its preview first.")
def approve_op(context: dg.OpExecutionContext, config: ApprovalConfig, invsync: Invsync) -> None:
    """Approve the first push of a channel."""
    cause_of(context)
    ws, actor = invsync.workspace, approver(context, config.actor)
    try:
        with write_transaction(ws.engine) as connection:
            approve(connection, config.channel, actor=actor, reason=config.reason, now=ws.clock.now())
    except AnotherShopError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info(f"{actor} approved the first push of {config.channel}: {config.reason}")


@dg.op(
    name="run_failed_batches", out={}, description="Runs the batches again whose last full run failed, of all channels."
)
def retry_op(context: dg.OpExecutionContext, invsync: Invsync) -> Iterator[Any]:
    """Run failed batches again; what fails again fails the run."""
    cause_of(context)
    ws = invsync.workspace
    batches = batch_partitions(ws.configuration.settings)
    failures = []
    for channel in ws.configuration.channels:
        again = failed_batches(context.instance, channel.name, batches)
        context.log.info(f"{channel.name}: {len(again)} failed batches")
        if not again:
            continue
        with ws.engine.connect() as connection:
            at_rest = why_at_rest(connection, channel.name)
        if at_rest:
            context.log.info(f"{channel.name} is passed over: {at_rest}")
            continue
        try:
            with failing(context, channel.name):
                done = yield from sync_batches(context, ws, channel.name, again)
        except Exception as error:  # what ends this channel's batches says nothing of the other channels
            context.log.error(f"{channel.name}: {''.join(traceback.format_exception(error))}")
            failures.append(f"{channel.name}: {type(error).__name__}: {error}")
            continue
        if done.failed or done.passed_over:
            tag_failed(context, [channel.name])
            failures.append(failure_text(channel.name, done))
        # As an event, since a job of ops has no checks: else the verdict would be of what was before until the next full run.
        found = drift_found(ws, channel.name)
        yield dg.AssetCheckEvaluation(
            asset_key=names.full_sync_key(channel.name),
            check_name=CHECK,
            passed=found.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.description,
            metadata=found.metadata,
        )
    if failures:
        raise dg.Failure("\n".join(failures), allow_retries=False)


@dg.op(
    name="apply_kept_deliveries",
    description="Applies the kept deliveries of a time again: books what the stock has lost, and nothing twice.",
)
def replay_op(context: dg.OpExecutionContext, config: ReplayConfig, invsync: Invsync) -> None:
    """Replay kept deliveries; what still can't be read is in the log."""
    cause_of(context)
    ws = invsync.workspace
    try:
        since, until = parse_moment(config.since), parse_moment(config.until)
    except ValueError as error:
        raise dg.Failure(f"since and until: {error}", allow_retries=False) from error
    report = replay(ws, since, until, channel=config.channel, run_id=context.run.run_id)
    reasons = report.reasons
    metadata = {name: value for name, value in asdict(report).items() if name != "reasons"}
    context.log_event(dg.AssetObservation(names.LEDGER, metadata=metadata))
    for reason in sorted(set(reasons))[:SHOWN]:
        context.log.warning(reason)


@dg.job(
    name="preview_channel",
    run_tags={**PATIENT, "dagster/max_runtime": "7200"},
    description="What the next push would change at a channel: totals and largest moves on the channel's push asset.",
)
def preview_job() -> None:
    """Preview one channel."""
    preview_op()


@dg.job(
    name="replay_deliveries",
    run_tags=PATIENT,
    description="Applies the kept deliveries of a time again, after a restore or a mend; what is booked stays as it is.",
)
def replay_job() -> None:
    """Replay kept deliveries."""
    replay_op()


@dg.job(name="approve_first_push", description="Approves the first push of a channel; nothing is written there before.")
def approve_job() -> None:
    """Approve one channel."""
    approve_op()


@dg.job(
    name=names.RETRY_FAILED_BATCHES,
    run_tags=LONG,
    description="Runs the batches of full runs again that failed, and only those, for all channels.",
)
def retry_job() -> None:
    """Retry failed batches."""
    retry_op()


def build_jobs(configuration: Configuration, audit_checks: Sequence[dg.AssetChecksDefinition]) -> list[Any]:
    """Return all jobs; those over channels exist as soon as there is one."""
    pushes = [names.push_key(channel.name) for channel in configuration.channels]
    listings = [names.listings_key(channel.name) for channel in configuration.channels]
    subscriptions = [names.subscriptions_key(channel.name) for channel in configuration.channels]
    counts = [names.order_count_key(channel.name) for channel in counted_channels(configuration)]
    full_syncs = [names.full_sync_key(channel.name) for channel in configuration.channels]
    # The checks that look at everything stay out of the cycle, which costs as much as there is work.
    audit = dg.AssetSelection.checks(*audit_checks)
    cycle = dg.AssetSelection.assets(names.LEDGER, names.SNAPSHOT, names.CHANGES, *pushes) - audit
    jobs: list[Any] = [
        dg.define_asset_job(
            names.INCREMENTAL,
            selection=cycle,
            run_tags=URGENT,
            description="One cycle: apply the waiting webhooks, find what is out of step, push all channels side by "
            "side.",
        ),
        # The balance as a whole, the figures of what is out of step and the checks of the ledger as a whole are the
        # schedule's: on this path they cost every sale 0.2 s and more, and a push may be newer than them, never older.
        dg.define_asset_job(
            names.WEBHOOKS,
            selection=dg.AssetSelection.assets(names.LEDGER, *pushes) - audit,
            run_tags=URGENT,
            description="What a webhook starts: apply what waits in the inbox and push what it changed, nothing else.",
        ),
        dg.define_asset_job(
            "import_files",
            selection=cycle | dg.AssetSelection.assets(names.IMPORTS),
            # A file goes in as a whole or not at all: one that is ended is rolled back, and would be begun anew for ever.
            run_tags=PATIENT,
            description="Import the files that wait in data/imports/, then a cycle with what they changed.",
        ),
        dg.define_asset_job(
            "audit",
            selection=audit | dg.AssetSelection.assets(names.SYNC_STATUS),
            run_tags=PATIENT,
            description="The checks that look at everything: the ledger against the balances, mappings, failed "
            "batches.",
        ),
        dg.define_asset_job(
            "snapshot_day",
            selection=dg.AssetSelection.assets(names.DAILY_SNAPSHOT),
            run_tags=PATIENT,
            description="The stock at the end of a day, rebuilt from the ledger.",
        ),
        dg.define_asset_job(
            "clean_up",
            selection=dg.AssetSelection.assets(names.HOUSEKEEPING),
            run_tags=PATIENT,
            description="Removes old runs, attempts, receipts, raw webhooks and reports, as `retention` says.",
        ),
        dg.define_asset_job(
            "backup",
            selection=dg.AssetSelection.assets(names.DATABASE_BACKUP),
            description="A proven backup of the database and the inbox.",
        ),
    ]
    if configuration.channels:
        jobs += [
            dg.define_asset_job(
                names.FULL_SYNC,
                selection=dg.AssetSelection.assets(*full_syncs) - audit,
                run_tags=LONG,
                description="The reconciliation: read back, compare and repair every level, batch by batch.",
            ),
            dg.define_asset_job(
                "discover",
                selection=dg.AssetSelection.assets(*listings),
                run_tags=LONG,
                description="What each channel lists against the mapping, with a file of proposals to correct and import.",
            ),
            dg.define_asset_job(
                "subscriptions",
                selection=dg.AssetSelection.assets(*subscriptions),
                run_tags=PATIENT,
                description="What each platform notifies us of: what is missing is subscribed to, what is off is switched on.",
            ),
            dg.define_asset_job(
                "sync_skus",
                selection=dg.AssetSelection.assets(*pushes),
                run_tags={**URGENT, names.CAUSE: names.GIVEN_SKUS},
                config={"ops": {"push_results": {"config": {"skus": [], "reason": "", "dry_run": False}}}},
                description="Push given SKUs now, to all channels or to the selected ones: name them under `skus`.",
            ),
        ]
    if counts:
        jobs.append(
            dg.define_asset_job(
                "count_orders",
                selection=dg.AssetSelection.assets(*counts),
                run_tags=LONG,
                description="Orders and units of the day before, as each channel lists them, against our own.",
            )
        )
    return [*jobs, preview_job, approve_job, decide_job, undo_job, retry_job, explain_job, replay_job]
