"""Who works: one identity a process, with a lock file that the system frees when the process dies."""

from __future__ import annotations

import fcntl
import os
import platform
import random
from pathlib import Path
from typing import Protocol


class Worker(Protocol):
    """The identity that claims carry, and the way to ask whether another one is alive."""

    @property
    def name(self) -> str: ...

    def is_alive(self, name: str) -> bool:
        """Return False only if the worker `name` can't send anything any more."""
        ...


class LockedWorker:
    """A worker whose lock file under `folder` is locked as long as it lives (POSIX `flock`).

    A name without a file is dead if it is of this host; of another host nothing is known, and its claims run out.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._host = platform.node().replace("/", "-")
        self._name = f"{self._host}:{os.getpid()}-{rng.getrandbits(48):012x}"
        self._descriptor = os.open(self._path(self._name), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    @property
    def name(self) -> str:
        return self._name

    def is_alive(self, name: str) -> bool:
        if name == self._name:
            return True
        try:
            descriptor = os.open(self._path(name), os.O_RDWR)
        except FileNotFoundError:
            return name.rpartition(":")[0] != self._host
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._path(name).unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Free the lock; claims left behind are taken over by the next worker."""
        self._path(self._name).unlink(missing_ok=True)
        os.close(self._descriptor)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"
