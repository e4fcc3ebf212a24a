"""Measures one installation at 10,000, 100,000 and 1,000,000 SKUs with five listings each, on SQLite and PostgreSQL.

A cycle, finding changes, a full comparison, and the memory of the process that does them.

The channels are played in memory and answer at once, so that what is measured is ours: no network, no limits. Each size runs in
a process of its own, whose peak memory is told.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import product

from sqlalchemy import bindparam, func, select, update

from benchmarks._databases import BACKENDS, database
from benchmarks._report import figure
from benchmarks.ledger import CHANNELS, START, build
from invsync_dagster.channels import load
from invsync_dagster.events import Content, LineReference, OrderDocument, OrderLine
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound, apply
from invsync_dagster.inventory.tables import CHANGES, inventory_levels, work_queue
from invsync_dagster.platforms.contract import (
    LevelReference,
    Limits,
    ListingsPage,
    OrdersPage,
    Outcome,
    ReadAnswer,
    Reading,
    Result,
    WriteAnswer,
    WriteRow,
)
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.worker import LockedWorker
from invsync_dagster.sync.workspace import Workspace

SIZES = (10_000, 100_000, 1_000_000)
CYCLE_SKUS = 500
MANY_CHANGES = 50_000
# A Shopify call's writes and reads (platforms/shopify/settings.py).
LIMITS = Limits(write_batch=250, read_batch=100, rate=1e9, burst=1e9)
CYCLE_GOAL_MS, FIND_GOAL_MS, COMPARE_GOAL_S, MEMORY_GOAL_MB = 500, 1000, 30, 500

ENTRY = """
  - name: {name}
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:9
      api_key_env: KEY
      signing_secret_env: KEY
      webhook_secret_env: KEY
