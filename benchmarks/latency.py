"""From a webhook in the inbox to the acknowledged push on all other channels, beside the bare floor of Dagster.

Everything is real but the shops: the receiver, the daemon, the waiting sensor and the runs of an installation of its
own in a temporary folder. A delivery is a change of stock at the ERP; it is timed from when the receiver has it, which is some
milliseconds before the answer, to the acknowledgement of the last of the shops that acknowledge at once (Amazon works on
what it accepted for seconds or minutes). The floor is an empty run
of an empty job, requested by the same kind of sensor, from the file's appearance to the op. Blocks of both take
turns, so that what else the machine does falls on both.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from sqlalchemy import and_, func, select

from benchmarks._floor import floor_inbox
from benchmarks._report import figure
from invsync_dagster.demo.apart import installation
from invsync_dagster.demo.catalogue import ShownBy
from invsync_dagster.demo.house import LOCATIONS, House, running
from invsync_dagster.demo.smoke import bring_in_step
from invsync_dagster.demo.watch import Watch, percentile
from invsync_dagster.inventory.tables import deliveries, stock_ledger, sync_logs
from invsync_dagster.webhooks.inbox import SUFFIX

DELIVERIES = 30
BLOCK = 5
GAP_SECONDS = (6.0, 15.0)
AT_ONCE = ("shopify", "woocommerce")
LONGEST_SECONDS = 60.0
GOALS = {"p50": 2.5, "p95": 5.5, "ratio": 1.8}


def main() -> None:
    """Measure about eleven minutes and print three figures."""
    random = Random(7)
    with tempfile.TemporaryDirectory(prefix="invsync-latency-") as folder:
        home, stage, ports, environ = installation(Path(folder))
        locations = {**LOCATIONS, "floor": "benchmarks._floor"}
        with running(home, stage, ports, environ, random, _say, locations) as house:
            watch = Watch.open(home, stage.channels)
            try:
                bring_in_step(house, watch, _say, "the first pushes")
                pushes, floors = _measure(house, random)
            finally:
                watch.close()
    _report(pushes, floors)


def _measure(house: House, random: Random) -> tuple[list[float], list[float]]:
    skus = _skus_that_move_every_shop(house, random)
    inbox = floor_inbox(house.ws.home.data)
    inbox.mkdir(parents=True)
    pushes: list[float] = []
    floors: list[float] = []
    while len(pushes) < DELIVERIES:
        pushes += [_after_a_gap(random, lambda: _delivery(house, next(skus))) for _ in range(BLOCK)]
        floors += [_after_a_gap(random, lambda: _empty_run(inbox)) for _ in range(BLOCK)]
        _say(
            f"{len(pushes)} deliveries: median {statistics.median(pushes):.2f} s, floor {statistics.median(floors):.2f} s"
        )
    return pushes, floors


def _after_a_gap(random: Random, measure: Callable[[], float]) -> float:
    """Measure, and wait until a random gap since its beginning has passed."""
    until = time.monotonic() + random.uniform(*GAP_SECONDS)
    seconds = measure()
    time.sleep(max(0.0, until - time.monotonic()))
    return seconds


def _skus_that_move_every_shop(house: House, random: Random) -> Iterator[tuple[str, int]]:
    """Return SKUs and units of goods coming in, each of which changes what every shop shows."""
    stage = house.stage
    shops = _shops(house)
    rules: dict[str, list[ShownBy]] = {}
    for listing in stage.catalogue.listings:
        if listing.active and listing.shop in shops:
            rules.setdefault(listing.sku, []).append(listing.rules.over(stage.rules[listing.shop]))
    everywhere = sorted(sku for sku, found in rules.items() if len(found) == len(shops))
    random.shuffle(everywhere)
    for sku in everywhere:
        article = stage.catalogue.articles[sku]
        available, units = article.quantity - article.reserved, 2
        if article.active and all(
            not rule.dead_band and rule.of(available) != rule.of(available + units) for rule in rules[sku]
        ):
            yield sku, units


def _shops(house: House) -> list[str]:
    return [channel.name for channel in house.ws.configuration.channels if channel.platform in AT_ONCE]


def _delivery(house: House, given: tuple[str, int]) -> float:
    """Let goods come in, and return the seconds until the last shop has acknowledged what it should show now."""
    sku, units = given
    shops = _shops(house)
    ledger, log, receipt = stock_ledger.c, sync_logs.c, deliveries.c
    with house.ws.engine.connect() as connection:
        before = connection.execute(select(func.coalesce(func.max(ledger.sequence), 0))).scalar_one()
    at_erp = next(one.shop_sku for one in house.stage.catalogue.of_shop(house.stage.erp) if one.sku == sku)
    house.shops.move(house.stage.erp, "restock", at_erp, units)
    done = (
        select(receipt.received_at, func.max(log.timestamp), func.count(log.platform.distinct()))
        .join(stock_ledger, ledger.reference == receipt.receipt_id)
        .join(sync_logs, and_(log.sku == ledger.sku, log.ledger_sequence >= ledger.sequence))
        .where(
            ledger.sku == sku,
            ledger.sequence > before,
            log.status == "acknowledged",
            log.platform.in_(shops),
        )
        .group_by(receipt.received_at)
    )
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        time.sleep(0.1)
        with house.ws.engine.connect() as connection:
            row = connection.execute(done).one_or_none()
        if row is not None and row[2] == len(shops):
            return float((row[1] - row[0]).total_seconds())
    raise SystemExit(f"latency: {sku} was not acknowledged everywhere within {LONGEST_SECONDS:.0f} s")


def _empty_run(inbox: Path) -> float:
    """Put a file into the floor's inbox, and return the seconds until its run has taken it away."""
    part, path = inbox / ".part", inbox / f"{time.time_ns()}{SUFFIX}"
    part.touch()
    began = time.monotonic()
    part.replace(path)
    while path.exists():
        if time.monotonic() > began + LONGEST_SECONDS:
            raise SystemExit(f"latency: the empty run did not come within {LONGEST_SECONDS:.0f} s")
        time.sleep(0.005)
    return time.monotonic() - began


def _report(pushes: list[float], floors: list[float]) -> None:
    half, most = statistics.median(pushes), percentile(pushes, 0.95)
    floor, floor_most = statistics.median(floors), percentile(floors, 0.95)
    ratio = half / floor
    assert most is not None and floor_most is not None
    common = {"deliveries": len(pushes)}
    figure("webhook_to_push_p50", half, "s", GOALS["p50"], half <= GOALS["p50"], floor=floor, ratio=ratio, **common)
    figure("webhook_to_push_p95", most, "s", GOALS["p95"], most <= GOALS["p95"], floor=floor_most, **common)
    figure("webhook_to_push_over_empty_run", ratio, "x", GOALS["ratio"], ratio <= GOALS["ratio"], **common)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
