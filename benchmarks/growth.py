"""Measures what a day leaves on disk, and what a year leaves after its maintenance.

10,000 SKUs, 6 channels that list all of them, 5,000 orders spaced over the day, each told by two webhooks: placed and shipped.
The runner starts a run for nearly each delivery, so that each is counted as one (a burst would be folded). Of each kind of run
a sample is run for real, in Dagster's storage as the project has it (SQLite), and multiplied by its number a day: `webhooks`,
`incremental`, all that is hourly or daily, a full run and a walk of each channel. What an order leaves in the database comes
from the same samples. Cycles and pushes that went well go after `retention.routine_hours`: that is done for real, too, and what
is still there of them is counted.

So a day leaves what it writes less these runs, of which those of the latest hours stand there at any time. The year is reckoned
from the parts: what maintenance bounds (runs, ticks, raw webhooks, attempts, receipts) for as long as it is kept, the rest for
365 days. SQLite's files are counted without their free pages: what goes makes room in them for what comes, and they stay as
large as on the fullest day. Ticks of sensors and schedules, raw webhooks and the daily snapshot's file are told besides, since
the goals are about the database and the event log. Backups are bounded by their number, and not counted.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.instance.ref import InstanceRef
from dagster._core.scheduler.instigation import TickData, TickStatus

from benchmarks._report import figure
from benchmarks.deliveries import order_deliveries
from invsync_dagster.defs import alerting, names, sensors, status
from invsync_dagster.defs.full_sync import batch_partitions
from invsync_dagster.defs.schedules import RANGE_END, RANGE_START
from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.retention import archive_logs, forget_receipts
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home, Retention
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.webhooks.segments import encode
from tests.defs.conftest import ENTRY, FakePlatform, Installation

CYCLES = 288
ORDERS = 5_000
SKUS = 10_000
CHANNELS = [f"erp_{number}" for number in range(6)]
LIMITS = Limits(write_batch=50, read_batch=50, rate=100_000.0, burst=100_000.0)

# Ticks a day of each sensor that finds nothing to do, as its interval says, and of the schedules. One that starts nothing is kept
# for two days, one of a schedule for 90 (dagster.yaml).
SENSORS = {
    "alerts_sensor": 86_400 // alerting.EVERY_SECONDS,
    "status_sensor": 86_400 // status.EVERY_SECONDS,
    "imports_sensor": 86_400 // 30,
    "inbox_sensor": int(86_400 / sensors.WATCH_SECONDS),
}
SCHEDULED = CYCLES + 4 * 24 + 5  # audit, backup, subscriptions, the deletion of routine runs hourly; the rest daily
SENSOR_TICK_DAYS, SCHEDULE_TICK_DAYS = 2, 90
TICKS_WRITTEN = 500  # whose size tells that of the others

DAY_GOAL_MB = 150
YEAR_GOAL_MB = 5_000


def size(folder: Path) -> float:
    """Return the megabytes below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def fill(ws: Any) -> None:
    """Stock the SKUs and list each on every channel, through the doors that an import uses."""
    register_channels(ws)
    now = ws.clock.now()
    skus = [f"SKU-{number:05}" for number in range(SKUS)]
    with write_transaction(ws.engine) as connection:
        set_skus(connection, [Sku(sku, f"Product {sku}") for sku in skus], actor="benchmark", reason="", now=now)
        listings = [Listing(name, sku, sku, platform_sku=sku) for name in CHANNELS for sku in skus]
        set_listings(connection, listings, actor="benchmark", reason="", now=now)
        counts = [Count(sku, 1000, now) for sku in skus]
        apply_counts(connection, counts, CountSource("benchmark"), now=now, run_id="", reference="", kind="import")
        for name in CHANNELS:
            approve_first_push(connection, name, actor="benchmark", reason="", now=now)


class Kind(NamedTuple):
    """Runs of one sort: the job, how many a day and in the sample, and what happens before each (`orders`)."""

    name: str
    job: str
    a_day: int
    sample: int
    orders: Callable[[Any, int], None] | None = None
    cause: str = names.SCHEDULE
    asset: dg.AssetKey | None = None
    partition: str | None = None
    tags: Mapping[str, str] = MappingProxyType({})


class Left(NamedTuple):
    """What a run leaves, in megabytes: in Dagster's storage, in the database, of that in logs that are bounded, and of these in
    the archive."""

    runs: float
    database: float
    logs: float
    archive: float


def place(ws: Any, number: int) -> None:
    """Book a new order of one piece."""
    _book(ws, number, 1, ())


def ship(ws: Any, number: int) -> None:
    """Ship the order that `place` booked under this number."""
    _book(ws, number, 2, (Movement(1, ws.clock.now()),))


