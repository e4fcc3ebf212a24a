"""Whether a database's schema is this version's: its tables, columns and indexes as they are, not what its revision says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.schema import CreateIndex

from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.tables import metadata

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).parent / "migrations"

# Of the whole schema in one statement: asking table by table takes ten times as long.
_COLUMNS = {
    "sqlite": "SELECT t.name, c.name, c.\"notnull\" = 0 FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'",
    "postgresql": "SELECT table_name, column_name, is_nullable = 'YES' FROM information_schema.columns"
    " WHERE table_schema = current_schema()",
}
_INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    "postgresql": "SELECT indexname, regexp_replace(indexdef, ' ON [^ ]*[.]', ' ON ')"
    " FROM pg_indexes WHERE schemaname = {schema}",
}
_FILLED = re.compile(r" WITH \([^)]*\)")
_SHOWN = 3
# In its PostgreSQL database, and one of them in each of its two SQLite files.
_OF_DAGSTER = {"event_logs", "daemon_heartbeats"}


class SchemaError(Exception):
    """The database's schema isn't the one that this version works with; nothing was changed."""


def known_revisions() -> set[str]:
    """Return the revisions of the schema that `database.migrate` starts from or leads to."""
    return {script.revision for script in _scripts().walk_revisions()}


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    engine = open_database(database_url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def require_schema(database_url: str) -> None:
    """Return if the database has the tables, columns and indexes that this version works with, or none of ours at all.

    Others beside them, and columns that may be empty, are people's own. It takes 2 ms with SQLite and 12 with PostgreSQL.
    Raises `SchemaError` with what to do, `DatabaseUrlError`, and `DatabaseGoneError`.
    """
    with _connected(database_url) as connection:
        revision = revision_of(connection)
        if revision and (found := _differences(connection)):
            raise SchemaError(_sentence(connection, revision, found))


def is_older(database_url: str) -> bool:
    """Say whether the schema is of an older revision, which `database.migrate` would change; False for this version's, and
    where there are no tables yet. Raises as above."""
    with _connected(database_url) as connection:
        require_known(connection)
        revision = revision_of(connection)
        if revision not in ("", _scripts().get_current_head()):
            return True
        if revision and (found := _differences(connection)):
            raise SchemaError(_sentence(connection, revision, found))
        return False


def require_known(connection: Connection) -> None:
    """Return if the revisions lead from the database's own to this version's. Raises `SchemaError`."""
    revision = revision_of(connection)
    if revision and revision not in known_revisions():
        raise SchemaError(_sentence(connection, revision, []))


def require_all(connection: Connection) -> None:
    """Return if the indexes' columns and conditions are right besides, within the transaction that migrated.

    An index of another condition isn't used: finding work would read every level. Raises `SchemaError`.
    """
    found = _differences(connection) or _differing_indexes(connection)
    if found:
        raise SchemaError(_sentence(connection, revision_of(connection), found))


def revision_of(connection: Connection) -> str:
    """Return the revision that the database says it has, empty where it has none of our tables."""
    if "alembic_version" not in _tables(connection):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or ""


def _tables(connection: Connection) -> set[str]:
    return {row[0] for row in connection.exec_driver_sql(_COLUMNS[connection.dialect.name])}


def _differences(connection: Connection) -> list[str]:
    """Return in words what the tables have that the database lacks, and the columns that are other ones there."""
    stored: dict[str, dict[str, bool]] = {}
    for table, column, nullable in connection.exec_driver_sql(_COLUMNS[connection.dialect.name]):
        stored.setdefault(table, {})[column] = bool(nullable)
    found = []
    for table in metadata.sorted_tables:
        if (there := stored.get(table.name)) is None:
            found.append(f"there is no table {table.name}")
            continue
        wanted = {column.name: bool(column.nullable) for column in table.columns}
        found += [f"there is no column {table.name}.{name}" for name in wanted.keys() - there.keys()]
        # One that may be empty is somebody's own, and in nobody's way.
        found += [
            f"{table.name}.{name} is no column of ours" for name in there.keys() - wanted.keys() if not there[name]
        ]
        both = wanted.keys() & there.keys()
        found += [
            f"{table.name}.{name} may {'not ' if wanted[name] else ''}be NULL"
            for name in both
            if wanted[name] != there[name]
        ]
    indexes = _indexes(connection, "current_schema()")
    return sorted(found) + [
        f"there is no index {index.name}"
        for table in metadata.sorted_tables
        for index in sorted(table.indexes, key=lambda index: str(index.name))
        if index.name not in indexes
    ]


def _differing_indexes(connection: Connection) -> list[str]:
    stored = _indexes(connection, "current_schema()")
    if connection.dialect.name == "sqlite":
        wanted = {
            str(index.name): "".join(str(CreateIndex(index).compile(connection)).split())
            for table in metadata.sorted_tables
            for index in table.indexes
        }
    else:
        wanted = _as_the_server_says_it(connection)
    return [f"the index {name} is another one" for name in sorted(wanted) if stored[name] != wanted[name]]


def _as_the_server_says_it(connection: Connection) -> dict[str, str]:
    """PostgreSQL keeps a condition in words of its own: it is asked for the words of ours, made on empty temporary tables."""
    made = connection.begin_nested()
    try:
        for table in metadata.sorted_tables:
            if table.indexes:
                # The same name: what is temporary stands before what is kept.
                connection.exec_driver_sql(f'CREATE TEMPORARY TABLE "{table.name}" (LIKE "{table.name}")')
                for index in table.indexes:
                    index.create(connection)
        return _indexes(connection, "pg_my_temp_schema()::regnamespace::text")
    finally:
        made.rollback()


def _indexes(connection: Connection, schema: str) -> dict[str, str]:
    query = _INDEXES[connection.dialect.name].replace("{schema}", schema)
    # How full its pages are filled is the server's administrator's to say.
    return {name: "".join(_FILLED.sub("", sql).split()) for name, sql in connection.exec_driver_sql(query)}


def _sentence(connection: Connection, revision: str, found: list[str]) -> str:
    if revision not in known_revisions():
        if _tables(connection) & _OF_DAGSTER:
            return (
                "the database that was named for the stock is Dagster's own: let INVSYNC_DATABASE_URL name another one, "
                "which only the stock is in"
            )
        return (
            f"the stock's database is of a newer version of invsync (revision {revision}, which this one doesn't know): use that "
            "version, or go back with the backup of its upgrade (docs/upgrading.md)"
        )
    if revision != _scripts().get_current_head():
        return f"the stock's database is of an older version (revision {revision}): stop all services and run `invsync upgrade`"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"the stock's database says that it is of revision {revision}, and is another one: {', '.join(found[:_SHOWN])}{more}. It "
        "was made before the first release, or changed by hand, and no upgrade leads from there: nothing was changed; set up a "
        "new one and count it in (docs/upgrading.md, A database of before the first release)"
    )


def _scripts() -> ScriptDirectory:
    # Imported here: Alembic costs 0.1 s, and who finds nothing needs none of it.
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(MIGRATIONS))
