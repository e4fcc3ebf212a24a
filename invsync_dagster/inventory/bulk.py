"""Moves many rows between Python and the database: sets of keys as one parameter, rows written by the driver itself."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Insert,
    ScalarSelect,
    Select,
    Subquery,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ColumnDefault
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import TableValuedAlias

from invsync_dagster.inventory.tables.columns import UtcDateTime

T = TypeVar("T")

# Rows in one step of a long job, and in one IN list of numbers (SQLite takes 32,766 variables).
CHUNK = 1000

# How a statement begins whose rows PostgreSQL takes as a stream: a ledger entry costs the driver and the server 9 us of CPU
# instead of 19. It pays from some 30 rows on; a single one would not even be handed over as many.
COPY = "COPY"
COPIED_ROWS = 100

# Rows that one of SQLite's INSERTs takes: a new level costs 8 us instead of 11, a row without triggers 2.6 instead of 4.3, since
# Python's driver gives the interpreter's lock up and asks for it again with each statement. More make no difference.
ROWS_A_STATEMENT = 20

Row = tuple[Any, ...]


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Yield `items` in lists of at most `size`."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


class _Collector:
    """Python's garbage collector, off while anybody wants it off; it goes on as it was when the last one is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses = 0
        self._was_enabled = False

    def pause(self) -> None:
        with self._lock:
            if self._pauses == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._pauses += 1

    def go_on(self) -> None:
        with self._lock:
            self._pauses -= 1
            if self._pauses == 0 and self._was_enabled:
                gc.enable()


