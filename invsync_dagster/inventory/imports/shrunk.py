"""Files that bring far fewer SKUs than those of their name did before: exports that are cut off, or filtered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from invsync_dagster.inventory.imports.reading import INVENTORY
from invsync_dagster.inventory.imports.results import APPLIED
from invsync_dagster.inventory.tables import imports

# Long enough for a list that comes once a month; after it the shorter one is what is usual (docs/decisions/0038).
REMEMBERED = timedelta(days=35)
SHARE = 0.5
LEAST = 10  # SKUs fewer: below it, it is a handful that was counted anew


@dataclass(frozen=True, slots=True)
class Shrunk:
    """An inventory file that brings `skus` SKUs, and the one of its name that brought `before`, the most lately."""

    file: str
    skus: int
    before_file: str
    before: int
    before_at: datetime

    @property
    def words(self) -> str:
        """What is wrong, and the mend, in one sentence."""
        of_whom = "" if self.before_file == self.file else f" as {self.before_file}"
        return (
            f"{self.file} brings {self.skus} SKUs, and brought {self.before}{of_whom} on {self.before_at:%Y-%m-%d}: those that "
            "it doesn't name keep a number that nobody states any more - if it was cut off or filtered, export it again and "
            "import it whole; if they are gone, name them with the quantity 0; if it is another list, give it a name of its own"
        )


@dataclass(frozen=True, slots=True)
class _Brought:
    file: str
    skus: int
    at: datetime


def shrunk(connection: Connection, file: str, skus: int, now: datetime) -> Shrunk | None:
    """Compare a file that brings `skus` SKUs with those of its name that were applied lately; None: it is as usual."""
    return _compared(_Brought(file, skus, now), _applied(connection, now).get(_series(file), []))


def shrunk_files(connection: Connection, now: datetime) -> list[Shrunk]:
    """Return the files that were applied last, each of its name, and brought far fewer SKUs than one before; by file."""
    found = [_compared(brought[-1], brought[:-1]) for brought in _applied(connection, now).values()]
    return sorted((one for one in found if one is not None), key=lambda one: one.file)


def _compared(last: _Brought, earlier: Sequence[_Brought]) -> Shrunk | None:
    most = max(earlier, key=lambda one: one.skus, default=last)
    if last.skus >= SHARE * most.skus or most.skus - last.skus < LEAST:
        return None
    return Shrunk(last.file, last.skus, most.file, most.skus, most.at)


def _applied(connection: Connection, now: datetime) -> dict[str, list[_Brought]]:
    """The inventory files that went in lately, the latest last, by what their names have in common."""
    at = func.coalesce(imports.c.decided_at, imports.c.created_at)
    query = select(imports.c.file_name, imports.c.applied_rows, imports.c.created_at).where(
        imports.c.kind == INVENTORY, imports.c.state == APPLIED, imports.c.created_at > now - REMEMBERED
    )
    found: dict[str, list[_Brought]] = {}
    for row in connection.execute(query.order_by(at, imports.c.id)):
        found.setdefault(_series(row.file_name), []).append(_Brought(*row))
    return found


def _series(file: str) -> str:
    """What the names of one source's files have in common: `stock-2026-07-01.csv` and `stock (2).csv` are the same list."""
    return "".join(letter for letter in file.casefold() if letter.isalpha())
