"""The pushes: one step in which all channels work side by side, and one asset a channel for what became of it.

One step with threads took 1.6 s for six channels of 1 s each; a step a channel took 6.5 s in one process, where one
that hangs blocks the ones behind it, and 9.4 s in several. The reasons in full: docs/decisions/0003-push-step.md
"""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import dagster as dg
from pydantic import Field

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.defs.metadata import cause_of, in_short, keep_reason, report_file, tag_failed, worst_rows
from invsync_dagster.defs.names import (
    CHANGES,
    GIVEN_SKUS,
    LEDGER,
    OWNERS,
    PUSH,
    PUSHED,
    SYNC_STATUS,
    WEBHOOK,
    WORK_LEFT,
    platform_kinds,
    platform_tags,
    push_key,
)
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.defs.status import status_metadata
from invsync_dagster.inventory.changes import oldest_changes
from invsync_dagster.inventory.clocks import clock_off
from invsync_dagster.settings import Settings
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import BACKLOG_SECONDS, PushReport
from invsync_dagster.sync.side_by_side import SideBySide
from invsync_dagster.sync.workspace import Workspace

# What a channel's thread hands back: its report, or the words of what broke it.
Answer = tuple[str, PushReport | str]


class PushConfig(dg.Config):
    """What a person may set in the launchpad."""

    skus: list[str] = Field(
        default=[],
        description="Push these SKUs alone, and at once: waits after failures are skipped. Empty: all changes.",
    )
    dry_run: bool = Field(default=False, description="Only show what would be sent; no channel is called.")
    reason: str = Field(default="", description="Why this run was started by hand; kept as a tag of the run.")


def build_push(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """Return the push step with one asset and one check a channel; nothing if there are no channels."""
    channels = configuration.channels
    if not channels:
        return []
    by_name = {channel.name: channel for channel in channels}

    @dg.multi_asset(
        name="push_results",
        can_subset=True,
        specs=[_spec(channel, configuration.settings) for channel in channels],
        check_specs=[
            dg.AssetCheckSpec(
                PUSHED,
                asset=push_key(channel.name),
                description="The channel answered, and took each row that was sent.",
            )
            for channel in channels
        ],
    )
    def push_results(context: dg.AssetExecutionContext, config: PushConfig, invsync: Invsync) -> Iterator[Any]:
        names = sorted(key.path[-1] for key in context.selected_asset_keys)
        cause = cause_of(context)
        keep_reason(context, config.reason)
        if cause == GIVEN_SKUS and not config.skus:
            raise dg.Failure(
                "This job pushes given SKUs: name at least one under `skus` in the launchpad.", allow_retries=False
            )
        if config.dry_run:
            _show_what_is_due(context, config, invsync.workspace, names)
            return
        failed: list[str] = []
        goes_on = False
        others = SideBySide(names)
        for name, answer in _pushed(context, config, invsync, others, names):
            goes_on |= isinstance(answer, PushReport) and answer.goes_on
            if isinstance(answer, PushReport) and not answer.problem:
                yield _materialized(context, config, invsync.workspace, answer)
            else:
                failed.append(name)
                yield _red(by_name[name], answer)
        if (goes_on and not config.skus) or others.missed:
            with suppress(OSError):  # without the mark the next cycle goes on with it
                invsync.workspace.home.work_left.touch()  # for the inbox sensor, which requests a run at once
        if failed or cause != WEBHOOK:
            # Written here and not by an asset downstream, which is not executed once a push has failed. Yielded, not
            # logged: Dagster drops what was logged after the last yield of a step that fails.
            yield dg.AssetMaterialization(SYNC_STATUS, metadata=status_metadata(invsync.workspace))
        if failed:
            tag_failed(context, failed)
            raise dg.Failure(
                f"{len(failed)} of {len(names)} channels failed: {', '.join(failed)}. What they miss stays a change, "
                "and the next run attempts it anew; the red checks say what to mend.",
                allow_retries=False,
            )

    return [push_results]


def _spec(channel: Channel, settings: Settings) -> dg.AssetSpec:
    usual = timedelta(minutes=settings.incremental_every_minutes)
    return dg.AssetSpec(
        push_key(channel.name),
        # The ledger itself too: a webhook's run leaves the changes out, and must apply before it pushes all the same.
        deps=[CHANGES, LEDGER],
        skippable=True,
        group_name=PUSH,
        owners=OWNERS,
        kinds=platform_kinds(channel),
        tags=platform_tags(channel),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=6 * usual, warn_window=3 * usual),
        description=(
            f"What the pushes to **{channel.title}** did: each level whose number was out of step was written, or read "
            "and settled.\n\n"
            "*Red* means that the channel as a whole failed (credentials, configuration, no answer before the "
            "deadline); the other channels went on. Look at the check `pushed`: it says why and what to do. Nothing is lost: "
            "what is left stays a change, and the next cycle attempts it anew.\n\n"
            + (f"**Disabled:** {channel.disabled_reason}" if channel.disabled_reason else "")
        ).rstrip(),
    )


