"""Files of the inbox: written for the owner only, whole or not at all, and on disk with their names on return."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PART_SUFFIX = ".part"


def write_durably(path: Path, content: bytes) -> None:
    """Write a file for the owner only, whole or not at all, and on disk with its name on return. Raises OSError."""
    part = path.with_name(f".{path.name}{PART_SUFFIX}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
