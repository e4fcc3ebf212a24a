"""`invsync sync`, `preview` and `approve`: given SKUs pushed now, a first push looked at and allowed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial

import click
from sqlalchemy import Connection, select

from invsync_dagster.cli.common import (
    CHANNEL,
    LARGEST,
    NOT_AS_HOPED,
    RefusedError,
    as_json_option,
    configured,
    decided,
    failed_at,
    print_json,
    print_table,
    run_id,
    workspace,
)
from invsync_dagster.inventory.changes import Change, oldest_changes
from invsync_dagster.inventory.channels import is_registered, why_at_rest
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explain import explain
from invsync_dagster.inventory.tables import central_inventory, channels, platform_mapping
from invsync_dagster.inventory.unpushed import unpushed
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.sync.another_shop import ANOTHER_SHOP
from invsync_dagster.sync.preview import AnotherShopError, Preview, approve, preview_channel
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport


@click.command("sync")
@click.argument("skus", nargs=-1, required=True, metavar="SKU…")
@click.option("--channel", "names", type=CHANNEL, multiple=True, help="Only this channel; may be repeated.")
@as_json_option
def sync_command(skus: tuple[str, ...], names: tuple[str, ...], as_json: bool) -> None:
    """Push the given SKUs now, to all channels side by side; waits after earlier failures are skipped.

    \b
    Examples:
      invsync sync OCT00-SAN-S
      invsync sync OCT00-SAN-S OCT00-SAN-M --channel shopify_main
    """
    with workspace() as ws:
        usable = [channel for channel in ws.configuration.channels if not channel.disabled_reason]
        chosen = [configured(ws, name) for name in names] or usable
        with ws.engine.connect() as connection:
            _check_skus(connection, skus)
        deadline = ws.clock.now() + timedelta(seconds=ws.configuration.settings.push_deadline_seconds)
        push = partial(push_channel, ws, run_id=run_id(), deadline=deadline, skus=set(skus))
        with ThreadPoolExecutor(max(1, len(chosen))) as pool:
            reports = list(pool.map(push, [channel.name for channel in chosen]))
        now = ws.clock.now()
        with ws.engine.connect() as connection:
            left = _left_of(connection, reports, skus, named=bool(names))
            reports = [_of_skus(connection, report, skus, now) for report in reports]
    if as_json:
        print_json([{**asdict(report), "left_of": left[report.channel]} for report in reports])
    else:
        columns = ("channel", "pushed", "acknowledged", "read", "failed", "left", "waiting", "seconds", "problem")
        print_table("Pushed", columns, [_push_row(report) for report in reports])
        for report in reports:
            for failure in report.failures:
                click.echo(f"! {report.channel} {failure.sku}: {failure.code}: {failure.message}")
            for sentence in left[report.channel]:
                click.echo(f"! {report.channel} {sentence}")
    if any(report.problem or report.failures or report.approval_missing or left[report.channel] for report in reports):
        click.get_current_context().exit(NOT_AS_HOPED)


def _of_skus(connection: Connection, report: PushReport, skus: Sequence[str], now: datetime) -> PushReport:
    """Return a report that counts what is left of the SKUs that were asked for: a push counts the whole channel."""
    changes = [one for one in oldest_changes(connection, channel=report.channel, skus=skus) if _is_left(one)]
    left = sum(one.due_at <= now for one in changes)
    return replace(report, left=left, waiting=len(changes) - left)


def _left_of(
    connection: Connection, reports: Sequence[PushReport], skus: Sequence[str], *, named: bool
) -> dict[str, list[str]]:
    """Say by channel, in a sentence each, what of the SKUs is still to be done, and isn't told by the report.

    That one isn't listed on a channel is told of a channel that was named, and of a SKU that none of them lists.
    """
    standing = {report.channel: unpushed(connection, report.channel, skus) for report in reports}
    nowhere = {sku for sku in skus if all(sku in one.unlisted for one in standing.values())}
    return {
        report.channel: [
            *_left_at(connection, report, skus, standing[report.channel].stopped, named=named),
            *(why for sku, why in standing[report.channel].unlisted.items() if named or sku in nowhere),
        ]
        for report in reports
    }


def _left_at(
    connection: Connection, report: PushReport, skus: Sequence[str], stopped: list[str], *, named: bool
) -> list[str]:
    if report.problem or report.approval_missing:
        return stopped
    listing = platform_mapping.c
    standing = connection.execute(
        select(channels.c.status, channels.c.status_reason)
        .join(platform_mapping, listing.platform_name == channels.c.name)
        .where(channels.c.name == report.channel, channels.c.status != "active")
        .where(listing.central_sku.in_(skus), listing.status == "active")
        .limit(1)
    ).one_or_none()
    if standing and standing.status == "paused":
        mend = f"`invsync channels resume {report.channel} --reason …`"
        return [f"is paused ({standing.status_reason}), and nothing is written there: {mend}", *stopped]
    if standing and named:
        return [f"is {standing.status}: nothing is written there", *stopped]
    told = {failure.sku for failure in report.failures}
    changes = oldest_changes(connection, channel=report.channel, skus=skus)
    left = [f"{change.sku}: {_why_left(change)}" for change in changes if change.sku not in told and _is_left(change)]
    return [*stopped, *left]


def _is_left(change: Change) -> bool:
    # What shows its number and is only to be read back, as after an own sale, went as hoped.
    return change.shown != change.desired or bool(change.last_error) or change.uncertain not in _TO_BE_READ_BACK


_TO_BE_READ_BACK = ("", "own_sale", "accepted", "late_answer")


def _why_left(change: Change) -> str:
    doubt = f", and is in doubt ({change.uncertain})" if change.uncertain else ""
    return change.last_error or f"should show {change.desired}{doubt}: the next push goes on with it"


def _check_skus(connection: Connection, skus: Sequence[str]) -> None:
    known = set(connection.execute(select(central_inventory.c.sku).where(central_inventory.c.sku.in_(skus))).scalars())
    for sku in skus:
        if sku not in known:
            explain(connection, sku)  # raises UnknownError naming near ones


def _push_row(report: PushReport) -> tuple[object, ...]:
    problem = report.problem
    if report.approval_missing and not problem:
        problem = (
            f"its first push isn't approved: invsync preview {report.channel}, then invsync approve {report.channel}"
        )
    failed = report.rejected + report.unknown + report.not_sent
    counts = (report.pushed, report.acknowledged, report.read, failed, report.left, report.waiting)
    return (report.channel, *counts, f"{report.seconds:.1f}", problem)


@click.command("preview")
@click.argument("channel", type=CHANNEL)
@as_json_option
def preview_command(channel: str, as_json: bool) -> None:
    """What a push would change at CHANNEL: reads every listing there, and writes nothing.

    \b
    Examples:
      invsync preview shopify_main
    """
    with workspace() as ws:
        its_channel = configured(ws, channel)
        with ws.engine.connect() as connection:
            if not is_registered(connection, channel):
                raise RefusedError(why_at_rest(connection, channel))
        title = its_channel.title
        try:
            preview = preview_channel(ws, channel)
        except PlatformError as error:
            if error.code != ANOTHER_SHOP:
                raise failed_at(its_channel, str(error)) from error
            click.echo(f"! {title}: {error}", err=True)
            click.get_current_context().exit(NOT_AS_HOPED)
    if as_json:
        rows = [{**asdict(row), "move": row.move} for row in preview.changes]
        unreadable = [{"sku": row.sku, "item_id": row.item_id, "problem": row.problem} for row in preview.unreadable]
        print_json({"channel": channel, "totals": preview.totals(), "changes": rows, "unreadable": unreadable})
    else:
        show_preview(preview, title)


def show_preview(preview: Preview, title: str, largest: int = LARGEST) -> None:
    """Print the totals and the largest moves of a preview."""
    rows = [(row.sku, row.product_name, row.shown, row.desired, f"{row.move:+d}") for row in preview.changes[:largest]]
    if rows:
        print_table(f"{title}: largest moves", ("sku", "product", "shows", "should show", "move"), rows)
    totals = preview.totals()
    click.echo(
        "{title}: {levels} listings, {equal} as they should be, {raised} raised, {lowered} lowered, of these {zeroed} to 0, "
        "{made} made that are not there yet, {unreadable} can't be read; units on show {units_shown} -> {units_desired}".format(
            title=title, **totals
        )
    )
    for row in preview.unreadable[:largest]:
        click.echo(f"! {row.sku}: {row.problem}")


@click.command("approve")
@click.argument("channel", type=CHANNEL)
@decided
def approve_command(channel: str, actor: str, reason: str) -> None:
    """Allow the first push of CHANNEL; nothing is written there before. Look at its preview first.

    \b
    Examples:
      invsync approve shopify_main --reason "the preview is right"
    """
    with workspace() as ws:
        title = configured(ws, channel).title
        with write_transaction(ws.engine) as connection:
            try:
                approve(connection, channel, actor=actor, reason=reason, now=ws.clock.now())
            except AnotherShopError as error:
                raise RefusedError(str(error)) from error
    click.echo(f"{title}: its pushes are approved by {actor}")
