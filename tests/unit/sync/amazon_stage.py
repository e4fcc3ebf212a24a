"""An Amazon account with a few SKUs, and our real code between it and the stock, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.amazon.sandbox import AmazonSandbox
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.sandbox.faults import Faults
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.report import PushReport
from invsync_dagster.webhooks.segments import Delivery
from tests.contract.amazon_harness import CLIENT_ID, CLIENT_SECRET, FIRST, KEY, REFRESH, SELLER
from tests.unit.sync.stage import Stage

NAME = "amazon_eu"
ENVIRON = {"I": CLIENT_ID, "C": CLIENT_SECRET, "R": REFRESH, "W": KEY}


class AmazonStage(Stage):
    """`account` is the stand-in, `push` one incremental push of ours; every SKU is mapped and the first push approved."""

    def __init__(
        self, stock: Mapping[str, int], shown: Mapping[str, int], *, processing_seconds: float = 60.0, **settings: Any
    ) -> None:
        super().__init__()
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
        self.faults = Faults(random.Random(1))
        self.transport = InProcessTransport(self.account.handle, self.clock, self.faults)
        given = {
            "region": "eu",
            "seller_id": SELLER,
            "marketplaces": ["DE"],
            "client_id_env": "I",
            "client_secret_env": "C",
            "refresh_token_env": "R",
            "webhook_secret_env": "W",
        }
        levels = {sku: LevelReference(sku) for sku in stock}
        self.connect(NAME, stock, levels, lambda: self.transport, given | settings, ENVIRON)
        self._receipts = 0

    def pushes(self, minutes: float) -> list[PushReport]:
        """Push every minute, for so long."""
        reports = []
        for _ in range(int(minutes)):
            self.clock.advance(60)
            reports.append(self.push())
        return reports

    def settle_for(self, seconds: float) -> None:
        """Push now, and once more after so long."""
        self.push()
        self.clock.advance(seconds)
        self.push()

    def count(self, sku: str, quantity: int) -> None:
        """Count the stock anew: `quantity` are on hand now, open orders included."""
        self.state({sku: quantity})

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

    def shown(self, sku: str) -> int | None:
        return self.account.item(sku).quantity
