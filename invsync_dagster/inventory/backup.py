"""Backups of the stock's database while it is in use: whole, checked, and only the latest kept."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL

from invsync_dagster.inventory.database import parse_url

KEPT = 48  # two days of hourly backups
LONGEST_DUMP_SECONDS = 3600


class BackupError(Exception):
    """A backup that can't be used: it was not put among the others. The text holds no password."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One finished backup; `removed` older ones were deleted for it."""

    path: Path
    size_bytes: int
    kept: int
    removed: int


def back_up(database_url: str, folder: Path, now: datetime) -> Backup:
    """Copy the database into `folder`, check the copy, and keep the latest `KEPT`: a SQLite file (`.db`), or an archive of
    PostgreSQL's own `pg_dump` (`.dump`, for `pg_restore`).

    Writers go on meanwhile. A backup appears under its name only when it is whole and on disk; it is readable by its
    owner only. What a killed backup left is removed by the next one. Raises `BackupError` if there is no good copy,
    `DatabaseUrlError`, and `OSError`.
    """
    url = parse_url(database_url)
    name = Path(str(url.database)).stem
    suffix = ".db" if url.get_backend_name() == "sqlite" else ".dump"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{now:%Y%m%dT%H%M%SZ}{suffix}"
    partial = target.with_suffix(".part")
    _remove_dead_parts(folder, name, now)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        raise BackupError(f"another backup is under way: {partial.name}") from error
    try:
        if url.get_backend_name() == "sqlite":
            _copy_file(Path(str(url.database)).absolute(), partial)
        else:
            _dump(url, partial)
        _to_disk(partial)
        partial.replace(target)
        _to_disk(folder)
    finally:
        for part in folder.glob(f"{glob.escape(partial.name)}*"):  # SQLite's journal of a copy that broke off
            part.unlink()
    backups = _of(folder, name, re.escape(suffix))
    for old in backups[:-KEPT]:
        old.unlink()
    return Backup(target, target.stat().st_size, len(backups[-KEPT:]), max(0, len(backups) - KEPT))


def _of(folder: Path, name: str, suffix: str) -> list[Path]:
    """Return the files of this database alone, by time: `stock-eu` begins like `stock` too."""
    form = re.compile(rf"{re.escape(name)}-[0-9]{{8}}T[0-9]{{6}}Z{suffix}")
    return sorted(path for path in folder.iterdir() if form.fullmatch(path.name))


def _remove_dead_parts(folder: Path, name: str, now: datetime) -> None:
    for part in _of(folder, name, r"\.part.*"):
        if now.timestamp() - part.stat().st_mtime > LONGEST_DUMP_SECONDS:
            part.unlink()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _copy_file(database: Path, partial: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            # In one step, which reads one state of the stock while writers go on (WAL): of several, each would begin anew
            # after a commit of somebody else, and beside 50 commits a second a copy of 400 MB never ended.
            source.backup(copy)
            result = copy.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise BackupError(f"{database.name} can't be copied: {error}") from error
    if result != "ok":
        raise BackupError(f"the copy of {database.name} fails SQLite's check: {result}")


def _dump(url: URL, partial: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise BackupError(
            "there is no pg_dump on PATH; install PostgreSQL's client programs, of the server's version or a newer one"
        )
    # The password goes by the environment: the arguments of a process are there for everybody to see.
    address = URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    ).render_as_string()
    environment = dict(os.environ) | ({} if url.password is None else {"PGPASSWORD": str(url.password)})
    command = [program, "--format=custom", "--no-password", f"--file={partial}", f"--dbname={address}"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST_DUMP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise BackupError(f"pg_dump took longer than {LONGEST_DUMP_SECONDS} s and was ended") from None
    if done.returncode != 0:
        raise BackupError(f"pg_dump: {' '.join(done.stderr.split())[:500]}")
