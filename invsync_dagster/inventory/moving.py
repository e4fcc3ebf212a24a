"""Moves the whole stock from one database to another, SQLite to PostgreSQL or back: every row, or nothing."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, Table, func, select, text
from sqlalchemy.exc import DataError

from invsync_dagster.inventory.bulk import insert_rows
from invsync_dagster.inventory.database import NOT_STORABLE, write_transaction
from invsync_dagster.inventory.installation import name_installation, required_installation
from invsync_dagster.inventory.tables import installation, metadata, work_queue

ROWS_AT_ONCE = 10_000

# An empty database has an installation's id already, and its levels' triggers keep the queue.
_TABLES = [table for table in metadata.sorted_tables if table not in (installation, work_queue)]


class MovingError(Exception):
    """A move that can't be made; the target is left as it was."""


def move_stock(source: Engine, target: Engine, progress: Callable[[str, int], None]) -> int:
    """Copy every table of `source` into the migrated and empty `target`, in one transaction; return the rows copied.

    `source` takes no writes meanwhile, and isn't changed. `progress` is told each table and its rows. Raises
    `MovingError` if the schemas are of different revisions, if `target` holds anything, or can't hold a value.
    """
    with write_transaction(target) as new:
        # Before the source is locked, which may be the same database.
        for table in (*_TABLES, work_queue):
            if _rows(new, table):
                raise MovingError(f"the new database is not empty: {table.name} has rows")
        with write_transaction(source) as old:
            theirs, ours = _revision(old), _revision(new)
            if theirs != ours:
                raise MovingError(
                    f"the databases are of different revisions ({theirs}, {ours}); upgrade the old one first"
                )
            name_installation(new, required_installation(old))
            copied = 0
            for table in _TABLES:
                rows = _copy(old, new, table)
                if rows != _rows(new, table):
                    raise MovingError(f"{table.name}: {rows} rows were read, {_rows(new, table)} are there")
                progress(table.name, rows)
                copied += rows
            return copied


def _copy(old: Connection, new: Connection, table: Table) -> int:
    copied = 0
    with old.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table)) as result:
        for part in result.partitions():
            try:
                insert_rows(new, table, tuple(table.c), [tuple(row) for row in part])
            except NOT_STORABLE as error:
                # The error's own text may hold the rows; its cause says what is wrong with one (SQLite takes a NUL).
                reason = error.orig if isinstance(error, DataError) else type(error).__name__
                raise MovingError(f"{table.name}: the new database can't hold a value: {reason}") from error
            copied += len(part)
    if new.dialect.name == "postgresql" and table.autoincrement_column is not None:
        # Its numbers came along; the next one of the server's own counter must be behind them.
        column = table.autoincrement_column
        new.execute(
            text("SELECT setval(pg_get_serial_sequence(:table, :column), :next, false)"),
            {
                "table": table.name,
                "column": column.name,
                "next": (new.execute(select(func.max(column))).scalar_one() or 0) + 1,
            },
        )
    return copied


def _rows(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _revision(connection: Connection) -> str:
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
