"""Opens the database: SQLite by default, PostgreSQL by URL; short write transactions, one writer at a time."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Dialect, Engine, ExceptionContext, String, create_engine, event, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool
from sqlalchemy.sql.functions import FunctionElement

from invsync_dagster.inventory.bulk import COPY
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.inventory.mends import DAMAGED, FULL, has_commits_aside, mend_of, missing

# Any fixed number: the advisory lock that makes ledger sequences commit in their order on PostgreSQL.
WRITER_LOCK = 4_717_001

# How long a writer waits for the one before it, and for one of its own process as long again: an import of 1,000,000 rows writes
# for 27 to 47 s, and for 150 s where five listings of each move (benchmarks/imports.py).
WAIT_FOR_WRITER_SECONDS = 90.0

# A PostgreSQL connection that was used less than this ago is taken to be alive.
RESTED_SECONDS = 5.0

# What is raised for a value that no column can hold: a number beyond 64 bits, half a character, a NUL.
NOT_STORABLE = (OverflowError, UnicodeError, DataError)


# What every PostgreSQL connection asks for, unless the URL says otherwise (libpq's names).
#   A host that vanished is noticed within a minute, on our side and on the server's: else the lock of a writer whose machine
#   died would hold every other for the two hours of the system's own keepalive.
#   A writer waits for the one before it as long as with SQLite (`busy_timeout`).
#   What is read row by row is read to its end; the planner would prepare for its first tenth (comparing 10,000 listings: 7 s
#   instead of 3).
#   Statements are short: workers and compilation take longer than they save (9 ms for a count of 1,500).
#   A statement of a `side_transaction` sees what the ones before it committed, whatever the server's default is.
_CONNECTING = {
    "application_name": "invsync",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_SESSION = {
    "timezone": "UTC",
    "default_transaction_isolation": r"read\ committed",
    "cursor_tuple_fraction": "1.0",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "lock_timeout": f"{WAIT_FOR_WRITER_SECONDS:.0f}s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


class DatabaseGoneError(OperationalError):
    """The database can't be used now: not there or not reached, gone in mid-transaction, damaged, full, locked for too long.

    What was not committed did not happen, wherever this is raised; one sentence says so, without statement and values.
    """

    # Of SQLite.
    file: Path | None = None

    def __str__(self) -> str:
        return f"{self.reason}. What was under way and not committed has not happened; {self.mend}"

    @property
    def reason(self) -> str:
        """Why it can't be used, a sentence without its end."""
        said = " ".join(str(self.orig).split()) or type(self.orig).__name__
        return f"the stock's database can't be used: {said}{f' ({self.file})' if self.file else ''}"

    @property
    def mend(self) -> str:
        """What is to be done."""
        return mend_of(str(self.orig))


