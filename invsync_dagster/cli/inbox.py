"""`invsync inbox` and `invsync audit`: what waits and what is kept of the deliveries, put back, applied again, proven."""

from __future__ import annotations

import os
import random
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from invsync_dagster.cli.common import (
    CHANNEL,
    NOT_AS_HOPED,
    RefusedError,
    as_json_option,
    configured,
    decided,
    moment,
    print_json,
    print_table,
    run_id,
    workspace,
)
from invsync_dagster.clock import SystemClock
from invsync_dagster.environment import Environment
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.audit_attempts import audit_attempts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import IntakeReport
from invsync_dagster.sync.prove import prove_orders
from invsync_dagster.sync.replay import replay
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter, segment_time
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.quarantine import Quarantine
from invsync_dagster.webhooks.seals import Seals

# Rows and differences that the terminal shows; --json has all.
SHOWN = 20
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
BOOKS_MEND = (
    "Somebody has changed the database by hand, or it is damaged: don't repair it by hand. `invsync explain SKU` shows the"
    " entries; the latest backup in which nothing differs has the state before (docs/production.md)."
)
ATTEMPTS_MEND = (
    "The log of what was sent, or the levels, have been changed by hand, or an older backup was put in their place. What the"
    " shops show is right once a full run has read them (the job full_sync); a level is proven again by its next attempts."
)


@click.group("inbox")
def inbox_group() -> None:
    """Deliveries of webhooks: what waits, what could not be understood, what is kept."""


@inbox_group.command("list")
@as_json_option
def inbox_list(as_json: bool) -> None:
    """What waits to be applied, what is in quarantine and why, and the days of which deliveries are kept.

    \b
    Examples:
      invsync inbox list
    """
    home, now = Home.from_environment(), SystemClock().now()
    seals = Seals.from_environment(Environment(os.environ))
    inbox = Inbox(home.inbox, seals)
    oldest = inbox.segments(1)
    waiting = {
        "segments": inbox.waiting(),
        "oldest_seconds": round((now - segment_time(oldest[0])).total_seconds(), 1) if oldest else 0.0,
    }
    quarantined = list(inbox.quarantine.entries())
    days = Kept(home.inbox, seals).days()
    if as_json:
        entries = [asdict(one) | {"path": str(one.path)} for one in quarantined]
        print_json({"waiting": waiting, "quarantined": entries, "days": [asdict(day) for day in days]})
        return
    age = f", the oldest for {waiting['oldest_seconds']:.0f} s" if oldest else ""
    click.echo(f"{waiting['segments']:,} segments wait to be applied{age}; new ones are {_sealed(seals)}")
    if quarantined:
        rows = [(one.path.name, one.channel, one.topic, one.received_at, one.reason) for one in quarantined[-SHOWN:]]
        columns = ("file", "channel", "topic", "received", "reason")
        print_table(f"Quarantine: {len(quarantined)}, the latest", columns, rows)
    if days:
        table = [
            (day.day, day.segments, f"{day.size_bytes / 1e6:.1f}", "erased" if day.is_erased else "") for day in days
        ]
        print_table("Kept for a replay", ("day (UTC)", "segments", "MB", "buyers' fields"), table)


@inbox_group.command("replay")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE…]")
@click.option("--from", "since", metavar="TIME", help="Replay what was received from this time, with its zone.")
@click.option("--to", "until", metavar="TIME", help="To before this time (else: until now).")
@click.option("--channel", type=CHANNEL, default="", help="One channel alone.")
def inbox_replay(files: tuple[Path, ...], since: str | None, until: str | None, channel: str) -> None:
    """Put quarantined deliveries (FILEs of data/inbox/quarantine/) back into the inbox; or, with --from, apply all kept
    deliveries of a time again, which books nothing twice.

    \b
    Examples:
      invsync inbox replay 1795249801-0.json
      invsync inbox replay --from 2026-07-01T06:00:00+02:00 --channel shopify_main
    """
    if bool(files) == bool(since):
        raise RefusedError("name files of the quarantine, or a time with --from")
    if since is None:
        if until or channel:
            raise RefusedError("--to and --channel go with --from")
        _put_back(files)
        return
    begin = moment("--from", since)
    with workspace() as ws:
        if channel:
            configured(ws, channel)
        end = moment("--to", until) if until else ws.clock.now()
        report = replay(ws, begin, end, channel=channel, run_id=run_id())
    _show_replay(report)


