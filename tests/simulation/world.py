"""A small world on a virtual clock: three shops, an ERP, buyers, a bad network, and our real code between them.

One seed drives everything. Stand-ins keep their own books; `checks` watches every request of ours while it is made.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, event, select

from invsync_dagster.channels import Channel, Configuration, Rules
from invsync_dagster.inventory.tables import central_inventory, inventory_levels
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.faults import Faults, Kind
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.segments import Delivery, Received
from tests.simulation.books import ShopRules
from tests.simulation.stock import fresh_stock

START = datetime(2026, 3, 2, tzinfo=UTC)
SHOPS = {
    "shop_main": ShopRules(),
    "shop_outlet": ShopRules(buffer=1, maximum=20),
    "shop_eu": ShopRules(percent=80, minimum=2),
}
ERP = "erp_main"
CHANNELS = [*SHOPS, ERP]
LINGER = 60.0

BAD_NETWORK = {
    Kind.REFUSE: 0.02,
    Kind.TIMEOUT_BEFORE: 0.01,
    Kind.TIMEOUT_AFTER: 0.02,
    Kind.LATE: 0.02,
    Kind.CUT_BEFORE: 0.01,
    Kind.CUT_AFTER: 0.02,
    Kind.THROTTLE: 0.02,
    Kind.THROTTLE_SILENT: 0.01,
    Kind.ERROR_500: 0.01,
    Kind.ERROR_502: 0.01,
    Kind.ERROR_503: 0.01,
    Kind.ERROR_504: 0.01,
    Kind.MALFORMED: 0.01,
}


class SimulatedDeathError(BaseException):
    """`kill -9` of one process; not an Exception, so that no handler of ours can survive it."""


class SimulatedWorker:
    """A process identity whose life the world decides."""

    def __init__(self, name: str, alive: set[str]) -> None:
        self._name, self._alive = name, alive
        alive.add(name)

    @property
    def name(self) -> str:
        return self._name

    def is_alive(self, name: str) -> bool:
        return name in self._alive


@dataclass
class Tally:
    """What happened, so that a test can assert that enough did."""

    orders: int = 0
    refused_orders: int = 0
    cancels: int = 0
    shipments: int = 0
    refunds: int = 0
    edits: int = 0
    erp_events: int = 0
    webhooks_lost: int = 0
    webhooks_doubled: int = 0
    webhooks_late: int = 0
    deaths: int = 0
    side_by_side: int = 0
    writes: int = 0
    cycles: int = 0
    violations: list[str] = field(default_factory=list)


class World:
    """The whole: build it with a seed, `run` it, `settle` it, and ask for `differences`."""

    def __init__(self, seed: int, *, skus: int = 300, orders: int = 330, days: float = 2.0) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = VirtualClock(START)
        self.tally = Tally()
        self.alive: set[str] = set()
        self.mortal = False
        self.depth = 0
        self.process_number = 0
        self.agenda: list[tuple[datetime, int, Callable[[], None]]] = []
        self.agenda_number = 0
        self.inbox: list[Received] = []
        self.receipts = 0
        self.cycle_planned = False
        self.edited: set[tuple[str, str]] = set()
        self.in_flight: dict[int, str] = {}
        self.last_attempt: dict[int, int] = {}
        self.current = ""
        self.skus = [f"SKU-{n:04d}" for n in range(skus)]
        self.engine: Engine = fresh_stock(self)
        event.listen(self.engine, "commit", lambda _connection: self._maybe_die(0.002))
        self.configuration = self._configuration()
        self.shops = {name: self._shop(name) for name in SHOPS}
        self.erp = self._erp()
        self.faults = {name: Faults(random.Random(self.rng.random()), late_seconds=(0.0, LINGER - 1)) for name in CHANNELS}
        self.transports = {
            name: InProcessTransport(
                self.erp.handle if name == ERP else self.shops[name].handle,
                self.clock,
                self.faults[name],
                on_send=lambda when, request, channel=name: self._on_send(channel, when, request),
            )
            for name in CHANNELS
        }
        self.processes = [self._process(), self._process()]
        self._plan(orders, timedelta(days=days))