_COLLECTOR = _Collector()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python from looking for reference cycles in a batch or a file that makes a million objects and none of them: it would
    cost a sixth of the time. What other threads leave behind meanwhile is collected after it."""
    _COLLECTOR.pause()
    try:
        yield
    finally:
        _COLLECTOR.go_on()


class _Texts(FunctionElement[Any]):
    """A JSON array as a table of texts."""

    name = "texts"
    inherit_cache = True


class _Pairs(FunctionElement[Any]):
    """A JSON object as a table of two texts."""

    name = "pairs"
    inherit_cache = True


@compiles(_Texts, "sqlite")
@compiles(_Pairs, "sqlite")
def _sqlite_json(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **kw)})"


@compiles(_Texts)
def _texts(element: _Texts, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_array_elements_text(CAST({compiler.process(element.clauses, **kw)} AS JSON))"


@compiles(_Pairs)
def _pairs(element: _Pairs, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_each_text(CAST({compiler.process(element.clauses, **kw)} AS JSON))"


def texts(parameter: str) -> TableValuedAlias:
    """Return a table with the column `value`; `as_parameter` makes the value of its bind parameter.

    One parameter however many keys: an IN list of 1,000 costs SQLAlchemy more than SQLite's look-ups.
    """
    return _Texts(bindparam(parameter, type_=Text)).table_valued(Column("value", Text), name=parameter)


def as_parameter(values: Collection[str] | Collection[int]) -> str:
    """Return keys as the parameter of `texts`, in order, so that neighbouring rows are found on the pages just read."""
    return json.dumps(sorted(values))


def among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """The condition that a column of texts or whole numbers is one of the keys in a bind parameter, see `texts`."""
    return column.in_(_keys(column, parameter))


def _keys(column: ColumnElement[Any], parameter: str) -> Select[Any]:
    value: ColumnElement[Any] = texts(parameter).c.value
    return select(value if isinstance(column.type, Text) else cast(value, BigInteger))


class _AnyOf(FunctionElement[Any]):
    """Whether a column has one of the values of a query. Of no type: SQLite has no booleans, and would compare it with 1."""

    name = "any_of"
    inherit_cache = True


@compiles(_AnyOf, "sqlite")
def _sqlite_any_of(element: _AnyOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **kw)} IN {compiler.process(values, **kw)}"


@compiles(_AnyOf)
def _any_of(element: _AnyOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **kw)} = ANY(ARRAY{compiler.process(values, **kw)})"


def any_of(column: ColumnElement[Any], values: ScalarSelect[Any]) -> ColumnElement[bool]:
    """The condition that a column has one of the values of a query, many in order, and is looked up by its index.

    Of an IN the planner of PostgreSQL may think that reading the whole table is less work; of an array it walks through the
    index once.
    """
    return _AnyOf(column, values)


def found_by(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """The condition of `among`, for a column that the one index begins with that the query can take: a key, as a rule.

    PostgreSQL finds 10,000 SKUs in 19 ms by it, and in 50 to 80 by an IN, of which it first makes a table. Through any other
    index it compares each row with every key: of `platform_mapping`, three of whose indexes begin with the channel, it took
    one of the others while its statistics knew none of the channel's rows, and a file's time grew with its square.
    """
    return any_of(column, _keys(column, parameter).scalar_subquery())


def numbers_by_id(parameter: str) -> Subquery:
    """Return a table with the whole numbers `id` and `number`; its bind parameter is a JSON object."""
    pairs = _Pairs(bindparam(parameter, type_=Text)).table_valued(Column("key", Text), Column("value", Text))
    return select(cast(pairs.c.key, BigInteger).label("id"), cast(pairs.c.value, BigInteger).label("number")).subquery(
        parameter
    )


def insert_rows(connection: Connection, table: Table, columns: tuple[Column[Any], ...], rows: Sequence[Row]) -> None:
    """Insert rows of values in the order of `columns`; the others get their defaults."""
    if connection.dialect.name == "postgresql" and len(rows) >= COPIED_ROWS:
        _copy(connection, table, columns, rows)
    else:
        _write(connection, _insert(connection.dialect, table, columns), columns, rows)


def upsert_rows(
    connection: Connection, table: Table, keys: tuple[str, ...], columns: tuple[Column[Any], ...], rows: Sequence[Row]
) -> None:
    """Insert rows, no two of the same `keys`, or set all their other columns where a row with these exists."""
    if connection.dialect.name != "postgresql":
        _write(connection, _upsert_one(connection.dialect, table, keys, columns), columns, rows)
        return
    for given in _given(connection, columns, rows):
        connection.execute(_upsert_all(table, keys, columns), {"given": given})


# An UPDATE of one row, made of what is given for it, by name.
Updating = Callable[[Mapping[str, ColumnElement[Any]]], Update]

# Rows that one parameter holds.
GIVEN_ROWS = 5_000


def update_rows(
    connection: Connection, updating: Updating, columns: tuple[Column[Any], ...], rows: Sequence[Row]
) -> None:
    """Update a row for each of `rows`, no two the same one; `columns` names what is given, and its types."""
    if connection.dialect.name != "postgresql":
        _write(connection, _update_one(connection.dialect, updating, columns), columns, rows)
        return
    for given in _given(connection, columns, rows):
        connection.execute(_update_all(updating, columns), {"given": given})


def _given(connection: Connection, columns: tuple[Column[Any], ...], rows: Sequence[Row]) -> Iterator[str]:
    """Yield rows as the JSON that `_table_of_given` reads: one by one they take PostgreSQL twice the time, and call triggers."""
    names = [column.name for column in columns]
    for part in chunks(rows, GIVEN_ROWS):
        values = []
        for position, column in enumerate(columns):
            own = map(itemgetter(position), part)
            values.append(own if isinstance(column.type, JSON) else _written(connection, column, own))
        yield json.dumps([dict(zip(names, each, strict=True)) for each in zip(*values, strict=True)])


def _table_of_given(columns: tuple[Column[Any], ...]) -> TableValuedAlias:
    rows = func.json_to_recordset(cast(bindparam("given", type_=Text), JSON))
    given = rows.table_valued(*(Column(column.name, column.type) for column in columns))
    return given.render_derived(name="given", with_types=True)


def _bindings(columns: tuple[Column[Any], ...]) -> dict[str, Any]:
    return {column.name: bindparam(column.name, type_=column.type) for column in columns}


@lru_cache(maxsize=64)
def _insert(dialect: Dialect, table: Table, columns: tuple[Column[Any], ...]) -> SQLCompiler:
    defaults = {column.name: value for column, value in _defaults(table, columns)}
    return _compile(dialect, table.insert().values(defaults | _bindings(columns)))


def _defaults(table: Table, given: tuple[Column[Any], ...]) -> list[tuple[Column[Any], Any]]:
    """Return the columns that aren't given and have a value all the same, with it."""
    names = {column.name for column in given}
    return [
        (column, column.default.arg)
        for column in table.c
        if column.name not in names and isinstance(column.default, ColumnDefault) and column.default.is_scalar
    ]


def _copy(connection: Connection, table: Table, columns: tuple[Column[Any], ...], rows: Sequence[Row]) -> None:
    """Insert rows by COPY, which `open_database` hands to the driver."""
    constants = _defaults(table, columns)
    names = (
        connection.dialect.identifier_preparer.format_column(one) for one in (*columns, *(one for one, _ in constants))
    )
    values = [_written(connection, column, map(itemgetter(position), rows)) for position, column in enumerate(columns)]
    values += [repeat(constant, len(rows)) for _, constant in constants]
    statement = f"{COPY} {table.name} ({', '.join(names)}) FROM STDIN"
    connection.exec_driver_sql(statement, list(zip(*values, strict=True)))


