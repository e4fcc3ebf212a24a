"""The lock of the runner: one a home, freed by the system with the process, so that others see whether it is at work."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from invsync_dagster.clock import Clock
from invsync_dagster.settings import Home

# Whoever asks holds the lock for some microseconds, which must not look like another runner.
TRIES, TRY_EVERY_SECONDS = 40, 0.05


def runner_is_at_work(home: Home) -> bool:
    """Say whether a runner lives on this host, in whatever container: they share the file. Where it can't be opened, none
    is known of."""
    try:
        descriptor = os.open(_path(home), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def take_runner_lock(home: Home, clock: Clock) -> int | None:
    """Return the descriptor that holds the lock until it is closed in every process; None if another runner has it."""
    home.locks.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_path(home), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            clock.sleep(TRY_EVERY_SECONDS)
        else:
            return descriptor
    os.close(descriptor)
    return None


def _path(home: Home) -> Path:
    return home.locks / "runner.lock"


if __name__ == "__main__":  # the health check of a container
    sys.exit(0 if runner_is_at_work(Home.from_environment()) else 1)
