"""The `invsync` command: what people look at and decide in a terminal, in words, or with --json as data.

Exit codes: 0 done; 1 done but not as hoped (an import was held, a channel failed); 2 it could not be done, then one line
says why and what to do.
"""

from __future__ import annotations

import getpass
import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Connection, make_url, select
from sqlalchemy.exc import DBAPIError

from invsync_dagster.clock import SystemClock
from invsync_dagster.environment import load_env_file
from invsync_dagster.inventory import channels as channel_rows
from invsync_dagster.inventory import counts, levels
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explain import UnknownError, explain
from invsync_dagster.inventory.imports import importing, results
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.reading import FileError
from invsync_dagster.inventory.status import COLUMNS, status
from invsync_dagster.inventory.tables import central_inventory, imports
from invsync_dagster.inventory.tables import channels as channels_table
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.settings import Home
from invsync_dagster.sync.calls import OutOfTimeError
from invsync_dagster.sync.preview import Preview, preview_channel
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter

_Command = TypeVar("_Command", bound=Callable[..., Any])

LARGEST = 20  # moves of a preview that the terminal shows; --json has all

NOT_AS_HOPED = 1
REFUSED = 2


class RefusedError(click.ClickException):
    """Something that could not be done: one line for the person, exit code 2."""

    exit_code = REFUSED

    def show(self, file: Any = None) -> None:
        click.echo(f"invsync: {' '.join(self.message.split())}", err=True)


