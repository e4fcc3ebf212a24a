"""Lives through many seeds, or replays one: `python -m tests.simulation --seeds 1000`, `… --seed 17`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from itertools import islice

from tests.simulation.day import live_day
from tests.simulation.restored import RestoredWorld
from tests.simulation.seeds import live
from tests.simulation.world import World

# Fewer of those that were asked for, since the time was over, say too little.
LEAST_SHARE = 0.1
# How much longer than the longest so far a seed may take.
LONGER = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (default: 100)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: 1)")
    parser.add_argument("--seed", type=int, help="replay this one and show what happened")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="side by side (default: one a core)")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no seed that may end after so many (default: any)"
    )
    parser.add_argument("--marketplaces", action="store_true", help="with eBay, Alibaba.com and Amazon besides")
    parser.add_argument("--day", action="store_true", help="a day of mixed orders against the books, line by line")
    parser.add_argument("--restored", action="store_true", help="with the database lost, and restored, amid it")
    options = parser.parse_args()
    kind = RestoredWorld if options.restored else World
    live_one = live_day if options.day else partial(live, marketplaces=options.marketplaces, kind=kind)
    if options.seed is not None:
        verdict = live_one(options.seed)
        print(verdict.render())
        print(verdict.tally)
        print("\n".join(f"{times:5} {what}" for what, times in sorted(verdict.done.items())))
        return 1 if verdict.faults else 0
    began = time.monotonic()
    lived, failed, longest = 0, 0, 0.0
    with ProcessPoolExecutor(options.processes) as pool:
        seeds = iter(range(options.first, options.first + options.seeds))
        under_way = {pool.submit(live_one, seed): began for seed in islice(seeds, options.processes)}
        while under_way:
            ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
            now = time.monotonic()
            for one in ended:
                lived, longest, verdict = lived + 1, max(longest, now - under_way.pop(one)), one.result()
                if verdict.faults:
                    failed += 1
                    print(verdict.render(), flush=True)
            if now - began + longest * LONGER < options.seconds:
                under_way |= {pool.submit(live_one, seed): now for seed in islice(seeds, len(ended))}
    seconds = time.monotonic() - began
    each = seconds * options.processes / lived
    of = "" if lived == options.seeds else f" of {options.seeds}, then the time was over,"
    print(f"{lived} seeds{of} in {seconds:.0f} s ({each:.1f} s a seed on one core), {failed} failed")
    least = math.ceil(options.seeds * LEAST_SHARE)
    if lived < least:
        print(f"Too few to say anything: give them more time, or a faster machine, for {least} at least")
    return 1 if failed or lived < least else 0


if __name__ == "__main__":
    sys.exit(main())