@inbox_group.command("drop")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@decided
def inbox_drop(files: tuple[Path, ...], actor: str, reason: str) -> None:
    """Give quarantined deliveries up (FILEs of data/inbox/quarantine/): they were not applied, and nobody waits for them any
    more. What came stays among the kept deliveries.

    \b
    Examples:
      invsync inbox drop 1795249801-0.json --reason "a test of the platform's"
    """
    with workspace() as ws:
        quarantine = Inbox(ws.home.inbox).quarantine
        for path in [_quarantined(quarantine, file) for file in files]:
            with write_transaction(ws.engine) as connection:
                record_action(
                    connection,
                    at=ws.clock.now(),
                    actor=actor,
                    action="delivery dropped",
                    subject=path.name,
                    before=None,
                    after=None,
                    reason=reason,
                )
            path.unlink(missing_ok=True)
            click.echo(f"{path.name}: dropped")


def _quarantined(quarantine: Quarantine, file: Path) -> Path:
    path = quarantine.folder / file.name
    if not path.is_file():
        raise RefusedError(f"{file}: no file of that name is in quarantine")
    return path


def _put_back(files: tuple[Path, ...]) -> None:
    home = Home.from_environment()
    seals = Seals.from_environment(Environment(os.environ))
    inbox, writer = Inbox(home.inbox, seals), SegmentWriter(home.inbox, SystemClock(), random.SystemRandom(), seals)
    for file in files:
        path = file if file.is_file() else inbox.quarantine.folder / file.name
        if not path.is_file():
            raise RefusedError(f"{file}: there is no such file, and none of that name in quarantine")
        try:
            segment = inbox.put_back(path, writer)
        except (ValueError, KeyError) as error:
            raise RefusedError(f"{path.name} can't be replayed: {error}") from error
        click.echo(f"{path.name}: back in the inbox as {segment.name}")


def _show_replay(report: IntakeReport) -> None:
    click.echo(
        f"{report.deliveries:,} deliveries applied again: {report.entries:,} ledger entries of {report.skus:,} SKUs came of it, "
        f"{report.unresolved:,} lines without a listing, {report.quarantined:,} could not be applied"
    )
    for reason in sorted(set(report.reasons))[:SHOWN]:
        click.echo(f"! {reason}")


@click.command("audit")
@click.option("--from", "since", metavar="TIME", help="Deliveries received from this time (else: all that are kept).")
@click.option("--to", "until", metavar="TIME", help="To before this time (else: until now).")
@click.option("--channel", type=CHANNEL, default="", help="Deliveries of one channel alone.")
@as_json_option
def audit_command(since: str | None, until: str | None, channel: str, as_json: bool) -> None:
    """Prove the books: balances by the ledger, bookings by the orders' totals, totals by the deliveries that are kept, and
    what channels acknowledged by the log of attempts.

    \b
    Examples:
      invsync audit
      invsync audit --from 2026-07-01T00:00:00+02:00 --channel shopify_main
    """
    with workspace() as ws:
        begin = moment("--from", since) if since else EARLIEST
        end = moment("--to", until) if until else ws.clock.now()
        with ws.engine.connect() as connection:
            books, attempts = audit(connection), audit_attempts(connection)
        report = prove_orders(ws, begin, end, channel=channel)
    proven = report.proven
    differences = [*books, *attempts]
    wrong = bool(differences or proven.contradicted)
    if as_json:
        found = {"differences": [asdict(one) for one in differences], **asdict(proven), "unread": report.unread}
        print_json(found)
    else:
        click.echo(
            f"books: {len(books)} differences; attempts: {len(attempts)} differences; "
            f"orders: {proven.deliveries:,} deliveries and {proven.polled:,} lines told by polls prove {proven.proven:,} lines, "
            f"{proven.moved_on:,} have moved on since, {proven.contradicted:,} are contradicted; "
            f"{report.unread:,} deliveries could not be read"
        )
        if proven.shares:
            click.echo(proven.shares)
        for found_here, mend in ((books, BOOKS_MEND), (attempts, ATTEMPTS_MEND)):
            for one in found_here[:SHOWN]:
                place = " ".join(word for word in (one.sku, one.subject, one.what) if word)
                click.echo(f"! {place}: {one.stored}, and {one.proven} is proven")
            if found_here:
                click.echo(mend)
        for line in proven.contradictions[:SHOWN]:
            click.echo(
                f"! {line.channel} order {line.order_id} line {line.line_id}: {line.what}: {line.delivery} says {line.told}, "
                f"booked is {line.booked or 'nothing'}"
            )
        if proven.contradicted:
            click.echo(
                "`invsync inbox replay --from …` books what deliveries say and the books have lost; what only polls told, the "
                "job `count_orders` with `days`."
            )
    if wrong:
        click.get_current_context().exit(NOT_AS_HOPED)


def _sealed(seals: Seals) -> str:
    return "sealed" if seals.has_key else "not sealed (no INVSYNC_INBOX_KEY)"
