"""Databases for the tests, on SQLite or PostgreSQL: a test marked `usefixtures("each_database")` runs on each of them.

A database costs 1 to 3 ms: on SQLite it is copied from one that was migrated once; on PostgreSQL it is emptied and
handed out again, since even a copy of a template takes 20 ms.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import quote

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, make_url

from invsync_dagster.inventory.database import migrate, open_database
from tests.postgres_server import shared_server

KINDS = ("sqlite", "postgresql")

_numbers = count()


class _Current:
    kind = "sqlite"
    handed_out: list[Engine] = []  # noqa: RUF012 - one for the process
    opened: list[Engine] = []  # noqa: RUF012
    filled: list[tuple[str, Engine]] = []  # noqa: RUF012
    made: list[str] = []  # noqa: RUF012


_free: dict[str, list[Engine]] = {kind: [] for kind in KINDS}
_filled: dict[str, list[Engine]] = {}
_sequences: dict[str, list[tuple[str, int]]] = {}


def use(kind: str) -> None:
    """Let the databases of what follows be of this kind."""
    _Current.kind = kind


def current() -> str:
    """Return the kind of database that the test at hand runs on."""
    return _Current.kind


def fresh_engine() -> Engine:
    """Return a migrated, empty database; on SQLite in memory."""
    kind = _Current.kind
    if kind == "sqlite":
        engine = _free[kind].pop() if _free[kind] else open_database("sqlite://")
        _sqlite_template().backup(_sqlite(engine))
    elif _free[kind]:
        engine = _free[kind].pop()
        _empty(engine)
    else:
        engine = open_database(_from_template("migrated", migrate))
    _Current.handed_out.append(engine)
    return engine


def fresh_url(folder: Path, *, migrated: bool = True) -> str:
    """Return the URL of a database of its own, for tests that open it themselves or from other processes."""
    if _Current.kind == "sqlite":
        path = folder / "stock.db"
        if migrated:
            make_file(path)
        return f"sqlite:///{path}"
    url = _from_template("migrated", migrate) if migrated else _from_template("bare", lambda engine: None)
    _Current.made.append(url)
    return url


def make_file(path: Path) -> None:
    """Make a migrated, empty SQLite database with an installation of its own: a copy, in a tenth of a migration's time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as copy:
        _sqlite_template().backup(copy)
        copy.execute("UPDATE installation SET id = lower(hex(randomblob(8)))")
        copy.commit()
        copy.execute("PRAGMA journal_mode=WAL")  # it stays in the file, and whoever opens it is seen beside it


def filled_engine(name: str, fill: Callable[[Engine], None]) -> Engine:
    """Return a PostgreSQL database that `fill` has filled; of each name it is filled once, and then put back as it was."""
    free = _filled.setdefault(name, [])
    if free:
        engine = free.pop()
        _put_back(engine, name)
    else:
        engine = open_database(_from_template(name, lambda template: _keep(template, name, fill)))
    _Current.filled.append((name, engine))
    return engine


def opened(url: str) -> Engine:
    """Open a database until the test ends; SQLite's is made where it isn't there."""
    engine = open_database(url, make=True)
    _Current.opened.append(engine)
    return engine


def engine_of(file: Path, *, make: bool = False) -> Engine:
    """Open a SQLite file, under whatever name, until the test ends."""
    engine = open_database(f"sqlite:///{quote(str(file))}", make=make)
    _Current.opened.append(engine)
    return engine


def make_older(connection: Connection) -> None:
    """Take revisions back until something is lacking, as if an earlier version had made the database."""
    connection.exec_driver_sql("CREATE INDEX ix_sync_logs_sku ON sync_logs (sku, id)")
    connection.exec_driver_sql("DROP INDEX ix_platform_mapping_listing")
    operations = Operations(MigrationContext.configure(connection))
    key = ["platform_name", "platform_item_id", "platform_location_id", "platform_sku"]
    with operations.batch_alter_table("platform_mapping") as table:
        table.create_unique_constraint(operations.f(f"uq_platform_mapping_{'_'.join(key)}"), key)
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")


def give_back(engine: Engine) -> None:
    """Take a database back before the test ends; for tests that open many."""
    _Current.handed_out.remove(engine)
    _free[_Current.kind].append(engine)


