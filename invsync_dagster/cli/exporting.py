"""`invsync export`: the records of a period as a file, for accountants and for programs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import click

from invsync_dagster.cli.common import RefusedError, moment, workspace
from invsync_dagster.inventory.exports import KINDS, Format, archived_files, export

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@click.command("export")
@click.argument("kind", type=click.Choice(sorted(KINDS)))
@click.option(
    "--from", "since", required=True, metavar="TIME", help="A day of `settings.time_zone`, or a time with its zone."
)
@click.option("--to", "until", required=True, metavar="TIME", help="To before this day or time.")
@click.option("--format", "form", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The new file.")
def export_command(kind: str, since: str, until: str, form: str, output: Path) -> None:
    """Write a period of the ledger, of the attempts, of people's actions or of the orders to a file.

    \b
    Examples:
      invsync export ledger --from 2026-06-01 --to 2026-07-01 --output june.csv
      invsync export attempts --from 2026-06-01 --to 2026-07-01 --format parquet --output june.parquet
    """
    with workspace() as ws:
        zone = ZoneInfo(ws.configuration.settings.time_zone)
        begin, end = _moment("--from", since, zone), _moment("--to", until, zone)
        if begin >= end:
            raise RefusedError(f"--from {since} is not before --to {until}")
        with ws.engine.connect() as connection:
            try:
                rows = export(connection, kind, begin, end, output, cast(Format, form))
            except OSError as error:
                raise RefusedError(f"{output} can't be written: {error.strerror or error}") from error
            archived = archived_files(connection, begin) if kind == "attempts" else []
    click.echo(f"{output}: {rows:,} rows of {kind}, from {begin.isoformat()} to before {end.isoformat()}")
    if archived:
        click.echo(f"! older attempts of this period are in data/archive/: {', '.join(archived)}")


def _moment(option: str, text: str, zone: ZoneInfo) -> datetime:
    if not _DAY.fullmatch(text):
        return moment(option, text)
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day, whose zone comes below
    except ValueError:
        raise RefusedError(f"{option} {text} is no day") from None
    return datetime.combine(day, time(), zone).astimezone(UTC)
