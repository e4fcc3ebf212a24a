"""From a webhook in the inbox to what all other channels have of it: with the runner, and with the sensor alone.

Everything is real but the shops: the receiver, the runner, the daemon, the waiting sensor and the runs of an installation
of its own in a temporary folder. A delivery is a change of stock at the ERP; it is timed from when the receiver has it,
which is some milliseconds before the answer, to the acknowledgement of the last of the shops that list the SKU; of
Amazon, which works on what it accepted for seconds or minutes, to its acceptance. For the sensor alone the runner is
stopped. The floor is an empty run of an empty job, requested by the same kind of sensor, from the file's appearance to
the op. Blocks of the three take turns, so that what else the machine does falls on all.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from sqlalchemy import and_, func, select

from benchmarks._floor import floor_inbox
from benchmarks._report import figure
from benchmarks._split import split
from invsync_dagster.demo.apart import installation
from invsync_dagster.demo.catalogue import ShownBy
from invsync_dagster.demo.house import LOCATIONS, RUNNER, House, running, start_runner
from invsync_dagster.demo.smoke import bring_in_step
from invsync_dagster.demo.watch import Watch, percentile
from invsync_dagster.inventory.tables import central_inventory, deliveries, stock_ledger, sync_logs
from invsync_dagster.webhooks.inbox import SUFFIX

T = TypeVar("T")

DELIVERIES = 30
BLOCK = 5
# The sensor's beat has 5 s, and its evaluations 9.7 s; the runner has none.
GAP_SECONDS = (6.0, 15.0)
RUNNER_GAP_SECONDS = (1.5, 3.5)
FEWEST_SHOPS = 4
LONGEST_SECONDS = 60.0
GOALS = {"runner_p50": 1.0, "runner_p95": 2.0, "p50": 2.5, "p95": 5.5, "ratio": 1.8}


class Delivered(NamedTuple):
    """A delivery's receipt, and the seconds until the last shop had taken what it should show then."""

    receipt: str
    seconds: float


def main() -> None:
    """Measure about ten minutes and print five figures."""
    random = Random(7)
    with tempfile.TemporaryDirectory(prefix="invsync-latency-") as folder:
        home, stage, ports, environ = installation(Path(folder))
        locations = {**LOCATIONS, "floor": "benchmarks._floor"}
        with running(home, stage, ports, environ, random, _say, locations) as house:
            watch = Watch.open(home, stage.channels)
            try:
                bring_in_step(house, watch, _say, "the first pushes")
                quick, slow, floors = _measure(house, random)
                spans = [split(environ, house.ws.engine, [one.receipt for one in each]) for each in (quick, slow)]
            finally:
                watch.close()
    _report(quick, slow, floors)
    for name, found in zip(("runner", "sensor_alone"), spans, strict=True):
        figure(f"webhook_to_push_{name}_split", sum(found.values()), "ms", spans=found)


def _measure(house: House, random: Random) -> tuple[list[Delivered], list[Delivered], list[float]]:
    """Return the seconds of deliveries with the runner, of deliveries with the sensor alone, and of empty runs."""
    skus = _skus_that_move_their_shops(house, random)
    inbox = floor_inbox(house.ws.home.data)
    inbox.mkdir(parents=True)
    quick: list[Delivered] = []
    slow: list[Delivered] = []
    floors: list[float] = []
    while len(quick) < DELIVERIES:
        quick += [_after_a_gap(random, RUNNER_GAP_SECONDS, lambda: _delivery(house, next(skus))) for _ in range(BLOCK)]
        house.services.stop(RUNNER)
        slow += [_after_a_gap(random, GAP_SECONDS, lambda: _delivery(house, next(skus))) for _ in range(BLOCK)]
        floors += [_after_a_gap(random, GAP_SECONDS, lambda: _empty_run(inbox)) for _ in range(BLOCK)]
        start_runner(house.ws.home, house.services)
        _say(
            f"{len(quick)} of each: median with the runner {statistics.median(_seconds(quick)):.2f} s, "
            f"with the sensor alone {statistics.median(_seconds(slow)):.2f} s, floor {statistics.median(floors):.2f} s"
        )
    return quick, slow, floors


def _after_a_gap(random: Random, gap: tuple[float, float], measure: Callable[[], T]) -> T:
    """Measure, and wait until a random gap since its beginning has passed."""
    until = time.monotonic() + random.uniform(*gap)
    measured = measure()
    time.sleep(max(0.0, until - time.monotonic()))
    return measured


