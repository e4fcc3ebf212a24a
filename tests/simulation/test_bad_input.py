"""A bad day in the simulated world of all six platforms: what would empty or flood the shops reaches none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.deciding import decide, holds_now
from invsync_dagster.inventory.imports import importing
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.looks import DecisionError
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.registration import register_channels
from tests.simulation.built import ERP, MARKETPLACES, SHOPS
from tests.simulation.world import World

NUMBER_OF_SKUS = 60


class Day(World):
    """A world of all platforms in step, in which nothing happens by itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(1, skus=NUMBER_OF_SKUS, orders=0, days=0, shops={**SHOPS, **MARKETPLACES})
        self.agenda.clear()
        self.folder = folder
        register_channels(self.processes[0])
        self.settle()
        assert self.differences(edited_too=True) == []

    def pushed(self) -> int:
        """Let some cycles go by; returns the rows that were written to the shops."""
        before = self.tally.writes
        for _ in range(3):
            self.clock.advance(300)
            for name in self.channels:
                deadline = self.clock.now() + timedelta(seconds=300)
                push_channel(self.processes[0], name, run_id="run", deadline=deadline)
        return self.tally.writes - before

    def untouched(self) -> bool:
        """Push, and say whether nothing was written and every shop shows what it should."""
        return self.pushed() == 0 and self.differences(edited_too=True) == []

    def give(self, quantities: dict[str, Any]) -> Any:
        """Import a file that was counted now, by somebody who has all orders booked."""
        self.clock.advance(1)
        path = self.folder / "stock.csv"
        path.write_text("sku,quantity\n" + "".join(f'{sku},"{units}"\n' for sku, units in quantities.items()))
        return importing.import_file(self.basis(), path, Declaration(as_of=self.clock.now()))

    def basis(self, actor: str = "ann") -> Basis:
        limits = self.configuration.settings.import_limits
        return Basis(self.engine, self.folder / "imports", limits, self.clock.now(), actor)

    def set_rules(self, **rules: int | None) -> None:
        """Edit the rules of all channels but the ERP's, and take them over."""
        self.configuration = replace(
            self.configuration,
            channels=tuple(
                one if one.name == ERP else replace(one, rules=one.rules.model_copy(update=rules))
                for one in self.configuration.channels
            ),
        )
        for ws in self.processes:
            ws.configuration = self.configuration
        register_channels(self.processes[0])

    def holds(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(holds_now(connection))

    def decide(self, what: object, actor: str = "ann") -> Any:
        with write_transaction(self.engine) as connection:
            return decide(connection, str(what), "approve", actor=actor, reason="yes", now=self.clock.now())


@pytest.fixture
def day(tmp_path: Path) -> Day:
    (tmp_path / "imports").mkdir()
    return Day(tmp_path)


def all_at(units: Any) -> Callable[[Day], dict[str, Any]]:
    return lambda day: dict.fromkeys(day.skus, units)


def half(day: Day) -> dict[str, Any]:
    return {sku: units for number, (sku, units) in enumerate(day.opening.items()) if number % 2}


def with_a_wrong_mark(day: Day) -> dict[str, Any]:
    return {sku: f"{units},000" for sku, units in day.opening.items()}


@pytest.mark.parametrize(
    ("file", "state"),
    [
        pytest.param(lambda _: {}, "rejected", id="an empty source"),
        pytest.param(all_at(0), "held", id="all zero"),
        pytest.param(all_at(10_000), "held", id="all 10,000"),
        pytest.param(half, "held", id="half the SKUs"),
        pytest.param(with_a_wrong_mark, "rejected", id="a wrong decimal mark"),
    ],
)
def test_a_bad_file_reaches_no_shop(day: Day, file: Callable[[Day], dict[str, Any]], state: str) -> None:
    assert day.give(day.opening).state == "applied"
    assert day.give(file(day)).state == state
    assert day.untouched()


@pytest.mark.parametrize("rules", [{"maximum": 0}, {"minimum": 10_000}])
def test_a_rule_that_makes_everything_0_reaches_no_shop(day: Day, rules: dict[str, int]) -> None:
    day.set_rules(**rules)
    assert day.untouched()
    assert {hold.channel for hold in day.holds()} == set(day.channels) - {ERP}


def test_a_rule_that_raises_everything_reaches_no_shop(day: Day) -> None:
    day.set_rules(maximum=2)
    for hold in day.holds():
        day.decide(hold.number)
    assert day.pushed() > 0
    shown = {name: shop.shows() for name, shop in day.shops.items()}
    day.set_rules(maximum=10_000)
    assert day.pushed() == 0
    assert {name: shop.shows() for name, shop in day.shops.items()} == shown
    assert all("would raise" in hold.reason for hold in day.holds())


def test_an_approval_of_what_has_changed_since_is_refused_and_reaches_no_shop(day: Day) -> None:
    held = day.give(all_at(0)(day))
    day.set_rules(dead_band=1)
    with pytest.raises(DecisionError, match="channel configured"):
        importing.approve(day.basis(), held.import_id, "yes")
    day.set_rules(maximum=0)
    hold = next(one for one in day.holds() if one.channel == "shop_main")
    day.give({sku: units + 1 for sku, units in day.opening.items()})
    with pytest.raises(DecisionError, match="import "):
        day.decide(hold.number)
    shops = [name for name in day.channels if name != ERP]
    before = {name: day.shops[name].shows() for name in shops}
    day.pushed()
    assert {name: day.shops[name].shows() for name in shops} == before


def test_of_two_operators_one_decides_and_the_other_is_told(day: Day) -> None:
    day.set_rules(maximum=0)
    hold = next(one for one in day.holds() if one.channel == "shop_main")
    day.decide(hold.number, "ann")
    written = day.pushed()
    with pytest.raises(DecisionError, match=f"ann decided at .*hold {hold.number} of channel shop_main"):
        day.decide(hold.number, "bob")
    assert written == sum(units > 0 for sku, units in day.opening.items() if sku in day.shops["shop_main"].shows())
    assert day.pushed() == 0


def test_slices_that_zero_a_few_each_stop_at_the_limit(day: Day) -> None:
    zeroed = [sku for sku, units in day.opening.items() if units > 0]
    states = []
    for first in range(0, 40, 4):
        states.append(day.give(day.opening | dict.fromkeys(zeroed[: first + 4], 0)).state)
    assert states == ["applied"] * 5 + ["held"] * 5
    day.pushed()
    for name, shop in day.shops.items():
        assert all(
            shop.shows()[sku] > 0 for sku in zeroed[20:] if shop.shows().get(sku) is not None and name == "shop_main"
        )
