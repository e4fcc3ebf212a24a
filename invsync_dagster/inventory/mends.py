"""What a person is to do where the stock's database can't be used, and whether SQLite's file of it is there at all."""

from __future__ import annotations

import re
from pathlib import Path

GONE = "its file is gone"
EMPTY = "its file is empty"
NEVER_MADE = "there is no such file"

# What is said of a full disk: by SQLite, also where a file may not grow any further, and by PostgreSQL of the system's error.
FULL = ("disk is full", "disk I/O error", "No space left on device")
# What SQLite says of a file that is another one or broken.
DAMAGED = ("disk image is malformed", "file is not a database")

# What Dagster's next run does by itself; who gave a command gives it again.
NEXT_RUN = "the next run does it"

_MOVE_BACK = (
    "move it back together with its -wal and -shm, let INVSYNC_DATABASE_URL name it where it is, or bring a backup back: "
    "`invsync restore BACKUP`"
)
_RESTORE = "move it away together with its -wal and -shm, and bring a backup back: `invsync restore BACKUP`"
# Where a regular expression is found in the reason. An error of a lock names a relation too.
_MENDS = (
    (FULL, f"free space on its disk, and {NEXT_RUN}"),
    ((GONE, EMPTY), _MOVE_BACK),
    ((NEVER_MADE,), f"{_MOVE_BACK}; if there never was one: `make setup`"),
    (DAMAGED, _RESTORE),
    (
        ("unable to open database file", "readonly database"),
        "let the user that we run as read and write it, its -wal and -shm, and its folder",
    ),
    (
        ("no such table", 'relation "[^"]*" does not exist'),
        "let INVSYNC_DATABASE_URL name the stock's own, or bring a backup back: `invsync restore BACKUP`; if there never was "
        "one: `make setup`",
    ),
    (
        (
            "authentication failed",
            "no password supplied",
            "no pg_hba.conf entry",
            "permission denied for database",
            '(role|database) "[^"]*" does not exist',
        ),
        "put the user, the password or the database's name in its URL right (INVSYNC_DATABASE_URL)",
    ),
    (
        ("permission denied for",),
        "put the role that made its tables into its URL (INVSYNC_DATABASE_URL), or grant it the rights on them",
    ),
    (
        ("read-only transaction",),
        "let INVSYNC_DATABASE_URL name the server that is written to, no copy that follows it",
    ),
    (
        ("failed to resolve host",),
        f"put the host in its URL right (INVSYNC_DATABASE_URL), or, if it is, {NEXT_RUN}, once it is back",
    ),
)

# What lies in the data folder of a stock that was worked on, beside its database.
_TRACES = ("installation", "backups", "imports", "inbox")


def mend_of(reason: str) -> str:
    """Return what is to be done, for what the database's driver or `missing` says."""
    return next(
        (mend for said, mend in _MENDS if any(re.search(words, reason) for words in said)),
        f"{NEXT_RUN}, once it is back",
    )


def is_there(file: Path) -> bool:
    """Say whether SQLite's file of a database is there, with anything in it. Raises OSError."""
    try:
        return file.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def missing(file: Path) -> str:
    """Say in which way a database's file is missing, "" for one that is there, and where that can't be seen.

    An empty one is none: SQLite would take it for a new database, and remove the -wal of the one that was there.
    """
    try:
        if is_there(file):
            return ""
        if file.exists():
            return EMPTY
    except OSError:  # whoever connects is told why
        return ""
    return GONE if has_commits_aside(file) or any(_is_used(file.parent / name) for name in _TRACES) else NEVER_MADE


def has_commits_aside(file: Path) -> bool:
    """Say whether what was committed last is in the -wal beside a database's file, be that there itself or not."""
    return is_there(file.with_name(f"{file.name}-wal"))


def _is_used(path: Path) -> bool:
    try:
        return path.is_file() or (path.is_dir() and any(path.iterdir()))
    except OSError:  # whoever may not look has somebody's before them
        return True
