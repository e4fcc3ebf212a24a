"""An eBay account with a few SKUs, and our real code between it and the stock, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
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
from invsync_dagster.inventory.tables import inventory_levels, sync_logs, unclear_orders
from invsync_dagster.platforms.doors import KeyedDoor
from invsync_dagster.platforms.ebay.sandbox import EbaySandbox
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.segments import Delivery
from tests import databases
from tests.contract.ebay_harness import CLIENT_ID, CLIENT_SECRET, REFRESH, SECRETS, SETTINGS
from tests.simulation.built import START
from tests.simulation.processes import SimulatedWorker

NAME = "ebay_main"
ENVIRON = {SETTINGS[field]: secret for field, secret in SECRETS.items()}


class EbayStage:
    """`account` is the stand-in, `push` one incremental push of ours; every SKU is mapped and the first push approved."""

    def __init__(
        self,
        stock: Mapping[str, int],
        *,
        limits: Mapping[str, float] | None = None,
        own: bool = False,
        listing: str = "",
        **sandbox: Any,
    ) -> None:
        self.clock = VirtualClock(START)
        self.engine = engine = databases.fresh_engine()
        self.account = EbaySandbox(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            refresh_token=REFRESH,
            clock=self.clock,
            random=random.Random(3),
            **sandbox,
        )
        self.levels = {
            sku: self.account.add_item(sku, quantity, own=own, listing=listing) for sku, quantity in stock.items()
        }
        now = self.clock.now()
        by: dict[str, Any] = {"actor": "test", "reason": "opening stock", "now": now}
        with write_transaction(engine) as connection:
            registry.register(connection, NAME, "ebay", "sandbox", True, Rules(), now, now)
            set_skus(connection, [Sku(sku) for sku in stock], **by)
            counts = [Count(sku, quantity, now) for sku, quantity in stock.items()]
            apply_counts(connection, counts, CountSource("opening", (NAME,)), now=now, run_id="")
            listings = [
                Listing(NAME, sku, level.item_id, level.location_id, platform_sku=sku)
                for sku, level in self.levels.items()
            ]
            set_listings(connection, listings, **by)
            registry.approve_first_push(connection, NAME, **by)
        self.transport = InProcessTransport(self.account.handle, self.clock)
        settings = VENDORS["ebay"].settings.model_validate(SETTINGS)
        channel = Channel(
            name=NAME, platform="ebay", environment="sandbox", settings=settings, limits=dict(limits or {})
        )
        self.ws = Workspace(
            home=Home(root=Path("/"), data=Path("/nowhere"), database_url="", channels_file=Path("/nowhere")),
            configuration=Configuration(settings=Settings(claim_seconds=120), channels=(channel,)),
            engine=engine,
            clock=self.clock,
            rng=random.Random(5),
            worker=SimulatedWorker("process-1", set()),
            environ=ENVIRON,
            transport=lambda _channel: self.transport,
        )
        self._receipts = 0

    def push(self) -> PushReport:
        """Push once."""
        return push_channel(self.ws, NAME, run_id="run", deadline=self.clock.now() + timedelta(seconds=20))

    def count(self, sku: str, quantity: int) -> PushReport:
        """Count the stock anew, a second later, and push."""
        return self.count_all({sku: quantity})

    def count_all(self, quantities: Mapping[str, int]) -> PushReport:
        """Count several SKUs anew, a second later, and push."""
        self.clock.advance(1)
        now = self.clock.now()
        with write_transaction(self.engine) as connection:
            counts = [Count(sku, quantity, now) for sku, quantity in quantities.items()]
            apply_counts(connection, counts, CountSource("count", ()), now=now, run_id="")
        return self.push()

    def deliver(self) -> IntakeReport:
        """Bring the account's notifications through our door into the inbox's work."""
        report = IntakeReport()
        deliveries = []
        door, now = self.ws.door(self.ws.channel(NAME)), self.clock.now()
        for sent in self.account.take_outgoing():
            headers = {name.lower(): value for name, value in sent.headers.items()}
            assert isinstance(door, KeyedDoor)
            if key := door.wanted_key(headers, now):
                door.fetch_key(key, self.transport, now)
            door.verify(headers, sent.body, now)
            self._receipts += 1
            topic = door.topic(headers, sent.body)
            deliveries.append(Delivery(NAME, topic, now, headers, sent.body, f"receipt:{self._receipts}"))
        apply_deliveries(self.ws, deliveries, report, run_id="intake")
        return report

    def level(self, sku: str) -> Any:
        query = select(inventory_levels).where(inventory_levels.c.item_id == sku)
        with self.engine.connect() as connection:
            return connection.execute(query).one()

    def shown(self, sku: str) -> int:
        return self.account.shown(self.levels[sku])

    def unclear(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(unclear_orders.c.order_id)).scalars())

    def logged(self) -> Sequence[Any]:
        query = select(sync_logs).where(sync_logs.c.action == "push").order_by(sync_logs.c.id)
        with self.engine.connect() as connection:
            return connection.execute(query).all()
