"""Copies of the stock's database: taken while it is in use, with what they hold, and brought back into an empty one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, inspect, text

from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.inventory.mends import is_there, mend_of, missing
from invsync_dagster.inventory.tables import metadata

# A dump or its loading that takes longer has hung.
LONGEST_SECONDS = 3600


class BackupError(Exception):
    """A backup that can't be made or used. The text holds no password."""


@dataclass(frozen=True, slots=True)
class KnownChannel:
    """A channel as the stock knows it."""

    name: str
    platform: str
    environment: str
    status: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a copy holds: whose stock, at which revision of the schema, up to which entry of the ledger."""

    installation: str
    schema: str
    sequence: int
    skus: int
    levels: int
    channels: tuple[KnownChannel, ...]


def copy_database(database_url: str, target: Path) -> Facts:
    """Copy the database to the new file `target`, for its owner only: a SQLite database, or an archive of `pg_dump`.

    Writers go on meanwhile; the copy is one state of the stock, on disk on return. It lacks the installation's id
    (`installation.py`). Raises `BackupError`, `DatabaseUrlError`, `DatabaseGoneError`, and `OSError`.
    """
    url = parse_url(database_url)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if url.get_backend_name() == "sqlite":
        facts = _copy_file(Path(str(url.database)).absolute(), target)
    else:
        facts = _dump(database_url, url, target)
    to_disk(target)
    return facts


def is_bare(database_url: str) -> bool:
    """Say whether a database has no tables of ours yet, so that there is nothing to copy. Raises `DatabaseGoneError`."""
    url = parse_url(database_url)
    with suppress(OSError):  # of one that can't be seen whoever connects is told why
        if url.get_backend_name() == "sqlite" and not is_there(Path(str(url.database))):
            return True
    engine = open_database(database_url)
    try:
        return not inspect(engine).has_table("alembic_version")
    finally:
        engine.dispose()


# Every process of ours is known by its `application_name` (a role without rights sees that of others too); a person's psql
# or a tool that watches the server does no harm.
_OTHERS = text(
    "SELECT format('connection %s from %s, since %s UTC', pid, coalesce(host(client_addr), 'this host'),"
    " to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'))"
    " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name = current_setting('application_name') ORDER BY backend_start"
)
# The server takes a moment to end a connection that was closed, as that of a preview just before.
_LOOKS, _BETWEEN_LOOKS = 10, text("SELECT pg_sleep(0.2)")


def in_use(database_url: str) -> str:
    """Say that somebody else has a stock's database open, "" for nobody. Raises `DatabaseGoneError`.

    SQLite removes the -wal with its last connection. PostgreSQL tells the connections of ours.
    """
    url = parse_url(database_url)
    engine = open_database(database_url)
    try:
        if url.get_backend_name() == "postgresql":
            users = _users(engine)
            return f"{url.database} is in use ({users})" if users else ""
        engine.connect().close()
    finally:
        engine.dispose()
    file = Path(str(url.database)).absolute()
    return f"{file.name} is in use" if file.with_name(f"{file.name}-wal").exists() else ""


def _users(engine: Engine) -> str:
    """Say which connections of ours a PostgreSQL database has besides this one, "" for none."""
    for look in range(_LOOKS):
        with engine.connect() as connection:
            if look:
                connection.execute(_BETWEEN_LOOKS)
            users = ", ".join(connection.execute(_OTHERS).scalars())
        if not users:
            break
    return users


def to_disk(path: Path) -> None:
    """Return once a file or a folder is on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_file(database: Path, target: Path) -> Facts:
    if reason := missing(database):  # SQLite would tell of a table that isn't there
        raise BackupError(f"{database.name} can't be copied: {reason}; {mend_of(reason)}")
    try:
        with (
            closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            # In one step, which reads one state of the stock while writers go on (WAL): of several, each would begin anew
            # after a commit of somebody else, and beside 50 commits a second a copy of 400 MB never ended.
            source.backup(copy)
            result = copy.execute("PRAGMA quick_check").fetchone()[0]
            if result != "ok":
                raise BackupError(f"the copy of {database.name} fails SQLite's check: {result}")
            facts = _facts(lambda query: copy.execute(query).fetchall())
            copy.execute("DELETE FROM installation")
            copy.commit()
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
    except sqlite3.Error as error:
        raise BackupError(f"{database.name} can't be copied: {error}") from error
    return facts


def _facts(ask: Callable[[str], Sequence[Any]]) -> Facts:
    """Ask what a database holds, in words that every revision of the schema understands: an upgrade backs up an older one."""
    named = ask("SELECT id FROM installation")
    if not named:
        raise BackupError("the stock's database comes from a backup whose restore was not ended: end it first")
    (counts,) = ask(
        "SELECT (SELECT version_num FROM alembic_version), (SELECT coalesce(max(sequence), 0) FROM stock_ledger),"
        " (SELECT count(*) FROM central_inventory), (SELECT count(*) FROM inventory_levels)"
    )
    channels = ask("SELECT name, platform, environment, status FROM channels ORDER BY name")
    schema, sequence, skus, levels = counts
    return Facts(
        str(named[0][0]), schema, sequence, skus, levels, tuple(KnownChannel(*channel) for channel in channels)
    )


def _dump(database_url: str, url: URL, target: Path) -> Facts:
    engine = open_database(database_url)
    try:
        with engine.connect() as connection:
            facts = _facts(lambda query: connection.execute(text(query)).all())
            # pg_dump sees what this transaction sees, so that the facts are those of the copy.
            snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            run_program(
                "pg_dump",
                url,
                "--format=custom",
                f"--snapshot={snapshot}",
                "--exclude-table-data=*.installation",
                f"--file={target}",
            )
    finally:
        engine.dispose()
    return facts


def load_dump(url: URL, dump: Path) -> None:
    """Fill a PostgreSQL database from an archive; what it has of our tables goes first, also those that an archive of an older
    revision doesn't name, and which its upgrade makes. It is filled as a whole or not at all.

    Raises `BackupError`, and `DatabaseGoneError`.
    """
    engine = open_database(url.render_as_string(hide_password=False))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"DROP TABLE IF EXISTS {', '.join(metadata.tables)} CASCADE"))
    finally:
        engine.dispose()
    run_program(
        "pg_restore",
        url,
        "--single-transaction",
        "--exit-on-error",
        "--clean",
        "--if-exists",
        "--no-owner",
        "--no-privileges",
        str(dump),
    )


