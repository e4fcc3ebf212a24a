"""Several batches of a channel's full run at once: side by side, each done for itself, and behind the pushes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Connection

from invsync_dagster.inventory.database import DatabaseGoneError
from invsync_dagster.inventory.full_runs import BatchDone, FullRuns, full_runs, keep_batch
from invsync_dagster.platforms.contract import LevelReference, ReadAnswer, Reading
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sync import full_run as module
from invsync_dagster.sync import reconcile
from invsync_dagster.sync.adoption import Adopted
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


class Broken(member.Shop):
    """Shows what was acknowledged, but for one item, of which it can't be read."""

    def __init__(self, item: str, error: Exception) -> None:
        super().__init__(member.Told())
        self.item, self.error = item, error
        self.asked = 0

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        self.asked += 1
        if any(level.item_id == self.item for level in levels):
            raise self.error
        return ReadAnswer(tuple(Reading(level, IN_STOCK) for level in levels))


@pytest.fixture
def in_step(each_database: str, tmp_path: Path) -> Iterator[Workspace]:
    """60 levels in four batches, all in step; the other batches are empty."""
    url = databases.fresh_url(tmp_path)
    fill(databases.opened(url))
    ws = member.workspace(tmp_path, url, 0, member.Shop(member.Told()))
    assert push_channel(ws, CHANNEL, run_id="", deadline=ws.clock.now() + timedelta(seconds=60)).acknowledged == SKUS
    yield ws
    ws.close()


def kept(ws: Workspace) -> FullRuns:
    with ws.engine.connect() as connection:
        return full_runs(connection)[CHANNEL]


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (KeyError("quantity"), "KeyError: 'quantity'"),
        (
            DatabaseGoneError(None, None, Exception("database is locked")),
            "the stock's database can't be used: database is locked. What was under way and not committed has not happened; "
            "the next run does it, once it is back",
        ),
        (PlatformError(Recovery.REJECT, "broken", "not so"), "broken: not so [reject]"),
    ],
    ids=["unexpected", "database", "platform"],
)
@pytest.mark.parametrize("number", [1, 2])
def test_whatever_breaks_a_batch_the_others_are_done_and_it_is_kept_as_failed(
    in_step: Workspace, number: int, error: Exception, problem: str
) -> None:
    ws = at_once(in_step, number)
    ws._platforms[CHANNEL] = Broken("SKU-000", error)
    reports = {report.batch: report for report in full_run(ws, CHANNEL, BATCHES, run_id="full")}
    assert sorted(reports) == BATCHES
    (broken,) = [report for report in reports.values() if report.problem]
    assert broken.problem == problem
    assert ("in read" in broken.traceback) == (not isinstance(error, PlatformError))
    assert {report.traceback for report in reports.values() if report is not broken} == {""}
    assert sum(report.equal for report in reports.values()) == SKUS - 15
    assert kept(ws).failed == (broken.batch,)
    ws._platforms[CHANNEL] = Broken("", error)
    (again,) = full_run(ws, CHANNEL, [broken.batch], run_id="again")
    assert (again.problem, again.equal, kept(ws).failed) == ("", 15, ())


def test_after_dead_credentials_no_other_batch_asks_and_each_says_why(in_step: Workspace) -> None:
    ws = at_once(in_step, 1)
    dead = Broken("SKU-000", PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right"))
    ws._platforms[CHANNEL] = dead
    reports = [report.problem for report in full_run(ws, CHANNEL, BATCHES, run_id="full")]
    told = "unauthorized: the key is not right [re-authenticate]"
    assert reports == [told, *[f"not begun, it would fare no better: {told}"] * 15]
    assert (dead.asked, kept(ws).failed) == (1, tuple(BATCHES))


def test_a_database_that_is_back_soon_keeps_what_came_of_the_batch(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(monkeypatch, times=3)
    began = world.clock.now()
    report = next(full_run(at_once(world.processes[0], 1), "erp_main", [0], run_id="full"))
    assert (report.problem, report.equal) == ("", report.levels)
    assert world.clock.now() - began < timedelta(minutes=1)
    with world.engine.connect() as connection:
        runs = full_runs(connection)["erp_main"]
    assert (runs.batches, runs.levels, runs.failed) == (1, report.levels, ())


def test_a_database_that_is_gone_for_good_ends_the_run_and_no_other_batch_is_begun(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = away(monkeypatch, times=1_000)
    began = world.clock.now()
    with pytest.raises(DatabaseGoneError, match="server closed the connection"):
        list(full_run(at_once(world.processes[0], 1), "erp_main", BATCHES, run_id="full"))
    assert timedelta(minutes=2) <= world.clock.now() - began < timedelta(minutes=3)
    assert set(tried) == {0}


def away(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the database be away so many times when what came of a batch is to be kept; return the batches."""
    tried: list[int] = []

    def keep(connection: Connection, done: BatchDone) -> None:
        tried.append(done.batch)
        if len(tried) <= times:
            raise DatabaseGoneError(None, None, Exception("server closed the connection"))
        keep_batch(connection, done)

    monkeypatch.setattr(reconcile, "keep_batch", keep)
    return tried


def test_a_caller_that_stops_listening_begins_no_other_batch(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    heard = Barrier(2)

    def one(ws: Any, name: str, batch: int, *, run_id: str, adopted: Adopted) -> FullSyncReport:
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
