"""`invsync import` and `invsync imports`: files taken in, held ones decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from sqlalchemy import select

from invsync_dagster.cli.common import (
    CHANNEL,
    LARGEST,
    NOT_AS_HOPED,
    RefusedError,
    as_json_option,
    decided,
    moment,
    print_json,
    print_table,
    run_id,
    user,
    workspace,
)
from invsync_dagster.inventory import counts
from invsync_dagster.inventory.imports import importing, results
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import ENCODINGS, MARKS, Declaration, read_sidecar
from invsync_dagster.inventory.imports.undoing import preview_undo, undo
from invsync_dagster.inventory.tables import imports
from invsync_dagster.sync.workspace import Workspace

if TYPE_CHECKING:
    from rich.progress import TaskID


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--preview", "only_preview", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--basis", type=click.Choice(["on_hand", "available"]),
              help="What the quantities are: units on the shelf, or what open orders leave (else: its kind's).")  # fmt: skip
@click.option(
    "--as-of", help="When it was counted, with the time zone: 2026-07-01T06:00:00+00:00 (else: the file's time)."
)
@click.option("--contains", multiple=True, type=CHANNEL, help="A channel whose orders it contains; may be repeated.")
@click.option("--lag", "lag_seconds", type=click.FloatRange(min=0), help="Seconds by which it books them late.")
@click.option("--kind", default="", help="Which kind of file it is, where its header fits two.")
@click.option(
    "--encoding",
    type=click.Choice(ENCODINGS, case_sensitive=False),
    help="The encoding of its text, where the file doesn't tell.",
)
@click.option("--decimal-mark", type=click.Choice(MARKS), help="What '1.234' and '1,234' mean: its decimal mark.")
@click.option("--location", "locations", multiple=True, metavar="NAME",
              help="A location of an export that is counted ('all': all of them); may be repeated.")  # fmt: skip
@as_json_option
def import_command(
    file: Path,
    only_preview: bool,
    basis: counts.Basis | None,
    as_of: str | None,
    contains: tuple[str, ...],
    lag_seconds: float | None,
    kind: str,
    encoding: str | None,
    decimal_mark: str | None,
    locations: tuple[str, ...],
    as_json: bool,
) -> None:
    """Import an inventory or mapping FILE (CSV or Excel). One beyond the limits is held as a whole until approved.

    What is declared beside it in FILE.yaml holds, where no option says something else.

    \b
    Examples:
      invsync import stock.csv --preview
      invsync import stock.csv
      invsync import supplier.csv --as-of 2026-07-01T06:00:00+02:00 --contains erp_main
    """
    declaration = Declaration(
        basis=basis or "",
        as_of=None if as_of is None else moment("--as-of", as_of),
        contains=contains or None,
        lag_seconds=lag_seconds,
        kind=kind,
        encoding=encoding or "",
        decimal_mark=decimal_mark or "",
        locations=locations,
    )
    if not file.is_file():
        raise RefusedError(f"{file}: there is no such file")
    declaration = declaration.over(read_sidecar(file))
    with workspace() as ws, _progress(hidden=as_json) as progress:
        basis_now = replace(_basis(ws, user()), progress=progress)
        if only_preview:
            shown = importing.preview(basis_now, file, declaration)
            click.echo(shown.render()) if not as_json else print_json(shown.to_dict())
            if shown.refused:
                click.get_current_context().exit(NOT_AS_HOPED)
            return
        result = importing.import_file(basis_now, file, declaration)
    _show_import(result, as_json)


@click.group("imports")
def imports_group() -> None:
    """What was imported, and what is held until somebody decides."""


@imports_group.command("list")
@click.option("--held", "held_only", is_flag=True, help="Only those that wait for a decision.")
@as_json_option
def imports_list(held_only: bool, as_json: bool) -> None:
    """The imports, newest first.

    \b
    Examples:
      invsync imports list
      invsync imports list --held
    """
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


@imports_group.command("show")
@click.argument("import_id")
@as_json_option
def imports_show(import_id: str, as_json: bool) -> None:
    """What a held import would do now, and how to approve that.

    \b
    Examples:
      invsync imports show 20260701T060000-1a2b3c4d
    """
    with workspace() as ws:
        found, seen = importing.look_again(_basis(ws, user()), import_id)
        with ws.engine.connect() as connection:
            row = connection.execute(select(imports).where(imports.c.id == import_id)).one()
    if as_json:
        counted = row.summary.get("counts", [])
        print_json({"seen": str(seen), "counts": counted, "preview": found.to_dict() if found else None})
        return
    click.echo(f"{row.kind} {row.file_name}, {row.rows} rows: {row.reason}")
    if found:
        click.echo(found.render())
    else:
        rows = [(sku, quantity, as_of) for sku, quantity, as_of, *_ in row.summary["counts"]]
        print_table(f"Counts: {len(rows)}, the first {LARGEST}; --json has all", ("SKU", "counted", "as of"),
                    rows[:LARGEST])  # fmt: skip
    click.echo(f"approve it: invsync imports approve {import_id} --seen {seen} --reason … (or: imports drop)")


@imports_group.command("approve")
@click.argument("import_id")
@click.option(
    "--seen", default="", help="The look that you approve, from `imports show`; else that of when it was held."
)
@decided
@as_json_option
def imports_approve(import_id: str, seen: str, actor: str, reason: str, as_json: bool) -> None:
    """Let a held import go in, as it was declared; sales since then are kept.

    \b
    Examples:
      invsync imports approve 20260701T060000-1a2b3c4d --reason "the season is over"
    """
    with workspace() as ws:
        _show_import(importing.approve(_basis(ws, actor), import_id, reason, seen), as_json)


@imports_group.command("drop")
@click.argument("import_id")
@decided
@as_json_option
def imports_drop(import_id: str, actor: str, reason: str, as_json: bool) -> None:
    """Decide against a held import: nothing of it goes in.

    \b
    Examples:
      invsync imports drop 20260701T060000-1a2b3c4d --reason "the wrong export"
    """
    with workspace() as ws:
        _show_import(importing.drop(_basis(ws, actor), import_id, reason), as_json)


@imports_group.command("undo")
@click.argument("import_id")
@click.option("--reason", help="Why, for whoever asks later. Without it nothing is done: it is a preview.")
@click.option("--actor", default=user, show_default="your user name", help="Who decides.")
@as_json_option
def imports_undo(import_id: str, reason: str | None, actor: str, as_json: bool) -> None:
    """Take back what an import did, sales since then kept. Shows it first; with --reason it is done.

    \b
    Examples:
      invsync imports undo 20260701T060000-1a2b3c4d
      invsync imports undo 20260701T060000-1a2b3c4d --reason "last year's file"
    """
    with workspace() as ws:
        basis = _basis(ws, actor)
        found = undo(basis, import_id, reason) if reason else preview_undo(basis, import_id)
    if as_json:
        print_json(found.to_dict())
        return
    click.echo(found.render())
    click.echo("undone; the next push brings the channels in step" if reason else "do it: the same with --reason …")


def _basis(ws: Workspace, actor: str) -> Basis:
    settings = ws.configuration.settings
    now = ws.clock.now()
    return Basis(ws.engine, ws.home.imports, settings.import_limits, now, actor, run_id(), settings.imports)


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[str, int], None]]:
    """Show the rows that each step of an import is done with, on a terminal's standard error, while it runs."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        steps: dict[str, TaskID] = {}

        def told(step: str, rows: int) -> None:
            if step not in steps:
                steps[step] = bar.add_task(step, total=None)
            bar.update(steps[step], completed=rows)

        yield told


def _show_import(result: results.ImportResult, as_json: bool) -> None:
    if as_json:
        print_json(result.to_dict())
    else:
        click.echo(result.render())
        if result.state == results.HELD:
            click.echo(f"look at it, then: invsync imports approve {result.import_id} --reason … (or: imports drop)")
    held_levels = result.preview.held_levels if result.preview else 0
    if result.state in (results.HELD, results.REJECTED) or result.rejected or held_levels:
        click.get_current_context().exit(NOT_AS_HOPED)