def _book(ws: Any, number: int, revision: int, shipped: tuple[Movement, ...]) -> None:
    now = ws.clock.now()
    item = LineReference("", f"SKU-{random.Random(number).randrange(SKUS):05}")
    document = OrderDocument(str(number), revision, now, now, (OrderLine("1", item, 1, 0, shipped, ()),))
    told = ledger.Inbound(CHANNELS[0], Content((document,)), now, f"{number}.{revision}:0")
    with write_transaction(ws.engine) as connection:
        ledger.apply(connection, [told], now=now, run_id="")


CYCLE = Kind("cycle", names.INCREMENTAL, CYCLES, 24)
PUSHES = (
    Kind("order_placed", names.WEBHOOKS, ORDERS, 100, place, names.WEBHOOK),
    Kind("order_shipped", names.WEBHOOKS, ORDERS, 50, ship, names.WEBHOOK),
)
# As if by hand, so that one doesn't delete the other.
FORGET = Kind("forget_routine_runs", names.FORGET_ROUTINE_RUNS, 24, 3, cause=names.BY_HAND)
ROUTINE = (*PUSHES, CYCLE, FORGET)


def others(batches: Sequence[str], yesterday: str) -> list[Kind]:
    """Return what else comes by itself within a day."""
    each = len(CHANNELS)
    every_batch = {RANGE_START: batches[0], RANGE_END: batches[-1]}
    return [
        Kind("audit", "audit", 24, 3),
        Kind("subscriptions", "subscriptions", 24, 3),
        Kind("backup", "backup", 24, 3),
        Kind("full_run", "full_sync", each, 1, asset=names.full_sync_key(CHANNELS[0]), tags=every_batch),
        Kind("walk", "discover", each, 1, asset=names.listings_key(CHANNELS[0])),
        Kind("snapshot", "snapshot_day", 1, 1, partition=yesterday),
        Kind("clean_up", "clean_up", 1, 1),
    ]


def one_tick(instance: dg.DagsterInstance, state: Path) -> float:
    """Write ticks as a sensor that has nothing to do leaves them; return the megabytes of one."""
    before = size(state)
    now = datetime.now(UTC).timestamp()
    for number in range(TICKS_WRITTEN):
        tick = TickData(
            "benchmark",
            "status_sensor",
            InstigatorType.SENSOR,
            TickStatus.STARTED,
            now + number,
            selector_id="benchmark",
        )
        made = instance.create_tick(tick)
        instance.update_tick(
            made.with_status(TickStatus.SKIPPED, end_timestamp=now + number, skip_reason="nothing waits")
        )
    return (size(state) - before) / TICKS_WRITTEN


def webhooks() -> float:
    """Return the megabytes of the raw webhooks of a day's orders, ten in a segment."""
    told = order_deliveries(SKUS, random.Random(1), Counter(), Counter())
    return sum(len(encode(part)) for part in chunks(islice(told, 2 * ORDERS), 10)) / 1e6


def day(folder: Path) -> tuple[dict[str, tuple[Kind, Left]], dict[str, float]]:
    """Run the samples; return what a run of each kind leaves, and besides, in megabytes: the stock as it began, what is still
    there of a routine run that was deleted, and of a day the ticks, the raw webhooks and the snapshot's file."""
    home = Home.from_environment({"INVSYNC_ROOT": str(folder)})
    home.data.mkdir()
    home.channels_file.write_text("channels:\n" + "".join(ENTRY.format(name=name) for name in CHANNELS))
    state = folder / "state"
    os.environ |= {"INVSYNC_DAGSTER_STATE": str(state), "INVSYNC_DAGSTER_LOGS": str(state / "logs")}
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", folder)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder))) as instance:
        platforms = {name: FakePlatform(limits=LIMITS) for name in CHANNELS}
        # Dagster knows the real time alone: its days end with yesterday, so that the stock is to be there by then.
        clock = VirtualClock(datetime.now(UTC) - timedelta(days=2))
        house = Installation(home, clock, platforms, instance, grace_seconds=900.0)
        migrate(open_database(home.database_url, make=True))
        ws = house.open()
        fill(ws)
        definitions = house.definitions()

        def run(kind: Kind, number: int) -> None:
            if kind.orders:
                kind.orders(ws, 10_000_000 + number)
            definitions.resolve_job_def(kind.job).execute_in_process(
                instance=instance,
                tags={names.CAUSE: kind.cause, **kind.tags},
                asset_selection=[kind.asset] if kind.asset else None,
                partition_key=kind.partition,
            )
            house.clock.advance(60)

        def sample(kind: Kind) -> Left:
            runs, database = _storage(state), _vacuumed(ws, home)
            for number in range(kind.sample):
                run(kind, number)
            runs, grown = _storage(state) - runs, _vacuumed(ws, home) - database
            archive = _archive(ws, home)
            logs = database + grown - _vacuumed(ws, home)
            return Left(*(part / kind.sample for part in (runs, grown, logs, archive)))

        def forget() -> float:
            house.clock.advance(3600 * (Retention().routine_hours + 1))
            run(FORGET, 0)
            return _storage(state)

        batches = batch_partitions(ws.configuration.settings).get_partition_keys()
        run(CYCLE, 0)  # the first push, which is of no day
        clock.advance(2 * 86_400)
        for kind in (*PUSHES, CYCLE):
            run(kind, -1)
        _archive(ws, home)
        stock, began = _vacuumed(ws, home), forget()
        found = {kind.name: (kind, sample(kind)) for kind in (*PUSHES, CYCLE)}
        samples = sum(kind.sample for kind, _ in found.values())
        left = forget()
        found[FORGET.name] = FORGET, sample(FORGET)
        residue = (left - began - found[FORGET.name][1].runs) / samples
        for kind in others(batches, f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"):
            run(kind, 0)  # what its first run leaves for good is of no day
            found[kind.name] = kind, sample(kind)
        tick = one_tick(instance, state)
        ws.close()
    return found, {
        "stock": stock,
        "residue": residue,
        "sensor_ticks": tick * sum(SENSORS.values()),
        "schedule_ticks": tick * SCHEDULED,
        "webhooks": webhooks(),
        "snapshot": size(home.data / "snapshots"),
    }


def _storage(state: Path) -> float:
    """Return the megabytes of Dagster's storage, without its databases' free pages."""
    free = 0
    for path in state.rglob("*.db"):
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [[pages], [page]] = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size")
        )
        free += pages * page
        connection.close()
    return size(state) - free / 1e6


