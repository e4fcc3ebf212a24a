"""Counts and orders in any arrival against a model that knows the shelf: what was counted last, and what moved since."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from invsync_dagster.events import OrderDocument
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from tests import databases
from tests.unit.inventory.stock import OTHER, SHOP, Stock, at, order

EXAMPLES = {"sqlite": 120, "postgresql": 15}  # a statement costs a server ten times as much
LAG = 3  # minutes by which the source that contains the shop's orders books them late


@dataclass
class Sold:
    """One order as its channel knows it, minute by minute."""

    channel: str
    order_id: str
    ordered: int
    created: int
    cancelled_at: int | None = None
    shipped: list[tuple[int, float]] = field(default_factory=list)
    restocked: list[tuple[int, float]] = field(default_factory=list)
    revision: int = 1

    def open_units(self, minute: float) -> int:
        if self.created > minute or (self.cancelled_at is not None and self.cancelled_at <= minute):
            return 0
        return self.ordered - sum(units for units, when in self.shipped if when <= minute)

    def document(self, now: int) -> OrderDocument:
        cancelled = self.ordered if self.cancelled_at is not None else 0
        return order(
            self.order_id,
            revision=self.revision,
            item=f"{self.channel}-A",
            ordered=self.ordered,
            cancelled=cancelled,
            shipped=tuple(self.shipped),
            restocked=tuple(self.restocked),
            created=self.created,
            updated=now,
        )


class Warehouse(RuleBasedStateMachine):
    """The shelf is what it is; what we hear of it comes late, twice and in any order."""

    @initialize(quantity=st.integers(5, 30))
    def open(self, quantity: int) -> None:
        self.stock = Stock({"A": quantity})
        self.shelf = quantity
        self.minute = 0
        self.orders: list[Sold] = []
        self.post: list[tuple[str, OrderDocument] | tuple[Count, CountSource]] = []
        self.last_count = (-30.0, 0)  # its minute, and what has vanished unseen since

    def tick(self) -> int:
        self.minute += 1
        return self.minute

    def write(self, sold: Sold) -> None:
        self.post.append((sold.channel, sold.document(self.minute)))

    @rule(channel=st.sampled_from([SHOP, OTHER]), units=st.integers(1, 4))
    def sell(self, channel: str, units: int) -> None:
        sold = Sold(channel, str(len(self.orders)), units, self.tick())
        self.orders.append(sold)
        self.write(sold)

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), units=st.integers(1, 4))
    def ship(self, data: st.DataObject, units: int) -> None:
        sold = data.draw(st.sampled_from(self.orders))
        units = min(units, sold.open_units(self.minute))
        if units:
            sold.shipped.append((units, self.tick()))
            sold.revision += 1
            self.shelf -= units
            self.write(sold)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        sold = data.draw(st.sampled_from(self.orders))
        if sold.cancelled_at is None and not sold.shipped:
            sold.cancelled_at = self.tick()
            sold.revision += 1
            self.write(sold)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        sold = data.draw(st.sampled_from(self.orders))
        if sum(units for units, _ in sold.shipped) > sum(units for units, _ in sold.restocked):
            sold.restocked.append((1, self.tick()))
            sold.revision += 1
            self.shelf += 1
            self.write(sold)

    @rule(units=st.integers(-3, 3))
    def vanish_or_turn_up(self, units: int) -> None:
        """Nobody tells us; only the next count sees it."""
        self.shelf += units
        self.last_count = (self.last_count[0], self.last_count[1] + units)

    @rule(basis=st.sampled_from(["on_hand", "available"]), lags=st.booleans())
    def take_count(self, basis: str, lags: bool) -> None:
        """A source that contains the shop's orders says what it has; one that lags doesn't know their newest yet."""
        minute = self.tick()
        known = minute - (LAG if lags else 0)
        of_shop = [sold for sold in self.orders if sold.channel == SHOP]
        quantity = self.shelf + sum(units for sold in of_shop for units, when in sold.shipped if when > known)
        if basis == "available":
            quantity -= sum(sold.open_units(known) for sold in of_shop)
        source = CountSource("wms", (SHOP,), 60.0 * LAG if lags else 0.0)
        self.post.append((Count("A", quantity, at(minute), basis), source))  # type: ignore[arg-type]
        self.last_count = (minute, 0)

    @precondition(lambda self: self.post)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, again: bool) -> None:
        item = data.draw(st.sampled_from(self.post))
        self.receive(item)
        if not again:
            self.post.remove(item)

    def receive(self, item: tuple[str, OrderDocument] | tuple[Count, CountSource]) -> None:
        what, rest = item
        if isinstance(what, Count):
            assert isinstance(rest, CountSource)
            with write_transaction(self.stock.engine) as connection:
                apply_counts(connection, [what], rest, now=self.stock.now, run_id="run")
        else:
            assert isinstance(rest, OrderDocument)
            self.stock.apply(rest, channel=what)

    def teardown(self) -> None:
        if not hasattr(self, "stock"):
            return
        for item in reversed(self.post):
            self.receive(item)
        for sold in self.orders:
            self.receive((sold.channel, sold.document(self.minute)))
        _, unseen = self.last_count
        promised = sum(sold.open_units(self.minute) for sold in self.orders)
        assert self.stock.balance() == (self.shelf - unseen, promised)
        assert self.stock.level(OTHER).desired == max(0, self.shelf - unseen - promised)
        self.stock.prove()
        self.stock.close()


@pytest.mark.parametrize("kind", databases.KINDS)
def test_counts_and_orders_in_any_arrival_end_in_what_is_on_the_shelf(kind: str) -> None:
    databases.use(kind)
    try:
        run_state_machine_as_test(Warehouse, settings=settings(max_examples=EXAMPLES[kind], stateful_step_count=25))
    finally:
        databases.use("sqlite")
