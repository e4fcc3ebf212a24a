"""How long a dead channel takes to reach people, and how many messages ten thousand failures make.

The first part is a whole installation in a temporary folder: stand-in shops, receiver, daemon and sensors, with a mail server
and a web hook on loopback as the messengers. One shop goes dead, in one way after the other; it is timed from when the stand-in
has the first call that it fails to when each messenger has the alert, and, for the record, from its mending to the word that it
is over.
The second part lets one channel fail ten thousand pushes on a virtual clock, with a look of the sensor's every 15 s of it.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import dagster as dg

from benchmarks._report import figure
from invsync_dagster.alerts.sending import send
from invsync_dagster.alerts.watchman import Watchman
from invsync_dagster.channels import load
from invsync_dagster.defs.alerting import EVERY_SECONDS
from invsync_dagster.demo.apart import installation
from invsync_dagster.demo.house import House, running
from invsync_dagster.demo.smoke import bring_in_step
from invsync_dagster.demo.stage import set_stage
from invsync_dagster.demo.watch import Watch
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.registration import register_channels
from tests.defs.conftest import ENTRY, SECRETS, FakePlatform, Installation
from tests.sinks import Sink, mail_sink, web_sink

# Each way has a shop of its own: what comes back within a day is watched for longer before it is over.
WAYS = {"error_503": "shopify_outlet", "cut_before": "shopify_eu", "timeout_before": "ebay_main"}
BUYERS = "shopify_main"
GOAL_SECONDS = 60.0
LONGEST_SECONDS = 600.0

FAILURES = 10_000


def main() -> None:
    """Measure about ten minutes and print the figures."""
    with ExitStack() as stack:
        mail, hook = stack.enter_context(mail_sink()), stack.enter_context(web_sink())
        addresses = {
            "ALERTS_MAIL": f"mailto://invsync:word@127.0.0.1:{mail.port}/?from=invsync@example.com&to=seller@example.com",
            "ALERTS_HOOK": f"json://127.0.0.1:{hook.port}/",
        }
        _dead_channels(addresses, mail, hook)
    with web_sink() as hook:
        _ten_thousand(f"json://127.0.0.1:{hook.port}/", hook)


def _dead_channels(addresses: dict[str, str], mail: Sink, hook: Sink) -> None:
    with tempfile.TemporaryDirectory(prefix="invsync-alerts-") as folder:
        home, _, ports, environ = installation(Path(folder))
        environ |= addresses
        targets = "".join(f"    - url_env: {name}\n" for name in addresses)
        text = home.channels_file.read_text(encoding="utf-8")
        home.channels_file.write_text(
            text.replace("settings:\n", f"settings:\n  alerts:\n{targets}", 1), encoding="utf-8"
        )
        stage = set_stage(home, load(home, environ))
        with running(home, stage, ports, environ, Random(7), _say) as house:
            watch = Watch.open(home, stage.channels)
            try:
                bring_in_step(house, watch, _say, "the first pushes")
            finally:
                watch.close()
            for way, shop in WAYS.items():
                _one_way(house, way, shop, mail, hook)


def _one_way(house: House, way: str, shop: str, mail: Sink, hook: Sink) -> None:
    calls = _failed(house, shop)
    house.shops.set_faults(shop, {way: 1.0})
    house.shops.buy(BUYERS)
    _wait(lambda: _failed(house, shop) > calls, LONGEST_SECONDS, f"{way}: no call failed")
    began = time.monotonic()
    # By then the channel may be cut out: which of the two a look of the sensor's finds is a matter of seconds.
    titles = (f"{shop} (sandbox): the push failed", f"{shop} (sandbox) does not answer")
    for name, sink in (("mail", mail), ("web hook", hook)):
        seconds = _told(sink, titles, began) - began
        figure(f"first failed call to the alert ({way}, {name})", seconds, "s", GOAL_SECONDS, seconds < GOAL_SECONDS)
    house.shops.set_faults(shop, {})
    house.shops.buy(BUYERS)
    mended = time.monotonic()
    over = _told(mail, tuple(f"Over: {title}" for title in titles), mended) - mended
    words = sum((subject + body).count(title) for subject, body in mail.told for title in titles)
    figure(f"mended to the word that it is over ({way})", over, "s", messages=words)


def _told(sink: Sink, titles: tuple[str, ...], since: float) -> float:
    """Wait for a message with one of these titles, and return when it came."""

    def came() -> list[float]:
        return [
            at
            for at, (subject, body) in zip(sink.at, sink.told, strict=False)
            if at > since and any(title in subject + body for title in titles)
        ]

    _wait(lambda: bool(came()), LONGEST_SECONDS, " or ".join(titles))
    return came()[0]


def _failed(house: House, shop: str) -> int:
    return int(house.shops.health()["channels"][shop]["failed"])


def _wait(done: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise SystemExit(f"alerts: {otherwise} within {seconds:.0f} s")
        time.sleep(0.1)


def _ten_thousand(address: str, hook: Sink) -> None:
    with tempfile.TemporaryDirectory(prefix="invsync-alerts-") as folder, dg.DagsterInstance.ephemeral() as instance:
        home = Home.from_environment({"INVSYNC_ROOT": folder})
        home.data.mkdir()
        home.channels_file.write_text(
            "settings:\n  retries: 0\n  alerts:\n    - url_env: HOOK\nchannels:\n" + ENTRY.format(name="shop")
        )
        shop = FakePlatform(error=PlatformError(Recovery.RETRY, "not_reached", "connection refused"))
        clock = VirtualClock(datetime.now(UTC))
        migrate(open_database(home.database_url, make=True))
        ws = Installation(home, clock, {"shop": shop}, instance).open()
        register_channels(ws)
        with write_transaction(ws.engine) as connection:
            approve_first_push(connection, "shop", actor="benchmark", reason="", now=clock.now())
        environ = {**SECRETS, "HOOK": address}
        watchman = Watchman(home, load(home, environ), environ, ws.engine, clock, send)
        pace, looked, took = random.Random(7), clock.now(), 0.0
        for number in range(FAILURES):
            push_channel(ws, "shop", run_id=f"run-{number}", deadline=clock.now() + timedelta(seconds=20))
            clock.advance(pace.uniform(0, 10))
            if clock.now() - looked >= timedelta(seconds=EVERY_SECONDS):
                looked, began = clock.now(), time.perf_counter()
                watchman.tell(watchman.look())
                took += time.perf_counter() - began
        shop.error = None
        push_channel(ws, "shop", run_id="run", deadline=clock.now() + timedelta(seconds=20))
        for _ in range(40):
            clock.advance(EVERY_SECONDS)
            watchman.tell(watchman.look())
        titles = [title for title, _ in hook.told]
        ws.close()
    met = len(titles) == 2 and titles[1].startswith("invsync: Over: ")
    figure(f"messages of {FAILURES:,} failed pushes of one channel", len(titles), "messages", 2, met, titles=titles)
    figure("a look at the stock, of them all", 1000 * took / (FAILURES / 3), "ms")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
