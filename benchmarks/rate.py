"""Measures the share of each platform's rate that 100,000 listings use, against its stand-in and on a virtual clock.

A first push (every level read, and written as it shows another number), a push of a change of every level, and a full run;
where the platform reads all levels in bulk, another full run that asks for them.
The share is of all that the platform would have allowed in that time: what its bucket held, and what its rate restored. A
stand-in answers in no time, so that what is missing is ours.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from benchmarks._report import figure
from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.inventory import channels
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.platforms.contract import BulkReader, LevelReference, Limits
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.platforms.woocommerce.sandbox import WooCommerceSandbox
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.bulk_reading import ask_for_all
from invsync_dagster.sync.push import calls_of, push_channel
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.worker import LockedWorker
from invsync_dagster.sync.workspace import Workspace

GOAL = 0.9
SHOWN_BEFORE, COUNTED_FIRST, COUNTED_LATER = 5, 20, 12
LONGEST = timedelta(days=30)

# How long Shopify takes over 100,000 items and their levels isn't documented: minutes, in the field.
OPERATION_SECONDS = 180.0

START = datetime(2026, 3, 2, tzinfo=UTC)
SECRETS = {"TOKEN": "a-token", "SIGN": "a-signing-secret", "HOOK": "a-webhook-secret"}
DOMAIN = "sandbox"
ERP, SHOPIFY, WOO = "erp_main", "shop_main", "woo_main"
PLATFORMS = {SHOPIFY: "shopify", ERP: "erp", WOO: "woocommerce"}


@dataclass
class Meter:
    """What the stand-in took for the calls, in its own points, and how many it refused for going over its rate."""

    points: float = 0.0
    calls: int = 0
    refused: int = 0

    def through(self, handle: Callable[[Request], Response], request: Request) -> Response:
        """Hand a request on and read off its answer what it cost."""
        answer = handle(request)
        self.calls += 1
        if answer.status == 429 or b'"THROTTLED"' in answer.body:
            self.refused += 1
        elif request.url.endswith("graphql.json"):
            self.points += json.loads(answer.body)["extensions"]["cost"]["actualQueryCost"]
        else:
            self.points += 1
        return answer


def place_of(name: str, number: int) -> LevelReference:
    """Return where the stock of the article `number` is kept. Of ten WooCommerce articles three are variations of one
    product."""
    if name == ERP:
        return LevelReference(f"SKU-{number:06d}")
    if name == SHOPIFY:
        return LevelReference(f"gid://shopify/InventoryItem/{1_000_000 + number}", "gid://shopify/Location/1")
    product = str(5_000_000 + number // 10) if number % 10 in (3, 4, 6) else ""
    return LevelReference(str(1_000_000 + number), product)


def stand_in(name: str, places: dict[str, LevelReference], clock: VirtualClock) -> Any:
    """Return a stand-in that lists the SKUs of `places`."""
    token, sign, hook = SECRETS.values()
    if name == WOO:
        store = WooCommerceSandbox(consumer_key=token, consumer_secret=sign, webhook_secret=hook, clock=clock)
        for product in {int(place.location_id) for place in places.values() if place.location_id}:
            store.add_product("", None, number=product, kind="variable", managed=False)
        for sku, place in places.items():
            if place.location_id:
                store.add_variation(LevelReference(place.location_id), sku, SHOWN_BEFORE, number=int(place.item_id))
            else:
                store.add_product(sku, SHOWN_BEFORE, number=int(place.item_id))
        return store
    if name == SHOPIFY:
        shop = ShopifySandbox(
            access_token=token,
            webhook_secret=hook,
            clock=clock,
            random=random.Random(1),
            domain=f"{DOMAIN}.myshopify.com",
        )
        for sku, place in places.items():
            shop.add_article(sku, SHOWN_BEFORE, item_id=place.item_id, location_id=place.location_id)
        return shop
    erp = ErpSandbox(clock, random.Random(1), api_key=token, signing_secret=sign, webhook_secret=hook)
    for sku in places:
        erp.add(sku, SHOWN_BEFORE)
    return erp


def channel_of(name: str) -> Channel:
    """Return the channel's configuration; the stand-in store bears the same 10 calls a second as the ERP."""
    fields = {
        ERP: {"base_url": "https://erp.example.com", "api_key_env": "TOKEN", "signing_secret_env": "SIGN"},
        WOO: {"store_url": "https://woo.example.com", "consumer_key_env": "TOKEN", "consumer_secret_env": "SIGN"},
        SHOPIFY: {"shop_url": f"https://{DOMAIN}.myshopify.com", "access_token_env": "TOKEN"},
    }
    settings = VENDORS[PLATFORMS[name]].settings.model_validate({**fields[name], "webhook_secret_env": "HOOK"})
    limits = {"rate": 10.0, "burst": 20.0} if name == WOO else {}
    return Channel(name=name, platform=PLATFORMS[name], environment="sandbox", settings=settings, limits=limits)


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
    channel, meter = channel_of(name), Meter()
    shop = stand_in(name, places, clock)
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder:
        data = Path(folder)
        home = Home(root=data, data=data, database_url=f"sqlite:///{data}/stock.db", channels_file=data / "none")
        engine = open_database(home.database_url)
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
        for work, quantity in (("first_push", COUNTED_FIRST), ("push", COUNTED_LATER)):
            count(ws, list(places), quantity)
            began, cpu = _begin(ws, meter)
            report = push_channel(ws, name, run_id=work, deadline=clock.now() + LONGEST)
            if report.acknowledged != listings or report.left or report.waiting or report.problem:
                raise SystemExit(f"{name}: not everything was pushed: {report}")
            _tell(name, work, meter, limits, (clock.now() - began).total_seconds(), time.process_time() - cpu, listings)
        began, cpu = _begin(ws, meter)
        _read_all(ws, name, "full")
        seconds = (clock.now() - began).total_seconds()
        _tell(name, "full_run", meter, limits, seconds, time.process_time() - cpu, listings)
        if isinstance(ws.platform(channel), BulkReader):
            _begin(ws, meter)
            shop.bulk.seconds = OPERATION_SECONDS
            began, cpu = clock.now(), time.process_time()
            calls = calls_of(ws, channel, began + LONGEST, background=True)
            ask_for_all(ws, name, range(ws.configuration.settings.sku_batches), calls, run_id="in bulk")
            cleared = _read_all(ws, name, "in bulk")
            figure(
                f"full_run_in_bulk_{PLATFORMS[name]}_{listings}_listings", (clock.now() - began).total_seconds(), "s",
                ratio=(clock.now() - began).total_seconds() / seconds, operation_s=OPERATION_SECONDS,
                levels_in_bulk=cleared, calls=meter.calls, points=round(meter.points),
                cpu_s=round(time.process_time() - cpu, 1),
            )  # fmt: skip
        ws.close()