def _archive(ws: Any, home: Home) -> float:
    later = ws.clock.now() + timedelta(days=1)
    archived = archive_logs(ws.engine, home.data / "archive", later, ws.clock.now())
    forget_receipts(ws.engine, later)
    return archived.path.stat().st_size / 1e6 if archived.path else 0.0


def _vacuumed(ws: Any, home: Home) -> float:
    connection = ws.engine.raw_connection()
    try:
        connection.driver_connection.execute("VACUUM")
        connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    return sum(path.stat().st_size for path in home.data.glob("invsync.db*")) / 1e6


def main() -> None:
    """Run the samples, and reckon the day and the year."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder:
        found, besides = day(Path(folder))
    keep = Retention()
    for name, (kind, left) in found.items():
        parts = {f"{part}_kb": round(1000 * value, 1) for part, value in left._asdict().items()}
        whole = 1000 * (left.runs + left.database)
        figure(f"left_by_a_run_of_{name}", whole, "KB", a_day=kind.a_day, sample=kind.sample, **parts)
    written = Left(*(sum(kind.a_day * left[part] for kind, left in found.values()) for part in range(4)))
    routine = sum(kind.a_day * found[kind.name][1].runs for kind in ROUTINE)
    residue = max(0.0, besides["residue"]) * sum(kind.a_day for kind in ROUTINE)
    runs, standing = written.runs - routine + residue, routine * keep.routine_hours / 24
    total = runs + written.database
    figure(
        "growth_of_a_day", total, "MB", goal=DAY_GOAL_MB, met=total <= DAY_GOAL_MB,
        skus=SKUS, channels=len(CHANNELS), cycles=CYCLES, orders=ORDERS, deliveries=2 * ORDERS,
        written_mb=round(written.runs + written.database), database_mb=round(written.database, 1), runs_mb=round(runs, 1),
        left_of_routine_runs_mb=round(residue, 2), routine_runs_standing_mb=round(standing),
        routine_hours=keep.routine_hours,
    )  # fmt: skip
    for_good = written.database - written.logs + written.archive
    bounded = keep.logs_days * written.logs + keep.runs_days * runs + standing
    year = besides["stock"] + 365 * for_good + bounded
    figure(
        "size_after_a_year", year, "MB", goal=YEAR_GOAL_MB, met=year <= YEAR_GOAL_MB,
        reckoned=f"stock {besides['stock']:.0f} + 365 x {for_good:.1f} + {keep.logs_days} x logs {written.logs:.1f} + "
        f"{keep.runs_days} x runs {runs:.1f} + routine runs {standing:.0f}",
    )  # fmt: skip
    days = {
        "sensor_ticks": SENSOR_TICK_DAYS, "schedule_ticks": SCHEDULE_TICK_DAYS, "webhooks": keep.deliveries_days,
        "snapshot": 365,
    }  # fmt: skip
    parts = {f"{name}_mb": round(besides[name], 2) for name in days}
    figure(
        "growth_of_a_day_with_ticks_webhooks_and_snapshot", total + sum(besides[name] for name in days), "MB", **parts
    )
    year += sum(kept * besides[name] for name, kept in days.items())
    figure("size_after_a_year_with_ticks_webhooks_and_snapshots", year, "MB")


if __name__ == "__main__":
    main()