@lru_cache(maxsize=64)
def _upsert_one(dialect: Dialect, table: Table, keys: tuple[str, ...], columns: tuple[Column[Any], ...]) -> SQLCompiler:
    statement = sqlite.insert(table)
    changed = {column.name: statement.excluded[column.name] for column in columns if column.name not in keys}
    return _compile(
        dialect, statement.values(_bindings(columns)).on_conflict_do_update(index_elements=list(keys), set_=changed)
    )


@lru_cache(maxsize=64)
def _upsert_all(table: Table, keys: tuple[str, ...], columns: tuple[Column[Any], ...]) -> Insert:
    statement = postgresql.insert(table)
    changed = {column.name: statement.excluded[column.name] for column in columns if column.name not in keys}
    given = select(*_table_of_given(columns).c)
    return statement.from_select(list(columns), given).on_conflict_do_update(index_elements=list(keys), set_=changed)


@lru_cache(maxsize=64)
def _update_one(dialect: Dialect, updating: Updating, columns: tuple[Column[Any], ...]) -> SQLCompiler:
    return _compile(dialect, updating(_bindings(columns)))


@lru_cache(maxsize=64)
def _update_all(updating: Updating, columns: tuple[Column[Any], ...]) -> Update:
    return updating(dict(_table_of_given(columns).c.items()))


def _compile(dialect: Dialect, statement: UpdateBase) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - a statement compiles to nothing else
    return compiled


def _write(
    connection: Connection, compiled: SQLCompiler, columns: tuple[Column[Any], ...], rows: Sequence[Row]
) -> None:
    """Hand rows to the driver, converted column by column.

    SQLAlchemy's own executemany costs 15 us for a ledger entry, more than SQLite's insert.
    """
    if not rows:
        return
    values: dict[str, Iterable[Any]] = {
        column.name: _converted(connection, column, map(itemgetter(position), rows))
        for position, column in enumerate(columns)
    }
    for name, constant in compiled.params.items():
        if name not in values:
            values[name] = repeat(constant, len(rows))
    if compiled.positional:
        again = {name for name, times in Counter(compiled.positiontup).items() if times > 1}
        values |= {name: list(values[name]) for name in again}
        ordered = [values[name] for name in compiled.positiontup or ()]
        for statement, sets in several_at_once(str(compiled), list(zip(*ordered, strict=True))):
            connection.exec_driver_sql(statement, sets)
    else:
        names = list(values)
        named = [dict(zip(names, each, strict=True)) for each in zip(*values.values(), strict=True)]
        connection.exec_driver_sql(str(compiled), named)


def several_at_once(statement: str, rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    """Yield one of SQLite's INSERTs of a row, made to take `ROWS_A_STATEMENT`, and then as it is for the last ones, each with
    what it is to be executed with, in order; another statement as it is."""
    together = len(rows) - len(rows) % ROWS_A_STATEMENT
    if together and (one := _ONE_ROW.search(statement)):
        many = statement.replace(one[0], f"VALUES {', '.join([one[1]] * ROWS_A_STATEMENT)}", 1)
        flat = chain.from_iterable(islice(rows, together))
        yield many, list(zip(*[flat] * (ROWS_A_STATEMENT * len(rows[0])), strict=True))
        rows = rows[together:]
    if rows:
        yield statement, rows


_ONE_ROW = re.compile(r"VALUES (\([?, ]+\))")


def _written(connection: Connection, column: Column[Any], values: Iterable[Any]) -> Iterable[Any]:
    """Convert values for COPY. Times as texts: to write each out costs the driver 0.3 us, and most rows have the same ones."""
    converted = _converted(connection, column, values)
    return _each(_text_of, converted) if isinstance(column.type, UtcDateTime) else converted


def _text_of(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _converted(connection: Connection, column: Column[Any], values: Iterable[Any]) -> Iterable[Any]:
    dialect = connection.dialect
    convert: Callable[[Any], Any] | None = column.type.dialect_impl(dialect).bind_processor(dialect)
    return values if convert is None else _each(convert, values)


def _each(convert: Callable[[Any], Any], values: Iterable[Any]) -> Iterator[Any]:
    """Convert values; most columns hold one for many rows: now, or no movements."""
    last = text = None
    for value in values:
        if value is not last:
            last, text = value, convert(value)
        yield text