class Commands(click.Group):
    """Loads the `.env` of the root, and turns what stops a command into one line; anything else is our fault and raises."""

    def invoke(self, ctx: click.Context) -> Any:
        load_env_file(Home.from_environment().root)
        try:
            return super().invoke(ctx)
        except (FileError, UnknownError, importing.DecisionError, OutOfTimeError, LookupError) as error:
            raise RefusedError(str(error.args[0]) if type(error) is KeyError else str(error)) from error
        except PlatformError as error:
            raise RefusedError(f"the channel answered {error.code}: {error.message}") from error
        except DBAPIError as error:
            raise RefusedError(
                f"the database can't be used: {error.orig}; `make setup` creates and migrates it"
            ) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One central stock that keeps every shop in step."""


@contextmanager
def _workspace() -> Iterator[Workspace]:
    """Open the installation. The database must be there: SQLite would silently make an empty one."""
    home = Home.from_environment()
    url = make_url(home.database_url)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        raise RefusedError(f"there is no database {url.database} yet; run `make setup` in the root of the project")
    ws = Workspace.open(home)
    try:
        yield ws
    finally:
        ws.close()


def _as_json(command: _Command) -> _Command:
    return click.option("--json", "as_json", is_flag=True, help="Print data instead of words.")(command)


def _decided(command: _Command) -> _Command:
    """Add who decides and why; both are kept with the decision."""
    by = click.option("--actor", default=_user, show_default="your user name", help="Who decides.")
    return by(click.option("--reason", required=True, help="Why, for whoever asks later.")(command))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no user database, as in a bare container
        return "unknown"


def _print(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    # Imported here: 0.1 s that no --json call has to wait for.
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numbers = bool(rows) and all(_is_number(row[index]) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    Console().print(table)


def _is_number(value: object) -> bool:
    return value is None or str(value).lstrip("+-").isdigit()


# --- seeing -----------------------------------------------------------------------------------------------------------


@main.command("status")
@_as_json
def status_command(as_json: bool) -> None:
    """How things stand: what is in step per channel, and what waits for a person."""
    with _workspace() as ws:
        with ws.engine.connect() as connection:
            found = status(connection, ws.clock.now())
        problems = list(ws.configuration.problems)
    if as_json:
        _print({**found.to_dict(), "configuration_problems": problems})
        return
    _print_table("Channels (listings)", COLUMNS, found.rows())
    click.echo(
        f"{found.skus} SKUs ({found.inactive} inactive), {found.units} units on hand, {found.reserved} reserved; "
        f"{found.out_of_step} listings out of step; ledger at {found.ledger_sequence}"
    )
    for line in [*problems, *found.notes()]:
        click.echo(f"! {line}")


@main.command("explain")
@click.argument("sku")
@click.option("--channel", help="One channel alone.")
@_as_json
def explain_command(sku: str, channel: str | None, as_json: bool) -> None:
    """Why each channel shows what it shows for SKU: reading, answer, attempt, rules, ledger, delivery."""
    with _workspace() as ws, ws.engine.connect() as connection:
        explanation = explain(connection, sku, channel)
    if as_json:
        _print(explanation.to_dict())
    else:
        click.echo(explanation.render())


# --- imports ----------------------------------------------------------------------------------------------------------


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--preview", "only_preview", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--basis", type=click.Choice(["on_hand", "available"]), default="on_hand", show_default=True,
              help="What the quantities are: units on the shelf, or what is left after open orders.")  # fmt: skip
@click.option(
    "--as-of", help="When it was counted, with the time zone: 2026-07-01T06:00:00+00:00 (else: the file's time)."
)
@click.option(
    "--contains", multiple=True, metavar="CHANNEL", help="A channel whose orders it contains; may be repeated."
)
@click.option(
    "--lag", "lag_seconds", type=click.FloatRange(min=0), default=0.0, help="Seconds by which it books them late."
)
@_as_json
def import_command(
    file: Path,
    only_preview: bool,
    basis: counts.Basis,
    as_of: str | None,
    contains: tuple[str, ...],
    lag_seconds: float,
    as_json: bool,
) -> None:
    """Import an inventory or mapping FILE (CSV or Excel). One beyond the limits is held as a whole until approved."""
    declaration = Declaration(basis, _moment(as_of), contains, lag_seconds)
    if not file.is_file():
        raise RefusedError(f"{file}: there is no such file")
    with _workspace() as ws:
        if only_preview:
            shown = importing.preview(_basis(ws, _user()), file, declaration)
            click.echo(shown.render()) if not as_json else _print(shown.to_dict())
            return
        result = importing.import_file(_basis(ws, _user()), file, declaration)
    _show_import(result, as_json)


@main.group("imports")
def imports_group() -> None:
    """What was imported, and what is held until somebody decides."""


@imports_group.command("list")
@click.option("--held", "held_only", is_flag=True, help="Only those that wait for a decision.")
@_as_json
def imports_list(held_only: bool, as_json: bool) -> None:
    """The imports, newest first."""
    query = select(imports).order_by(imports.c.created_at.desc(), imports.c.id.desc()).limit(50)
    if held_only:
        query = query.where(imports.c.state == results.HELD)
    shown = (
        "id",
        "kind",
        "file_name",
        "state",
        "rows",
        "applied_rows",
        "rejected_rows",
        "created_at",
        "decided_by",
        "reason",
    )
    with _workspace() as ws, ws.engine.connect() as connection:
        rows = [{name: row[name] for name in shown} for row in connection.execute(query).mappings()]
    for row in rows:
        row["created_at"] = row["created_at"].isoformat(timespec="seconds")
    if as_json:
        _print(rows)
    else:
        _print_table("Imports", shown, [tuple(row.values()) for row in rows])


@imports_group.command("approve")
@click.argument("import_id")
@_decided
@_as_json
def imports_approve(import_id: str, actor: str, reason: str, as_json: bool) -> None:
    """Let a held import go in, as it was declared; sales since then are kept."""
    with _workspace() as ws:
        _show_import(importing.approve(_basis(ws, actor), import_id, reason), as_json)


@imports_group.command("drop")
@click.argument("import_id")
@_decided
@_as_json
def imports_drop(import_id: str, actor: str, reason: str, as_json: bool) -> None:
    """Decide against a held import: nothing of it goes in."""
    with _workspace() as ws:
        _show_import(importing.drop(_basis(ws, actor), import_id, reason), as_json)


def _basis(ws: Workspace, actor: str) -> Basis:
    limits = ws.configuration.settings.import_limits
    return Basis(ws.engine, ws.home.imports, limits, ws.clock.now(), actor, _run_id())


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError(f"--as-of {text!r} is no time; write it as 2026-07-01T06:00:00+00:00") from None
    if moment.tzinfo is None:
        raise RefusedError(f"--as-of {text!r} has no time zone; write it as {text}+00:00 if it is UTC")
    return moment.astimezone(UTC)


def _show_import(result: results.ImportResult, as_json: bool) -> None:
    if as_json:
        _print(result.to_dict())
    else:
        click.echo(result.render())
        if result.state == results.HELD:
            click.echo(f"look at it, then: invsync imports approve {result.import_id} --reason … (or: imports drop)")
    if result.state in (results.HELD, results.REJECTED):
        click.get_current_context().exit(NOT_AS_HOPED)


# --- pushing ----------------------------------------------------------------------------------------------------------


@main.command("sync")
@click.argument("skus", nargs=-1, required=True, metavar="SKU…")
@click.option("--channel", "names", multiple=True, help="Only this channel; may be repeated.")
@_as_json
def sync_command(skus: tuple[str, ...], names: tuple[str, ...], as_json: bool) -> None:
    """Push the given SKUs now, to all channels side by side; waits after earlier failures are skipped."""
    with _workspace() as ws:
        chosen = [ws.channel(name) for name in names] or [
            one for one in ws.configuration.channels if not one.disabled_reason
        ]
        with ws.engine.connect() as connection:
            _check_skus(connection, skus)
        deadline = ws.clock.now() + timedelta(seconds=ws.configuration.settings.push_deadline_seconds)
        push = partial(push_channel, ws, run_id=_run_id(), deadline=deadline, skus=set(skus))
        with ThreadPoolExecutor(max(1, len(chosen))) as pool:
            reports = list(pool.map(push, [channel.name for channel in chosen]))
    if as_json:
        _print([asdict(report) for report in reports])
    else:
        columns = ("channel", "pushed", "acknowledged", "read", "failed", "left", "waiting", "seconds", "problem")
        _print_table("Pushed", columns, [_push_row(report) for report in reports])
        for report in reports:
            for failure in report.failures:
                click.echo(f"! {report.channel} {failure.sku}: {failure.code}: {failure.message}")
    if any(report.problem or report.failures or report.approval_missing for report in reports):
        click.get_current_context().exit(NOT_AS_HOPED)


def _check_skus(connection: Connection, skus: Sequence[str]) -> None:
    known = set(connection.execute(select(central_inventory.c.sku).where(central_inventory.c.sku.in_(skus))).scalars())
    for sku in skus:
        if sku not in known:
            explain(connection, sku)  # raises UnknownError naming near ones


def _push_row(report: PushReport) -> tuple[object, ...]:
    problem = report.problem
    if report.approval_missing:
        problem = (
            f"its first push isn't approved: invsync preview {report.channel}, then invsync approve {report.channel}"
        )
    failed = report.rejected + report.unknown + report.not_sent
    counts = (report.pushed, report.acknowledged, report.read, failed, report.left, report.waiting)
    return (report.channel, *counts, f"{report.seconds:.1f}", problem)


@main.command("preview")
@click.argument("channel")
@_as_json
def preview_command(channel: str, as_json: bool) -> None:
    """What a push would change at CHANNEL: reads every listing there, and writes nothing."""
    with _workspace() as ws:
        _usable(ws, channel)
        preview = preview_channel(ws, channel)
    if as_json:
        rows = [{**asdict(row), "move": row.move} for row in preview.changes]
        _print({"channel": channel, "totals": preview.totals(), "changes": rows})
    else:
        show_preview(preview)


def show_preview(preview: Preview, largest: int = LARGEST) -> None:
    """Print the totals and the largest moves of a preview."""
    rows = [(row.sku, row.product_name, row.shown, row.desired, f"{row.move:+d}") for row in preview.changes[:largest]]
    if rows:
        _print_table(f"{preview.channel}: largest moves", ("sku", "product", "shows", "should show", "move"), rows)
    totals = preview.totals()
    click.echo(
        "{channel}: {levels} listings, {equal} as they should be, {raised} raised, {lowered} lowered, of these {zeroed} to 0, "
        "{unreadable} can't be read; units on show {units_shown} -> {units_desired}".format(
            channel=preview.channel, **totals
        )
    )


@main.command("approve")
@click.argument("channel")
@_decided
def approve_command(channel: str, actor: str, reason: str) -> None:
    """Allow the first push of CHANNEL; nothing is written there before. Look at its preview first."""
    with _workspace() as ws:
        _usable(ws, channel)
        with write_transaction(ws.engine) as connection:
            channel_rows.approve_first_push(connection, channel, actor=actor, reason=reason, now=ws.clock.now())
    click.echo(f"{channel}: its pushes are approved by {actor}")


def _usable(ws: Workspace, name: str) -> None:
    disabled = ws.channel(name).disabled_reason
    if disabled:
        raise RefusedError(disabled)


def _run_id() -> str:
    rng = random.SystemRandom()
    return f"cli-{rng.getrandbits(48):012x}"


# --- channels ---------------------------------------------------------------------------------------------------------


@main.group("channels")
def channels_group() -> None:
    """The channels of channels.yaml in the database: registered, paused, retired."""


@channels_group.command("sync")
@_as_json
def channels_sync(as_json: bool) -> None:
    """Bring the database in line with channels.yaml, and recompute the listings whose rules changed."""
    with _workspace() as ws:
        register_channels(ws)
        problems = list(ws.configuration.problems)
        names = [channel.name for channel in ws.configuration.channels if not channel.disabled_reason]
    if as_json:
        _print({"channels": names, "problems": problems})
    else:
        click.echo(f"registered: {', '.join(names) or 'no channel'}")
        for problem in problems:
            click.echo(f"! {problem}")
    if problems:
        click.get_current_context().exit(NOT_AS_HOPED)


@channels_group.command("list")
@_as_json
def channels_list(as_json: bool) -> None:
    """All channels, those of the database and those of the file."""
    with _workspace() as ws:
        with ws.engine.connect() as connection:
            known = {
                row.name: row for row in connection.execute(select(channels_table).order_by(channels_table.c.name))
            }
        configured = {channel.name: channel for channel in ws.configuration.channels}
    rows = []
    for name in [*known, *(name for name in configured if name not in known)]:
        row, channel = known.get(name), configured.get(name)
        approved = row.push_approved_at if row is not None else None
        reason = channel.disabled_reason if channel else "not in channels.yaml"
        rows.append(
            {
                "channel": name,
                "platform": row.platform if row is not None else channel.platform if channel else "",
                "environment": row.environment if row is not None else channel.environment if channel else "",
                "status": row.status if row is not None else "not registered",
                "first_push": f"approved by {row.push_approved_by}" if row is not None and approved else "not approved",
                "reason": "; ".join(
                    filter(None, (row.status_reason or row.stopped_reason if row is not None else "", reason))
                ),
            }
        )
    if as_json:
        _print(rows)
    else:
        _print_table("Channels", ("channel", "platform", "environment", "status", "first push", "reason"),
                     [tuple(row.values()) for row in rows])  # fmt: skip


def _set_status(name: str, state: str, actor: str, reason: str) -> None:
    with _workspace() as ws:
        now = ws.clock.now()
        with write_transaction(ws.engine) as connection:
            channel_rows.set_status(connection, name, state, actor=actor, reason=reason, now=now)
        levels.catch_up(ws.engine, now)
    click.echo(f"{name}: {state}")


@channels_group.command("pause")
@click.argument("channel")
@_decided
def channels_pause(channel: str, actor: str, reason: str) -> None:
    """Stop pushing to CHANNEL and leave its numbers as they are; its orders still count."""
    _set_status(channel, "paused", actor, reason)


@channels_group.command("resume")
@click.argument("channel")
@_decided
def channels_resume(channel: str, actor: str, reason: str) -> None:
    """Push to CHANNEL again; what it shows is read before it is written."""
    _set_status(channel, "active", actor, reason)


@channels_group.command("retire")
@click.argument("channel")
@_decided
def channels_retire(channel: str, actor: str, reason: str) -> None:
    """Give CHANNEL up: nothing is pushed there and its webhooks are not taken any more."""
    _set_status(channel, "retired", actor, reason)


# --- the inbox --------------------------------------------------------------------------------------------------------


@main.group("inbox")
def inbox_group() -> None:
    """Deliveries that could not be understood."""


@inbox_group.command("replay")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
def inbox_replay(files: tuple[Path, ...]) -> None:
    """Put quarantined deliveries (files under data/inbox/quarantine/) back into the inbox."""
    home = Home.from_environment()
    inbox, writer = Inbox(home.inbox), SegmentWriter(home.inbox, SystemClock(), random.SystemRandom())
    for file in files:
        path = file if file.is_file() else home.inbox / "quarantine" / file.name
        if not path.is_file():
            raise RefusedError(f"{file}: there is no such file, and none of that name in quarantine")
        try:
            segment = inbox.replay(path, writer)
        except (ValueError, KeyError) as error:
            raise RefusedError(f"{path.name} can't be replayed: {error}") from error
        click.echo(f"{path.name}: back in the inbox as {segment.name}")


if __name__ == "__main__":
    main()
