"""`invsync import` and `invsync imports`: files taken in, held ones decided."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from sqlalchemy import select

from invsync_dagster.cli.common import (
    NOT_AS_HOPED,
    RefusedError,
    as_json_option,
    decided,
    print_json,
    print_table,
    run_id,
    user,
    workspace,
)
from invsync_dagster.inventory import counts
from invsync_dagster.inventory.imports import importing, results
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.tables import imports
from invsync_dagster.sync.workspace import Workspace


@click.command("import")
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
@as_json_option
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
    with workspace() as ws:
        if only_preview:
            shown = importing.preview(_basis(ws, user()), file, declaration)
            click.echo(shown.render()) if not as_json else print_json(shown.to_dict())
            return
        result = importing.import_file(_basis(ws, user()), file, declaration)
    _show_import(result, as_json)


@click.group("imports")
def imports_group() -> None:
    """What was imported, and what is held until somebody decides."""


@imports_group.command("list")
@click.option("--held", "held_only", is_flag=True, help="Only those that wait for a decision.")
@as_json_option
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
    with workspace() as ws, ws.engine.connect() as connection:
        rows = [{name: row[name] for name in shown} for row in connection.execute(query).mappings()]
    for row in rows:
        row["created_at"] = row["created_at"].isoformat(timespec="seconds")
    if as_json:
        print_json(rows)
    else:
        print_table("Imports", shown, [tuple(row.values()) for row in rows])


@imports_group.command("approve")
@click.argument("import_id")
@decided
@as_json_option
def imports_approve(import_id: str, actor: str, reason: str, as_json: bool) -> None:
    """Let a held import go in, as it was declared; sales since then are kept."""
    with workspace() as ws:
        _show_import(importing.approve(_basis(ws, actor), import_id, reason), as_json)


@imports_group.command("drop")
@click.argument("import_id")
@decided
@as_json_option
def imports_drop(import_id: str, actor: str, reason: str, as_json: bool) -> None:
    """Decide against a held import: nothing of it goes in."""
    with workspace() as ws:
        _show_import(importing.drop(_basis(ws, actor), import_id, reason), as_json)


def _basis(ws: Workspace, actor: str) -> Basis:
    limits = ws.configuration.settings.import_limits
    return Basis(ws.engine, ws.home.imports, limits, ws.clock.now(), actor, run_id())


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
        print_json(result.to_dict())
    else:
        click.echo(result.render())
        if result.state == results.HELD:
            click.echo(f"look at it, then: invsync imports approve {result.import_id} --reason … (or: imports drop)")
    if result.state in (results.HELD, results.REJECTED):
        click.get_current_context().exit(NOT_AS_HOPED)