def is_full(error: OSError | OperationalError) -> bool:
    """Say whether an error is that a disk is full, or its owner's share of it: the system's, or the database's."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(word in str(error.orig) for word in FULL)


def open_database(url: str, *, make: bool = False) -> Engine:
    """Return an engine for `url` (see `parse_url`); creates no tables. Raises `DatabaseUrlError`.

    SQLite's file of a database must be there, else each connection raises `DatabaseGoneError`: one that was moved away is not
    to be replaced by an empty one. `make` is for those who make a stock: then it is made, but never beside what was committed.

    SQLite runs in WAL mode with synchronous=FULL: once a ledger transaction is committed its inbox file may go, so a
    power cut must not take it back (0.6 ms a commit here). On both databases all statements of a connection that only
    reads see one state of the stock.
    """
    parsed = parse_url(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    file = Path(str(parsed.database)).absolute() if is_file else None
    engine = _open_postgresql(parsed) if parsed.get_backend_name() == "postgresql" else _open_sqlite(parsed, file, make)

    # Of the dialect, like `begin`: with one event of the engine itself every statement would look for all of them.
    @event.listens_for(engine.dialect, "handle_error")
    def say_it_clearly(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if context.statement is not None and _taken_back(context.connection):
            context.is_disconnect = True  # nothing more is executed on it
        if isinstance(error, DBAPIError) and error.orig is not None and (reason := _no_database(error, file)):
            gone = DatabaseGoneError(None, None, reason, connection_invalidated=error.connection_invalidated)
            gone.file = file
            raise gone

    return engine


def _no_database(error: DBAPIError, file: Path | None) -> BaseException | None:
    """Return why the database can't be used, None where the error is the statement's own.

    What a process says that still has a moved file open depends on what it was about to do: a disk's error, mostly.
    """
    if file is not None and (reason := missing(file)):
        return sqlite3.OperationalError(reason)
    of_the_whole = isinstance(error, OperationalError) or getattr(error.orig, "sqlstate", None) in _OF_THE_WHOLE
    return error.orig if of_the_whole or any(words in str(error.orig) for words in DAMAGED) else None


# PostgreSQL's codes for a table that isn't there or whose rights are another's, and for a server that takes no writes; SQLite's
# errors of that are an `OperationalError`.
_OF_THE_WHOLE = {"42P01", "42501", "25006"}


def _taken_back(connection: Connection | None) -> bool:
    """Say whether SQLite has rolled the transaction of a failed statement back by itself, as it does when its disk is full.

    The driver would begin another one for the next statement, and commit what is only a part.
    """
    return (
        connection is not None
        and connection.dialect.name == "sqlite"
        and not connection.connection.driver_connection.in_transaction  # type: ignore[union-attr]
    )


class _BeginningSqlite(SQLiteDialect_pysqlite):
    """Begins transactions itself: the driver would begin none for what only reads.

    The driver's `isolation_level` holds the kind of the next one: IMMEDIATE where it writes, which then waits for the
    writer before it; EXCLUSIVE, the same in WAL mode, where its commit needn't wait for the disk.
    """

    supports_statement_cache = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.turn = threading.RLock()  # a writer within a writer is refused by SQLite

    def do_begin(self, dbapi_connection: Any) -> None:
        driver = dbapi_connection.driver_connection  # what is set on the pool's proxy of it stays there
        kind, driver.isolation_level = driver.isolation_level, "DEFERRED"
        # Set anew by each: one that died in its midst may have left it otherwise.
        driver.execute(f"PRAGMA synchronous={'NORMAL' if kind == 'EXCLUSIVE' else 'FULL'}")
        driver.execute(f"BEGIN {kind}")


registry.register("sqlite.beginning", __name__, _BeginningSqlite.__name__)


def _open_sqlite(parsed: URL, file: Path | None, make: bool) -> Engine:
    """Without a file the database is one in memory. Raises OSError where the folder of a file can't be made.

    A connection that comes back is the next one that goes out: what it wrote is in its cache, which SQLite drops as a whole once
    another one has written.
    """
    parsed = parsed.set(drivername="sqlite+beginning")
    if file is None:
        engine = create_engine(parsed, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        arguments = {"timeout": WAIT_FOR_WRITER_SECONDS, "check_same_thread": False}
        engine = create_engine(parsed, pool_use_lifo=True, connect_args=arguments)
        if make:
            file.parent.mkdir(parents=True, exist_ok=True)
        _look_before_connecting(engine, file, make)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = "DEFERRED"
        for pragma in (
            "journal_mode=WAL",
            "foreign_keys=ON",
            # Else INSERT OR REPLACE would get past the triggers that keep the logs append-only.
            "recursive_triggers=ON",
            f"busy_timeout={int(WAIT_FOR_WRITER_SECONDS * 1000)}",
            # 32 MB a connection: a run has one for each channel, and the system caches the file besides. Of 16 MB the pages of a
            # large transaction don't all fit, and are written and read again (4 % of the ledger's time).
            "cache_size=-32000",
            # 160 MB instead of 4: a cycle of 500 SKUs among a million fills 50, and at 40 a third of its time was checkpoints.
            "wal_autocheckpoint=40000",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _look_before_connecting(engine: Engine, file: Path, make: bool) -> None:
    address = f"{file.as_uri()}?mode={'rwc' if make else 'rw'}"

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _record: Any, _arguments: Any, options: dict[str, Any]) -> Any:
        reason = missing(file)
        if reason and (has_commits_aside(file) or not make):
            raise sqlite3.OperationalError(reason)
        return dialect.connect(address, **{**options, "uri": True})


def _open_postgresql(url: URL) -> Engine:
    """A connection that rested is looked at before it is used again: the server may have been restarted since.

    Looking at each of them (`pool_pre_ping`) is a third of the round trips of a short transaction.
    READ COMMITTED would show a reader of several statements several states of the stock.
    """
    arguments: dict[str, str] = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    arguments["options"] = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    if asked := url.query.get("options"):
        arguments["options"] += f" {asked}"  # of two settings of one name the server takes the latter
        url = url.difference_update_query(["options"])
    engine = create_engine(url, isolation_level="REPEATABLE READ", connect_args=arguments)

    @event.listens_for(engine.dialect, "do_executemany")
    def copy(cursor: Any, statement: str, rows: Sequence[Any], _context: Any) -> bool:
        if not statement.startswith(COPY):
            return False
        with cursor.copy(statement) as stream:
            for row in rows:
                stream.write_row(row)
        return True

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("rests_since", time.monotonic()) < RESTED_SECONDS:
            return
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except connection.Error as error:
            raise DisconnectionError from error  # the pool opens another one

    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema to the latest revision, in one transaction; a database that is there already is left as it is.

    Raises `SchemaError` where what is there then isn't this version's schema; nothing is changed.
    """
    # Imported here: Alembic costs 0.1 s, and the push path, which opens the database too, never migrates.
    from alembic.command import upgrade
    from alembic.config import Config

    from invsync_dagster.inventory import schema

    with write_transaction(engine) as connection:
        schema.require_known(connection)
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        upgrade(config, "head")
        schema.require_all(connection)


