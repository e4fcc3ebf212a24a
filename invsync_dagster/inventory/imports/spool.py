"""Keeps the checked rows of a file on disk, so that one of any length needs the same memory; those of inventories, by SKU."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any, Self

from invsync_dagster.inventory.bulk import several_at_once
from invsync_dagster.inventory.imports.inventory_file import InventoryRow
from invsync_dagster.inventory.imports.refusals import FullDiskError, Rejection

# Rows written to the spool at once, and rows that are applied at once: some 15 MB of objects.
ROWS_AT_ONCE = 20_000

_COLUMNS = ", ".join(InventoryRow._fields)


class KeptRows:
    """The rows of one file with these columns, in a private database that the system removes with the process."""

    def __init__(self, file: str, columns: str) -> None:
        self.count = 0
        self._file = file
        # "": SQLite's own temporary file, unlinked as it is made.
        self._database = sqlite3.connect("", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            "PRAGMA cache_size=-32000",
            f"CREATE TABLE rows ({columns})",
            "BEGIN",
        ):
            self._database.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            one = f"INSERT INTO rows VALUES ({', '.join('?' * len(rows[0]))})"  # noqa: S608 - no word but ours
            for statement, values in several_at_once(one, rows):
                self._run(statement, values)

    def _sort(self, order: str) -> None:
        """Lay the rows in the order in which they are read, which needs their space a second time: through an index alone each
        row of a long file would be looked for on the disk (two passes through 1,000,000: 6 s instead of 11)."""
        for statement in (
            f"CREATE TABLE sorted AS SELECT * FROM rows ORDER BY {order}",  # noqa: S608 - our own names
            "DROP TABLE rows",
            "ALTER TABLE sorted RENAME TO rows",
        ):
            self._run(statement)

    def _run(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        try:
            if isinstance(values, list):
                return self._database.executemany(statement, values)
            return self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            if "full" not in str(error) and "I/O" not in str(error):
                raise
            mend = "free space in the folder of temporary files (TMPDIR), and give the file again"
            raise FullDiskError(self._file, f"its rows can't be kept while it is read ({error})", mend) from error


class Spool(KeptRows):
    """The rows of an inventory file.

    `add` takes rows in the file's order; `settle` rejects SKUs that are there twice and adds up the places of one SKU;
    then `chunks` gives the rows by SKU, as often as wanted. All raise `FullDiskError` where the disk is full.
    """

    def __init__(self, file: str) -> None:
        super().__init__(file, _COLUMNS)
        self.has_status = False
        self._parts = False
        self._run("CREATE TABLE broken (sku, line)")

    def add(self, rows: Collection[InventoryRow]) -> None:
        """Keep rows of the file."""
        self.has_status = self.has_status or any(row.status is not None for row in rows)
        self._parts = self._parts or any(row.part for row in rows)
        self._insert(list(map(tuple, rows)))

    def break_sku(self, sku: str, line: int) -> None:
        """Note that a row of a SKU can't be used: a sum without it would be too low, and beside it another may be wrong."""
        self._run("INSERT INTO broken VALUES (?, ?)", (sku, line))

    def settle(self) -> list[Rejection]:
        """Take out what contradicts itself, and count the SKUs that can go in; returns what doesn't, by line.

        A SKU that is there twice goes in once where both rows say the same; else neither does, since nobody can say which
        is right.
        """
        self._sort("sku, part, line")
        self._run("CREATE INDEX by_sku ON rows (sku, part, line)")
        rejections: list[Rejection] = []
        twice = self._run("SELECT sku, part FROM rows GROUP BY sku, part HAVING count(*) > 1").fetchall()
        for sku, part in twice:
            rejections += self._settle_one(sku, part)
        rejections += self._settle_broken()
        self.count = self._run("SELECT count(DISTINCT sku) FROM rows").fetchone()[0]
        return sorted(rejections, key=lambda one: one.line)

    def _settle_broken(self) -> list[Rejection]:
        query = (
            "SELECT rows.line, rows.sku, min(broken.line) FROM broken JOIN rows ON rows.sku = broken.sku"
            " GROUP BY rows.line, rows.sku"
        )
        rejections = []
        for line, sku, other in self._run(query):
            reason = f"the SKU is also on line {other}, in a row that can't be used: neither goes in"
            mend = "keep the right one of them"
            if self._parts:
                reason = f"the SKU's row on line {other}, of another location, can't be used: the sum would be too low"
                mend = "mend that row; all rows of the SKU go in together"
            rejections.append(Rejection(self._file, line, "sku", sku, reason, mend))
        self._run("DELETE FROM rows WHERE sku IN (SELECT sku FROM broken)")
        return rejections

    def _settle_one(self, sku: str, part: str) -> list[Rejection]:
        query = f"SELECT {_COLUMNS} FROM rows WHERE sku = ? AND part = ? ORDER BY line"  # noqa: S608 - our own names
        rows = self._run(query, (sku, part)).fetchall()
        if not rows:
            return []  # taken out with another location of the SKU
        first, *others = rows
        if all(row[1:] == first[1:] for row in others):
            self._run("DELETE FROM rows WHERE sku = ? AND part = ? AND line > ?", (sku, part, first[0]))
            reason = f"the SKU is already on line {first[0]}, the same"
            return [Rejection(self._file, row[0], "sku", sku, reason, "take the row out") for row in others]
        rejections = []
        for line, other in [(first[0], others[0][0]), *((row[0], first[0]) for row in others)]:
            reason = f"the SKU is also on line {other}, with other values: neither goes in"
            rejections.append(Rejection(self._file, line, "sku", sku, reason, "keep the right one of them"))
        self._run("DELETE FROM rows WHERE sku = ? AND part = ?", (sku, part))
        reason = f"the SKU's rows of another location, from line {first[0]} on, contradict each other"
        return rejections + self._take_out(sku, reason, "mend those rows; all rows of the SKU go in together")

    def _take_out(self, sku: str, reason: str, mend: str) -> list[Rejection]:
        lines = self._run("SELECT line FROM rows WHERE sku = ?", (sku,)).fetchall()
        self._run("DELETE FROM rows WHERE sku = ?", (sku,))
        return [Rejection(self._file, line, "sku", sku, reason, mend) for (line,) in lines]

    def chunks(self) -> Iterator[list[InventoryRow]]:
        """Yield the rows by SKU, at most 20,000 at once."""
        # As `settle` laid them, by SKU: without its index.
        query = f"SELECT {_COLUMNS} FROM rows ORDER BY rowid"  # noqa: S608 - our own names
        if self._parts:
            query = (
                "SELECT min(line), sku, sum(quantity), max(product_name), sum(reserved_quantity), max(status), ''"
                " FROM rows GROUP BY sku ORDER BY sku"
            )
        cursor = self._run(query)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield list(map(InventoryRow._make, rows))