"""


class Shelf:
    """A channel that takes every write and shows it; it begins with `quantity` for every level."""

    limits = LIMITS

    def __init__(self, quantity: int) -> None:
        self._quantity = quantity
        self._written: dict[LevelReference, int] = {}

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        self._written |= {row.level: row.quantity for row in rows}
        return WriteAnswer((Outcome(Result.ACKNOWLEDGED),) * len(rows))

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        return ReadAnswer(tuple(Reading(level, self._written.get(level, self._quantity)) for level in levels))

    def orders_changed(self, since: object, until: object, cursor: str = "") -> OrdersPage:
        return OrdersPage(Content())

    def open_orders(self, cursor: str = "") -> OrdersPage:
        return OrdersPage(Content())

    def listings(self, cursor: str = "") -> ListingsPage:
        return ListingsPage(())

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        return OrdersPage(Content())

    def make_ready(self) -> None:
        pass

    def check_credentials(self) -> None:
        """They work."""


def run(skus: int, backend: str) -> dict[str, float]:
    """Build an installation and measure it: seconds, and megabytes."""
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder, database(backend, folder) as url:
        engine = build(url, skus)
        home = Home.from_environment({"INVSYNC_ROOT": folder})
        home.data.mkdir()
        home.channels_file.write_text("channels:" + "".join(ENTRY.format(name=name) for name in CHANNELS))
        with write_transaction(engine) as connection:
            for name in CHANNELS:
                approve_first_push(connection, name, actor="benchmark", reason="", now=START)
        clock = VirtualClock(START)
        ws = Workspace(
            home=home,
            configuration=load(home, {"KEY": "key"}),
            engine=engine,
            clock=clock,
            rng=random.Random(1),
            worker=LockedWorker(home.locks, random.Random(2)),
            environ={"KEY": "key"},
            _platforms={name: Shelf((1000 - number) * (100 - number) // 100) for number, name in enumerate(CHANNELS)},
        )
        told = {"cycle": cycle(ws, skus), "find": find(ws, skus)}
        began = time.perf_counter()
        compared = 0
        for batch in range(ws.configuration.settings.sku_batches):
            clock.advance(60)
            report = full_sync(ws, CHANNELS[4], batch, run_id="benchmark")
            if report.problem or report.levels != report.equal:
                raise RuntimeError(f"scale: batch {batch} was not all in step: {report}")
            compared += report.levels
        if compared != skus:
            raise RuntimeError(f"scale: {compared} levels compared of {skus}")
        told["compare"] = time.perf_counter() - began
        ws.close()
    told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return told


def cycle(ws: Workspace, skus: int) -> float:
    """Book one order of each of 500 SKUs and push all channels side by side, as a run does; the median of five.

    One before them isn't counted: the first contact with a channel, which reads some of its listings and its open orders.
    """
    taken = []
    for turn in range(6):
        rng = random.Random(turn)
        now = ws.clock.now()
        sold = rng.sample(range(1, skus + 1), CYCLE_SKUS)
        inbound = []
        for number in sold:
            line = OrderLine("1", LineReference(item_id=f"gid://shopify/InventoryItem/{number}"), 1)
            document = OrderDocument(f"{turn}-{number}", 1, now, now, (line,))
            inbound.append(Inbound(CHANNELS[0], Content((document,)), now, f"{turn}-{number}:0"))
        began = time.perf_counter()
        with write_transaction(ws.engine) as connection:
            apply(connection, inbound, now=now, run_id="benchmark")
        with ThreadPoolExecutor(len(CHANNELS)) as threads:
            list(threads.map(partial(_push, ws), CHANNELS))
        taken.append(time.perf_counter() - began)
        ws.clock.sleep(60)
    return statistics.median(taken[1:])


def _push(ws: Workspace, name: str) -> None:
    report = push_channel(ws, name, run_id="benchmark", deadline=ws.clock.now() + timedelta(hours=1))
    # The channel that sold knows its own sales; where it already shows them, nothing is to be written.
    if report.problem or report.left:
        raise RuntimeError(f"scale: {name} was not brought in step: {report}")


_MOVE = (
    update(inventory_levels)
    .where(inventory_levels.c.id % bindparam("step") == 0)
    .values(desired=inventory_levels.c.desired + bindparam("units"))
)


def find(ws: Workspace, skus: int) -> float:
    """Let 10,000 SKUs change on five channels, and find their 50,000 changes, lowest first, as the push does."""
    queued = work_queue.c
    step = max(1, skus // (MANY_CHANGES // len(CHANNELS)))
    with write_transaction(ws.engine) as connection:
        connection.execute(_MOVE, {"units": -1, "step": step})
    began = time.perf_counter()
    found = 0
    with ws.engine.connect() as connection:
        for name in CHANNELS:
            query = (
                select(queued.level_id, queued.desired)
                .where(queued.channel == name, queued.is_change.is_(True))
                .where(queued.due_at <= ws.clock.now(), queued.claim.is_(None))
                .order_by(queued.desired, queued.due_at)
            )
            found += len(connection.execute(query).all())
    seconds = time.perf_counter() - began
    with write_transaction(ws.engine) as connection:
        connection.execute(_MOVE, {"units": 1, "step": step})
        left = connection.execute(select(func.count()).select_from(CHANGES)).scalar_one()
    if found < MANY_CHANGES or left:
        raise SystemExit(f"scale: {found} changes found, {left} left")
    return seconds


def main() -> None:
    """Measure each size in a process of its own; `--run` is that process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--backends", nargs="*", default=BACKENDS)
    parser.add_argument("--run", type=int)
    given = parser.parse_args()
    if given.run is not None:
        print(json.dumps(run(given.run, given.backends[0])))
        return
    for backend, skus in product(given.backends, given.sizes):
        command = [sys.executable, "-m", "benchmarks.scale", "--run", str(skus), "--backends", backend]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=1800)
        told = json.loads(done.stdout.splitlines()[-1])
        cycle_ms, find_ms = 1000 * told["cycle"], 1000 * told["find"]
        figure(
            f"cycle_of_{CYCLE_SKUS}_skus_among_{skus}_on_{backend}",
            cycle_ms,
            "ms",
            CYCLE_GOAL_MS,
            cycle_ms < CYCLE_GOAL_MS,
        )
        figure(
            f"find_{MANY_CHANGES}_changes_among_{skus}_on_{backend}",
            find_ms,
            "ms",
            FIND_GOAL_MS,
            find_ms < FIND_GOAL_MS,
        )
        compared = told["compare"]
        figure(f"compare_{skus}_readings_on_{backend}", compared, "s", COMPARE_GOAL_S, compared < COMPARE_GOAL_S)
        peak = told["peak_mb"]
        figure(f"peak_memory_at_{skus}_skus_on_{backend}", peak, "MB", MEMORY_GOAL_MB, peak < MEMORY_GOAL_MB)


if __name__ == "__main__":
    main()
