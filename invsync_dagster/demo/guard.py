"""Ends the demo's process groups when the demo itself is gone, also after kill -9: a process that waits for its end.

Its standard input is a pipe whose other end only the demo holds. Each line names a group that was started (`+123`) or
has ended (`-123`); the end of the pipe means that the demo is gone. Imports nothing of the project, to start at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

PATIENCE_SECONDS = 5.0


def main() -> None:
    """Keep the list of groups until the pipe ends, then end what is left of them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    end_groups(groups, PATIENCE_SECONDS)


def end_groups(groups: Iterable[int], patience: float) -> None:
    """Ask the groups to end, wait up to `patience` seconds for them, and kill what is left."""
    left = [group for group in groups if signal_group(group, signal.SIGTERM)]
    until = time.monotonic() + patience
    while left and time.monotonic() < until:
        time.sleep(0.1)
        left = [group for group in left if signal_group(group, 0)]
    for group in left:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to every process of a group (0: none, only look); False if none is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
