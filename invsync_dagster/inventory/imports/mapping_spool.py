"""Keeps the checked rows of a mapping file on disk, item by item, so that a file of any length needs the same memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator

from invsync_dagster.inventory.imports.mapping_file import MappingRow
from invsync_dagster.inventory.imports.spool import KeptRows

# Rows that are judged, and applied, at once: some 10 MB of objects.
ROWS_AT_ONCE = 10_000

_COLUMNS = ", ".join(MappingRow._fields)
_IN_ORDER = f"SELECT {_COLUMNS} FROM rows ORDER BY rowid"  # noqa: S608


class MappingSpool(KeptRows):
    """The rows of a mapping file. An item's rows are always given together: what contradicts itself does so within one.

    `add` takes rows in the file's order, `sort` ends that; then `by_item` gives them to be judged, `take_out` removes those that
    don't go in, and `by_item` gives the others. All raise `FullDiskError` where the disk is full.
    """

    def __init__(self, file: str) -> None:
        super().__init__(file, _COLUMNS)

    def add(self, rows: Iterable[MappingRow]) -> None:
        """Keep rows of the file."""
        values = list(map(tuple, rows))  # a NamedTuple takes the driver a sixth longer
        self._insert(values)
        self.count += len(values)

    def sort(self) -> None:
        """Lay the rows by channel and item: an item's variations have neighbouring ids, and what is written to the stock's
        indexes in their order takes half as long as in the file's."""
        self._sort("channel, item_id, line")

    def by_item(self) -> Iterator[list[MappingRow]]:
        """Yield the rows by channel and item."""
        return _whole_items(self._run(_IN_ORDER))

    def take_out(self, lines: Collection[int]) -> None:
        """Remove the rows of these lines."""
        if lines:
            self._run("CREATE INDEX by_line ON rows (line)")
            self._run("DELETE FROM rows WHERE line = ?", [(line,) for line in lines])
            self.count -= len(lines)


def _whole_items(rows: sqlite3.Cursor) -> Iterator[list[MappingRow]]:
    """Yield the rows some 10,000 at once; those of the last item, which may go on, wait for the next ones."""
    waiting: list[MappingRow] = []
    while values := rows.fetchmany(ROWS_AT_ONCE):
        part = list(map(MappingRow._make, values))
        if len(part) < ROWS_AT_ONCE:
            waiting += part
            break
        last = part[-1].level[:2]
        end = next((at for at in reversed(range(len(part))) if part[at].level[:2] != last), -1) + 1
        if end or (waiting and waiting[-1].level[:2] != last):
            yield waiting + part[:end]
            waiting = part[end:]
        else:
            waiting += part
    if waiting:
        yield waiting
