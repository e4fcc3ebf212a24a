"""An Amazon account with a few SKUs, and our real code between it and the stock, on a virtual clock."""

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
from invsync_dagster.inventory.tables import inventory_levels, is_change, sync_logs
from invsync_dagster.platforms.amazon.sandbox import AmazonSandbox
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.faults import Faults
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.segments import Delivery
from tests import databases
from tests.contract.amazon_harness import CLIENT_ID, CLIENT_SECRET, FIRST, KEY, REFRESH, SELLER
from tests.simulation.built import START
from tests.simulation.processes import SimulatedWorker

NAME = "amazon_eu"
ENVIRON = {"I": CLIENT_ID, "C": CLIENT_SECRET, "R": REFRESH, "W": KEY}


class AmazonStage:
    """`account` is the stand-in, `push` one incremental push of ours; every SKU is mapped and the first push approved."""

    def __init__(
        self, stock: Mapping[str, int], shown: Mapping[str, int], *, processing_seconds: float = 60.0, **settings: Any
    ) -> None:
        self.clock = VirtualClock(START)
        self.engine = engine = databases.fresh_engine()
        self.account = AmazonSandbox(
            seller_id=SELLER,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            refresh_token=REFRESH,
            notification_key=KEY,
            clock=self.clock,
            marketplaces=(FIRST,),
            processing_seconds=processing_seconds,
        )
        for sku, quantity in shown.items():
            self.account.add_item(sku, quantity)
        now = self.clock.now()
        by: dict[str, Any] = {"actor": "test", "reason": "opening stock", "now": now}
        with write_transaction(engine) as connection:
            registry.register(connection, NAME, "amazon", "sandbox", True, Rules(), now, now)
            set_skus(connection, [Sku(sku) for sku in stock], **by)
            counts = [Count(sku, quantity, now) for sku, quantity in stock.items()]
            apply_counts(connection, counts, CountSource("opening", (NAME,)), now=now, run_id="")
            set_listings(connection, [Listing(NAME, sku, sku, platform_sku=sku) for sku in stock], **by)
            registry.approve_first_push(connection, NAME, **by)
        self.faults = Faults(random.Random(1))
        self.transport = InProcessTransport(self.account.handle, self.clock, self.faults)
        model = VENDORS["amazon"].settings.model_validate(
            {
                "region": "eu",
                "seller_id": SELLER,
                "marketplaces": ["DE"],
                "client_id_env": "I",
                "client_secret_env": "C",
                "refresh_token_env": "R",
                "webhook_secret_env": "W",
            }
            | settings
        )
        channel = Channel(name=NAME, platform="amazon", environment="sandbox", settings=model)
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

    def push(self, seconds: float = 20, skus: Sequence[str] | None = None) -> PushReport:
        """Push once, with a deadline for new claims."""
        deadline = self.clock.now() + timedelta(seconds=seconds)
        return push_channel(self.ws, NAME, run_id="run", deadline=deadline, skus=skus)

    def pushes(self, minutes: float) -> list[PushReport]:
        """Push every minute, for so long."""
        reports = []
        for _ in range(int(minutes)):
            self.clock.advance(60)
            reports.append(self.push())
        return reports

    def settle(self) -> None:
        """Push until nothing is a change any more."""
        for _ in range(40):
            self.push()
            if not self.changes():
                return
            self.clock.advance(60)
        raise AssertionError(f"still changes: {self.changes()}")

    def settle_for(self, seconds: float) -> None:
        """Push now, and once more after so long."""
        self.push()
        self.clock.advance(seconds)
        self.push()

    def count(self, sku: str, quantity: int) -> None:
        """Count the stock anew: `quantity` are on hand now, open orders included."""
        now = self.clock.now()
        with write_transaction(self.engine) as connection:
            apply_counts(connection, [Count(sku, quantity, now)], CountSource("count", ()), now=now, run_id="")

    def deliver(self) -> IntakeReport:
        """Bring the account's notifications through our door into the ledger."""
        report = IntakeReport()
        deliveries = []
        for sent in self.account.take_outgoing():
            headers = {name.lower(): value for name, value in sent.headers.items()}
            door = self.ws.door(self.ws.channel(NAME))
            door.verify(headers, sent.body, self.clock.now())
            self._receipts += 1
            topic = door.topic(headers, sent.body)
            now = self.clock.now()
            deliveries.append(Delivery(NAME, topic, now, headers, sent.body, f"receipt:{self._receipts}"))
        apply_deliveries(self.ws, deliveries, report, run_id="intake")
        return report

    def level(self, sku: str) -> Any:
        query = select(inventory_levels).where(inventory_levels.c.item_id == sku)
        with self.engine.connect() as connection:
            return connection.execute(query).one()

    def shown(self, sku: str) -> int | None:
        return self.account.item(sku).quantity

    def changes(self) -> list[str]:
        query = select(inventory_levels.c.item_id).where(is_change())
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def logged(self, action: str = "push") -> Sequence[Any]:
        query = select(sync_logs).where(sync_logs.c.action == action).order_by(sync_logs.c.id)
        with self.engine.connect() as connection:
            return connection.execute(query).all()
