"""Feeds that nobody waits for any more: what is heard of them later doubts what was in them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from invsync_dagster.platforms.transport import Request, Response
from tests.unit.sync.amazon_stage import AmazonStage
from tests.unit.sync.test_bulk import SKUS, SMALL, count_all, in_step, open_submissions, shown
from tests.unit.sync.test_late_feeds import another_process_pushes, minutes, take_feeds
from tests.unit.sync.test_moved_channel import elsewhere

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture(autouse=True)
def _small_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    take_feeds(monkeypatch, replace(SMALL, rows=100))


def knows_no_feed(handle: Callable[[Request], Response], status: int) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        if "/feeds/" in request.url and request.method == "GET":
            words = b'{"errors":[{"code":"Unauthorized","message":"Access is denied."}]}'
            return Response(status, {"content-type": "application/json"}, words)
        return handle(request)

    return answer


def give_up(stage: AmazonStage) -> None:
    """Push hourly until a day is over and the feed that is open is given up."""
    stage.account.feeds.seconds = 60.0
    for _ in range(25):
        stage.clock.advance(3600)
        stage.push()
    minutes(stage, 60)
    assert len(open_submissions(stage)) == 1


def test_two_pushes_that_hear_one_report_doubt_nothing() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(301)

    def another_hears_it(when: str, request: Request) -> None:
        if when == "after" and request.method == "GET" and "/feeds/" in request.url:
            stage.transport._on_send = None
            another_process_pushes(stage)

    stage.transport._on_send = another_hears_it
    report = stage.push()
    assert (report.read, {stage.level(sku).uncertain for sku in SKUS}) == (0, {None})


def test_a_level_that_is_claimed_at_two_hearings_leaves_the_others_certain() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(290)
    stage.count("S00", 20)
    handle = stage.level("S00").bulk_handle
    heard = []

    def stand_still(when: str, request: Request) -> None:
        if when != "before" or request.method != "PATCH":
            return
        stage.transport._on_send = None
        for seconds in (15, 61):
            stage.clock.advance(seconds)
            stage.deliver()
            report = another_process_pushes(stage)
            heard.append((report.acknowledged, report.read, stage.level("S00").bulk_handle))

    stage.transport._on_send = stand_still
    stage.push()
    assert heard == [(11, 0, handle), (0, 0, handle)]
    stage.settle()
    assert stage.shown("S00") == 20


def test_a_submission_that_another_account_does_not_know_doubts_nothing_when_it_is_forgotten() -> None:
    stage = in_step(feed_seconds=60.0)
    count_all(stage, 60)
    stage.push()
    stage.transport._handler, stage.ws = knows_no_feed(stage.transport._handler, 404), elsewhere(stage.ws)
    minutes(stage, 90)
    assert (shown(stage), stage.changes(), len(open_submissions(stage))) == ({60}, [], 1)
    read = 0
    for _ in range(8 * 24):
        stage.clock.advance(3600)
        read += stage.push().read
    assert (read, open_submissions(stage)) == (0, [])


@pytest.mark.parametrize(("status", "moves"), [(403, False), (404, False), (404, True)])
def test_a_feed_that_was_given_up_is_not_forgotten_by_one_ask_that_is_refused(status: int, moves: bool) -> None:
    stage = in_step(feed_seconds=40 * 3600.0)
    here, handle = stage.ws, stage.transport._handler
    count_all(stage, 40)
    stage.push()
    give_up(stage)
    count_all(stage, 20)
    minutes(stage, 60)
    assert shown(stage) == {20}
    stage.transport._handler, stage.ws = knows_no_feed(handle, status), elsewhere(here) if moves else here
    minutes(stage, 62)
    stage.transport._handler, stage.ws = handle, here
    minutes(stage, 60)
    stage.clock.advance(14 * 3600)
    assert shown(stage) == {40}
    minutes(stage, 60)
    assert (shown(stage), stage.changes(), open_submissions(stage)) == ({20}, [], [])


def test_the_report_of_a_feed_that_was_given_up_sends_nothing_to_review() -> None:
    skus = [f"T{number:02d}" for number in range(60)]
    stage = AmazonStage(dict.fromkeys(skus, 50), dict.fromkeys(skus, 50), processing_seconds=30.0)
    stage.account.feeds.seconds = 30 * 3600.0
    stage.settle()
    stage.clock.advance(900)
    stage.state(dict.fromkeys(skus[:20], 40))
    stage.push()
    give_up(stage)
    items = stage.account._books.items
    gone = {sku: items.pop(sku) for sku in skus[:20]}
    stage.clock.advance(5 * 3600)
    stage.account.feeds.work()
    items.update(gone)
    minutes(stage, 5)
    assert open_submissions(stage) == []
    assert {stage.level(sku).pushable for sku in skus} == {True}
    stage.settle()
    assert {stage.shown(sku) for sku in skus[:20]} == {40}
