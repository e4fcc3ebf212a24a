"""Feeds among sales, cancels, counts, deaths and rows that fail, against a model of shelf and orders: both end at one number."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from invsync_dagster.platforms.amazon import client, feeds
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sandbox.faults import Fault, Kind
from tests import databases
from tests.simulation.processes import SimulatedDeathError, SimulatedWorker
from tests.unit.sync.amazon_stage import AmazonStage
from tests.unit.sync.test_bulk import SKUS, SMALL, in_step

EXAMPLES = {"sqlite": 40, "postgresql": 6}  # an example takes 0.3 s, on a server three times that
STOCK, LEAST = 50, 25  # a shelf that is never sold out: what can't be sold isn't what is tried here
QUIET_MINUTES = 150  # a feed that nobody can ask for is waited for an hour


class Seller(RuleBasedStateMachine):
    """An account that takes most numbers by feeds, whose rows fail at random, and whose notices come late or never."""

    @initialize(
        feed_seconds=st.sampled_from([60.0, 300.0, 900.0]),
        shows_items=st.booleans(),
        sold=st.lists(st.integers(0, 6), min_size=len(SKUS), max_size=len(SKUS)),
    )
    def open(self, feed_seconds: float, shows_items: bool, sold: list[int]) -> None:
        self.stage: AmazonStage = in_step(feed_seconds=feed_seconds)
        self.stage.account.feeds.shows_items = shows_items
        self.shelf = dict.fromkeys(SKUS, STOCK)
        self.orders: dict[str, tuple[str, int]] = {}
        self.spoiled: set[str] = set()
        self.pushes = 0
        for sku, units in zip(SKUS, sold, strict=True):
            if units:
                self.buy(sku, units)
        self.stage.deliver()
        self.stage.settle()
        self.stage.clock.advance(900)

    def available(self, sku: str) -> int:
        return self.shelf[sku] - sum(units for of, units in self.orders.values() if of == sku)

    @rule(moves=st.lists(st.integers(-10, 10), min_size=len(SKUS), max_size=len(SKUS)))
    def count_everything(self, moves: list[int]) -> None:
        """So much at once that it goes by a feed."""
        for sku, units in zip(SKUS, moves, strict=True):
            self.count(sku, units)
        self.stage.push()

    @rule(sku=st.sampled_from(SKUS), units=st.integers(-8, 8))
    def count(self, sku: str, units: int) -> None:
        self.shelf[sku] = max(LEAST, self.shelf[sku] + units)
        self.stage.clock.advance(0.5)
        self.stage.count(sku, self.shelf[sku])

    @rule(sku=st.sampled_from(SKUS), units=st.integers(1, 6))
    def buy(self, sku: str, units: int) -> None:
        if (self.stage.shown(sku) or 0) >= units:
            self.orders[self.stage.account.buy({sku: units})] = (sku, units)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(sorted(self.orders)))
        self.stage.account.cancel(order)
        del self.orders[order]

    @rule()
    def hear(self) -> None:
        self.stage.deliver()

    @rule()
    def lose_the_notices(self) -> None:
        self.stage.account.take_outgoing()

    @rule(every=st.integers(1, 3))
    def spoil_rows(self, every: int) -> None:
        """Every so many-th row of the feeds that are taken fails, each feed's once."""
        for feed in self.stage.account.feeds.feeds.values():
            document = self.stage.account.feeds._documents[feed.document]
            if feed.document in self.spoiled or not document.body:
                continue
            self.spoiled.add(feed.document)
            parsed = json.loads(document.body)
            for message in parsed["messages"][::every]:
                message["patches"][0]["value"][0]["quantity"] = "forty"
            document.body = json.dumps(parsed)

    @rule(seconds=st.sampled_from([1, 2, 20, 61, 130]))
    def push(self, seconds: int) -> None:
        self.stage.push()
        self.stage.clock.advance(seconds)

    @rule(call=st.integers(1, 8), when=st.sampled_from(["before", "after"]))
    def die_in_a_call(self, call: int, when: str) -> None:
        """The process of one push ends at its so many-th call; another one goes on."""
        self.pushes += 1
        lives = self.stage.ws
        self.stage.ws = replace(lives, worker=SimulatedWorker(f"mortal-{self.pushes}", set()))
        made = 0

        def die(moment: str, _request: Request) -> None:
            nonlocal made
            made += moment == when
            if made == call:
                raise SimulatedDeathError

        self.stage.transport._on_send = die
        with suppress(SimulatedDeathError):
            self.stage.push()
        self.stage.transport._on_send, self.stage.ws = None, lives

    @rule(calls=st.integers(0, 6), kind=st.sampled_from([Kind.CUT_BEFORE, Kind.CUT_AFTER, Kind.ERROR_502]))
    def lose_an_answer(self, calls: int, kind: Kind) -> None:
        self.stage.faults.script([None] * calls + [Fault(kind)])

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        self.stage.faults.clear()
        self.stage.deliver()
        available = {sku: max(0, self.available(sku)) for sku in SKUS}
        for _ in range(QUIET_MINUTES):
            self.stage.clock.advance(60)
            self.stage.push()
            shown = {sku: self.stage.shown(sku) for sku in SKUS}
            if shown == available and not self.stage.changes():
                break
        assert (shown, self.stage.changes()) == (available, [])
        databases.give_back(self.stage.engine)


@pytest.mark.parametrize("kind", databases.KINDS)
def test_whatever_its_feeds_lead_to_a_shop_ends_at_what_is_available(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (client, feeds):
        monkeypatch.setattr(module, "BULK", SMALL)
    databases.use(kind)
    try:
        run_state_machine_as_test(Seller, settings=settings(max_examples=EXAMPLES[kind], stateful_step_count=25))
    finally:
        databases.use("sqlite")
