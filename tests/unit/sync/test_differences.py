"""A platform that takes differences only: an unknown one is settled by reading, and is never sent on top of itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.sync.levels import Doubt
from tests.unit.platforms.alibaba_stage import DELTA
from tests.unit.sync.alibaba_stage import AlibabaStage

LAG = 100.0
BOTH: list[dict[str, Any]] = [{}, DELTA]


def before_the_write(stage: AlibabaStage) -> None:
    """Let the order list of the next push through: what is scripted afterwards hits the write."""
    handler = stage.account.handle
    stage.wire._script.append(handler)


@pytest.mark.usefixtures("each_database")
@pytest.mark.parametrize("settings", BOTH, ids=["absolute", "delta"])
def test_a_channel_comes_in_step_with_its_stock_and_its_own_sales(tmp_path: Path, settings: dict[str, Any]) -> None:
    stage = AlibabaStage(tmp_path, {"A": 20, "B": 9, "C": 5}, **settings)
    stage.count("A", 12)
    stage.count("C", 8)
    assert stage.push().acknowledged == 2
    assert [stage.shown(sku) for sku in "ABC"] == [12, 9, 8]
    stage.clock.advance(600)
    order = stage.account.buy({stage.levels["A"]: 2, stage.levels["B"]: 1})
    stage.settle()
    assert [stage.shown(sku) for sku in "ABC"] == [10, 8, 8]
    stage.clock.advance(60)
    stage.account.bring(order, "trade_close")
    stage.settle()
    assert [stage.shown(sku) for sku in "ABC"] == [12, 9, 8]


@pytest.mark.usefixtures("each_database")
def test_a_lost_difference_is_read_late_and_not_sent_again(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, {"A": 20}, lag=LAG, **DELTA)
    writes = stage.writes()
    stage.count("A", 17)
    before_the_write(stage)
    stage.wire.lose_answer_next()
    stage.push()
    assert (stage.shown("A"), stage.writes() - writes) == (17, 1)
    assert stage.level("A").uncertain == Doubt.ANSWER_LOST
    # Further decreases wait for a valid reading too: a difference on top of an unknown one would count twice.
    stage.clock.advance(1)
    stage.count("A", 15)
    for _ in range(4):
        stage.clock.advance(30)
        stage.push()
    assert stage.writes() - writes == 1
    stage.settle()
    assert (stage.shown("A"), stage.writes() - writes) == (15, 2)


def test_a_difference_that_lands_late_is_waited_for(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, {"A": 20}, **DELTA)
    stage.count("A", 17)
    before_the_write(stage)
    stage.wire.land_late_next()
    stage.push()
    for _ in range(3):
        stage.clock.advance(60)
        stage.push()
    assert stage.shown("A") == 20
    stage.wire.land()
    stage.settle()
    assert stage.shown("A") == 17


def test_a_difference_that_never_left_is_sent_after_the_reading(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, {"A": 20}, **DELTA)
    stage.count("A", 25)
    before_the_write(stage)
    stage.wire.lose_request_next()
    stage.push()
    assert stage.shown("A") == 20
    stage.settle()
    assert stage.shown("A") == 25


def test_an_absolute_decrease_goes_on_at_once_after_a_lost_answer(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, {"A": 20})
    stage.count("A", 17)
    before_the_write(stage)
    stage.wire.lose_request_next()
    stage.push()
    stage.clock.advance(10)
    stage.push()
    assert stage.shown("A") == 17


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", BOTH, ids=["absolute", "delta"])
def test_whatever_is_lost_the_numbers_agree_in_the_end(tmp_path: Path, settings: dict[str, Any], seed: int) -> None:
    rng = random.Random(seed)
    stock = {"A": 40, "B": 30, "C": 20}
    stage = AlibabaStage(tmp_path, stock, lag=15.0, **settings)
    sold = dict.fromkeys(stock, 0)
    counted = dict(stock)
    for _ in range(25):
        sku = rng.choice("ABC")
        event = rng.random()
        if event < 0.4:
            # Sold elsewhere: the shelf has fewer, and our own open orders are among them.
            counted[sku] = max(sold[sku] + 1, counted[sku] - rng.randint(1, 4))
            stage.count(sku, counted[sku])
        elif event < 0.6 and stage.shown(sku) > 0:
            stage.account.buy({stage.levels[sku]: 1})
            sold[sku] += 1
            counted[sku] = max(counted[sku], sold[sku])
            stage.count(sku, counted[sku])
        fault = rng.random()
        if fault < 0.5:
            before_the_write(stage)
            rng.choice([stage.wire.lose_answer_next, stage.wire.lose_request_next, stage.wire.land_late_next])()
        stage.push()
        stage.wire._script.clear()
        stage.clock.advance(rng.choice([1, 10, 40]))
        stage.wire.land()
    stage.settle()
    stage.clock.advance(1000)
    stage.push()
    stage.settle()
    assert {sku: stage.shown(sku) for sku in stock} == {sku: counted[sku] - sold[sku] for sku in stock}