def _pushed(
    context: dg.AssetExecutionContext, config: PushConfig, invsync: Invsync, others: SideBySide, names: list[str]
) -> Iterator[Answer]:
    """Push all channels at once and give each answer when it is there; one that doesn't come is given as such.

    The threads are daemons: a hung one neither holds up the others nor keeps the run's process alive.
    """
    ws = invsync.workspace
    seconds = ws.configuration.settings.push_deadline_seconds
    if cause_of(context) == WORK_LEFT:
        seconds = max(seconds, BACKLOG_SECONDS)
    deadline = ws.clock.now() + timedelta(seconds=seconds)
    answers: SimpleQueue[Answer] = SimpleQueue()

    def push(name: str) -> None:
        try:
            run_id, skus = context.run.run_id, config.skus or None
            answers.put((name, push_channel(ws, name, run_id=run_id, deadline=deadline, skus=skus, others=others)))
        except (
            Exception
        ) as error:  # a thread's end: whatever broke this channel is reported, and fails this channel alone
            others.leaves(name)
            context.log.error(f"{name}: {''.join(traceback.format_exception(error))}")
            answers.put((name, f"{type(error).__name__}: {error}"))
        finally:
            others.heard(name)

    for name in names:
        Thread(target=push, args=(name,), name=f"push {name}", daemon=True).start()
    waiting = set(names)
    # How long this process waits for its own threads is real time, whatever clock the push goes by.
    until = time.monotonic() + seconds + invsync.grace_seconds
    while waiting:
        try:
            name, answer = answers.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            break
        waiting.remove(name)
        yield name, answer
    for name in sorted(waiting):
        yield name, f"no answer within {seconds + invsync.grace_seconds:.0f} s; its claims run out and are taken over"


def _materialized(
    context: dg.AssetExecutionContext, config: PushConfig, ws: Workspace, report: PushReport
) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        asset_key=push_key(report.channel),
        metadata={
            **in_short(cause_of(context), _figures(report)),
            **({"reason": config.reason} if config.reason else {}),
            **worst_rows(report.failures),
            **report_file(ws.home, context.run.run_id, f"failed_{report.channel}", report.failures),
        },
        check_results=[_check(report)],
    )


def _figures(report: PushReport) -> dict[str, int | float]:
    """The numbers of a push that become plots; the keys are stable. Counts are levels, times seconds."""
    figures: dict[str, int | float] = {
        "pushed": report.pushed,
        "acknowledged": report.acknowledged,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "not_sent": report.not_sent,
        "unknown": report.unknown,
        "read": report.read,
        "settled": report.settled,
        "review": report.review,
        "left": report.left,
        "waiting": report.waiting,
        "orders_polled": report.orders,
        "api_calls": report.api_calls,
        "rate_limit_wait_s": round(report.wait_seconds, 3),
        "duration_s": round(report.seconds, 3),
    }
    if report.pushed:
        figures["ack_ratio"] = round(report.acknowledged / report.pushed, 4)
    for key, share in (("latency_p50_s", 0.5), ("latency_p95_s", 0.95)):
        latency = report.latency(share)
        if latency is not None:
            figures[key] = round(latency, 3)
    return figures


def _check(report: PushReport) -> dg.AssetCheckResult:
    """Rows that failed are a warning: they are tried again by themselves. A missing approval waits for a person."""
    key = push_key(report.channel)
    if report.approval_missing:
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=PUSHED,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description="Nothing is written before the first push is approved: run the job preview_channel, look, "
            "then run "
            "approve_first_push.",
        )
    if report.clock_ahead:
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=PUSHED,
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{clock_off(report.channel, report.clock_ahead)}.",
        )
    bad = report.rejected + report.unknown
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=PUSHED,
        passed=bad == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{bad} rows failed; they stay changes and are tried again. The table `worst` has the platform's "
        "words."
        if bad
        else "All rows were taken.",
        metadata={"failed_rows": bad, "failed_share": round(bad / report.pushed, 4) if report.pushed else 0.0},
    )


def _red(channel: Channel, answer: PushReport | str) -> dg.AssetCheckResult:
    reason = answer.problem if isinstance(answer, PushReport) else answer
    mend = "the next run attempts it anew"
    if isinstance(answer, PushReport) and answer.stopped:
        variables = " and ".join(channel.credential_variables())
        mend = (
            "each run asks the platform once and goes on as soon as it lets us in. If its keys have changed, put the new "
            f"ones into {variables} (in .env) and start Dagster again; else look at the account there"
        )
    figures: dict[str, Any] = _figures(answer) if isinstance(answer, PushReport) else {}
    return dg.AssetCheckResult(
        asset_key=push_key(channel.name),
        check_name=PUSHED,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{reason}. What is left stays a change, and {mend}.",
        metadata=figures,
    )


def _show_what_is_due(context: dg.AssetExecutionContext, config: PushConfig, ws: Workspace, names: list[str]) -> None:
    """Observe each channel's asset with what a push would send now, as the database knows it; nothing is called."""
    for name in names:
        with ws.engine.connect() as connection:
            rows = oldest_changes(connection, channel=name, skus=config.skus)
        metadata: dict[str, Any] = {
            "dry_run": True,
            "changes": len(rows),
            **({"reason": config.reason} if config.reason else {}),
            **worst_rows(rows),
            **report_file(ws.home, context.run.run_id, f"dry_run_{name}", rows),
        }
        context.log_event(dg.AssetObservation(push_key(name), metadata=metadata))
