"""The copies of imported files: known by their content, and durable before an import is entered."""

from __future__ import annotations

import hashlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from invsync_dagster.inventory.imports.refusals import FileError

# Of 255 that a file system takes: a copy has its import's id before it, and its rejects file's ending behind it.
LONGEST_NAME = 200
ID_TIME = "%Y%m%dT%H%M%S"  # what an import's id begins with


def name_of(path: Path) -> str:
    """The name of a file. Raises `FileError` for one that no text, or no name made of it, can hold."""
    length = len(os.fsencode(path.name))
    name = path.name.encode("utf-8", "backslashreplace").decode()
    if length > LONGEST_NAME:
        reason = f"its name has {length} bytes, more than {LONGEST_NAME}"
        raise FileError(f"{name[:40]}…", reason, "give it a shorter one")
    if name != path.name:
        raise FileError(name, "its name is no UTF-8, as those from another system may be", "rename it")
    return name


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content. Raises `FileError`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        mend = "check that it is there and readable"
        raise FileError(path.name, f"the file can't be read ({error.strerror})", mend) from error


def copy(source: Path, target: Path, sha256: str = "") -> None:
    """Copy a file with its time, whole and durable before it has its name; of one that fails nothing stays, which would fill
    the disk. Raises `FileError` if its content isn't of `sha256` any more."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    try:
        with source.open("rb") as read, partial.open("wb") as write:
            shutil.copyfileobj(read, write)
            write.flush()
            # The time dates a count, also when the copy is given again.
            at = os.fstat(read.fileno())
            os.utime(write.fileno(), ns=(at.st_atime_ns, at.st_mtime_ns))
            os.fsync(write.fileno())
        if sha256 and digest_of(partial) != sha256:
            mend = "nothing of it went in; give it again once nobody writes to it (the folder does so by itself)"
            raise FileError(source.name, "it was changed while it was read", mend)
        move(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def forget(folder: Path, before: datetime) -> int:
    """Remove the copies of files that were imported, or refused, before `before`, with the lists of their rejected rows; return
    how many files. Those that are held stay until somebody decides, and folders are somebody's own. Raises OSError."""
    kept = (path for decided in ("done", "rejected") for path in (folder / decided).glob("*"))
    old = [path for path in kept if path.is_file() and _kept_at(path) < before]
    for path in old:
        path.unlink()
    return len(old)


def _kept_at(path: Path) -> datetime:
    """When a copy was made, by the import id in its name: its own time is that of what it is a copy of."""
    try:
        return datetime.strptime(path.name.partition("-")[0], ID_TIME).replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def move(source: Path, target: Path) -> None:
    """Rename, and make the rename durable; a second attempt after a crash finds nothing left to do."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.exists():
        source.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
