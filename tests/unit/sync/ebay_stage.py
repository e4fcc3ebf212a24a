"""An eBay account with a few SKUs, and our real code between it and the stock, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select

from invsync_dagster.inventory.tables import unclear_orders
from invsync_dagster.platforms.doors import KeyedDoor
from invsync_dagster.platforms.ebay.sandbox import EbaySandbox
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.report import PushReport
from invsync_dagster.webhooks.segments import Delivery
from tests.contract.ebay_harness import CLIENT_ID, CLIENT_SECRET, REFRESH, SECRETS, SETTINGS
from tests.unit.sync.stage import Stage

NAME = "ebay_main"
ENVIRON = {SETTINGS[field]: secret for field, secret in SECRETS.items()}


class EbayStage(Stage):
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
        super().__init__()
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
        self.asked: list[str] = []
        self.instead: dict[str, Response] = {}
        self.transport = InProcessTransport(self._handle, self.clock)
        self.connect(NAME, stock, self.levels, lambda: self.transport, SETTINGS, ENVIRON, limits=limits)
        self._receipts = 0

    def _handle(self, request: Request) -> Response:
        """Note which call is asked for, and answer it, once with what `instead` has for it."""
        call = urlsplit(request.url).path.rpartition("/")[2]
        self.asked.append(call)
        answer = self.account.handle(request)
        return self.instead.pop(call, answer)

    def offers_asked(self) -> int:
        """Count the questions for the offers of a SKU since the last time."""
        asked, self.asked[:] = self.asked.count("offer"), []
        return asked

    def count(self, sku: str, quantity: int) -> PushReport:
        """Count the stock anew, a second later, and push."""
        return self.count_all({sku: quantity})

    def count_all(self, quantities: Mapping[str, int]) -> PushReport:
        """Count several SKUs anew, a second later, and push."""
        self.clock.advance(1)
        self.state(quantities)
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

    def shown(self, sku: str) -> int:
        return self.account.shown(self.levels[sku])

    def unclear(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(unclear_orders.c.order_id)).scalars())
