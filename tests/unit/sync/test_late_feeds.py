"""Feeds that come late, after a death, a standstill or a day: none leaves a number behind that is certain and wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from invsync_dagster.inventory import bulk as inventory_bulk
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.amazon import client, feeds
from invsync_dagster.platforms.contract import BulkLimits
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sync import bulk
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport
from tests.simulation.processes import SimulatedDeathError, SimulatedWorker
from tests.unit.sync.amazon_stage import NAME, AmazonStage
from tests.unit.sync.test_bulk import (
    SKUS,
    SMALL,
    calls,
    count_all,
    in_step,
    open_submissions,
    shown,
    spoil_first_message,
    until_reported,
)
from tests.unit.sync.test_moved_channel import elsewhere

pytestmark = pytest.mark.usefixtures("each_database")

HALF_AN_HOUR = 1800.0


@pytest.fixture(autouse=True)
def _small_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    take_feeds(monkeypatch, SMALL)


def take_feeds(monkeypatch: pytest.MonkeyPatch, limits: BulkLimits) -> None:
    for module in (client, feeds):
        monkeypatch.setattr(module, "BULK", limits)


def minutes(stage: AmazonStage, number: int) -> None:
    for _ in range(number):
        stage.clock.advance(60)
        stage.push()


def another_process_pushes(stage: AmazonStage) -> PushReport:
    ws = replace(stage.ws, worker=SimulatedWorker("process-2", {"process-1"}))
    return push_channel(ws, NAME, run_id="other", deadline=stage.clock.now() + timedelta(seconds=20))


def spoil_newest_feed(stage: AmazonStage) -> None:
    document = stage.account.feeds._documents[list(stage.account.feeds.feeds.values())[-1].document]
    parsed = json.loads(document.body or "")
    for message in parsed["messages"]:
        message["patches"][0]["value"][0]["quantity"] = "seventy"
    document.body = json.dumps(parsed)


def seconds_above(stage: AmazonStage, sku: str, quantity: int, minutes: int) -> int:
    """For how many seconds more than `quantity` is shown, with a push a minute."""
    seconds = 0
    for tenth in range(minutes * 6):
        stage.clock.advance(10)
        seconds += 10 * ((stage.shown(sku) or 0) > quantity)
        if tenth % 6 == 5:
            stage.push()
    return seconds


def test_a_feed_of_a_process_that_died_on_the_wire_is_waited_for_an_hour() -> None:
    stage = in_step(feed_seconds=HALF_AN_HOUR)
    count_all(stage, 40)

    def die(when: str, request: Request) -> None:
        if when == "after" and request.url.endswith("/feeds"):
            raise SimulatedDeathError

    stage.transport._on_send = die
    with pytest.raises(SimulatedDeathError):
        stage.push()
    stage.transport._on_send = None
    stage.clock.advance(200)
    stage.push()
    count_all(stage, 20)
    minutes(stage, 120)
    assert (shown(stage), stage.changes()) == ({20}, [])


def test_a_feed_of_a_process_that_died_once_it_was_noted_is_reported_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = in_step(feed_seconds=HALF_AN_HOUR)
    count_all(stage, 40)

    def die(*_: Any) -> None:
        raise SimulatedDeathError

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "record_writes", die)
        with pytest.raises(SimulatedDeathError):
            stage.push()
    (submission,) = open_submissions(stage)
    stage.clock.advance(200)
    stage.push()
    level = stage.level("S00")
    assert (level.uncertain, level.bulk_handle) == ("claim_taken_over", submission.handle)
    count_all(stage, 20)
    minutes(stage, 60)
    assert (shown(stage), stage.changes(), open_submissions(stage)) == ({20}, [], [])


def test_a_feed_that_is_answered_after_its_claim_was_taken_over_is_reported_on() -> None:
    stage = in_step(feed_seconds=HALF_AN_HOUR)
    count_all(stage, 40)

    def stand_still(when: str, request: Request) -> None:
        if when == "after" and request.url.endswith("/feeds"):
            stage.transport._on_send = None
            stage.clock.advance(200)
            another_process_pushes(stage)

    stage.transport._on_send = stand_still
    stage.push()
    (submission,) = open_submissions(stage)
    assert {stage.level(sku).bulk_handle for sku in SKUS} == {submission.handle}
    count_all(stage, 20)
    minutes(stage, 120)
    assert (shown(stage), stage.changes()) == ({20}, [])


def test_a_patch_that_is_answered_after_its_claim_was_taken_over_may_still_land() -> None:
    stage = AmazonStage({"A": 20}, {"A": 20}, processing_seconds=30.0)
    stage.pushes(4)
    stage.count("A", 15)

    def stand_still(when: str, request: Request) -> None:
        if when != "before" or request.method != "PATCH":
            return
        stage.transport._on_send = None
        stage.clock.advance(130)
        for minute in range(40):
            another_process_pushes(stage)
            stage.clock.advance(60)
            if minute == 20:
                stage.count("A", 10)
        assert (stage.changes(), stage.shown("A")) == ([], 10)
        stage.account.processing_seconds = 300.0

    stage.transport._on_send = stand_still
    stage.push()
    stage.account.processing_seconds = 30.0
    assert stage.level("A").uncertain == "late_answer"
    stage.pushes(40)
    assert (stage.shown("A"), stage.changes()) == (10, [])


def test_no_level_waits_for_a_report_that_was_heard_before_it_had_the_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, parts = in_step(), inventory_bulk.chunks
    count_all(stage, 40)

    def stand_still(*given: Any) -> Any:
        monkeypatch.setattr(bulk, "chunks", parts)
        stage.clock.advance(61)
        another_process_pushes(stage)
        return parts(*given)

    monkeypatch.setattr(bulk, "chunks", stand_still)
    stage.push()
    assert len(open_submissions(stage)) == 1
    count_all(stage, 45)
    minutes(stage, 60)
    assert (shown(stage), stage.changes(), open_submissions(stage)) == ({45}, [], [])


def test_a_feed_that_comes_after_it_was_given_up_puts_its_levels_in_doubt() -> None:
    stage = in_step(feed_seconds=30 * 3600.0)
    count_all(stage, 40)
    stage.push()
    stage.account.feeds.seconds = 60.0
    for _ in range(25):
        stage.clock.advance(3600)
        stage.push()
    minutes(stage, 60)
    count_all(stage, 20)
    minutes(stage, 60)
    assert (shown(stage), len(open_submissions(stage))) == ({20}, 1)
    stage.clock.advance(4 * 3600)
    assert shown(stage) == {40}
    minutes(stage, 10)
    assert (shown(stage), stage.changes(), open_submissions(stage)) == ({20}, [], [])


def test_a_feed_that_another_address_does_not_know_is_asked_for_where_it_was_handed_in() -> None:
    stage = in_step(feed_seconds=5400.0)
    here, there, handle = stage.ws, elsewhere(stage.ws), stage.transport._handler
    count_all(stage, 60)
    stage.push()

    def knows_no_feed(request: Request) -> Response:
        if "/feeds/" in request.url and request.method == "GET":
            words = b'{"errors":[{"code":"NotFound","message":"The feed was not found."}]}'
            return Response(404, {"content-type": "application/json"}, words)
        return handle(request)

    stage.transport._handler, stage.ws = knows_no_feed, there
    minutes(stage, 3)
    assert "the submission is unknown" in stage.level("S00").last_error
    stage.transport._handler, stage.ws = handle, here
    count_all(stage, 20)
    stage.account.feeds.seconds = 60.0
    minutes(stage, 150)
    assert (shown(stage), stage.changes(), open_submissions(stage)) == ({20}, [], [])


def test_what_nobody_asked_about_for_a_day_is_asked_for_before_it_is_called_lost() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(25 * 3600)
    report = stage.push()
    assert (report.unknown, open_submissions(stage)) == (0, [])
    stage.settle()
    assert shown(stage) == {40}


def test_what_was_patched_beside_a_feed_is_patched_again_at_its_report_and_goes_in_no_other_feed() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(30)
    count_all(stage, 20)
    stage.push()
    stage.clock.advance(300)
    assert shown(stage) == {40}
    made = calls(stage)
    stage.push()
    assert (made.count("POST feeds"), made.count("PATCH items")) == (0, len(SKUS))


def test_a_row_that_fails_says_nothing_of_what_is_shown_where_writes_came_in_an_unknown_order() -> None:
    stage = in_step()
    count_all(stage, 90)
    stage.push()
    stage.clock.advance(30)
    count_all(stage, 70)
    stage.push()
    stage.clock.advance(280)
    stage.push()
    spoil_newest_feed(stage)
    stage.clock.advance(301)
    stage.push()
    stage.count("S00", 50)
    minutes(stage, 60)
    assert (stage.shown("S00"), stage.changes()) == (50, [])


@pytest.mark.parametrize("lost", [False, True])
def test_a_patch_beside_a_feed_is_read_at_the_report_also_where_an_answer_was_lost(lost: bool) -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(60)
    stage.count("S03", 20)
    handle = stage.transport._handler

    def loses_one_answer(request: Request) -> Response:
        answer = handle(request)
        if lost and request.method == "PATCH":
            stage.transport._handler = handle
            return Response(502, {}, b"<html>bad gateway</html>")
        return answer

    stage.transport._handler = loses_one_answer
    stage.push()
    stage.clock.advance(20)
    stage.push()
    assert seconds_above(stage, "S03", 20, minutes=40) <= 250
    stage.settle()
    assert stage.shown("S03") == 20


@pytest.mark.parametrize("feed_seconds", [300.0, HALF_AN_HOUR])
def test_a_rise_after_a_report_waits_for_the_orders_however_long_the_feed_took(feed_seconds: float) -> None:
    stage = in_step(feed_seconds=feed_seconds)
    stage.account.feeds.shows_items = False
    count_all(stage, 40)
    stage.push()
    minutes(stage, int(feed_seconds // 60) + 1)
    stage.clock.advance(60)
    stage.account.buy({"S00": 5})
    stage.account.take_outgoing()
    assert seconds_above(stage, "S00", 35, minutes=20) == 0


def test_a_rise_after_an_answer_was_lost_waits_for_the_orders_from_when_a_reading_counts() -> None:
    stage = AmazonStage({"A": 40}, {"A": 40}, processing_seconds=30.0)
    stage.pushes(12)
    stage.count("A", 50)
    handle = stage.transport._handler

    def loses_one_answer(request: Request) -> Response:
        answer = handle(request)
        if request.method == "PATCH":
            stage.transport._handler = handle
            return Response(502, {}, b"<html>bad gateway</html>")
        return answer

    stage.transport._handler = loses_one_answer
    stage.push()
    until = stage.level("A").linger_until
    while stage.clock.now() + timedelta(seconds=31) < until:
        stage.clock.advance(30)
        stage.push()
    stage.account.buy({"A": 6})
    stage.account.take_outgoing()
    assert seconds_above(stage, "A", 44, minutes=30) == 0


def test_the_log_of_a_row_that_fails_names_what_the_feed_carried_not_the_patch_beside_it() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    sku = spoil_first_message(stage)
    attempt = stage.level(sku).attempt
    stage.clock.advance(30)
    stage.count(sku, 20)
    stage.push()
    until_reported(stage)
    (row,) = (row for row in stage.logged() if row.sku == sku and row.status == "rejected")
    assert (row.new_quantity, row.attempt) == (40, attempt)


@pytest.mark.parametrize("in_bulk", [True, False])
def test_an_account_that_knows_none_of_a_feeds_listings_is_another_shop(
    monkeypatch: pytest.MonkeyPatch, in_bulk: bool
) -> None:
    take_feeds(monkeypatch, replace(SMALL, rows=100, least=8 if in_bulk else 1000))
    skus = [f"T{number:02d}" for number in range(60)]
    stage = AmazonStage(dict.fromkeys(skus, 50), dict.fromkeys(skus, 50), processing_seconds=30.0)
    stage.settle()
    stage.clock.advance(900)
    stage.state(dict.fromkeys(skus, 40))
    if in_bulk:
        stage.push()
    assert len(open_submissions(stage)) == in_bulk
    stage.account._books.items.clear()
    minutes(stage, 7)
    with stage.engine.connect() as connection:
        reason = connection.execute(select(channels.c.stopped_reason)).scalar_one()
    assert "another_shop" in reason
    assert sum(not stage.level(sku).pushable for sku in skus) <= 9


def test_listings_of_a_feed_that_were_deleted_go_to_review_where_the_others_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_feeds(monkeypatch, replace(SMALL, rows=100))
    skus = [f"T{number:02d}" for number in range(60)]
    stage = AmazonStage(dict.fromkeys(skus, 50), dict.fromkeys(skus, 50), processing_seconds=30.0)
    stage.settle()
    stage.clock.advance(900)
    stage.state(dict.fromkeys(skus[:30], 40))
    stage.push()
    for sku in skus[:20]:
        del stage.account._books.items[sku]
    minutes(stage, 7)
    assert [sku for sku in skus if not stage.level(sku).pushable] == skus[:20]
    assert {stage.shown(sku) for sku in skus[20:30]} == {40}