def _skus_that_move_their_shops(house: House, random: Random) -> Iterator[tuple[str, int, list[str]]]:
    """Return SKUs and units of goods coming in, each of which changes what every shop shows that lists it."""
    stage = house.stage
    rules: dict[str, dict[str, ShownBy]] = {}
    for listing in stage.catalogue.listings:
        if listing.active and listing.shop in stage.shops:
            rules.setdefault(listing.sku, {})[listing.shop] = listing.rules.over(stage.rules[listing.shop])
    stock = central_inventory.c
    with house.ws.engine.connect() as connection:
        found = connection.execute(select(stock.sku, stock.quantity - stock.reserved_quantity).order_by(stock.sku))
        rows = [(str(sku), int(available)) for sku, available in found]
    random.shuffle(rows)
    units = 2
    for sku, available in rows:
        shown = rules.get(sku, {})
        if len(shown) >= FEWEST_SHOPS and all(
            not rule.dead_band and rule.of(available) != rule.of(available + units) for rule in shown.values()
        ):
            yield sku, units, sorted(shown)


def _delivery(house: House, given: tuple[str, int, list[str]]) -> Delivered:
    """Let goods come in, and wait until the last shop has taken what it should show now."""
    sku, units, shops = given
    ledger, log, receipt = stock_ledger.c, sync_logs.c, deliveries.c
    with house.ws.engine.connect() as connection:
        before = connection.execute(select(func.coalesce(func.max(ledger.sequence), 0))).scalar_one()
        logged = connection.execute(select(func.coalesce(func.max(log.id), 0))).scalar_one()
    at_erp = next(one.shop_sku for one in house.stage.catalogue.of_shop(house.stage.erp) if one.sku == sku)
    house.shops.move(house.stage.erp, "restock", at_erp, units)
    done = (
        select(receipt.receipt_id, receipt.received_at, log.platform, func.min(log.timestamp))
        .join(stock_ledger, ledger.reference == receipt.receipt_id)
        .join(sync_logs, and_(log.sku == ledger.sku, log.ledger_sequence >= ledger.sequence))
        .where(
            ledger.sku == sku,
            ledger.sequence > before,
            log.id > logged,
            log.action == "push",
            log.status.in_(("acknowledged", "accepted")),
            log.platform.in_(shops),
        )
        .group_by(receipt.receipt_id, receipt.received_at, log.platform)
    )
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        time.sleep(0.1)
        with house.ws.engine.connect() as connection:
            rows = connection.execute(done).all()
        if len(rows) == len(shops):
            return Delivered(rows[0][0], max((taken - received).total_seconds() for _, received, _, taken in rows))
    missing = sorted(set(shops) - {row[2] for row in rows})
    with house.ws.engine.connect() as connection:
        told = connection.execute(
            select(log.platform, log.action, log.status, log.code, log.error_message, log.timestamp)
            .where(log.sku == sku)
            .order_by(log.id)
        ).all()
    said = "".join(f"\n  {' '.join(str(value) for value in row)}" for row in told)
    raise SystemExit(f"latency: {sku} was not taken by {missing} within {LONGEST_SECONDS:.0f} s{said}")


def _empty_run(inbox: Path) -> float:
    """Put a file into the floor's inbox, and return the seconds until its run has taken it away."""
    part, path = inbox / ".part", inbox / f"{time.time_ns() // 1000:016d}-floor{SUFFIX}"
    part.touch()
    began = time.monotonic()
    part.replace(path)
    while path.exists():
        if time.monotonic() > began + LONGEST_SECONDS:
            raise SystemExit(f"latency: the empty run did not come within {LONGEST_SECONDS:.0f} s")
        time.sleep(0.005)
    return time.monotonic() - began


def _report(quick: list[Delivered], slow: list[Delivered], floors: list[float]) -> None:
    floor, floor_most = statistics.median(floors), _most(floors)
    common = {"deliveries": len(quick)}
    for name, delivered, goal in (("runner", quick, "runner_"), ("sensor_alone", slow, "")):
        seconds = _seconds(delivered)
        half, most = statistics.median(seconds), _most(seconds)
        half_goal, most_goal = GOALS[f"{goal}p50"], GOALS[f"{goal}p95"]
        figure(f"webhook_to_push_{name}_p50", half, "s", half_goal, half <= half_goal, floor, half / floor, **common)
        figure(f"webhook_to_push_{name}_p95", most, "s", most_goal, most <= most_goal, floor_most, **common)
    ratio = statistics.median(_seconds(slow)) / floor
    figure("webhook_to_push_over_empty_run", ratio, "x", GOALS["ratio"], ratio <= GOALS["ratio"], **common)


def _seconds(delivered: list[Delivered]) -> list[float]:
    return [one.seconds for one in delivered]


def _most(seconds: list[float]) -> float:
    found = percentile(seconds, 0.95)
    assert found is not None
    return found


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
