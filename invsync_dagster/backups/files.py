"""The files of a backup: written sealed, with the hash of what lies on the disk, and read back only if it is that."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

from invsync_dagster.backups.sealing import BackupKeys, Plain, Readable, Sealing
from invsync_dagster.inventory.copies import BackupError

READ_BYTES = 1024 * 1024


class Stored(BaseModel):
    """A file of a backup as it lies on the disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size_bytes: int


class FileWriter:
    """A new file of a backup, for its owner only."""

    def __init__(self, file: IO[bytes], keys: BackupKeys) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._file = file
        self._content: Sealing | Plain = keys.sealing(_Hashing(self))

    def write(self, content: bytes) -> None:
        self._content.write(content)

    def finish(self) -> None:
        """Write what waits; everything is on disk on return."""
        self._content.finish()
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def stored(self) -> Stored:
        """What is on the disk, once it is finished."""
        return Stored(sha256=self._hash.hexdigest(), size_bytes=self._size)

    def take(self, content: bytes) -> None:
        """Put bytes on the disk as they are."""
        self._hash.update(content)
        self._size += len(content)
        self._file.write(content)


class _Hashing:
    """Hands what is sealed on to the file."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer

    def write(self, content: bytes, /) -> None:
        self._writer.take(content)


@contextmanager
def new_file(path: Path, keys: BackupKeys) -> Iterator[FileWriter]:
    """Write a new file for its owner only; on disk at the end. Raises OSError."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        writer = FileWriter(file, keys)
        yield writer
        writer.finish()


@contextmanager
def content_of(path: Path, keys: BackupKeys) -> Iterator[Readable]:
    """Read what is in a file, unsealed. Raises `BackupKeyError`, and `BackupError` where it isn't what was written."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise BackupError(f"{path.name} is missing") from None
    with file:
        try:
            yield keys.opening(file)
        except BackupError as error:
            raise BackupError(f"{path.name}: {error}") from error


def stored(path: Path) -> Stored:
    """Return what lies on the disk. Raises OSError."""
    with path.open("rb") as file:
        return Stored(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=path.stat().st_size)


def require(path: Path, wanted: Stored) -> None:
    """Return if a file is what was stored. Raises `BackupError`."""
    try:
        size = path.stat().st_size
        if size != wanted.size_bytes:
            raise BackupError(f"{path.name} is damaged: it has {size:,} bytes, and {wanted.size_bytes:,} were written")
        found = stored(path)
    except FileNotFoundError:
        raise BackupError(f"{path.name} is missing") from None
    if found != wanted:
        raise BackupError(f"{path.name} is damaged: its content isn't what was written")


def unpack(path: Path, keys: BackupKeys, target: Path) -> None:
    """Write the content of a backup's file to the new file `target`, for its owner only. Raises as `content_of`."""
    with (
        content_of(path, keys) as source,
        os.fdopen(os.open(target, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file,
    ):
        while part := source.read(READ_BYTES):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
