"""Files that bring far fewer SKUs than the one of their name before: exports that are cut off, or filtered."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from invsync_dagster.inventory.imports.reading import INVENTORY
from invsync_dagster.inventory.imports.results import APPLIED
from invsync_dagster.inventory.tables import imports

# Long enough for a list that comes once a month (docs/decisions/0038).
REMEMBERED = timedelta(days=35)
SHARE = 0.5
LEAST = 10  # SKUs fewer: below it, it is a handful that was counted anew

# What tells the files of one list apart: dates, times, running numbers, and a browser's "(2)".
_TOLD_APART = re.compile(r"[ _.-]*(\d{1,2}[-_.]\d{1,2}[-_.]\d{4}|\d{4,}([-_.t ]?\d+)*|\(\d+\))")


def shrunk(connection: Connection, file: str, skus: int, now: datetime) -> str:
    """Say, with the mend, that a file brings `skus` SKUs and others of its name far more; "" if it is as usual.

    It is compared with the largest since the last one that somebody approved: a list that loses some every day is short one day.
    """
    at = func.coalesce(imports.c.decided_at, imports.c.created_at)
    query = select(imports.c.file_name, imports.c.applied_rows, imports.c.created_at, imports.c.decided_at).where(
        imports.c.kind == INVENTORY, imports.c.state == APPLIED, imports.c.created_at > now - REMEMBERED
    )
    name, before, then = "", 0, now
    for its_name, its_skus, created_at, decided_at in connection.execute(
        query.order_by(at.desc(), imports.c.id.desc())
    ):
        if _series(its_name) != _series(file):
            continue
        if its_skus > before:
            name, before, then = its_name, its_skus, created_at
        if decided_at is not None:
            break
    if skus > SHARE * before or before - skus < LEAST:
        return ""
    of_whom = "" if name == file else f" as {name}"
    return (
        f"{file} brings {skus} SKUs, and brought {before}{of_whom} on {then:%Y-%m-%d} - if it was cut off or filtered, "
        "drop it and export it again; approve it if it is meant: what it doesn't name keeps its number (name what is "
        "gone with the quantity 0); if it is another list, give it a name of its own"
    )


def _series(file: str) -> str:
    """What the names of one list's files have in common: `stock-2026-07-01.csv` and `stock (2).csv` are `stock.csv`.

    A name of nothing else is that of no list.
    """
    stem, dot, suffix = file.casefold().rpartition(".")
    name = _TOLD_APART.sub("", stem)
    return f"{name}{dot}{suffix}" if name else file
