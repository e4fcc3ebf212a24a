"""A burst: 2,000 orders over 200 SKUs in 10 s, through receiver, runner, daemon and stand-ins with the limits of the demo.

Each order is taken by a stand-in shop, which moves its own number and sends its webhook. Timed is what comes after the
last order: until every webhook is in the ledger and no level is out of step; what Amazon has accepted counts, since it
works on it for seconds. Then all is brought to rest, and every book is held against the stock row by row.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from sqlalchemy import func, or_, select

from benchmarks._report import figure
from invsync_dagster.demo.apart import installation
from invsync_dagster.demo.compare import compare
from invsync_dagster.demo.house import House, running
from invsync_dagster.demo.shops import RefusedError, Shops
from invsync_dagster.demo.smoke import bring_in_step
from invsync_dagster.demo.watch import Watch
from invsync_dagster.inventory.tables import CHANGES, central_inventory, deliveries, inventory_levels, sync_logs
from invsync_dagster.inventory.tables import unclear_orders as unclear
from invsync_dagster.sync.levels import Doubt
from invsync_dagster.webhooks.inbox import Inbox

ORDERS = 2_000
SKUS = 200
SECONDS = 10.0
BUYERS = 8
# What is sold of one SKU leaves it on show everywhere: ten orders of one unit, and the buffers and shares of the rules.
FEWEST_UNITS = 60
LONGEST_SECONDS = 180.0
GOAL_SECONDS = 60.0
# Alibaba.com tells of no sale: its orders are asked for in cycles, so its own buyers are no part of a burst of webhooks.
SILENT = "alibaba"


def main() -> None:
    """Measure about two minutes and print one figure."""
    random = Random(7)
    with tempfile.TemporaryDirectory(prefix="invsync-burst-") as folder:
        home, stage, ports, environ = installation(Path(folder))
        with running(home, stage, ports, environ, random, _say) as house:
            watch = Watch.open(home, stage.channels)
            try:
                bring_in_step(house, watch, _say, "the first pushes")
                with house.ws.engine.connect() as connection:
                    runs = connection.execute(select(func.count(deliveries.c.run_id.distinct()))).scalar_one()
                    pushed = connection.execute(select(func.count()).select_from(sync_logs)).scalar_one()
                    received = connection.execute(select(func.count()).select_from(deliveries)).scalar_one()
                sold, took = _sell(house, f"http://127.0.0.1:{ports.sandbox}", random)
                _say(f"{sold} orders taken in {took:.1f} s")
                after = _until_in_step(house)
                with house.ws.engine.connect() as connection:
                    runs = connection.execute(select(func.count(deliveries.c.run_id.distinct()))).scalar_one() - runs
                    pushed = connection.execute(select(func.count()).select_from(sync_logs)).scalar_one() - pushed
                    received = connection.execute(select(func.count()).select_from(deliveries)).scalar_one() - received
                bring_in_step(house, watch, _say, "at rest")
                differences = sum(len(one.differences) for one in compare(stage, house.shops, house.ws.engine))
            finally:
                watch.close()
    figure(
        "burst_in_step_after", after, "s", GOAL_SECONDS, after <= GOAL_SECONDS and not differences, orders=sold, skus=SKUS,
        taken_in_s=round(took, 1), deliveries=received, attempts_and_readings=pushed, runs=runs, differences=differences,
    )  # fmt: skip


def _sell(house: House, address: str, random: Random) -> tuple[int, float]:
    """Let buyers take all orders, evenly over the time; return how many were taken, and in how many seconds."""
    wanted = list(itertools.islice(_wanted(house, random), ORDERS))
    began = time.monotonic()

    def buyer(number: int) -> int:
        shops, taken = Shops(address), 0
        for place in range(number, len(wanted), BUYERS):
            time.sleep(max(0.0, began + place * SECONDS / ORDERS - time.monotonic()))
            taken += _order(shops, *wanted[place])
        return taken

    with ThreadPoolExecutor(BUYERS) as pool:
        sold = sum(pool.map(buyer, range(BUYERS)))
    return sold, time.monotonic() - began


def _order(shops: Shops, sku: str, places: Sequence[tuple[str, str]]) -> bool:
    """Buy one unit where it is still on show, first at the first of `places` (shop and its SKU)."""
    for shop, shop_sku in places:
        try:
            shops.order(shop, {shop_sku: 1})
        except RefusedError:
            continue
        return True
    _say(f"{sku} is sold out everywhere")
    return False


def _wanted(house: House, random: Random) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Return orders without end: a SKU of the 200, and the shops that list it in a random order."""
    silent = {channel.name for channel in house.ws.configuration.channels if channel.platform == SILENT}
    places: dict[str, list[tuple[str, str]]] = {}
    for listing in house.stage.catalogue.listings:
        if listing.active and listing.shop in house.stage.shops and listing.shop not in silent:
            places.setdefault(listing.sku, []).append((listing.shop, listing.shop_sku))
    stock = central_inventory.c
    ample = select(stock.sku).where(
        stock.status == "active", stock.quantity - stock.reserved_quantity >= FEWEST_UNITS, stock.sku.in_(places)
    )
    with house.ws.engine.connect() as connection:
        skus = random.sample(sorted(connection.execute(ample).scalars()), SKUS)
    for sku in itertools.cycle(skus):
        yield sku, random.sample(places[sku], len(places[sku]))


def _until_in_step(house: House) -> float:
    """Return the seconds until nothing is to be done any more. Exits where that takes too long."""
    began = time.monotonic()
    level = inventory_levels.c
    to_do = (
        select(func.count())
        .select_from(CHANGES)
        .where(or_(level.desired != level.effective_quantity, level.uncertain != Doubt.ACCEPTED))
    )
    while True:
        pending = int(house.shops.health()["webhooks"]["pending"])
        waiting = len(Inbox(house.ws.home.inbox).segments(10_000))
        with house.ws.engine.connect() as connection:
            levels = connection.execute(to_do).scalar_one()
            orders = connection.execute(select(func.count()).select_from(unclear)).scalar_one()
        seconds = time.monotonic() - began
        if not (pending or waiting or levels or orders):
            return seconds
        state = f"{pending} webhooks on their way, {waiting} segments, {orders} orders unclear, {levels} levels to do"
        if seconds > LONGEST_SECONDS:
            raise SystemExit(f"burst: not in step after {seconds:.0f} s: {state}")
        _say(f"  {seconds:5.1f} s: {state}")
        time.sleep(1.0)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
