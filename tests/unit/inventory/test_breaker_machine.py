"""Whatever is imported, mapped, ruled, sold, approved and undone, in any order: no accident passes, and it converges."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from invsync_dagster.inventory import channels, levels
from invsync_dagster.inventory.catch_up import catch_up, hold_beyond_limits
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.deciding import decide, held_levels, holds_now
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.looks import DecisionError, Look
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels
from invsync_dagster.settings import ChangeLimits, ImportLimits
from tests import databases
from tests.unit.inventory.stock import OTHER, SHOP, START, Stock, order

SKUS = [f"S{number:02}" for number in range(20)]
UNITS = 8
# Of 20 listings 4 may be zeroed and 6 raised in an hour, of 20 SKUs 4 zeroed.
LIMITS = ChangeLimits(zeroed_share=0.2, raised_share=0.3, minimum=2)
OF_SOURCES = ImportLimits(zeroed_share=0.2, zeroed_minimum=2, moved_share=1, moved_minimum_units=10**6)
MOST_ZEROED, MOST_RAISED = 4, 6
EXAMPLES = {"sqlite": 10, "postgresql": 3}  # a statement costs a server ten times as much

parts = st.sets(st.sampled_from(SKUS), min_size=1, max_size=12)


class Breaker(RuleBasedStateMachine):
    """The shop is watched: each step says by which levels it fell to 0 or rose, and why that may be."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = Stock(dict.fromkeys(SKUS, UNITS), skus=SKUS)
        self.now = START
        self.orders = 0
        self.counted = 0
        self.base: dict[str, tuple[Any, int]] = {}
        self._set_rules(Rules())
        self.stock.in_step()
        self.before = self._shown()

    @initialize()
    def begin(self) -> None:
        self.before = self._shown()

    def _shown(self) -> dict[str, int]:
        return {row.central_sku: row.desired for row in self.stock.rows(inventory_levels) if row.channel == SHOP}

    def _set_rules(self, rules: Rules) -> None:
        with write_transaction(self.stock.engine) as connection:
            channels.register(connection, SHOP, "shopify", "sandbox", True, rules, None, self.now, change_limits=LIMITS)
            hold_beyond_limits(connection, self.now)
        catch_up(self.stock.engine, self.now)

    def _pass(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self.stock.now = self.now

    def _changed(self) -> None:
        """Judge what a change that is no sale, and that nobody approved, has moved, by a hand of our own."""
        shown = self._shown()
        begin = self.now - timedelta(minutes=60)
        self.base = {sku: (at, base) for sku, (at, base) in self.base.items() if at > begin}
        for sku, number in shown.items():
            was = self.before[sku]
            if number > was or (number == 0 < was):
                self.base[sku] = (self.now, self.base[sku][1] if sku in self.base else was)
        zeroed = [sku for sku, (_, base) in self.base.items() if shown[sku] == 0 < base]
        raised = [sku for sku, (_, base) in self.base.items() if shown[sku] > base]
        assert len(zeroed) <= MOST_ZEROED, (zeroed, self.base)
        assert len(raised) <= MOST_RAISED, (raised, self.base)
        self.stock.in_step()
        self.before = shown

    def _decided(self) -> None:
        self.stock.in_step()
        shown = self._shown()
        for sku, number in shown.items():
            if number != self.before[sku]:
                self.base.pop(sku, None)
        self.before = shown

    @rule(skus=parts, percent=st.sampled_from([0, 50, 100]), minutes=st.integers(0, 20))
    def map(self, skus: set[str], percent: int, minutes: int) -> None:
        self._pass(minutes)
        self.stock.map(
            *(Listing(SHOP, one, f"{SHOP}-{one}", platform_sku=f"{one}@{SHOP}", percent=percent) for one in skus)
        )
        self._changed()

    @rule(buffer=st.sampled_from([0, 1, 20]), maximum=st.sampled_from([None, 0, 3]), minutes=st.integers(0, 40))
    def change_rules(self, buffer: int, maximum: int | None, minutes: int) -> None:
        self._pass(minutes)
        self._set_rules(Rules(buffer=buffer, maximum=maximum))
        self._changed()

    @rule(skus=parts, status=st.sampled_from(["active", "inactive"]), minutes=st.integers(0, 20))
    def change_status(self, skus: set[str], status: Any, minutes: int) -> None:
        self._pass(minutes)
        with write_transaction(self.stock.engine) as connection:
            set_skus(connection, [Sku(one, status=status) for one in skus], actor="x", reason="x", now=self.now)
        self._changed()

    @rule(sku=st.sampled_from(SKUS), units=st.integers(1, 3), channel=st.sampled_from([SHOP, OTHER]))
    def sell(self, sku: str, units: int, channel: str) -> None:
        self._pass(1)
        self.orders += 1
        self.stock.apply(order(str(self.orders), item=f"{channel}-{sku}", ordered=units), channel=channel)
        shown = self._shown()
        assert all(shown[one] == self.before[one] for one in SKUS if one != sku)
        assert shown[sku] <= self.before[sku]
        # What showed nothing before the window's first change is put back by a change to 0, whatever it sold meanwhile.
        if sku in self.base and self.base[sku][1] > 0:
            del self.base[sku]
        self.stock.in_step()
        self.before = shown

    @rule(one_by_one=st.booleans(), drop=st.booleans())
    def decide(self, one_by_one: bool, drop: bool) -> None:
        with self.stock.engine.connect() as connection:
            levels = held_levels(connection, SHOP)
            seen = str(Look.at_present(connection))
        if levels:
            skus = [levels[0].sku] if one_by_one else []
            self._decide(SHOP, "drop" if drop else "approve", seen, skus)
            self._decided()

    def _decide(self, what: str, decision: Any, seen: str, skus: list[str]) -> None:
        try:
            with write_transaction(self.stock.engine) as connection:
                decide(connection, what, decision, skus=skus, seen=seen, actor="a", reason="r", now=self.now)
        except DecisionError as error:
            assert "dropped already" in str(error)

    @invariant()
    def never_above_available(self) -> None:
        for row in self.stock.rows(inventory_levels):
            quantity, reserved = self.stock.balance(row.central_sku)
            assert row.desired <= max(0, quantity - reserved)

    def teardown(self) -> None:
        """Once all is approved, every level shows what its rules say."""
        with self.stock.engine.connect() as connection:
            seen, held = str(Look.at_present(connection)), holds_now(connection)
        for one in held:
            self._decide(str(one.number), "approve", seen, [])
        rows = [row for row in self.stock.rows(inventory_levels) if row.channel == SHOP]
        before = [row.desired for row in rows]
        with write_transaction(self.stock.engine) as connection:
            levels.recompute(connection, SKUS, self.now)
        after = [row for row in self.stock.rows(inventory_levels) if row.channel == SHOP]
        assert [row.desired for row in after] == before
        assert all(row.held_quantity is None for row in after)
        self.stock.close()


@pytest.mark.parametrize("kind", databases.KINDS)
def test_no_accident_passes_the_breaker_and_it_converges(kind: str) -> None:
    databases.use(kind)
    try:
        run_state_machine_as_test(
            Breaker, settings=settings(max_examples=EXAMPLES[kind], stateful_step_count=20, deadline=None)
        )
    finally:
        databases.use("sqlite")
