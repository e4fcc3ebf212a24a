"""The checks that look at everything, in the hourly audit: books, mappings, deliveries, what is held, failed batches."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.clock import age_in_words
from invsync_dagster.defs import names
from invsync_dagster.defs.full_sync import batch_partitions, failed_batches
from invsync_dagster.defs.imports import nothing_held
from invsync_dagster.defs.metadata import SHOWN, latest_report, worst_rows
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.audit import Difference, audit
from invsync_dagster.inventory.audit_attempts import audit_attempts
from invsync_dagster.inventory.mappings import each_mapping_case, mapping_cases
from invsync_dagster.sync.hearing import LONGEST_WAIT, oldest_waiting
from invsync_dagster.sync.prove import prove_orders
from invsync_dagster.sync.workspace import Workspace

# Deliveries so young are proven in every audit, and each of them so in many; all that are kept, by the command.
PROVEN = timedelta(days=1)


def build_audit_checks(configuration: Configuration) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the audit job."""
    batches = batch_partitions(configuration.settings)
    return [
        ledger_adds_up,
        orders_as_delivered,
        attempts_logged,
        mappings_clear,
        deliveries_applied,
        nothing_held,
        *[_batches_done(channel, batches) for channel in configuration.channels],
    ]


@dg.asset_check(
    asset=names.LEDGER,
    name="adds_up",
    description="Every balance is the sum of its ledger entries, and every order's bookings are its totals. Red: don't repair "
    "by hand; `invsync explain SKU` shows the entries, the latest good backup the state before.",
)
def ledger_adds_up(invsync: Invsync) -> dg.AssetCheckResult:
    """Prove the books."""
    ws = invsync.workspace
    with ws.engine.connect() as connection:
        found = audit(connection)
    return _audited(ws, "books", found, "The books add up.")


@dg.asset_check(
    asset=names.LEDGER,
    name="orders_as_delivered",
    description="The orders that the last day brought have the totals that raw deliveries and polls say. Red: "
    "`invsync audit` names the deliveries; `invsync inbox replay --from …` books what the stock has lost of them, and the job "
    "`count_orders` what only polls told.",
)
def orders_as_delivered(invsync: Invsync) -> dg.AssetCheckResult:
    """Prove the orders of the last day."""
    ws = invsync.workspace
    now = ws.clock.now()
    report = prove_orders(ws, now - PROVEN, now)
    proven = report.proven
    return dg.AssetCheckResult(
        passed=not proven.contradicted,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{proven.contradicted} order lines are not what their deliveries and polls say. {proven.shares}"
            if proven.contradicted
            else f"{proven.deliveries} deliveries, and {proven.polled} lines told by polls, say what is booked. {proven.shares}"
        ).rstrip(),
        metadata={
            "deliveries": proven.deliveries,
            "lines_polled": proven.polled,
            "lines_proven": proven.proven,
            "lines_moved_on": proven.moved_on,
            "lines_contradicted": proven.contradicted,
            "deliveries_unread": report.unread,
            **{f"lines_{channel}": lines for channel, lines in sorted(proven.lines.items())},
            **{f"lines_provable_{channel}": lines for channel, lines in sorted(proven.provable.items())},
            **worst_rows(proven.contradictions),
            **(
                latest_report(ws.home, "orders_contradicted", proven.contradictions, now) if proven.contradicted else {}
            ),
        },
    )


@dg.asset_check(
    asset=names.LEDGER,
    name="attempts_logged",
    description="Every attempt of a level is in the log, without a gap, and every number that a channel acknowledged has its "
    "attempt or reading there. Red: the log or the levels were changed by hand; `invsync audit` says what to do.",
)
def attempts_logged(invsync: Invsync) -> dg.AssetCheckResult:
    """Prove the log of attempts."""
    ws = invsync.workspace
    with ws.engine.connect() as connection:
        found = audit_attempts(connection)
    return _audited(ws, "attempts", found, "Every number has its attempt or reading.")


def _audited(ws: Workspace, what: str, found: Sequence[Difference], well: str) -> dg.AssetCheckResult:
    report = latest_report(ws.home, what, found, ws.clock.now()) if found else {}
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(found)} differences." if found else well,
        metadata={"differences": len(found), **worst_rows(found), **report},
    )


@dg.asset_check(
    asset=names.CHANGES,
    name="mappings_clear",
    description="Every active SKU is listed somewhere, no listing is in review, and every order line belongs to a "
    "listing. Red: "
    "import the missing mapping, or decide the listings in review.",
)
def mappings_clear(invsync: Invsync) -> dg.AssetCheckResult:
    """Count mapping cases."""
    ws = invsync.workspace
    with ws.engine.connect() as connection:
        cases = mapping_cases(connection, SHOWN)
        clear = not (cases.unmapped or cases.in_review or cases.unresolved_lines)
        report = {} if clear else latest_report(ws.home, "mappings", each_mapping_case(connection), ws.clock.now())
    return dg.AssetCheckResult(
        passed=clear,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{cases.unmapped} active SKUs without a listing, {cases.in_review} listings in review, "
        f"{cases.unresolved_lines} order lines without a listing.",
        metadata={
            "unmapped_skus": cases.unmapped,
            "listings_in_review": cases.in_review,
            "unresolved_lines": cases.unresolved_lines,
            **worst_rows(cases.first),
            **report,
        },
    )


@dg.asset_check(
    asset=names.WEBHOOK_FILES,
    name="applied_in_time",
    description="No delivery waits in the inbox for long. Red: nothing is lost, but nobody applies it: is the daemon running, "
    "is the inbox sensor on, does the job `webhooks` fail?",
)
def deliveries_applied(invsync: Invsync) -> dg.AssetCheckResult:
    """Look for the oldest delivery that waits."""
    ws = invsync.workspace
    waiting = oldest_waiting(ws.home.inbox, ws.clock.now())
    seconds = waiting.total_seconds() if waiting is not None else 0.0
    return dg.AssetCheckResult(
        passed=waiting is None or waiting <= LONGEST_WAIT,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"The oldest delivery has waited for {age_in_words(seconds)}." if waiting else "None waits.",
        metadata={"oldest_delivery_s": round(seconds, 1)},
    )


def _batches_done(channel: Channel, batches: dg.StaticPartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=names.full_sync_key(channel.name),
        name="no_failed_batch",
        description="No batch of the last full run failed. Red: run the job retry_failed_batches.",
    )
    def no_failed_batch(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        failed = failed_batches(context.instance, channel.name, batches)
        return dg.AssetCheckResult(
            passed=not failed,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"Failed batches: {', '.join(failed)}." if failed else "No batch has failed.",
            metadata={"failed_batches": len(failed)},
        )

    return no_failed_batch
