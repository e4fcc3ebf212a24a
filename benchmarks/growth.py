"""Measures what a day of cycles leaves on disk, and what a year leaves after the nightly maintenance.

A day is run for real: 288 cycles of the incremental job over 10,000 SKUs and 6 channels, with 5,000 orders that are placed and
shipped, then a full run of each channel and the day's snapshot. The ticks of its sensors and schedules, and its orders' raw
webhooks, are written besides, and told with all the rest: the goals are about the database and the event log.

The year is reckoned from the day's parts: what maintenance bounds (runs, ticks, raw webhooks, attempts, receipts) for as long
as it is kept, the rest for 365 days. SQLite's files are counted without their free pages: what goes makes room in them for what
comes, and they stay as large as on the fullest day.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from benchmarks._report import figure
from benchmarks.deliveries import order_deliveries
from invsync_dagster.defs import alerting, names, sensors, status
from invsync_dagster.defs.full_sync import batch_partitions
from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import migrate, write_transaction
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
SCHEDULED = CYCLES + 3 * 24 + 5  # audit, backup and subscriptions hourly; the rest daily
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


def sell(ws: Any, first: int, orders: int) -> None:
    """Book `orders` new orders of one piece, and ship those of the cycle before."""
    now = ws.clock.now()
    inbound = []
    for number in range(first - orders, first + orders):
        item = LineReference("", f"SKU-{random.Random(number).randrange(SKUS):05}")
        shipped = (Movement(1, now),) if number < first else ()
        revision = 2 if shipped else 1
        document = OrderDocument(str(number), revision, now, now, (OrderLine("1", item, 1, 0, shipped, ()),))
        inbound.append(ledger.Inbound(CHANNELS[0], Content((document,)), now, f"{number}.{revision}:0"))
    with write_transaction(ws.engine) as connection:
        ledger.apply(connection, inbound, now=now, run_id="")


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


def day(folder: Path) -> dict[str, float]:
    """Run a day and return megabytes: what it left of runs, in the database, and of that in logs that are bounded."""
    home = Home.from_environment({"INVSYNC_ROOT": str(folder)})
    home.data.mkdir()
    home.channels_file.write_text("channels:\n" + "".join(ENTRY.format(name=name) for name in CHANNELS))
    state = folder / "state"
    state.mkdir()
    with dg.DagsterInstance.local_temp(str(state)) as instance:
        platforms = {name: FakePlatform(limits=LIMITS) for name in CHANNELS}
        house = Installation(home, VirtualClock(datetime.now(UTC)), platforms, instance, grace_seconds=900.0)
        ws = house.open()
        migrate(ws.engine)
        fill(ws)
        definitions = house.definitions()

        def run(job: str, **arguments: Any) -> None:
            definitions.resolve_job_def(job).execute_in_process(instance=instance, **arguments)

        run("incremental")  # the first push, which is of no day
        house.clock.advance(300)
        _archive(ws, home)
        database, runs = _vacuumed(ws, home), size(state)
        for cycle in range(CYCLES):
            sell(ws, 10_000_000 + cycle * (ORDERS // CYCLES), ORDERS // CYCLES)
            run("incremental")
            house.clock.advance(300)
        run("audit")
        batches = batch_partitions(ws.configuration.settings).get_partition_keys()
        for name in CHANNELS:
            tags = {"dagster/asset_partition_range_start": batches[0], "dagster/asset_partition_range_end": batches[-1]}
            run("full_sync", asset_selection=[names.full_sync_key(name)], tags=tags)
        runs = size(state) - runs
        tick = one_tick(instance, state)
        after = _vacuumed(ws, home)
        archived = _archive(ws, home)
        logs = after - _vacuumed(ws, home)
        ws.close()
    return {
        "runs": runs,
        "sensor_ticks": tick * sum(SENSORS.values()),
        "schedule_ticks": tick * SCHEDULED,
        "webhooks": webhooks(),
        "database": after - database,
        "logs": logs,
        "archive": archived,
        "stock": database,
    }


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
    """Run the day, and reckon the year."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder:
        took = day(Path(folder))
    keep = Retention()
    total = took["runs"] + took["database"]
    parts = {f"{name}_mb": round(value, 1) for name, value in took.items()}
    figure(
        "growth_of_a_day", total, "MB", goal=DAY_GOAL_MB, met=total <= DAY_GOAL_MB,
        skus=SKUS, channels=len(CHANNELS), cycles=CYCLES, orders=ORDERS, **parts,
    )  # fmt: skip
    for_good = took["database"] - took["logs"] + took["archive"]
    year = took["stock"] + 365 * for_good + keep.logs_days * took["logs"] + keep.runs_days * took["runs"]
    figure(
        "size_after_a_year", year, "MB", goal=YEAR_GOAL_MB, met=year <= YEAR_GOAL_MB,
        reckoned=f"stock + 365 x {for_good:.1f} + {keep.logs_days} x logs + {keep.runs_days} x runs",
    )  # fmt: skip
    besides = {"sensor_ticks": SENSOR_TICK_DAYS, "schedule_ticks": SCHEDULE_TICK_DAYS, "webhooks": keep.deliveries_days}
    figure("growth_of_a_day_with_ticks_and_webhooks", total + sum(took[part] for part in besides), "MB")
    year += sum(days * took[part] for part, days in besides.items())
    figure("size_after_a_year_with_ticks_and_webhooks", year, "MB")


if __name__ == "__main__":
    main()
