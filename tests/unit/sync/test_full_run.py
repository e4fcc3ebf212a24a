"""Several batches of a channel's full run at once: side by side, each done for itself, and behind the pushes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from invsync_dagster.platforms.contract import LevelReference, ReadAnswer, Reading
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sync import full_run as module
from invsync_dagster.sync.differences import FullSyncReport
from invsync_dagster.sync.full_run import full_run
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.workspace import Workspace
from tests import databases
from tests.processes import member
from tests.processes.member import CHANNEL, SKUS
from tests.processes.test_processes import IN_STOCK, fill
from tests.unit.sync.conftest import LittleWorld

BATCHES = list(range(16))


class Shop(member.Shop):
    """Shows what was acknowledged; a reading waits until others are under way."""

    def __init__(self, meet: Barrier) -> None:
        super().__init__(member.Told())
        self.meet = meet
        self.read_levels: list[str] = []

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        self.meet.wait(20)
        self.read_levels += [level.item_id for level in levels]
        return ReadAnswer(tuple(Reading(level, IN_STOCK) for level in levels))


def at_once(ws: Workspace, number: int) -> Workspace:
    settings = ws.configuration.settings.model_copy(update={"full_sync_at_once": number})
    return replace(ws, configuration=replace(ws.configuration, settings=settings))


@pytest.mark.usefixtures("each_database")
@pytest.mark.parametrize("number", [1, 2, 4])
def test_so_many_batches_run_at_once_and_each_level_is_read_once(tmp_path: Path, number: int) -> None:
    url = databases.fresh_url(tmp_path)
    fill(databases.opened(url))
    # 60 levels in 16 batches make one reading a batch. As each waits for the others, fewer at once would never end.
    shop = Shop(Barrier(number))
    ws = at_once(member.workspace(tmp_path, url, 0, member.Shop(member.Told())), number)
    assert push_channel(ws, CHANNEL, run_id="", deadline=ws.clock.now() + timedelta(seconds=60)).acknowledged == SKUS
    ws._platforms[CHANNEL] = shop
    reports = list(full_run(ws, CHANNEL, BATCHES, run_id="full"))
    ws.close()
    assert sorted(report.batch for report in reports) == BATCHES
    assert {report.problem for report in reports} == {""}
    assert sum(report.equal for report in reports) == SKUS
    assert len(shop.read_levels) == len(set(shop.read_levels)) == SKUS


def test_a_batch_that_breaks_is_raised_once_those_under_way_are_done_and_no_other_is_begun(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, stopped = [], Event()
    both = Barrier(2)

    class Told(Event):
        def set(self) -> None:
            super().set()
            stopped.set()

    def one(ws: Any, name: str, batch: int, *, run_id: str) -> FullSyncReport:
        begun.append(batch)
        both.wait(20)
        if batch == 0:
            raise RuntimeError("the disk is full")
        assert stopped.wait(20)
        return FullSyncReport(name, batch)

    monkeypatch.setattr(module, "full_sync", one)
    monkeypatch.setattr(module, "Event", Told)
    done = []
    with pytest.raises(RuntimeError, match="the disk is full"):
        for report in full_run(at_once(world.processes[0], 2), "erp_main", BATCHES, run_id="full"):
            done.append(report.batch)
    assert (sorted(begun), done) == ([0, 1], [1])


def test_a_caller_that_stops_listening_begins_no_other_batch(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    heard = Barrier(2)

    def one(ws: Any, name: str, batch: int, *, run_id: str) -> FullSyncReport:
        begun.append(batch)
        if batch:
            heard.wait(20)
        return FullSyncReport(name, batch)

    monkeypatch.setattr(module, "full_sync", one)
    run = full_run(at_once(world.processes[0], 1), "erp_main", BATCHES, run_id="full")
    assert next(run).batch == 0
    run.close()  # type: ignore[attr-defined]  # a generator
    heard.wait(20)
    assert begun == [0, 1]


def test_a_push_in_the_middle_of_a_full_run_waits_for_nothing(world: LittleWorld) -> None:
    world.sell("shop_main", "SKU-0001")
    world.deliver("shop_main")
    world._intake(world.processes[0])
    waits: list[float] = []

    def in_the_middle(when: str, request: Request) -> None:
        if when == "before" and not waits:
            waits.append(-1.0)
            report = world.push("erp_main", process=1)
            assert report.pushed == 1
            waits[0] = report.wait_seconds

    world.transports["erp_main"]._on_send = in_the_middle
    reports = list(full_run(at_once(world.processes[0], 1), "erp_main", BATCHES, run_id="full"))
    assert waits == [0.0]
    assert [report.problem for report in reports] == [""] * 16
    assert world.shown("erp_main", "SKU-0001") == world.level("erp_main", "SKU-0001").desired
