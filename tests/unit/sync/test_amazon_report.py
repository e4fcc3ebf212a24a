"""A full run of a large Amazon account: its listings report clears what is in step, and judges nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.tables import bulk_readings
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sync.bulk_reading import ask_for_all
from invsync_dagster.sync.differences import Cause, FullSyncReport
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.amazon_stage import NAME, AmazonStage

SKUS = [f"S{number:03d}" for number in range(60)]
BATCHES = 16


def in_step(**settings: Any) -> AmazonStage:
    """Return a stage with sixty SKUs that are acknowledged at 50, quiet for long, whose runs ask for the report."""
    stage = AmazonStage(dict.fromkeys(SKUS, 50), dict.fromkeys(SKUS, 50), **{"bulk_read_from": 1, **settings})
    stage.settle()
    stage.clock.advance(3_600)
    stage.push()
    return stage


def ask(stage: AmazonStage) -> datetime:
    """Ask as a run does at its beginning."""
    asked_at = stage.clock.now()
    calls = calls_of(stage.ws, stage.ws.channel(NAME), asked_at + timedelta(minutes=5), background=True)
    ask_for_all(stage.ws, NAME, range(BATCHES), calls, run_id="full")
    return asked_at


def run(stage: AmazonStage) -> FullSyncReport:
    """Run all batches and return their sum."""
    total = FullSyncReport(NAME, -1)
    for batch in range(BATCHES):
        report = full_sync(stage.ws, NAME, batch, run_id="full")
        assert report.problem == ""
        for name in ("levels", "equal", "in_bulk", "drift", "uncertain", "repaired", "missing", "api_calls"):
            setattr(total, name, getattr(total, name) + getattr(report, name))
        total.differences += report.differences
    return total


def state(stage: AmazonStage) -> list[str]:
    with stage.engine.connect() as connection:
        return list(connection.execute(select(bulk_readings.c.state)).scalars())


def watched(stage: AmazonStage) -> list[str]:
    """Watch the calls that are made from now on, as `METHOD resource`."""
    made: list[str] = []

    def watch(when: str, request: Request) -> None:
        if when == "before":
            path = request.url.split("?")[0]
            names = [name for name in ("items", "reports/2021-06-30/reports", "documents", "signed") if name in path]
            made.extend(f"{request.method} {name.split('/')[-1]}" for name in names[:1])

    stage.transport._on_send = watch
    return made


@pytest.mark.usefixtures("each_database")
def test_a_report_clears_all_that_is_in_step_in_three_calls() -> None:
    stage = in_step()
    made = watched(stage)
    asked_at = ask(stage)
    stage.clock.advance(300)
    total = run(stage)
    assert (total.levels, total.equal, total.in_bulk, total.differences) == (60, 60, 60, [])
    assert made == ["POST reports", "GET reports", "GET documents", "GET signed"]
    assert state(stage) == ["done"]
    assert timedelta(0) <= stage.level("S000").observed_at - asked_at < timedelta(seconds=1)  # its turn, and the call


def test_while_the_report_is_made_the_run_goes_on_and_a_small_account_asks_for_none() -> None:
    stage = in_step()
    ask(stage)
    stage.clock.advance(61)
    made = watched(stage)
    total = run(stage)
    assert (total.equal, total.in_bulk, state(stage)) == (60, 0, ["open"])
    assert made.count("GET reports") == 1
    assert made.count("GET items") == 4  # 60 neighbours are in four batches
    small = in_step(bulk_read_from=61)
    ask(small)
    assert (state(small), run(small).equal) == ([], 60)


@pytest.mark.parametrize("end", ["FATAL", "CANCELLED"])
def test_a_report_that_comes_to_nothing_costs_one_question(end: str) -> None:
    stage = in_step()
    stage.account.reports.end = end
    ask(stage)
    stage.clock.advance(300)
    made = watched(stage)
    assert (run(stage).equal, state(stage)) == (60, ["lost"])
    assert made.count("GET reports") == 1


def test_a_report_in_a_language_that_nobody_knows_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = in_step()
    header = ("utf-8", "όνομα\tποσότητα")
    monkeypatch.setattr("invsync_dagster.platforms.amazon.sandbox_reports.LANGUAGES", {"en": header})
    ask(stage)
    stage.clock.advance(300)
    assert (run(stage).equal, state(stage)) == (60, ["lost"])


def test_a_drifted_level_is_read_by_itself_and_repaired() -> None:
    stage = in_step()
    stage.account.edit_stock("S007", 44)
    ask(stage)
    stage.clock.advance(300)
    total = run(stage)
    assert (total.in_bulk, total.equal, total.drift) == (59, 59, 1)
    assert [(one.sku, one.observed, one.cause) for one in total.differences] == [("S007", 44, Cause.UNSEEN_ORDER)]
    stage.pushes(30)
    assert (stage.shown("S007"), stage.changes()) == (50, [])


def test_a_level_written_since_the_report_was_asked_for_is_not_judged_by_it() -> None:
    """It shows 50 in the report, 40 was written since and acknowledged by a reading of its own: that is no difference."""
    stage = in_step()
    stage.account.reports.seconds = 1_500
    ask(stage)
    stage.count("S003", 40)
    stage.settle()
    stage.clock.advance(1_600)
    assert stage.level("S003").acknowledged_quantity == 40
    total = run(stage)
    assert (total.levels, total.equal, total.drift, total.differences) == (60, 60, 0, [])
    assert (stage.shown("S003"), stage.level("S003").observed_quantity) == (40, 40)


def test_one_whose_patch_is_under_way_is_settled_by_a_reading_and_never_by_the_report() -> None:
    stage = in_step()
    ask(stage)
    stage.clock.advance(290)
    stage.count("S003", 40)
    assert stage.push().accepted == 1
    stage.clock.advance(10)
    total = run(stage)
    assert (total.in_bulk, total.uncertain, total.drift, total.missing) == (59, 1, 0, 0)
    stage.settle()
    assert (stage.shown("S003"), stage.level("S003").acknowledged_quantity) == (40, 40)


def test_a_sale_since_leaves_the_level_to_a_reading() -> None:
    stage = in_step()
    stage.account.reports.seconds = 1_500
    ask(stage)
    stage.clock.advance(60)
    stage.account.buy({"S005": 3})
    stage.deliver()
    stage.clock.advance(1_600)
    total = run(stage)
    assert (total.in_bulk, total.uncertain, total.drift) == (59, 1, 0)
    stage.settle()
    assert (stage.shown("S005"), stage.level("S005").acknowledged_quantity) == (47, 47)
