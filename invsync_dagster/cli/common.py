"""What all commands share: the installation they open, who decides, what is printed, and how a refusal looks."""

from __future__ import annotations

import getpass
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from sqlalchemy.exc import DBAPIError

from invsync_dagster.alerts.causes import help_page
from invsync_dagster.backups.sealing import BackupKeyError
from invsync_dagster.channels import Channel, load_for_webhooks
from invsync_dagster.clock import parse_moment
from invsync_dagster.environment import Environment, SecretFileError, load_env_file, read_env_file
from invsync_dagster.inventory.channels import NotRegisteredError
from invsync_dagster.inventory.copies import BackupError
from invsync_dagster.inventory.database import DatabaseGoneError, is_full
from invsync_dagster.inventory.database_url import DatabaseUrlError
from invsync_dagster.inventory.explain import UnknownError
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.installation import NotRestoredError
from invsync_dagster.inventory.looks import DecisionError
from invsync_dagster.inventory.mends import NEXT_RUN
from invsync_dagster.inventory.schema import SchemaError, require_schema
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.settings import Home
from invsync_dagster.sync.calls import OutOfTimeError
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.seals import InboxKeyError

_Command = TypeVar("_Command", bound=Callable[..., Any])

LARGEST = 20  # moves of a preview that the terminal shows; --json has all

NOT_AS_HOPED = 1
REFUSED = 2


class ChannelName(click.ParamType[str]):
    """A channel's name; the shell completes it from channels.yaml. Whether there is such a channel, each command says."""

    name = "channel"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        environ = Environment({**read_env_file(Home.from_environment().root), **os.environ})
        # As the receiver loads it: a press of a key keeps no copy of the file.
        channels = load_for_webhooks(Home.from_environment(environ), environ).channels
        names = [channel.name for channel in channels if channel.name.startswith(incomplete)]
        return [CompletionItem(name) for name in names]


CHANNEL = ChannelName()


class RefusedError(click.ClickException):
    """Something that could not be done: one line for the person, exit code 2."""

    exit_code = REFUSED

    def show(self, file: Any = None) -> None:
        click.echo(f"invsync: {' '.join(self.message.split())}", err=True)


# What each says is for the person, and says it all.
_SAYING_WHY = (
    FileError,
    UnknownError,
    DecisionError,
    OutOfTimeError,
    DatabaseUrlError,
    InboxKeyError,
    SecretFileError,
    BackupError,
    BackupKeyError,
    NotRestoredError,
    SchemaError,
    NotRegisteredError,
)


def gone(error: DatabaseGoneError, variable: str = "INVSYNC_DATABASE_URL") -> str:
    """Say what whoever gave a command is to do about a database that can't be used, whose URL is in `variable`."""
    return str(error).replace(NEXT_RUN, "give the command again").replace("INVSYNC_DATABASE_URL", variable)


class Commands(click.Group):
    """Loads the `.env` of the root, and turns what stops a command into one line; anything else is our fault: it raises."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            load_env_file(Home.from_environment().root)
            return super().invoke(ctx)
        except _SAYING_WHY as error:
            raise RefusedError(str(error)) from error
        except PlatformError as error:
            raise RefusedError(f"the channel answered {error}") from error
        except DatabaseGoneError as error:
            raise RefusedError(gone(error)) from error
        except DBAPIError as error:
            raise RefusedError(
                f"the database refused a statement, and nothing of it has happened: {error.orig}"
            ) from error
        except PermissionError as error:
            mend = "let the user that we run as read and write it, and enter its folder"
            raise RefusedError(f"{error.filename or error}: permission denied; {mend}") from error
        except OSError as error:
            if not is_full(error):
                raise
            where = f" ({error.filename})" if error.filename else ""
            raise RefusedError(f"the disk is full{where}: free space, and give the command again") from error


@contextmanager
def workspace() -> Iterator[Workspace]:
    """Open the installation, whose database must be there."""
    home = Home.from_environment()
    require_schema(home.database_url)
    ws = Workspace.open(home)
    try:
        yield ws
    finally:
        ws.close()


def configured(ws: Workspace, name: str) -> Channel:
    """Return a channel that can be used. Raises `RefusedError` for one that isn't there, or whose entry is to be mended."""
    try:
        channel = ws.channel(name)
    except KeyError as error:
        raise RefusedError(str(error.args[0])) from error
    if channel.disabled_reason:
        raise RefusedError(channel.disabled_reason)
    return channel


def meaning(channel: Channel, answer: str) -> str:
    """Say where the keys of a channel are and what its platform's answer means, "" for one that isn't the platform's."""
    page = help_page(answer)
    return f"its keys are in {', '.join(channel.credential_variables())}; what this means: {page}" if page else ""


def failed_at(channel: Channel, answer: str) -> RefusedError:
    """Return the refusal of a command that a channel's failure ended."""
    return RefusedError("; ".join(filter(None, (f"{channel.name}: {answer}", meaning(channel, answer)))))


def as_json_option(command: _Command) -> _Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print data instead of words.")(command)


def decided(command: _Command) -> _Command:
    """Add who decides and why; both are kept with the decision."""
    by = click.option("--actor", default=user, show_default="your user name", help="Who decides.")
    return by(click.option("--reason", required=True, help="Why, for whoever asks later.")(command))


def user() -> str:
    """Return who runs the command, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no user database, as in a bare container
        return "unknown"


def moment(option: str, text: str) -> datetime:
    """Read a time that an option gives, with its zone. Raises `RefusedError`."""
    try:
        return parse_moment(text)
    except ValueError as error:
        raise RefusedError(f"{option} {error}") from None


def print_json(document: Any) -> None:
    """Print plain values as data."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their columns; on a terminal too narrow for them, with a line a column instead."""
    # Imported here: 0.1 s that no --json call has to wait for.
    from rich.console import Console
    from rich.table import Table

    # Cells are texts of platforms and files: `[settle]` at a reason's end is no markup, `:gift:` in a name no picture.
    console = Console(markup=False, emoji=False)
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, width=_width([columns, *texts]))
    elif _width([columns, *texts]) > console.width:
        turned = [list(line) for line in zip(columns, *texts, strict=True)]
        if _width(turned) <= console.width:
            columns, texts = turned[0], turned[1:]
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numbers = bool(texts) and all(_is_number(row[index]) for row in texts)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    console.print(table)


def _width(lines: Sequence[Sequence[str]]) -> int:
    """Return the characters that a table of these lines takes, borders included."""
    return sum(max(len(cell) for cell in column) + 3 for column in zip(*lines, strict=True)) + 1


def _is_number(text: str) -> bool:
    return not text or text.lstrip("+-").isdigit()


def run_id() -> str:
    """Return what stands for the run in the logs of what a command does."""
    rng = random.SystemRandom()
    return f"cli-{rng.getrandbits(48):012x}"
