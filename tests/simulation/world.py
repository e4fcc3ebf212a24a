"""A small world on a virtual clock: shops, marketplaces, an ERP, buyers, a bad network, and our real code between them.

One seed drives everything. Stand-ins keep their own books; `watch` looks at every write of ours while it is made.
"""

from __future__ import annotations

import heapq
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, select

from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.audit_attempts import audit_attempts
from invsync_dagster.inventory.polled import polled_between
from invsync_dagster.inventory.proof import Proof
from invsync_dagster.inventory.tables import inventory_levels, is_change
from invsync_dagster.platforms.alibaba.sandbox_books import AccountError as AlibabaError
from invsync_dagster.platforms.amazon.sandbox_books import AccountError as AmazonError
from invsync_dagster.platforms.doors import KeyedDoor
from invsync_dagster.platforms.ebay.sandbox_books import AccountError as EbayError
from invsync_dagster.platforms.shopify.sandbox_books import ShopError
from invsync_dagster.platforms.transport import Request, TransportError
from invsync_dagster.platforms.woocommerce.sandbox import StoreError
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.faults import Faults, Kind
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.segments import EPOCH, Delivery
from tests.simulation.books import ShopRules
from tests.simulation.built import (
    BAD_NETWORK,
    DEADLINE,
    ERP,
    LINGER,
    SECRETS,
    SHOPS,
    START,
    configuration_of,
    erp_of,
    shop_of,
)
from tests.simulation.processes import SimulatedDeathError, SimulatedWorker, mortal_connections
from tests.simulation.shops import Shop
from tests.simulation.stock import ALIBABA, fresh_stock, is_listed, opening_stock
from tests.simulation.tally import Tally
from tests.simulation.watch import Watch
from tests.simulation.written import written_key

SOLD_OUT = (ShopError, StoreError, EbayError, AlibabaError, AmazonError)


