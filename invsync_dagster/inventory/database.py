"""Opens the database: SQLite by default, PostgreSQL by URL; short write transactions, one writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError
from sqlalchemy.pool import StaticPool

# Any fixed number: the advisory lock that makes ledger sequences commit in their order on PostgreSQL.
WRITER_LOCK = 4_717_001

# What is raised for a value that no column can hold: a number beyond 64 bits, half a character, a NUL.
NOT_STORABLE = (OverflowError, UnicodeError, DataError)


def open_database(url: str) -> Engine:
    """Return an engine for `url` (`sqlite:///data/invsync.db`, `postgresql+psycopg://…`); creates no tables.

    SQLite runs in WAL mode with synchronous=FULL: once a ledger transaction is committed its inbox file may go, so a
    power cut must not take it back (0.6 ms a commit here).
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True, isolation_level="READ COMMITTED")
    if parsed.database in (None, "", ":memory:"):
        engine = create_engine(parsed, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": 30.0, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=30000",
            # 16 MB a connection: a run has one for each channel, and the system caches the file besides.
            "cache_size=-16000",
            # 40 MB instead of 4: one push of 2,500 levels among five million fills 10 MB, and paid for two checkpoints.
            "wal_autocheckpoint=10000",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema to the latest revision, in one transaction; a database that is there already is left as it is."""
    # Imported here: Alembic costs 0.1 s, and the push path, which opens the database too, never migrates.
    from alembic.command import upgrade
    from alembic.config import Config

    with write_transaction(engine) as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        upgrade(config, "head")


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """Open the one transaction that may change the stock; it waits for the writer before it and commits at the end."""
    with engine.connect().execution_options(sqlite_begin="IMMEDIATE") as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER_LOCK})
        yield connection