def read_dump_through(dump: Path) -> None:
    """Read an archive to its end, as far as that tells that it is whole. Raises `BackupError`."""
    run_program("pg_restore", None, f"--file={os.devnull}", str(dump))


@contextmanager
def scratch_database(url: URL, name: str) -> Iterator[str | None]:
    """Yield the URL of an empty database `name` beside that of a PostgreSQL URL, and drop it in the end.

    None where the role may not create one.
    """
    engine = open_database(url.render_as_string(hide_password=False))
    outside = engine.execution_options(isolation_level="AUTOCOMMIT")
    quoted = engine.dialect.identifier_preparer.quote(name)
    drop = text(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
    try:
        with outside.connect() as connection:
            may = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            if not connection.execute(text(may)).scalar_one():
                yield None
                return
            connection.execute(drop)  # that of a backup that was killed
            connection.execute(text(f"CREATE DATABASE {quoted} TEMPLATE template0"))
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            with outside.connect() as connection:
                connection.execute(drop)
    finally:
        engine.dispose()


def run_program(name: str, url: URL | None, *arguments: str) -> None:
    """Run one of PostgreSQL's client programs, on the database of `url` if one is given. Raises `BackupError`."""
    program = shutil.which(name)
    if program is None:
        raise BackupError(
            f"there is no {name} on PATH; install PostgreSQL's client programs, of the server's version or a newer one"
        )
    environment = dict(os.environ)
    command = [program, *arguments]
    if url is not None:
        # The password goes by the environment: the arguments of a process are there for everybody to see.
        parts = (url.username, None, url.host, url.port, url.database, url.query)
        address = URL.create("postgresql", *parts).render_as_string()
        command += ["--no-password", f"--dbname={address}"]
        if url.password is not None:
            environment["PGPASSWORD"] = str(url.password)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise BackupError(f"{name} took longer than {LONGEST_SECONDS} s and was ended") from None
    if done.returncode != 0:
        raise BackupError(f"{name}: {' '.join(done.stderr.split())[:500]}")
