"""Backups of the embedded database while it is in use: whole, checked, and only the latest kept."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

KEPT = 48  # two days of hourly backups


class BackupError(Exception):
    """A backup that can't be used: it was not put among the others."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One finished backup; `removed` older ones were deleted for it."""

    path: Path
    size_bytes: int
    kept: int
    removed: int


def back_up(database: Path, folder: Path, now: datetime) -> Backup:
    """Copy the SQLite file `database` into `folder` page by page, check the copy, and keep the latest `KEPT`.

    Writers go on meanwhile. A backup appears under its name only when it is whole and on disk; it is readable by its
    owner only. Raises `BackupError` if the copy fails SQLite's own check, and `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{database.stem}-{now:%Y%m%dT%H%M%SZ}.db"
    partial = target.with_suffix(".part")
    os.close(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
    with (
        closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(partial)) as copy,
    ):
        # 4,000 pages (16 MB) a step: between steps the source's readers and writers get their turn.
        source.backup(copy, pages=4_000)
        result = copy.execute("PRAGMA quick_check").fetchone()[0]
    if result != "ok":
        partial.unlink()
        raise BackupError(f"the copy of {database.name} fails SQLite's check: {result}")
    descriptor = os.open(partial, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    partial.replace(target)
    backups = sorted(folder.glob(f"{database.stem}-*.db"))
    for old in backups[:-KEPT]:
        old.unlink()
    return Backup(target, target.stat().st_size, len(backups[-KEPT:]), max(0, len(backups) - KEPT))
