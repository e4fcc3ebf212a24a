"""Keeps the checked rows of a mapping file on disk, item by item, so that a file of any length needs the same memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields

from invsync_dagster.inventory.imports.mapping_file import MappingRow
from invsync_dagster.inventory.imports.spool import KeptRows

# Rows that are judged, and applied, at once: some 10 MB of objects.
ROWS_AT_ONCE = 10_000

_NAMES = [field.name for field in fields(MappingRow)]
_COLUMNS = ", ".join(_NAMES)
_INSERT = f"INSERT INTO rows VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608 - our own names
_BY_ITEM = f"SELECT {_COLUMNS} FROM rows ORDER BY channel, item_id, line"  # noqa: S608
_AS_MAPPED = (
    f"SELECT {_COLUMNS} FROM (SELECT *, min(line) OVER (PARTITION BY channel, item_id) AS first FROM rows)"  # noqa: S608
    " ORDER BY channel, first, line"
)


class MappingSpool(KeptRows):
    """The rows of a mapping file. An item's rows are always given together: what contradicts itself does so within one.

    `add` takes rows in the file's order; then `by_item` gives them to be judged, `take_out` removes those that don't go in,
    and `as_mapped` gives the others, items in the file's order. All raise `FileError` where the disk is full.
    """

    def __init__(self, file: str) -> None:
        super().__init__(file, _COLUMNS)

    def add(self, rows: Iterable[MappingRow]) -> None:
        """Keep rows of the file."""
        values = [tuple(getattr(row, name) for name in _NAMES) for row in rows]
        self._run(_INSERT, values)
        self.count += len(values)

    def by_item(self) -> Iterator[list[MappingRow]]:
        """Yield the rows by channel and item."""
        self._run("CREATE INDEX by_item ON rows (channel, item_id, line)")
        return _whole_items(self._run(_BY_ITEM))

    def take_out(self, lines: Collection[int]) -> None:
        """Remove the rows of these lines."""
        if lines:
            self._run("CREATE INDEX by_line ON rows (line)")
            self._run("DELETE FROM rows WHERE line = ?", [(line,) for line in lines])
            self.count -= len(lines)

    def as_mapped(self) -> Iterator[list[MappingRow]]:
        """Yield the rows by channel, items in the file's order: their levels get neighbouring ids, and are read together."""
        return _whole_items(self._run(_AS_MAPPED))


def _whole_items(rows: sqlite3.Cursor) -> Iterator[list[MappingRow]]:
    part: list[MappingRow] = []
    for values in rows:
        row = MappingRow(*values)
        if len(part) >= ROWS_AT_ONCE and part[-1].level[:2] != row.level[:2]:
            yield part
            part = []
        part.append(row)
    if part:
        yield part