def stop_server() -> None:
    """Stop the PostgreSQL server under the test at hand alone: databases of other tests keep no connection that would die."""
    for engine in [*_free["postgresql"], *(engine for free in _filled.values() for engine in free)]:
        engine.dispose()
    shared_server().stop()


def recycle() -> None:
    """Take back what the test was given."""
    for engine in _Current.handed_out:
        if engine.dialect.name == "sqlite":
            _free["sqlite"].append(engine)
        elif engine.pool.checkedout() == 0:  # type: ignore[attr-defined]
            _free["postgresql"].append(engine)
    _Current.handed_out.clear()
    for name, engine in _Current.filled:
        if engine.pool.checkedout() == 0:  # type: ignore[attr-defined]
            # Without its connections: the test may have ended their sessions.
            engine.dispose()
            _filled[name].append(engine)
    _Current.filled.clear()
    for engine in _Current.opened:
        engine.dispose()
    _Current.opened.clear()
    if _Current.made:
        with shared_server().admin() as admin:
            for url in _Current.made:
                admin.execute(f"DROP DATABASE {make_url(url).database} WITH (FORCE)".encode())
        _Current.made.clear()


def _sqlite(engine: Engine) -> sqlite3.Connection:
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


@cache
def _sqlite_template() -> sqlite3.Connection:
    engine = open_database("sqlite://")
    migrate(engine)
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    _sqlite(engine).backup(copy)
    engine.dispose()
    return copy


_templates: dict[str, str] = {}


def _from_template(name: str, fill: Callable[[Engine], None]) -> str:
    server = shared_server()
    with server.admin() as admin:
        if name not in _templates:
            template = f"template_{len(_templates)}"
            admin.execute(f"CREATE DATABASE {template}".encode())
            engine = open_database(server.url(template))
            fill(engine)
            engine.dispose()
            _templates[name] = template
        database = f"test_{next(_numbers)}"
        admin.execute(f"CREATE DATABASE {database} TEMPLATE {_templates[name]}".encode())
    return server.url(database)


# As a replica the triggers that keep the logs append-only are off. DELETE, since TRUNCATE takes ten times as long here.
_EMPTY = """
DO $$ DECLARE it record; BEGIN
  SET LOCAL session_replication_role = replica;
  SET LOCAL lock_timeout = '5s';
  FOR it IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'
      AND tablename NOT IN ('alembic_version', 'installation') LOOP
    EXECUTE format('DELETE FROM %I', it.tablename);
  END LOOP;
  FOR it IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
    PERFORM setval(it.sequencename::regclass, 1, false);
  END LOOP;
END $$
"""


def _empty(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(_EMPTY.replace("%", "%%"))
        connection.commit()


# What was filled, in a schema of its own: to put it back takes a tenth of the time of another copy of the template.
_PUT_BACK = """
DO $$ DECLARE it record; BEGIN
  SET LOCAL session_replication_role = replica;
  SET LOCAL lock_timeout = '5s';
  FOR it IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
    EXECUTE format('DELETE FROM public.%I', it.tablename);
  END LOOP;
  FOR it IN SELECT tablename FROM pg_tables WHERE schemaname = 'kept' LOOP
    EXECUTE format('INSERT INTO public.%I OVERRIDING SYSTEM VALUE SELECT * FROM kept.%I', it.tablename, it.tablename);
  END LOOP;
END $$
"""


def _keep(engine: Engine, name: str, fill: Callable[[Engine], None]) -> None:
    fill(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA kept")
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        for table in connection.exec_driver_sql(tables).scalars().all():
            if connection.exec_driver_sql(f'SELECT 1 FROM "{table}" LIMIT 1').first():  # noqa: S608 - our own names
                connection.exec_driver_sql(f'CREATE TABLE kept."{table}" AS TABLE public."{table}"')
        values = "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public'"
        _sequences[name] = [(row[0], row[1]) for row in connection.exec_driver_sql(values)]
        connection.commit()


def _put_back(engine: Engine, name: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(_PUT_BACK.replace("%", "%%"))
        for sequence, value in _sequences[name]:
            connection.exec_driver_sql(
                "SELECT setval(%s::regclass, %s, %s)", (f'public."{sequence}"', max(value, 1), value > 0)
            )
        connection.commit()
