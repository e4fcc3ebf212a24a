"""One of several processes over one database: reserves calls, applies deliveries, pushes, and tells what it did as JSON.

`python -m tests.processes.member FOLDER URL NUMBER`: prints `ready`, waits for a line, works, prints its `Told`.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.clock import SystemClock
from invsync_dagster.events import Content, LineReference, OrderDocument, OrderLine
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.ledger import Inbound
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
from invsync_dagster.platforms.erp import ErpSettings
from invsync_dagster.settings import Home, ImportLimits, Settings
from invsync_dagster.sync.limiter import Limiter
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.worker import LockedWorker
from invsync_dagster.sync.workspace import Workspace

CHANNEL = "erp"
PROCESSES, SKUS, ORDERS, ROUNDS, CALLS = 4, 60, 40, 4, 25
RATE, BURST = 200.0, 10.0
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Told:
    """What one process did: starts of reserved calls, entries it made, and each write as (level, from, to, units)."""

    starts: list[float] = field(default_factory=list)
    entries: int = 0
    writes: list[tuple[str, float, float, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Shop:
    """A channel that takes every number, slowly enough for the others to come between."""

    told: Told
    limits: Limits = field(default_factory=lambda: Limits(write_batch=7, read_batch=50, rate=1e6, burst=1e6))

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        began = time.monotonic()
        time.sleep(0.01)
        ended = time.monotonic()
        self.told.writes += [(row.level.item_id, began, ended, row.quantity) for row in rows]
        return WriteAnswer(tuple(Outcome(Result.ACKNOWLEDGED) for _ in rows))

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        return ReadAnswer(tuple(Reading(level, 0) for level in levels))

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        return OrdersPage(Content())

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        return OrdersPage(Content())

    def open_orders(self, cursor: str = "") -> OrdersPage:
        return OrdersPage(Content())

    def listings(self, cursor: str = "") -> ListingsPage:
        return ListingsPage(())

    def make_ready(self) -> None:
        pass

    def check_credentials(self) -> None:
        return


def sku_of(number: int) -> str:
    return f"SKU-{number % SKUS:03d}"


def deliveries(round_number: int) -> list[Inbound]:
    """The same orders in every process, each of one unit."""
    first = round_number * ORDERS
    return [
        Inbound(
            CHANNEL,
            Content((OrderDocument(str(n), 1, AT, AT, (OrderLine("1", LineReference("", sku_of(n)), 1),)),)),
            AT,
            f"segment:{n}",
        )
        for n in range(first, first + ORDERS)
    ]


def workspace(folder: Path, url: str, number: int, shop: Shop) -> Workspace:
    home = Home(root=folder, data=folder, database_url=url, channels_file=folder / "channels.yaml")
    settings = ErpSettings(
        base_url="http://127.0.0.1:9", api_key_env="K", signing_secret_env="S", webhook_secret_env="W"
    )
    channel = Channel(name=CHANNEL, platform="erp", environment="sandbox", settings=settings)
    return Workspace(
        home=home,
        configuration=Configuration(settings=Settings(), channels=(channel,)),
        engine=open_database(url),
        clock=SystemClock(),
        rng=random.Random(number),
        worker=LockedWorker(folder / "locks", random.Random(number)),
        environ={},
        _platforms={CHANNEL: shop},
    )


def work(ws: Workspace, number: int, told: Told) -> None:
    limiter = Limiter(ws.engine, "shared", Limits(write_batch=1, read_batch=1, rate=RATE, burst=BURST))
    for _ in range(CALLS):
        now = time.time()
        wait = limiter.reserve(1, now, now + 3600)
        assert wait is not None
        told.starts.append(now + wait)
    for round_number in range(ROUNDS):
        batch = deliveries(round_number)
        random.Random(number).shuffle(batch)
        for part in (batch[: ORDERS // 2], batch[ORDERS // 2 :]):
            with write_transaction(ws.engine) as connection:
                applied = ledger.apply(connection, part, now=ws.clock.now(), run_id=str(number), limits=ImportLimits())
            told.entries += applied.entries
        meet(ws.home.root, round_number, number)
        report = push_channel(ws, CHANNEL, run_id=str(number), deadline=ws.clock.now() + timedelta(seconds=60))
        if report.problem:
            told.problems.append(report.problem)


def meet(folder: Path, round_number: int, number: int) -> None:
    """Wait until every process is here, so that they push side by side however busy the machine is."""
    (folder / f"round-{round_number}-{number}").touch()
    until = time.monotonic() + 60
    while len(list(folder.glob(f"round-{round_number}-*"))) < PROCESSES:
        assert time.monotonic() < until, "another process has ended"
        time.sleep(0.005)


def arguments() -> tuple[Path, str, int]:
    """Return folder, URL and number of this process, from its command line."""
    return Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])


def main() -> None:
    folder, url, number = arguments()
    told = Told()
    ws = workspace(folder, url, number, Shop(told))
    print("ready", flush=True)
    sys.stdin.readline()
    work(ws, number, told)
    ws.close()
    print(json.dumps(asdict(told)), flush=True)


if __name__ == "__main__":
    main()
