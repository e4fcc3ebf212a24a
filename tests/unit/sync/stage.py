"""One account at a stand-in with a few SKUs, and our real code between it and the stock: what the vendors' stages share."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
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
from invsync_dagster.inventory.tables import inventory_levels, is_change, sync_logs
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import Transport
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace
from tests import databases
from tests.simulation.built import START
from tests.simulation.processes import SimulatedWorker


class Stage:
    """A database and a clock; `connect` puts the stock into the one and our code to work on the account."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.engine = databases.fresh_engine()

    def connect(
        self,
        name: str,
        stock: Mapping[str, int],
        levels: Mapping[str, LevelReference],
        transport: Callable[[], Transport],
        settings: Mapping[str, Any],
        environ: Mapping[str, str],
        *,
        limits: Mapping[str, float] | None = None,
        **ours: Any,
    ) -> None:
        """Map every SKU to its level on the channel `name` (`<platform>_…`), approve its first push, and open the workspace."""
        self.name, platform, now = name, name.partition("_")[0], self.clock.now()
        by: dict[str, Any] = {"actor": "test", "reason": "opening stock", "now": now}
        with write_transaction(self.engine) as connection:
            registry.register(connection, name, platform, "sandbox", True, Rules(), now, now)
            set_skus(connection, [Sku(sku) for sku in stock], **by)
            counts = [Count(sku, quantity, now) for sku, quantity in stock.items()]
            apply_counts(connection, counts, CountSource("opening", (name,)), now=now, run_id="")
            at = levels.items()
            listings = [Listing(name, sku, level.item_id, level.location_id, platform_sku=sku) for sku, level in at]
            set_listings(connection, listings, **by)
            registry.approve_first_push(connection, name, **by)
        model = VENDORS[platform].settings.model_validate(settings)
        given = dict(limits or {})
        channel = Channel(name=name, platform=platform, environment="sandbox", settings=model, limits=given)
        self.ws = Workspace(
            home=Home(root=Path("/"), data=Path("/nowhere"), database_url="", channels_file=Path("/nowhere")),
            configuration=Configuration(settings=Settings(claim_seconds=120, **ours), channels=(channel,)),
            engine=self.engine,
            clock=self.clock,
            rng=random.Random(5),
            worker=SimulatedWorker("process-1", set()),
            environ=environ,
            transport=lambda _channel: transport(),
        )

    def push(self, seconds: float = 20, skus: Sequence[str] | None = None) -> PushReport:
        """Push once, with a deadline for new claims."""
        deadline = self.clock.now() + timedelta(seconds=seconds)
        return push_channel(self.ws, self.name, run_id="run", deadline=deadline, skus=skus)

    def settle(self, every: float = 60, times: int = 40) -> None:
        """Push until nothing is a change any more."""
        for _ in range(times):
            self.push()
            if not self.changes():
                return
            self.clock.advance(every)
        raise AssertionError(f"still changes: {self.changes()}")

    def state(self, quantities: Mapping[str, int]) -> None:
        """Count SKUs anew: so many are on hand now, open orders included."""
        now = self.clock.now()
        counts = [Count(sku, quantity, now) for sku, quantity in quantities.items()]
        with write_transaction(self.engine) as connection:
            apply_counts(connection, counts, CountSource("count", ()), now=now, run_id="")

    def level(self, sku: str) -> Any:
        query = select(inventory_levels).where(inventory_levels.c.central_sku == sku)
        with self.engine.connect() as connection:
            return connection.execute(query).one()

    def changes(self) -> list[str]:
        query = select(inventory_levels.c.central_sku).where(is_change())
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def logged(self, action: str = "push") -> Sequence[Any]:
        query = select(sync_logs).where(sync_logs.c.action == action).order_by(sync_logs.c.id)
        with self.engine.connect() as connection:
            return connection.execute(query).all()