def _read_all(ws: Workspace, name: str, run_id: str) -> int:
    """Run all batches, one after the other, and return how many levels a bulk reading cleared."""
    cleared = 0
    for batch in range(ws.configuration.settings.sku_batches):
        found = full_sync(ws, name, batch, run_id=run_id)
        if found.problem or found.drift or found.missing:
            raise SystemExit(f"{name}: batch {batch}: {found}")
        cleared += found.in_bulk
    return cleared


def _begin(ws: Workspace, meter: Meter) -> tuple[Any, float]:
    """Let the bucket fill, and start counting."""
    began = ws.clock.now() + timedelta(hours=1)
    ws.clock.sleep(3600)
    meter.points, meter.calls, meter.refused = 0.0, 0, 0
    return began, time.process_time()


def _tell(name: str, work: str, meter: Meter, limits: Limits, seconds: float, cpu: float, listings: int) -> None:
    share = meter.points / (limits.burst + limits.rate * seconds)
    figure(
        f"rate_used_{PLATFORMS[name]}_{work}_{listings}_listings", share, "share", goal=GOAL, met=share >= GOAL,
        rate=limits.rate, burst=limits.burst, seconds=round(seconds), calls=meter.calls, cpu_s=round(cpu, 1),
    )  # fmt: skip
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