class World:
    """The whole: build it with a seed, `run` it, `settle` it, and ask for `differences`."""

    watches: type[Watch] = Watch

    def __init__(
        self,
        seed: int,
        *,
        skus: int = 300,
        orders: int = 420,
        days: float = 2.0,
        shops: Mapping[str, ShopRules] = SHOPS,
    ) -> None:
        self.seed = seed
        self.rules = dict(shops)
        self.channels = [*shops, ERP]
        # Not a TemporaryDirectory: that one warns when it goes with its world, and a warning fails whichever test is next.
        self.token_folder = tempfile.mkdtemp(prefix="invsync-simulation-")
        # Of `multiprocessing`: a process of a pool ends without calling those of `weakref`.
        Finalize(self, shutil.rmtree, (self.token_folder, True), exitpriority=0)
        self.rng = random.Random(seed)
        self.clock = VirtualClock(START)
        self.tally = Tally()
        self.alive: set[str] = set()
        self.mortal = False
        self.depth = 0
        self.process_number = 0
        self.agenda: list[tuple[datetime, int, Callable[[], None]]] = []
        self.agenda_number = 0
        self.inbox: list[Delivery] = []
        self.receipts = 0
        self.cycle_planned = False
        self.edited: set[tuple[str, str]] = set()
        self.current = ""
        self.skus = [f"SKU-{n:04d}" for n in range(skus)]
        self.engine: Engine = fresh_stock(skus, self.rules, ERP, START)
        self.engine._connection_cls = mortal_connections(lambda: self._maybe_die(0.002))
        self.configuration = configuration_of(self.rules, self.token_folder)
        self.opening = opening_stock(skus)
        self.shops = {name: self._shop(name) for name in self.rules}
        self.erp = erp_of(self.opening, self.clock, self.rng)
        self.faults = {
            name: Faults(random.Random(self.rng.random()), late_seconds=(0.0, LINGER - 1)) for name in self.channels
        }
        self.transports = {
            name: InProcessTransport(
                self.erp.handle if name == ERP else self.shops[name].handle,
                self.clock,
                self.faults[name],
                on_send=partial(self._on_send, name),
            )
            for name in self.channels
        }
        self.processes = [self._process(), self._process()]
        self.watch = self.watches(
            self.engine,
            self.clock,
            self.tally,
            self.rules,
            self.shops,
            {name: self._dead_after(name) for name in self.channels},
        )
        self._plan(orders, timedelta(days=days))

    # --- building ---------------------------------------------------------------------------------------------------

    def _shop(self, name: str) -> Shop:
        shown = {sku: self.rules[name].shows(quantity) for sku, quantity in self.opening.items()}
        return shop_of(name, shown, self.clock, self.rng)

    def _dead_after(self, name: str) -> timedelta:
        ws = self.processes[0]
        limits = ws.platform(ws.channel(name)).limits
        claimed = max(ws.configuration.settings.claim_seconds, 2 * limits.request_deadline)
        return timedelta(seconds=claimed + limits.request_deadline + limits.write_linger)

    def _process(self) -> Workspace:
        self.process_number += 1
        name = f"process-{self.process_number}"
        return Workspace(
            home=Home(root=Path("/"), data=Path("/nowhere"), database_url="", channels_file=Path("/nowhere")),
            configuration=self.configuration,
            engine=self.engine,
            clock=self.clock,
            rng=random.Random(self.rng.random()),
            worker=SimulatedWorker(name, self.alive),
            environ=SECRETS,
            transport=lambda channel: self.transports[channel.name],
        )

    # --- what happens in the world ----------------------------------------------------------------------------------

    def at(self, moment: datetime, action: Callable[[], None]) -> None:
        self.agenda_number += 1
        heapq.heappush(self.agenda, (moment, self.agenda_number, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.clock.now() + timedelta(seconds=seconds), action)

    def _plan(self, orders: int, span: timedelta) -> None:
        self.end = START + span
        seconds = span.total_seconds()
        for _ in range(orders):
            self.at(START + timedelta(seconds=self.rng.uniform(60, seconds)), self._buy)
        for _ in range(orders // 5):
            self.at(START + timedelta(seconds=self.rng.uniform(60, seconds)), self._erp_event)
        for _ in range(6):
            self.at(START + timedelta(seconds=self.rng.uniform(60, seconds)), self._foreign_edit)
        moment = START + timedelta(minutes=1)
        while moment < self.end:
            self.at(moment, self._cycle)
            moment += timedelta(minutes=90)
        # One host is gone for an hour: what it misses is made up for, and the others don't wait.
        gone = self.faults[self.channels[self.seed % len(self.channels)]]
        self.at(START + span / 4, partial(gone.set_rates, {Kind.REFUSE: 1.0}))
        self.at(START + min(span / 4 + timedelta(hours=1), span), partial(gone.set_rates, BAD_NETWORK))

    def _sku(self) -> str:
        # A tenth of the goods gets most of the demand, so that some run out.
        hot = self.rng.random() < 0.7
        return self.rng.choice(self.skus[: len(self.skus) // 10] if hot else self.skus)

    def _buy(self) -> None:
        name = self.rng.choice(list(self.rules))
        skus = [sku for sku in (self._sku() for _ in range(12)) if is_listed(name, sku)]
        wanted = {sku: self.rng.choice([1, 1, 1, 2]) for sku in skus[: self.rng.choice([1, 1, 2])]}
        try:
            order = self.shops[name].sell(wanted)
        except SOLD_OUT:
            self.tally.refused_orders += 1
            return
        self.tally.orders += 1
        self._post(name)
        fate = self.rng.random()
        if fate < 0.12:
            self.after(self.rng.uniform(30, 20_000), lambda: self._cancel(name, order))
        elif fate < 0.75:
            self.after(self.rng.uniform(600, 60_000), lambda: self._ship(name, order))

    def _cancel(self, name: str, order: str) -> None:
        self.shops[name].cancel(order)
        self.tally.cancels += 1
        self._post(name)

    def _ship(self, name: str, order: str) -> None:
        lines = [(line.sku, line.unshipped) for line in self.shops[name].lines_of(order)]
        if any(self.erp.book(sku).on_hand < quantity for sku, quantity in lines):
            self._cancel(name, order)  # oversold: the seller writes an apology
            return
        self.shops[name].fulfil(order)
        for sku, quantity in lines:
            self.erp.ship(sku, quantity)
        self.tally.shipments += 1
        self._post(name)
        self._post(ERP)
        if self.rng.random() < 0.12:
            self.after(self.rng.uniform(600, 40_000), lambda: self._refund(name, order))

    def _refund(self, name: str, order: str) -> None:
        line = self.shops[name].lines_of(order)[0]
        comes_back = self.rng.random() < 0.6
        self.shops[name].send_back(order, line.line_id, restock=comes_back)
        if comes_back:
            self.erp.adjust(line.sku, 1)
        self.tally.refunds += 1
        self._post(name)
        self._post(ERP)

    def _erp_event(self) -> None:
        sku = self._sku()
        kind = self.rng.random()
        if kind < 0.4:
            self.erp.sell(sku, 1)
        elif kind < 0.8:
            self.erp.restock(sku, self.rng.randint(1, 12))
        elif self.erp.book(sku).on_hand > 0:
            self.erp.adjust(sku, -1)
        self.tally.erp_events += 1
        self._post(ERP)

    def _foreign_edit(self) -> None:
        name, sku = self.rng.choice(list(self.rules)), self.rng.choice(self.skus)
        if not is_listed(name, sku):
            return
        self.shops[name].edit(sku, self.rng.randint(0, 30))
        self.edited.add((name, sku))
        self.tally.edits += 1

    # --- the network of webhooks ------------------------------------------------------------------------------------

    def _post(self, name: str) -> None:
        standin = self.erp if name == ERP else self.shops[name]
        outgoing = [(dict(each.headers), each.body) for each in standin.take_outgoing()]
        for headers, body in outgoing:
            fate = self.rng.random()
            copies = 1
            if fate < 0.05:
                self.tally.webhooks_lost += 1
                continue
            if fate < 0.15:
                self.tally.webhooks_doubled += 1
                copies = 2
            for _ in range(copies):
                late = self.rng.random() < 0.1
                self.tally.webhooks_late += late
                delay = self.rng.uniform(60, 14_000) if late else self.rng.uniform(0.1, 8)
                self.after(delay, lambda h=headers, b=body: self._deliver(name, h, b))  # type: ignore[misc]

    def _deliver(self, name: str, headers: dict[str, str], body: bytes) -> None:
        now = self.clock.now()
        if name == ERP:
            headers = self.erp.signed(headers, body)
        lower = {key.lower(): value for key, value in headers.items()}
        door = self.processes[0].door(self.processes[0].channel(name))
        if isinstance(door, KeyedDoor) and (key := door.wanted_key(lower, now)):
            door.fetch_key(key, InProcessTransport(self.shops[name].handle, self.clock, Faults(random.Random(0))), now)
        door.verify(lower, body, now)
        self.receipts += 1
        self.inbox.append(Delivery(name, door.topic(lower, body), now, lower, body, f"seg:{self.receipts}"))
        if not self.cycle_planned:
            self.cycle_planned = True
            self.after(self.rng.choice([5, 1800, 5400]), self._cycle)

    # --- our processes ----------------------------------------------------------------------------------------------

    def _cycle(self) -> None:
        self.cycle_planned = False
        self.run_process(0)

    def run_process(self, number: int) -> None:
        """Run one incremental cycle of one process; it may die anywhere, and is then replaced."""
        ws = self.processes[number]
        before, self.current = self.current, ws.worker.name
        self.depth += 1
        self.tally.cycles += 1
        try:
            self._intake(ws)
            names = self.channels[:]
            self.rng.shuffle(names)
            for name in names:
                deadline = self.clock.now() + timedelta(seconds=self.configuration.settings.push_deadline_seconds)
                push_channel(ws, name, run_id=f"run-{self.tally.cycles}", deadline=deadline)
        except SimulatedDeathError:
            self.tally.deaths += 1
            self.alive.discard(ws.worker.name)
            self.watch.over(ws.worker.name)
            self.processes[number] = self._process()
        finally:
            self.depth -= 1
            self.current = before

    def _intake(self, ws: Workspace) -> None:
        taken = list(self.inbox)
        if taken:
            apply_deliveries(ws, taken, IntakeReport(), run_id="")
            if self.mortal and self.rng.random() < 0.02:
                raise SimulatedDeathError  # applied, and the segment not yet moved: it is applied again
            done = {item.receipt_id for item in taken}
            self.inbox = [item for item in self.inbox if item.receipt_id not in done]

    def _maybe_die(self, share: float) -> None:
        if self.mortal and self.depth and self.rng.random() < share:
            raise SimulatedDeathError

    def _on_send(self, channel: str, when: Literal["before", "after"], request: Request) -> None:
        key = written_key(request)
        if key is not None:
            if when == "before":
                self.watch.sent(channel, key, request, self.current, self.alive)
            else:
                self.watch.over(self.current)
        if when == "before" and self.mortal and self.depth == 1 and self.rng.random() < 0.01:
            # Another process works while this request is on its way.
            self.tally.side_by_side += 1
            found = self.clock.advance(self.rng.choice([0.5, 5.0, 200.0]))
            self.run_process(1)
            if self.clock.now() - found > timedelta(seconds=DEADLINE + LINGER):
                # The other may have taken its claims over, and waited for as long as the platform says that it can land.
                self.watch.over(self.current)
                raise TransportError("the process stood still until its request was dead", sent=True)
        self._maybe_die(0.004)

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live through the planned time with a bad network and deaths."""
        if ALIBABA in self.shops:
            self.processes[0].platform(self.processes[0].channel(ALIBABA)).check_credentials()  # its one renewal
        for faults in self.faults.values():
            faults.set_rates(BAD_NETWORK)
        self.mortal = True
        self._work_agenda(self.end)
        self.mortal = False
        for faults in self.faults.values():
            faults.clear()

    def settle(self, cycles: int = 30) -> None:
        """Let the rest of the webhooks arrive and run incremental cycles, every five minutes, on a good network."""
        self._work_agenda(None)
        for _ in range(cycles):
            self.clock.advance(300)
            for name, transport in self.transports.items():
                transport.land_due(self.clock.now())
                self._post(name)
            self._work_agenda(self.clock.now())
            self.run_process(0)
            if not self.out_of_step():
                return

    def reconcile(self, name: str) -> None:
        """Run all batches of a channel's full run."""
        for batch in range(self.configuration.settings.sku_batches):
            report = full_sync(self.processes[0], name, batch, run_id="full")
            assert not report.traceback, report.traceback

    def audit(self) -> list[str]:
        """Return what doesn't add up in our own books, or isn't what polls have told."""
        proof, until = Proof(), self.clock.now() + timedelta(days=1)
        with self.engine.connect() as connection:
            for rows in polled_between(connection, EPOCH, until, ""):
                proof.take_polled(connection, rows)
            told = proof.result(connection, EPOCH, until, "").contradictions
            return [str(problem) for problem in (*audit(connection), *audit_attempts(connection), *told)]

    def _work_agenda(self, until: datetime | None) -> None:
        while self.agenda and (until is None or self.agenda[0][0] <= until):
            moment, _, action = heapq.heappop(self.agenda)
            self._land_until(moment)
            self.clock.advance_to(moment)
            action()

    def _land_until(self, moment: datetime) -> None:
        """Let what is late land when it is due: a platform that works on it later counts from then."""
        while True:
            due = [(at, name) for name, each in self.transports.items() if (at := each.next_landing) and at <= moment]
            if not due:
                return
            at, name = min(due)
            self.clock.advance_to(at)
            self.transports[name].land_due(at)

    def out_of_step(self) -> int:
        """Return how many levels our own tables call a change."""
        with self.engine.connect() as connection:
            return len(connection.execute(select(inventory_levels.c.id).where(is_change())).all())

    def differences(self, *, edited_too: bool) -> list[str]:
        """Compare what each stand-in shows with what its books and everybody's open orders allow, row by row."""
        reserved: dict[str, int] = dict.fromkeys(self.skus, 0)
        for shop in self.shops.values():
            for order in shop.open_orders():
                for line in shop.lines_of(order):
                    reserved[line.sku] += line.unshipped
        wrong = []
        for name in self.channels:
            rules = self.rules.get(name, ShopRules())
            shown = (
                {sku: article["available_quantity"] for sku, article in self.erp.books().items()}
                if name == ERP
                else self.shops[name].shows()
            )
            for sku, number in shown.items():
                if not edited_too and (name, sku) in self.edited:
                    continue
                right = rules.shows(self.erp.book(sku).on_hand - reserved[sku])
                if number != right:
                    wrong.append(f"{name} {sku}: shows {number}, must show {right}")
        return wrong
