"""`invsync inbox`: deliveries that could not be understood, put back."""

from __future__ import annotations

import random
from pathlib import Path

import click

from invsync_dagster.cli.common import RefusedError
from invsync_dagster.clock import SystemClock
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter


@click.group("inbox")
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
