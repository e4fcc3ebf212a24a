"""`make drill`: the demo in a home of its own, its processes killed amid the sales, and backfills through its daemon.

Exit codes: 0 all as it should be, 1 a book differs or a backfill ended otherwise, 2 it could not run or get in step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import requests

from invsync_dagster.demo.apart import installation
from invsync_dagster.demo.house import running
from invsync_dagster.demo.services import DemoError
from invsync_dagster.demo.smoke import bring_in_step
from invsync_dagster.demo.street import Street
from invsync_dagster.demo.watch import Watch
from tests.drill.backfills import Row, backfills
from tests.drill.kills import Stage, kills

PARTS = ("kills", "backfills")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{' or '.join(PARTS)} (default: both)")
    parser.add_argument("--seed", type=int, default=7, help="the same buyers again (default: %(default)s)")
    given = parser.parse_args()
    parts = given.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: {' or '.join(PARTS)}")
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {words}", flush=True)

    stages: list[Stage] = []
    rows: list[Row] = []
    random = Random(given.seed)
    try:
        with tempfile.TemporaryDirectory(prefix="invsync-drill-") as folder:
            home, stage, ports, environ = installation(Path(folder))
            with running(home, stage, ports, environ, random, say) as house:
                say(f"Dagster at {house.dagster.address}")
                watch = Watch.open(home, stage.channels)
                try:
                    bring_in_step(house, watch, say, "the first pushes")
                    if "kills" in parts:
                        stages = kills(house, watch, Street(stage, house.shops, random), say)
                        print_kills(stages)
                    if "backfills" in parts:
                        rows = backfills(house, say)
                        print_backfills(rows)
                finally:
                    watch.close()
    except (DemoError, requests.RequestException) as error:
        print(f"drill: {error}", file=sys.stderr)
        return 2
    return int(any(one.differences for one in stages) or not all(right for _, _, right in rows))


def print_kills(stages: list[Stage]) -> None:
    print(f"\n{'kill -9 of':<14} {'sales':>6} {'in step after':>14} {'rows compared':>14} {'differ':>7}")
    for one in stages:
        compared = sum(book.rows for book in one.books)
        print(f"{one.killed:<14} {one.sales:>6} {one.in_step_after:>12.0f} s {compared:>14} {one.differences:>7}")
        for book in one.books:
            for row in book.differences[:10]:
                print(f"  ! {row.where} {row.sku}: shows {row.shows}, should show {row.should}")
    print(flush=True)


def print_backfills(rows: list[Row]) -> None:
    print(f"\n{'backfill':<60} result")
    for what, result, right in rows:
        print(f"{what:<60} {'' if right else '! '}{result}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
