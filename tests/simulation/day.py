"""A day of mixed orders on all six platforms: at its end our order lines are the stand-ins' own books, line by line.

Staff and buyers do whatever each platform lets them do with an order; of the webhooks 5 % are lost, 10 % doubled and 10 % up
to four hours late, so that they come in any order. Nothing else fails here: the small world has that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine, select

from invsync_dagster.inventory.tables import central_inventory, order_lines, unclear_orders
from tests.simulation.books import ShopRules
from tests.simulation.built import ERP, MARKETPLACES, SHOPS, START
from tests.simulation.desks import Step, Told, desk_of
from tests.simulation.seeds import Verdict
from tests.simulation.stock import ALIBABA, WOO, is_listed
from tests.simulation.world import SOLD_OUT, World

# By channel, order and line.
Books = dict[tuple[str, str, str], Told]


class Day(World):
    """One day of the world without faults of the network, full of orders that change; `done` counts what was done."""

    def __init__(
        self, seed: int, *, skus: int = 150, orders: int = 180, shops: Mapping[str, ShopRules] = SHOPS | MARKETPLACES
    ) -> None:
        self.done: Counter[str] = Counter()
        super().__init__(seed, skus=skus, orders=orders, days=1.0, shops=shops)
        self.desks = {name: desk_of(shop) for name, shop in self.shops.items()}

    def _plan(self, orders: int, span: timedelta) -> None:
        self.end = START + span
        for _ in range(orders):
            self.at(START + self.rng.uniform(0.01, 0.7) * span, self._buy)
        for _ in range(orders // 10):
            self.at(START + self.rng.uniform(0.01, 0.95) * span, self._erp_event)
        for hour in range(24):
            self.at(START + timedelta(hours=hour, minutes=30), self._cycle)

    def _sku(self) -> str:
        # Not the small world's few wanted ones: nearly every order is to be had, and has a life of its own.
        return self.rng.choice(self.skus)

    def _buy(self) -> None:
        # Two shops are Shopify's, and WooCommerce's orders lead the most varied lives.
        name = self.rng.choice([*self.rules, WOO])
        skus = [sku for sku in (self._sku() for _ in range(12)) if is_listed(name, sku)]
        wanted = {sku: self.rng.choice([1, 1, 2, 3]) for sku in skus[: self.rng.choice([1, 2, 3])]}
        try:
            order = self.desks[name].buy(wanted, self.rng)
        except SOLD_OUT:
            self.tally.refused_orders += 1
            return
        self.tally.orders += 1
        self._post(name)
        self._next(name, order, self.rng.randint(2, 6), "")

    def _next(self, name: str, order: str, steps: int, then: str) -> None:
        if steps or then:
            self.after(self.rng.uniform(120, 5_000), partial(self._change, name, order, steps, then))

    def _change(self, name: str, order: str, steps: int, then: str) -> None:
        possible = [step for step in self.desks[name].steps(order, self.rng) if self._is_there(step)]
        wanted = [step for step in possible if step.name == then] or possible
        if not wanted:
            return
        platform = self.processes[0].channel(name).platform
        # Half of the time what was done least, so that every day has some of everything.
        rarest = min(wanted, key=lambda step: self.done[f"{platform}: {step.name}"])
        step = self.rng.choice([rarest, self.rng.choice(wanted)])
        try:
            step.work()
        except SOLD_OUT:
            self.tally.refused_orders += 1
        else:
            self.done[f"{platform}: {step.name}"] += 1
            if step.name == "trash":
                # WooCommerce leaves its number as it is: whoever restores the order has edited it, so to speak.
                self.edited |= {(name, line.sku) for line in self.shops[name].lines_of(order)}
            for sku, units in step.shelf.items():
                if units < 0:
                    self.erp.ship(sku, -units)
                elif units > 0:
                    self.erp.restock(sku, units)
            self._post(name)
            self._post(ERP)
            then = step.then
        self._next(name, order, max(0, steps - 1), then)

    def _is_there(self, step: Step) -> bool:
        """Tell whether the house has what would be shipped: it may be oversold."""
        return all(self.erp.book(sku).on_hand + units >= 0 for sku, units in step.shelf.items())

    def live(self) -> None:
        """Live through the day, and let what is on its way arrive."""
        self.processes[0].platform(self.processes[0].channel(ALIBABA)).check_credentials()
        self._work_agenda(self.end)
        self.settle()

    def books(self) -> Books:
        """Return the books of all stand-ins: each line by channel, order and line."""
        return {(name, *key): told for name, desk in self.desks.items() for key, told in desk.told().items()}

    def wrong_balances(self) -> Iterator[str]:
        """Yield what differs between the ledger's balances, and the shelf and the open orders of the books."""
        promised: Counter[str] = Counter()
        for told in self.books().values():
            promised[told.sku] += told.left
        with self.engine.connect() as connection:
            for row in connection.execute(select(central_inventory)):
                right = (self.erp.book(row.sku).on_hand, promised[row.sku])
                if (row.quantity, row.reserved_quantity) != right:
                    yield f"{row.sku}: {(row.quantity, row.reserved_quantity)} on hand and reserved, must be {right}"


_UNCLEAR = select(unclear_orders.c.channel, unclear_orders.c.order_id)


def wrong_lines(engine: Engine, books: Books) -> Iterator[str]:
    """Yield what differs between the order lines of a database and books, line by line."""
    with engine.connect() as connection:
        rows = connection.execute(select(order_lines)).all()
        yield from (f"{row.channel} order {row.order_id}: is unclear" for row in connection.execute(_UNCLEAR))
    ours = {(row.channel, row.order_id, row.line_id): row for row in rows}
    for key, told in books.items():
        if key not in ours:
            yield f"{key}: is not there, the books have {told}"
        elif difference := _difference(ours[key], told):
            yield f"{key}: {difference}"
    for key in ours.keys() - books.keys():
        # A line that was taken out of its order.
        row = ours[key]
        if row.ordered != row.cancelled or row.shipped:
            yield f"{key}: is not in the books any more, and is {_totals(row)} here"


def _totals(row: Any) -> tuple[int, ...]:
    return row.ordered, row.cancelled, row.shipped, row.restocked, row.written_off


def _difference(row: Any, told: Told) -> str:
    if row.sku is None and not row.ignored_reason:
        return "is unresolved"
    if row.sku is not None and row.sku != told.sku:
        return f"is {row.sku}, must be {told.sku}"
    if told.known:
        total = told.ordered, told.cancelled, told.shipped, told.restocked, told.written_off
        return "" if _totals(row) == total else f"is {_totals(row)}, must be {total}"
    ours = row.ordered - row.cancelled - row.shipped, row.shipped - row.restocked
    net = told.left, told.shipped - told.restocked
    return "" if ours == net else f"has {ours} to ship and out, must be {net}"


def live_day(seed: int, **size: Any) -> Verdict:
    """Run one day and hold our books against everybody's."""
    day = Day(seed, **size)
    day.live()
    faults = [f"line {text}" for text in wrong_lines(day.engine, day.books())]
    faults += [f"balance {text}" for text in day.wrong_balances()]
    faults += [f"shown: {text}" for text in day.differences(edited_too=False)]
    day.reconcile(WOO)
    faults += [f"shown after its full run: {text}" for text in day.differences(edited_too=True)]
    faults += [f"audit: {text}" for text in day.audit()]
    faults += [f"stale write: {text}" for text in day.tally.violations]
    return Verdict(seed, day.tally, faults, "--day", day.done)
