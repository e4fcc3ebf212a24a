"""Kills processes as often as wanted: `python -m tests.processes --kills 500`, `… --seed 17`, `… --postgresql`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests import databases
from tests.processes.kills import live_through


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.processes", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses who is killed when (default: %(default)s)")
    parser.add_argument("--postgresql", action="store_true", help="the stock is in PostgreSQL, else in SQLite")
    given = parser.parse_args()
    databases.use("postgresql" if given.postgresql else "sqlite")
    with tempfile.TemporaryDirectory(prefix="invsync-kills-") as folder:
        told = live_through(Path(folder), databases.fresh_url(Path(folder)), given.kills, given.seed)
        databases.recycle()
    died = ", ".join(f"the {name} {times} times" for name, times in sorted(told.kills.items()))
    print(
        f"killed {died} in {told.seconds:.0f} s; {told.answered:,} deliveries answered, {told.kept:,} kept, "
        f"{told.orders:,} orders, each booked once; {told.written:,} writes to the other channel, which shows what is available"
        if not told.faults
        else f"killed {died} in {told.seconds:.0f} s: " + "; ".join(told.faults)
    )
    return 1 if told.faults else 0


if __name__ == "__main__":
    sys.exit(main())
