"""Measures the share of each platform's rate that 100,000 listings use, against its stand-in and on a virtual clock.

A first push (every level read, and written as it shows another number), a push of a change of every level, and a full run;
where the platform reads all levels in bulk, another full run that asks for them.
The share is of all that the platform would have allowed in that time: what its bucket held, and what its rate restored. A
stand-in answers in no time, so that what is missing is ours; while only the platform is to be waited for (Amazon works on a
patch later), nothing counts. A push has its time as in an installation (`push_deadline_seconds`); where that ends with work
left, the next one (`BACKLOG_SECONDS`) begins `BETWEEN_SECONDS` later, which count.

Amazon's pushes go by the single lane, and once more by its feeds, of which as few are used as hold the listings.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from benchmarks._accounts import AMAZON, PLATFORMS, SECRETS, channel_of, place_of, shown_by, stand_in
from benchmarks._report import figure
from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.inventory import channels
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels
from invsync_dagster.platforms.amazon.settings import BULK
from invsync_dagster.platforms.contract import BulkReader, LevelReference, Limits
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.bulk_reading import ask_for_all
from invsync_dagster.sync.push import calls_of, push_channel
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.report import BACKLOG_SECONDS
from invsync_dagster.sync.worker import LockedWorker
from invsync_dagster.sync.workspace import Workspace

GOAL = 0.9
SHOWN_BEFORE, COUNTED_FIRST, COUNTED_LATER = 5, 20, 12
LONGEST = timedelta(days=30)

# From the end of a push with work left to the first call of the next: the end of its run, a look of the inbox sensor (0.25 s),
# one of the queue (1 s), a process (1.1 s) and its first steps.
BETWEEN_SECONDS = 4.0

# How long Shopify's operation, or Amazon's report, takes over 100,000 items isn't documented: minutes, in the field.
OPERATION_SECONDS = 180.0

START = datetime(2026, 3, 2, tzinfo=UTC)


# Shopify and Alibaba.com say it in an answer of status 200.
_REFUSALS = (b'"THROTTLED"', b'"ApiCallLimit"')


@dataclass
class Meter:
    """What the stand-in took for the calls, in its own points, and how many it refused for going over its rate; `allowed`
    is what it would have taken in the `seconds` in which there was work."""

    points: float = 0.0
    calls: int = 0
    refused: int = 0
    feeds: int = 0
    allowed: float = 0.0
    seconds: float = 0.0

    def through(self, handle: Callable[[Request], Response], request: Request) -> Response:
        """Hand a request on and read off its answer what it cost."""
        answer = handle(request)
        self.calls += 1
        if answer.status == 429 or any(word in answer.body for word in _REFUSALS):
            self.refused += 1
        elif request.url.endswith("graphql.json"):
            self.points += json.loads(answer.body)["extensions"]["cost"]["actualQueryCost"]
        elif "/oauth2/token" not in request.url and "/o2/token" not in request.url and "/auth/" not in request.url:
            self.points += 1
            self.feeds += request.method == "POST" and request.url.endswith("/feeds")
        return answer

    def worked(self, seconds: float, limits: Limits) -> None:
        """Count a stretch in which there was work, and which began with a full bucket."""
        self.seconds += seconds
        self.allowed += limits.burst + limits.rate * seconds


def fill(engine: Engine, name: str, places: dict[str, LevelReference]) -> None:
    """Put SKUs and listings into an empty database by the doors that imports use."""
    by: dict[str, Any] = {"actor": "benchmark", "reason": "", "now": START}
    with write_transaction(engine) as connection:
        moves = VENDORS[PLATFORMS[name]].moves_own_number
        channels.register(connection, name, PLATFORMS[name], "sandbox", moves, Rules(), START, START)
        channels.approve_first_push(connection, name, **by)
        set_skus(connection, [Sku(sku) for sku in places], **by)
        listings = [
            Listing(name, sku, place.item_id, place.location_id, platform_sku=sku) for sku, place in places.items()
        ]
        set_listings(connection, listings, **by)


def count(ws: Workspace, skus: list[str], quantity: int) -> None:
    """Let every SKU have `quantity` on the shelf."""
    now = ws.clock.now()
    with write_transaction(ws.engine) as connection:
        counted = [Count(sku, quantity, now) for sku in skus]
        apply_counts(connection, counted, CountSource("shelf"), now=now, run_id="")


def measure(name: str, listings: int) -> None:
    """Build one channel, work on it and print its figures."""
    clock = VirtualClock(START)
    places = {f"SKU-{number:06d}": place_of(name, number) for number in range(listings)}
    meter = Meter()
    shop = stand_in(name, places, SHOWN_BEFORE, clock)
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder:
        data = Path(folder)
        channel = channel_of(name, data)
        home = Home(root=data, data=data, database_url=f"sqlite:///{data}/stock.db", channels_file=data / "none")
        engine = open_database(home.database_url, make=True)
        migrate(engine)
        ws = Workspace(
            home=home,
            configuration=Configuration(settings=Settings(), channels=(channel,)),
            engine=engine,
            clock=clock,
            rng=random.Random(1),
            worker=LockedWorker(data / "locks", random.Random(1)),
            environ=SECRETS,
            transport=lambda _: InProcessTransport(lambda request: meter.through(shop.handle, request), clock),
        )
        fill(engine, name, places)
        limits = ws.platform(channel).limits
        # What counts as low stock goes by the single lane.
        single = replace(ws, configuration=Configuration(Settings(low_stock=COUNTED_FIRST), (channel,)))
        works = [("first_push", COUNTED_FIRST, single), ("push", COUNTED_LATER, single)]
        if name == AMAZON:
            works.append(("push_by_feeds", COUNTED_FIRST, ws))
        for work, quantity, of in works:
            count(of, list(places), quantity)
            began = _begin(of, meter)
            pushed = _push(of, name, work, meter, limits)
            if pushed or shown_by(name, shop) != {quantity}:
                raise SystemExit(f"{name}: not everything was pushed: {pushed}")
            if meter.feeds:
                _tell_feeds(name, work, meter, listings, (clock.now() - began[0]).total_seconds())
            else:
                _tell(name, work, meter, limits, time.process_time() - began[1], listings)
        began = _begin(ws, meter)
        _read_all(ws, name, "full")
        seconds = (clock.now() - began[0]).total_seconds()
        meter.worked(seconds, limits)
        _tell(name, "full_run", meter, limits, time.process_time() - began[1], listings)
        platform = ws.platform(channel)
        if isinstance(platform, BulkReader) and 0 < platform.bulk_read.least <= listings:
            _measure_bulk_reading(ws, channel, shop, meter, listings, seconds)
        ws.close()


def _measure_bulk_reading(
    ws: Workspace, channel: Channel, shop: Any, meter: Meter, listings: int, one_by_one: float
) -> None:
    """Run all batches again, with all levels asked for at once; `one_by_one` is what it took without, in seconds."""
    desk = shop.reports if channel.name == AMAZON else shop.bulk
    desk.seconds = OPERATION_SECONDS
    began, cpu = _begin(ws, meter)
    calls = calls_of(ws, channel, began + LONGEST, background=True)
    ask_for_all(ws, channel.name, range(ws.configuration.settings.sku_batches), calls, run_id="in bulk")
    cleared = _read_all(ws, channel.name, "in bulk")
    seconds = (ws.clock.now() - began).total_seconds()
    figure(
        f"full_run_in_bulk_{PLATFORMS[channel.name]}_{listings}_listings", seconds, "s", ratio=seconds / one_by_one,
        operation_s=OPERATION_SECONDS, levels_in_bulk=cleared, calls=meter.calls, points=round(meter.points),
        cpu_s=round(time.process_time() - cpu, 1),
    )  # fmt: skip


def _read_all(ws: Workspace, name: str, run_id: str) -> int:
    """Run all batches, one after the other, and return how many levels a bulk reading cleared."""
    cleared = 0
    for batch in range(ws.configuration.settings.sku_batches):
        found = full_sync(ws, name, batch, run_id=run_id)
        if found.problem or found.drift or found.missing:
            raise SystemExit(f"{name}: batch {batch}: {found}")
        cleared += found.in_bulk
    return cleared


def _push(ws: Workspace, name: str, work: str, meter: Meter, limits: Limits) -> str:
    """Push until nothing is left, again with each cycle of the schedule; return what stops it, "" if nothing."""
    began = ws.clock.now()
    last = began + LONGEST
    seconds = ws.configuration.settings.push_deadline_seconds
    while True:
        report = push_channel(ws, name, run_id=work, deadline=ws.clock.now() + timedelta(seconds=seconds))
        if report.goes_on:
            ws.clock.sleep(BETWEEN_SECONDS)
            seconds = BACKLOG_SECONDS
            continue
        meter.worked((ws.clock.now() - began).total_seconds(), limits)
        if report.problem or report.rejected or report.unknown or ws.clock.now() >= last:
            return str(report)
        with ws.engine.connect() as connection:
            if connection.execute(_OUT_OF_STEP).first() is None:
                return ""
        ws.clock.sleep(60.0 * ws.configuration.settings.incremental_every_minutes)
        began = ws.clock.now()


_OUT_OF_STEP = select(inventory_levels.c.id).where(inventory_levels.c.out_of_step_since.is_not(None)).limit(1)


def _begin(ws: Workspace, meter: Meter) -> tuple[datetime, float]:
    """Let the bucket fill, and start counting."""
    ws.clock.sleep(3600)
    meter.points, meter.calls, meter.refused, meter.feeds, meter.allowed, meter.seconds = 0.0, 0, 0, 0, 0.0, 0.0
    return ws.clock.now(), time.process_time()


def _tell(name: str, work: str, meter: Meter, limits: Limits, cpu: float, listings: int) -> None:
    share = meter.points / meter.allowed
    figure(
        f"rate_used_{PLATFORMS[name]}_{work}_{listings}_listings", share, "share", goal=GOAL, met=share >= GOAL,
        rate=limits.rate, burst=limits.burst, seconds=round(meter.seconds), calls=meter.calls, cpu_s=round(cpu, 1),
    )  # fmt: skip
    _tell_refused(name, work, meter, listings)


def _tell_feeds(name: str, work: str, meter: Meter, listings: int, seconds: float) -> None:
    least = math.ceil(listings / BULK.rows)
    figure(
        f"feeds_used_{PLATFORMS[name]}_{work}_{listings}_listings", meter.feeds, "feeds", goal=least,
        met=meter.feeds == least, seconds=round(seconds), calls=meter.calls,
    )  # fmt: skip
    _tell_refused(name, work, meter, listings)


def _tell_refused(name: str, work: str, meter: Meter, listings: int) -> None:
    figure(
        f"calls_refused_{PLATFORMS[name]}_{work}_{listings}_listings", meter.refused, "calls", goal=0,
        met=not meter.refused,
    )  # fmt: skip


def main() -> None:
    """Run the measurement of each platform, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listings", type=int, default=100_000)
    parser.add_argument("--channel", choices=PLATFORMS, help="this one alone")
    given = parser.parse_args()
    for name in [given.channel] if given.channel else PLATFORMS:
        measure(name, given.listings)


if __name__ == "__main__":
    main()
