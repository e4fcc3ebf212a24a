"""The demo that checks itself (`--once`): orders amid faults, all back in step, then every book held against the stock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Any

from invsync_dagster.demo.compare import Compared, compare
from invsync_dagster.demo.house import House
from invsync_dagster.demo.services import DemoError
from invsync_dagster.demo.stage import Say
from invsync_dagster.demo.street import Event, Street
from invsync_dagster.demo.watch import Watch
from invsync_dagster.webhooks.inbox import Inbox

IN_STEP_SECONDS = 180.0
RUN_SECONDS = 60.0
SALE_EVERY_SECONDS = 0.6

# Shares of the calls to a shop while the orders come. `cut_after`, `malformed` and `error_502` do the work and lose the
# answer; `late` loses the answer at once and does the work seconds later; the others do nothing.
RATES = {
    "cut_before": 0.05,
    "cut_after": 0.08,
    "error_503": 0.04,
    "throttle_silent": 0.04,
    "late": 0.04,
    "malformed": 0.03,
}
# Whatever is drawn: each shop refuses the first call, and loses the answer of the fourth and the fifth.
SCRIPT: Sequence[dict[str, Any] | None] = (
    {"kind": "cut_before"},
    None,
    None,
    {"kind": "cut_after"},
    {"kind": "late", "seconds": 2.0},
)
WEBHOOKS = {"duplicate": 0.4, "delay": 0.3, "delay_seconds": 4.0}


def smoke(house: House, watch: Watch, sales: int, random: Random, say: Say) -> bool:
    """Run sales amid faults, wait until all is in step, and compare; tell whether every row is as it should be."""
    bring_in_step(house, watch, say, "the first pushes")
    street = Street(house.stage, house.shops, random)
    before = house.shops.health()
    house.shops.set_webhook_faults(**WEBHOOKS)
    for shop in house.stage.channels:
        house.shops.set_faults(shop, RATES, SCRIPT)
    say(f"{sales} sales, with doubled and late webhooks, refused calls, and answers lost after the write")
    _sell(street, sales, house, say)
    house.shops.set_webhook_faults(duplicate=0.0, delay=0.0)
    for shop in house.stage.channels:
        house.shops.set_faults(shop, {})
    bring_in_step(house, watch, say, "after the sales")
    _say_faults(before, house.shops.health(), say)
    _say_latencies(watch, say)
    compared = compare(house.stage, house.shops, house.ws.engine)
    say_compared(compared, say)
    return not any(one.differences for one in compared)


def _sell(street: Street, sales: int, house: House, say: Say) -> None:
    while street.counts["sale"] < sales:
        event: Event | None = street.step()
        if event is not None:
            say(f"  {event.what:<10} {event.shop:<15} {event.words}")
        house.services.keep_running(say)
        time.sleep(SALE_EVERY_SECONDS)


def bring_in_step(house: House, watch: Watch, say: Say, when: str) -> None:
    """Wait until nothing is out of step, with a cycle whenever something may be tried again. Raises `DemoError`.

    The schedule would start these cycles every few minutes. The last one begins after all webhooks have come, so that
    it has asked every channel for its orders.
    """
    began = time.monotonic()
    asked_after_quiet = False
    last = "no cycle was run"
    while True:
        quiet = house.shops.is_quiet() and not Inbox(house.ws.home.inbox).segments(1)
        left = watch.out_of_step(house.ws.clock.now()) + watch.unclear_orders()
        if quiet and not left and asked_after_quiet:
            say(f"in step {when}: {time.monotonic() - began:.0f} s")
            return
        if time.monotonic() - began > IN_STEP_SECONDS:
            what = f"{left} levels or orders are out of step" if left else "webhooks are still on their way"
            raise DemoError(f"{what} {when}, after {IN_STEP_SECONDS:.0f} s ({last})")
        if quiet or left:
            last = run_cycle(house, say)
            asked_after_quiet = quiet
        house.services.keep_running(say)
        time.sleep(0.5)


def run_cycle(house: House, say: Say) -> str:
    """Run one incremental cycle as a person would, and say how it ended."""
    run = house.dagster.launch("incremental", {"invsync/cause": "by_hand"})
    until = time.monotonic() + RUN_SECONDS
    while (status := house.dagster.run_status(run)) not in ("SUCCESS", "FAILURE", "CANCELED"):
        if time.monotonic() > until:
            raise DemoError(f"run {run} is still {status} after {RUN_SECONDS:.0f} s")
        house.services.keep_running(say)
        time.sleep(0.3)
    return f"the last cycle was run {run}: {status}"


def _say_faults(before: dict[str, Any], after: dict[str, Any], say: Say) -> None:
    for name, now in after["channels"].items():
        was = before["channels"][name]
        say(f"  {name:<15} {now['calls'] - was['calls']} calls, {now['failed'] - was['failed']} of them spoilt")
    was, now = before["webhooks"], after["webhooks"]
    counts = {key: now.get(key, 0) - was.get(key, 0) for key in ("taken", "doubled", "delivered")}
    say(
        f"  webhooks: {counts['taken']} sent, {counts['doubled']} of them twice, {counts['delivered']} deliveries taken"
    )


def _say_latencies(watch: Watch, say: Say) -> None:
    watch.new_pushes()
    for name, figures in watch.figures.items():
        half, most = figures.latency(0.5), figures.latency(0.95)
        if half is not None and most is not None:
            say(f"  {name:<15} webhook to acknowledged push, faults included: half {half:.1f} s, 95 % {most:.1f} s")


def say_compared(compared: Sequence[Compared], say: Say) -> None:
    """Say the table of the comparison, and the first differences of each book."""
    say(f"{'book':<16} {'rows':>6} {'equal':>6} {'in band':>8} {'paused':>7} {'differ':>7}")
    for one in compared:
        equal = one.rows - one.within_band - len(one.differences)
        say(
            f"{one.where:<16} {one.rows:>6} {equal:>6} {one.within_band:>8} {one.left_alone:>7} {len(one.differences):>7}"
        )
    for one in compared:
        for difference in one.differences[:10]:
            say(f"  ! {difference.where} {difference.sku}: shows {difference.shows}, should show {difference.should}")