@contextmanager
def write_transaction(engine: Engine, channel: str | None = None) -> Iterator[Connection]:
    """Open the one transaction that may change the stock; it waits for the writer before it and commits at the end.

    One that changes nothing but what belongs to `channel` (its levels and their logs) runs beside those of other channels
    where the database can do that: on PostgreSQL.

    There it is READ COMMITTED, so that its statements see what the writers before it committed: a snapshot of the whole
    transaction would be taken by the statement that waits.
    """
    if engine.dialect.name != "postgresql":
        with _turn_to_write(engine, "IMMEDIATE") as connection:
            yield connection
        return
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection, connection.begin():
        if channel is None:
            connection.execute(_WAIT_FOR_ALL_WRITERS)
        else:
            connection.execute(_WAIT_FOR_THE_CHANNELS_WRITER, {"channel": channel})
        yield connection


@contextmanager
def side_transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction for what is not the stock; on PostgreSQL each of its statements is one of its own, and stays.

    With SQLite it doesn't wait for the disk, with PostgreSQL not for the stock's writer: and not for the disk either where a
    statement asks for that (`committed_without_the_disk`). What a power cut takes back there is the last half second, and with
    SQLite what was written since the stock was.
    """
    if engine.dialect.name != "postgresql":
        with _turn_to_write(engine, "EXCLUSIVE") as connection:
            yield connection
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, connection.begin():
        yield connection


@contextmanager
def _turn_to_write(engine: Engine, kind: str) -> Iterator[Connection]:
    """Open SQLite's transaction of a kind (see `_BeginningSqlite`) when this process's writers before it are through.

    Told by SQLite they would ask again every 1 to 100 ms, as those of other processes do, and leave it idle meanwhile
    (docs/decisions/0042). One that waits too long asks like those, for as long again, and is told that it is locked.
    """
    turn = cast(_BeginningSqlite, engine.dialect).turn
    try:
        # Within: a signal, as of a run that is cancelled, may be heard between this and the next statement.
        turn.acquire(timeout=WAIT_FOR_WRITER_SECONDS)
        with engine.connect() as connection:
            # Not an option of SQLAlchemy's connection: to set that and to take it back costs as much as the commit.
            connection.connection.driver_connection.isolation_level = kind  # type: ignore[union-attr]
            with connection.begin():
                yield connection
    finally:
        try:  # noqa: SIM105 - a signal may be heard in the call of `suppress` as well
            turn.release()
        except RuntimeError:  # it has waited too long, and has none
            pass


class committed_without_the_disk(FunctionElement[str]):
    """A column that a statement of a `side_transaction` returns so that its commit doesn't wait for the disk on PostgreSQL."""

    type = String()
    inherit_cache = True


@compiles(committed_without_the_disk)
def _by_its_transaction(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "''"


@compiles(committed_without_the_disk, "postgresql")
def _by_the_statement(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "set_config('synchronous_commit', 'off', true)"


_WAIT_FOR_ALL_WRITERS = text(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
# Always in this order, and no writer takes a second channel's: nobody waits in a circle.
_WAIT_FOR_THE_CHANNELS_WRITER = text(
    f"SELECT pg_advisory_xact_lock_shared({WRITER_LOCK}),"
    f" pg_advisory_xact_lock({WRITER_LOCK}, hashtext(CAST(:channel AS TEXT)))"
)
