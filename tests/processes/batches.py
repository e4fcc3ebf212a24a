"""One of several processes in one full run: runs its batches, or asks for the budget as pushes do, and tells of it as JSON.

`python -m tests.processes.batches FOLDER URL NUMBER`: prints `ready`, waits for a line, works, prints its `Told`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from invsync_dagster.platforms.contract import LevelReference, Limits, ReadAnswer, Reading, WriteAnswer, WriteRow
from invsync_dagster.sync.limiter import Limiter
from invsync_dagster.sync.reconcile import full_sync
from tests.processes import member
from tests.processes.member import CHANNEL

WORKERS = 2
ASKS = 8
IN_STOCK, ELSEWHERE = 100, 7
# Three quarters of the bucket are left to pushes, so that a busy machine takes nothing from them.
LIMITS = Limits(write_batch=7, read_batch=1, rate=200.0, burst=200.0)


@dataclass
class Told:
    """What one process did: starts of its calls, the waits of its asks, its levels, repairs and problems."""

    starts: list[float] = field(default_factory=list)
    waits: list[float | None] = field(default_factory=list)
    written: list[tuple[str, int]] = field(default_factory=list)
    levels: int = 0
    drift: int = 0
    repaired: int = 0
    problems: list[str] = field(default_factory=list)


class Shelf(member.Shop):
    """A channel that shows what was acknowledged, but for each tenth level, until that is written."""

    def __init__(self, told: Told) -> None:
        super().__init__(member.Told(), LIMITS)
        self.seen = told

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        self.seen.starts.append(time.time())
        mended = {item for item, _ in self.seen.written}
        return ReadAnswer(
            tuple(
                Reading(level, ELSEWHERE if level.item_id[-1] == "5" and level.item_id not in mended else IN_STOCK)
                for level in levels
            )
        )

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        self.seen.starts.append(time.time())
        self.seen.written += [(row.level.item_id, row.quantity) for row in rows]
        return super().write(rows, key=key)


def main() -> None:
    folder, url, number = member.arguments()
    told = Told()
    ws = member.workspace(folder, url, number, Shelf(told))
    print("ready", flush=True)
    sys.stdin.readline()
    if number < WORKERS:
        for batch in range(number, ws.configuration.settings.sku_batches, WORKERS):
            report = full_sync(ws, CHANNEL, batch, run_id=str(number))
            told.levels += report.levels
            told.drift += report.drift
            told.repaired += report.repaired
            told.problems += [report.problem] if report.problem else []
    else:
        limiter = Limiter(ws.engine, CHANNEL, LIMITS)
        for _ in range(ASKS):
            now = time.time()
            told.waits.append(limiter.reserve(1, now, now + 60))
            told.starts.append(now)
            time.sleep(0.1)
    ws.close()
    print(json.dumps(asdict(told)), flush=True)


if __name__ == "__main__":
    main()
