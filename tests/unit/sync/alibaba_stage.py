"""An Alibaba.com account with a few SKUs, and our real code between it and the stock, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.inventory import channels as registry
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels, is_change
from invsync_dagster.platforms.alibaba.sandbox import AlibabaSandbox
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace
from tests import databases
from tests.contract.wire import Wire
from tests.simulation.built import START
from tests.simulation.processes import SimulatedWorker
from tests.unit.platforms.alibaba_stage import GOP, KEY, REFRESH, SECRET

NAME = "alibaba_main"
ENVIRON = {"K": KEY, "S": SECRET, "R": REFRESH}


class AlibabaStage:
    """`account` is the stand-in, `push` one incremental push of ours; every SKU is mapped and the first push approved.

    All SKUs are of one product. `lag`: how late the account shows a changed number.
    """

    def __init__(self, folder: Path, stock: Mapping[str, int], *, lag: float = 0.0, **settings: Any) -> None:
        self.clock = VirtualClock(START)
        self.engine = engine = databases.fresh_engine()
        self.account = AlibabaSandbox(
            app_key=KEY, app_secret=SECRET, refresh_token=REFRESH, clock=self.clock, lag=lag, rate=6.0, burst=15.0
        )
        self.levels: dict[str, LevelReference] = {}
        for sku, quantity in stock.items():
            self.levels[sku] = self.account.add_sku(sku, quantity, product=77)
        now = self.clock.now()
        by: dict[str, Any] = {"actor": "test", "reason": "opening stock", "now": now}
        with write_transaction(engine) as connection:
            registry.register(connection, NAME, "alibaba", "sandbox", True, Rules(), now, now)
            set_skus(connection, [Sku(sku) for sku in stock], **by)
            counts = [Count(sku, quantity, now) for sku, quantity in stock.items()]
            apply_counts(connection, counts, CountSource("opening", (NAME,)), now=now, run_id="")
            listings = [
                Listing(NAME, sku, level.item_id, level.location_id, platform_sku=sku)
                for sku, level in self.levels.items()
            ]
            set_listings(connection, listings, **by)
            registry.approve_first_push(connection, NAME, **by)
        self.wire = Wire(self.account.handle)
        given = {**GOP, "token_file": str(folder / "tokens.json"), **settings}
        model = VENDORS["alibaba"].settings.model_validate(given)
        channel = Channel(name=NAME, platform="alibaba", environment="sandbox", settings=model)
        self.ws = Workspace(
            home=Home(root=Path("/"), data=Path("/nowhere"), database_url="", channels_file=Path("/nowhere")),
            configuration=Configuration(settings=Settings(claim_seconds=120, retries=0), channels=(channel,)),
            engine=engine,
            clock=self.clock,
            rng=random.Random(5),
            worker=SimulatedWorker("process-1", set()),
            environ=ENVIRON,
            transport=lambda _channel: self.wire,
        )
        self.settle()
        self.clock.advance(3600)

    def push(self, seconds: float = 20) -> PushReport:
        """Push once, with a deadline for new claims."""
        deadline = self.clock.now() + timedelta(seconds=seconds)
        return push_channel(self.ws, NAME, run_id="run", deadline=deadline)

    def settle(self) -> None:
        """Push every 30 seconds until nothing is a change any more."""
        for _ in range(60):
            self.push()
            if not self.changes():
                return
            self.clock.advance(30)
        raise AssertionError(f"still changes: {self.changes()}")

    def count(self, sku: str, quantity: int) -> None:
        """Count the stock anew: `quantity` are on hand now, open orders included."""
        now = self.clock.now()
        with write_transaction(self.engine) as connection:
            apply_counts(connection, [Count(sku, quantity, now)], CountSource("count", ()), now=now, run_id="")

    def level(self, sku: str) -> Any:
        query = select(inventory_levels).where(inventory_levels.c.central_sku == sku)
        with self.engine.connect() as connection:
            return connection.execute(query).one()

    def shown(self, sku: str) -> int:
        return self.account.shown(self.levels[sku])

    def changes(self) -> list[str]:
        query = select(inventory_levels.c.central_sku).where(is_change())
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def writes(self) -> int:
        """How many writes were sent so far."""
        return sum("inventory/update" in each.url or "edit-inventory" in each.url for each in self.wire.requests)
