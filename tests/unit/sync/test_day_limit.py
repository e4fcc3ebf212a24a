"""A platform that counts writes a day: rises are folded, falls and zeros have the rest, and nothing is refused there."""

from __future__ import annotations

import pytest

from invsync_dagster.platforms.contract import Result
from invsync_dagster.sync.day_limit import now_waiting
from invsync_dagster.sync.discover import discover
from tests.unit.sync.ebay_stage import NAME, EbayStage

pytestmark = pytest.mark.usefixtures("each_database")

DAY = 86_400


def spent(stage: EbayStage) -> int:
    return sum(row.status == Result.ACKNOWLEDGED for row in stage.logged())


def test_rises_are_folded_from_half_of_the_day_on_and_show_the_sum() -> None:
    stage = EbayStage({"A": 10, "B": 10}, limits={"writes_a_day": 10}, revisions_a_day=10)
    for quantity in range(11, 16):
        stage.count("A", quantity)
    assert (spent(stage), stage.shown("A")) == (5, 15)
    for quantity in range(16, 21):
        assert stage.count("A", quantity).problem == ""
    assert (spent(stage), stage.shown("A")) == (5, 15)
    assert "5 of 10 writes in 24 hours are used: this rise waits until" in stage.level("A").last_error
    with stage.ws.engine.connect() as connection:
        assert now_waiting(connection, NAME, stage.clock.now()) == 1
        assert now_waiting(connection, "another", stage.clock.now()) == 0
    stage.count("B", 12)
    assert stage.shown("B") == 12
    # 24 hours over the 3 writes that are left for rises.
    stage.clock.advance(DAY / 3 - 60)
    stage.push()
    assert stage.shown("A") == 15
    stage.clock.advance(120)
    stage.push()
    assert (spent(stage), stage.shown("A")) == (7, 20)


def test_falls_go_at_once_when_rises_wait_and_zeros_when_falls_do() -> None:
    stage = EbayStage({"A": 100}, limits={"writes_a_day": 10}, revisions_a_day=10)
    for quantity in range(99, 90, -1):
        stage.count("A", quantity)
    assert (spent(stage), stage.shown("A")) == (9, 91)
    stage.count("A", 90)
    assert (spent(stage), stage.shown("A")) == (9, 91)
    stage.count("A", 0)
    assert (spent(stage), stage.shown("A")) == (10, 0)
    stage.count("A", 50)
    stage.count("A", 0)
    assert (spent(stage), stage.shown("A")) == (10, 0)


def test_the_variations_of_a_listing_share_its_writes_once_its_channel_was_walked_through() -> None:
    stage = EbayStage({"A": 10, "B": 10}, limits={"writes_a_day": 10}, revisions_a_day=10, listing="110000000777")
    assert discover(stage.ws, NAME, run_id="walk").problem == ""
    for quantity in (11, 12, 13):
        stage.count("A", quantity)
    stage.count("B", 11)
    stage.count("B", 12)
    assert (spent(stage), stage.shown("A"), stage.shown("B")) == (5, 13, 12)
    stage.count("B", 13)
    assert (spent(stage), stage.shown("B")) == (5, 12)
    assert "5 of 10 writes in 24 hours are used" in stage.level("B").last_error
    stage.count("B", 9)
    assert stage.shown("B") == 9


def test_a_call_with_several_variations_writes_their_listing_once() -> None:
    stage = EbayStage({"A": 100, "B": 100}, limits={"writes_a_day": 10}, revisions_a_day=10, listing="110000000777")
    discover(stage.ws, NAME, run_id="walk")
    for quantity in range(99, 90, -1):
        stage.count_all({"A": quantity, "B": quantity})
    assert (spent(stage), stage.shown("A"), stage.shown("B")) == (18, 91, 91)
    stage.count_all({"A": 90, "B": 0})
    assert (spent(stage), stage.shown("A"), stage.shown("B")) == (19, 91, 0)


def test_what_waited_is_written_once_the_day_is_over() -> None:
    stage = EbayStage({"A": 100}, limits={"writes_a_day": 4}, revisions_a_day=4)
    for quantity in range(99, 94, -1):
        stage.count("A", quantity)
    assert stage.shown("A") == 97
    stage.clock.advance(DAY)
    stage.push()
    assert stage.shown("A") == 95
    assert {row.code for row in stage.logged()} == {"", "day_limit"}


def test_revisions_that_others_made_let_the_level_wait_alone_and_not_its_channel() -> None:
    stage = EbayStage({"A": 5, "B": 5}, revisions_a_day=2)
    stage.count("A", 4)
    stage.count("A", 3)
    report = stage.count("A", 2)
    assert (report.problem, report.stopped) == ("", False)
    assert (stage.shown("A"), stage.level("A").desired) == (3, 2)
    assert "revisions_spent" in stage.level("A").last_error
    stage.count("B", 1)
    assert stage.shown("B") == 1
    stage.clock.advance(DAY)
    stage.push()
    assert stage.shown("A") == 2
