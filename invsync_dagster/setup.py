"""The set-up step: writes `.env`, migrates the stock's database and initialises Dagster's, once and in one process."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from invsync_dagster.backups.taking import marker_of
from invsync_dagster.channels import Configuration, load
from invsync_dagster.defs.storage_url import VARIABLE, dagster_database_url
from invsync_dagster.environment import (
    FILE_NAME,
    IN_A_FILE,
    Environment,
    SecretFileError,
    load_env_file,
    read_env_file,
    write_env_file,
)
from invsync_dagster.inventory.copies import is_bare
from invsync_dagster.inventory.database import DatabaseGoneError, migrate, open_database
from invsync_dagster.inventory.database_url import DatabaseUrlError, parse_url
from invsync_dagster.inventory.schema import SchemaError
from invsync_dagster.settings import Home


class DagsterStorageError(Exception):
    """Dagster can't open its storage: one line that says why."""


def set_up(root: Path, environ: Mapping[str, str]) -> list[str]:
    """Prepare the clone at `root` and return one sentence for each thing that was done; a second call does nothing.

    Raises `OSError` where files can't be written, `DagsterStorageError`, `DatabaseUrlError`, `SchemaError`, `DatabaseGoneError`.
    """
    environ = {**read_env_file(root), **environ, "INVSYNC_ROOT": str(root)}
    home = Home.from_environment(environ)
    home.data.mkdir(parents=True, exist_ok=True)
    with (home.data / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _set_up(home, environ)


def _set_up(home: Home, environ: Mapping[str, str]) -> list[str]:
    done = []
    dagster_database_url(Environment(environ))  # before anything is made: one that is the stock's is refused
    variables = dagster_variables(home)
    variables |= missing_sandbox_secrets(load(home, _EveryVariable()), environ)
    if write_env_file(home.root, variables):
        done.append(f"wrote {FILE_NAME}: where things are, and random secrets for the sandbox channels")
    make_folders_and_tables(home)
    if initialise_dagster(home, {**environ, **variables}):
        done.append("initialised Dagster's storage")
    return done


def make_folders_and_tables(home: Home) -> None:
    """Make the folders of a home that are missing, and bring its database to the latest revision.

    Raises `DatabaseUrlError` where a stock was backed up here, and SQLite's file isn't there: an empty one in its place would
    be taken for it.
    """
    sqlite = parse_url(home.database_url).get_backend_name() == "sqlite"
    if sqlite and marker_of(home).is_file() and is_bare(home.database_url):
        raise DatabaseUrlError(
            f"{home.data} is of a stock that was backed up, and its database isn't where INVSYNC_DATABASE_URL says (unset: in "
            "that folder): move it back together with its -wal and -shm, let the variable name it where it is, or bring a backup "
            "back: `invsync restore BACKUP`; to begin anew, move the whole folder away"
        )
    for folder in (home.inbox, home.imports, home.reports, home.status, home.locks):
        folder.mkdir(parents=True, exist_ok=True)
    engine = open_database(home.database_url, make=True)
    try:
        migrate(engine)
    finally:
        engine.dispose()


def dagster_variables(home: Home) -> dict[str, str]:
    """Return what a bare `dg dev -w workspace.yaml` must find in `.env` to use this project's instance.

    All paths are absolute: Dagster refuses a relative DAGSTER_HOME, and a relative one would follow the shell.
    """
    return {
        "INVSYNC_ROOT": str(home.root),
        "DAGSTER_HOME": str(home.root),
        "INVSYNC_DAGSTER_STATE": str(home.data / "dagster"),
        "INVSYNC_DAGSTER_LOGS": str(home.data / "dagster-logs"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def missing_sandbox_secrets(configuration: Configuration, environ: Mapping[str, str]) -> dict[str, str]:
    """Return a random value for each variable that a sandbox channel names and `environ` lacks.

    The stand-in shops read the same variables, so any value does. Those of production channels are never invented.
    """
    names = {
        name
        for channel in configuration.channels
        if channel.environment == "sandbox"
        for name in channel.secrets(_EveryVariable()).values()
    }
    there = {name for name in names if environ.get(name) or environ.get(name + IN_A_FILE)}
    return {name: secrets.token_urlsafe(32) for name in sorted(names - there)}


class _EveryVariable(Mapping[str, str]):
    """An environment in which each variable holds its own name, so that a channel tells which ones it reads."""

    def __getitem__(self, name: str) -> str:
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def initialise_dagster(home: Home, environ: Mapping[str, str]) -> bool:
    """Create or upgrade Dagster's storage in one process, before anything else opens it; return False if that was done.

    Two processes that open a fresh SQLite instance at once leave it with two schema heads, for good. Raises
    `DagsterStorageError`.
    """
    if not environ.get("DAGSTER_HOME"):
        raise DagsterStorageError(
            "DAGSTER_HOME is not set: give it the folder of dagster.yaml, in .env (`make setup` does) or in the environment"
        )
    in_file = read_env_file(home.root).get(VARIABLE)
    # With Dagster's own processes the file wins over the environment; with ours it is the other way round.
    if in_file and environ.get(VARIABLE) != in_file:
        raise DagsterStorageError(
            f"{VARIABLE} is another one in {FILE_NAME}, and Dagster takes that: take it out of {FILE_NAME} or of the environment"
        )
    marker = home.data / "dagster" / "initialised-by"
    current = f"dagster {version('dagster')}{_in_which_database(environ)}\n"
    if marker.is_file() and marker.read_text() == current:
        return False
    marker.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dagster", "instance", "migrate"]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, cwd=home.root, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        # What was raised, or is wrong with the configuration; not the lines of code that a traceback shows.
        raised = [line for line in said if re.match(r"\s*([\w.]+Error|Error \d+): \S", line)]
        reasons = raised or said or [f"exit code {done.returncode}"]
        raise DagsterStorageError(f"Dagster can't open its storage: {reasons[-1].strip()}")
    marker.write_text(current)
    return True


def _in_which_database(environ: Mapping[str, str]) -> str:
    url = Environment(environ).get(VARIABLE)
    return f" in {parse_url(url, VARIABLE).render_as_string()}" if url else ""  # with *** for the password


def main() -> int:
    """Run the set-up for the current folder; print what it did, or one clear line of what stops it."""
    root = Path.cwd().resolve()
    load_env_file(root)
    try:
        done = set_up(root, os.environ)
    except DatabaseGoneError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except DBAPIError as error:
        print(f"set-up: the database can't be used: {' '.join(str(error.orig).split())}", file=sys.stderr)
        return 1
    except (OSError, DagsterStorageError, DatabaseUrlError, SchemaError, SecretFileError) as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    for sentence in done:
        print(f"set-up: {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
