"""Moves many rows between Python and the database: chunks, upserts, staged sets of keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, MetaData, Table, Text, delete, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

T = TypeVar("T")

# Values in one IN list: below SQLite's 32,766 variables, and few enough that a chunk's rows stay small in memory.
CHUNK = 1000

# Keys that one statement joins with; temporary, private to the connection.
staged_skus = Table("staged_skus", MetaData(), Column("sku", Text, primary_key=True), prefixes=["TEMPORARY"])


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Yield `items` in lists of at most `size`."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def stage(connection: Connection, skus: Collection[str]) -> None:
    """Fill `staged_skus` with exactly these SKUs, for the statements that follow in this transaction."""
    connection.execute(CreateTable(staged_skus, if_not_exists=True))
    connection.execute(delete(staged_skus))
    connection.execute(insert(staged_skus), [{"sku": sku} for sku in skus])


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> None:
    """Insert rows, or set all their other columns where a row with the same `keys` exists."""
    if not rows:
        return
    dialect_insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = dialect_insert(table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changed), list(rows))
