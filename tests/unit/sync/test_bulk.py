"""The bulk lane: what goes by it, what doesn't wait for it, and what its reports lead to, run after run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import set_status
from invsync_dagster.inventory.tables import bulk_submissions, inventory_levels, platform_mapping
from invsync_dagster.platforms.amazon import client, feeds
from invsync_dagster.platforms.contract import BulkLimits
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.levels import Doubt
from invsync_dagster.webhooks.segments import Delivery
from tests.simulation.processes import SimulatedDeathError
from tests.unit.sync.amazon_stage import NAME, AmazonStage

pytestmark = pytest.mark.usefixtures("each_database")

SMALL = BulkLimits(rows=25, least=8, submissions=5, window=360.0, check_every=60.0, patience=86_400.0)
SKUS = [f"S{number:02d}" for number in range(12)]


@pytest.fixture(autouse=True)
def _small_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (client, feeds):
        monkeypatch.setattr(module, "BULK", SMALL)


def in_step(*, feed_seconds: float = 300.0) -> AmazonStage:
    """Return a stage with twelve ample SKUs that are acknowledged at 50."""
    stage = AmazonStage(dict.fromkeys(SKUS, 50), dict.fromkeys(SKUS, 50), processing_seconds=30.0)
    stage.account.feeds.seconds = feed_seconds
    stage.settle()
    stage.clock.advance(900)
    return stage


def count_all(stage: AmazonStage, quantity: int) -> None:
    for sku in SKUS:
        stage.count(sku, quantity)


def calls(stage: AmazonStage) -> list[str]:
    """Watch the calls that are made from now on, as `METHOD resource`."""
    made: list[str] = []

    def watch(when: str, request: Request) -> None:
        if when == "before":
            names = [
                part
                for part in request.url.split("?")[0].split("/")
                if part in ("items", "feeds", "documents", "orders")
            ]
            made.append(f"{request.method} {names[-1] if names else 'signed'}")

    stage.transport._on_send = watch
    return made


def open_submissions(stage: AmazonStage) -> list[Any]:
    with stage.engine.connect() as connection:
        return list(connection.execute(select(bulk_submissions)).all())


def shown(stage: AmazonStage) -> set[int | None]:
    return {stage.shown(sku) for sku in SKUS}


def lost(stage: AmazonStage) -> list[str]:
    """What the log says of rows whose submission was lost."""
    return [row.error_message for row in stage.logged() if row.code == "report_lost"]


def until_reported(stage: AmazonStage) -> None:
    for _ in range(12):
        stage.clock.advance(60)
        stage.push()
        if not open_submissions(stage):
            return
    raise AssertionError("still open")


def test_many_ample_changes_go_in_one_feed_and_are_acknowledged_by_its_report() -> None:
    stage = in_step()
    count_all(stage, 40)
    made = calls(stage)
    report = stage.push()
    assert (report.accepted, report.problem) == (12, "")
    assert [call for call in made if "orders" not in call] == ["POST documents", "PUT signed", "POST feeds"]
    (row,) = open_submissions(stage)
    level = stage.level("S00")
    assert (row.rows, level.bulk_handle, level.accepted_handle, level.accepted_quantity) == (
        12,
        row.handle,
        row.handle,
        40,
    )
    made.clear()
    stage.clock.advance(70)
    report = stage.push()
    assert (report.pushed, report.read, report.acknowledged) == (0, 0, 0)
    assert "GET feeds" in made
    assert shown(stage) == {50}
    assert stage.level("S00").acknowledged_quantity == 50
    made.clear()
    until_reported(stage)
    assert shown(stage) == {40}
    level = stage.level("S00")
    assert (level.acknowledged_quantity, level.uncertain, level.bulk_handle, level.accepted_handle) == (
        40,
        None,
        None,
        None,
    )
    assert stage.changes() == []
    assert not [call for call in made if call in ("PATCH items", "GET items")]
    logged = [(log.status, log.new_quantity, log.idempotency_key) for log in stage.logged() if log.sku == "S00"]
    assert logged[-2:] == [("accepted", 40, row.handle), ("acknowledged", 40, row.handle)]


def test_a_feed_that_amazon_says_is_through_is_asked_for_by_the_next_push() -> None:
    stage = in_step(feed_seconds=20)
    stage.deliver()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(21)
    made = calls(stage)
    stage.push()
    assert "GET feeds" not in made  # its next check is a minute after it was handed in
    assert stage.deliver().deliveries == 1
    stage.push()
    assert "GET feeds" in made
    assert (open_submissions(stage), stage.changes(), shown(stage)) == ([], [], {40})


def test_a_notification_of_a_feed_that_nobody_knows_changes_nothing() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    before = open_submissions(stage)
    told = {"sellerId": "A2STANDIN0001", "feedId": "99", "processingStatus": "DONE"}
    payload = {"feedProcessingFinishedNotification": told}
    body = json.dumps({"notificationType": "FEED_PROCESSING_FINISHED", "payload": payload}).encode()
    delivery = Delivery(NAME, "FEED_PROCESSING_FINISHED", stage.clock.now(), {}, body, "receipt:f")
    assert apply_deliveries(stage.ws, [delivery], IntakeReport(), run_id="run") == []
    assert open_submissions(stage) == before


def test_where_the_report_shows_no_items_a_reading_acknowledges() -> None:
    stage = in_step()
    stage.account.feeds.shows_items = False
    count_all(stage, 40)
    stage.push()
    until_reported(stage)
    level = stage.level("S00")
    assert (level.acknowledged_quantity, level.uncertain, level.bulk_handle) == (50, Doubt.ACCEPTED, None)
    made = calls(stage)
    stage.settle()
    assert [call for call in made if "items" in call] == ["GET items"]
    assert stage.level("S00").acknowledged_quantity == 40


def test_few_changes_zeros_and_low_stock_go_singly() -> None:
    stage = in_step()
    for sku in SKUS[:7]:
        stage.count(sku, 40)
    for sku in SKUS[7:10]:
        stage.count(sku, 5)
    stage.count(SKUS[11], 0)
    made = calls(stage)
    report = stage.push()
    assert report.accepted == 11
    assert made.count("PATCH items") == 11
    assert open_submissions(stage) == []


def test_the_low_ones_of_many_changes_go_singly_beside_the_feed() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.clock.advance(1)
    stage.count(SKUS[0], 0)
    stage.count(SKUS[1], 3)
    made = calls(stage)
    report = stage.push()
    assert (report.accepted, made.count("PATCH items"), made.count("POST feeds")) == (12, 2, 1)
    stage.clock.advance(31)
    assert (stage.shown(SKUS[0]), stage.shown(SKUS[1]), stage.shown(SKUS[2])) == (0, 3, 50)


def test_a_decrease_while_a_feed_is_open_is_patched_at_once_and_again_after_the_report() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(30)
    stage.count("S03", 20)
    stage.account.buy({"S04": 2})
    stage.deliver()
    made = calls(stage)
    report = stage.push()
    assert (report.accepted, made.count("PATCH items")) == (2, 2)
    stage.clock.advance(40)
    assert (stage.shown("S03"), stage.shown("S04")) == (20, 38)
    assert stage.level("S03").bulk_handle is not None
    stage.clock.advance(300)
    assert (stage.shown("S03"), stage.shown("S04")) == (40, 40)  # the feed came last
    made.clear()
    stage.push()
    assert made.count("PATCH items") == 2
    stage.clock.advance(31)
    assert (stage.shown("S03"), stage.shown("S04")) == (20, 38)
    stage.settle()
    assert (stage.level("S03").acknowledged_quantity, stage.level("S04").acknowledged_quantity) == (20, 38)
    assert stage.shown("S05") == 40


def test_an_increase_while_a_feed_is_open_waits_for_what_is_read_after_it() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    stage.clock.advance(30)
    stage.count("S03", 45)
    made = calls(stage)
    stage.push()
    stage.clock.advance(60)
    stage.push()
    assert "PATCH items" not in made
    stage.settle()
    assert stage.shown("S03") == 45
    assert stage.level("S03").acknowledged_quantity == 45


def test_a_message_that_failed_is_told_in_amazons_words_and_hinders_no_other() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    del stage.account._books.items["S07"]
    until_reported(stage)
    level = stage.level("S07")
    assert level.pushable is False
    assert "does not exist" in level.last_error
    (row,) = [row for row in stage.logged() if row.status == "rejected"]
    assert (row.sku, row.new_quantity) == ("S07", 40)
    stage.settle()
    assert {stage.shown(sku) for sku in SKUS if sku != "S07"} == {40}


def spoil_first_message(stage: AmazonStage) -> str:
    """Make the first message of the one open feed invalid; return its SKU."""
    (feed,) = stage.account.feeds.feeds.values()
    document = stage.account.feeds._documents[feed.document]
    parsed = json.loads(document.body or "")
    parsed["messages"][0]["patches"][0]["value"][0]["quantity"] = "forty"
    document.body = json.dumps(parsed)
    sku: str = parsed["messages"][0]["sku"]
    return sku


def test_a_message_that_is_invalid_is_tried_again_later_with_the_number_of_then() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    sku = spoil_first_message(stage)
    until_reported(stage)
    level = stage.level(sku)
    assert (level.failures, level.acknowledged_quantity, level.bulk_handle) == (1, 50, None)
    assert "Quantity" in level.last_error
    stage.settle()
    assert shown(stage) == {40}


def test_a_cancel_while_a_message_that_fails_is_under_way_is_not_forgotten() -> None:
    stage = in_step()
    orders = {sku: stage.account.buy({sku: 10}) for sku in SKUS}
    stage.deliver()
    stage.settle()
    stage.clock.advance(900)
    stage.settle()
    assert shown(stage) == {40}
    count_all(stage, 40)
    stage.push()
    sku = spoil_first_message(stage)
    assert (stage.level(sku).accepted_quantity, stage.shown(sku)) == (30, 40)
    stage.account.cancel(orders[sku])
    stage.deliver()
    assert (stage.level(sku).desired, stage.shown(sku)) == (40, 50)
    until_reported(stage)
    for _ in range(3):
        stage.clock.advance(1800)
        stage.push()
    assert (stage.shown(sku), stage.level(sku).acknowledged_quantity, stage.changes()) == (40, 40, [])


def test_a_sale_before_a_feed_is_done_and_its_cancel_after_are_no_certain_number_where_both_are_heard_at_once() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    order = stage.account.buy({SKUS[0]: 10})
    stage.clock.advance(310)
    assert stage.shown(SKUS[0]) == 40
    stage.account.cancel(order)
    assert stage.shown(SKUS[0]) == 50
    stage.deliver()
    assert (stage.level(SKUS[0]).expected, stage.level(SKUS[0]).accepted_quantity) == (40, 40)
    until_reported(stage)
    stage.settle()
    assert (shown(stage), stage.changes()) == ({40}, [])


@pytest.mark.parametrize(("moves", "doubt"), [(False, None), (True, "new_address")])
def test_a_message_that_failed_leaves_a_level_in_doubt_that_is_so_for_another_reason(
    moves: bool, doubt: str | None
) -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    sku = spoil_first_message(stage)
    if moves:
        with write_transaction(stage.engine) as connection:
            connection.execute(update(inventory_levels).values(uncertain="new_address"))
    until_reported(stage)
    level = stage.level(sku)
    assert (level.failures, level.uncertain) == (1, doubt)
    stage.settle()
    assert shown(stage) == {40}


@pytest.mark.parametrize("end", ["FATAL", "CANCELLED"])
def test_a_feed_that_failed_as_a_whole_leaves_its_levels_unknown_until_they_are_read(end: str) -> None:
    stage = in_step()
    stage.account.feeds.end = end
    count_all(stage, 60)
    stage.push()
    stage.account.feeds.end = "DONE"
    until_reported(stage)
    level = stage.level("S00")
    assert (level.uncertain, level.accepted_quantity, level.bulk_handle) == (Doubt.ANSWER_LOST, None, None)
    assert (level.due_at, level.expected) == (level.linger_until, 60)
    assert lost(stage) == [f"Amazon says that the feed is {end} [settle]"] * 12
    stage.settle()
    assert shown(stage) == {60}
    assert stage.level("S00").acknowledged_quantity == 60


def test_decreases_of_a_feed_that_failed_as_a_whole_go_singly_at_once() -> None:
    stage = in_step()
    stage.account.feeds.end = "FATAL"
    count_all(stage, 40)
    stage.push()
    made = calls(stage)
    until_reported(stage)
    assert made.count("PATCH items") == 12
    stage.settle()
    assert shown(stage) == {40}


def test_a_feed_that_is_refused_as_a_whole_in_its_report_is_unknown_too() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    (feed,) = stage.account.feeds.feeds.values()
    stage.account.feeds._documents[feed.document].body = "{}"
    until_reported(stage)
    assert lost(stage) == ["Amazon refuses the feed: The document is not valid. [settle]"] * 12
    stage.settle()
    assert shown(stage) == {40}


def test_a_feed_that_is_open_after_a_day_is_not_waited_for() -> None:
    stage = in_step(feed_seconds=1e9)
    count_all(stage, 40)
    stage.push()
    stage.account.feeds.seconds = 60.0
    stage.clock.advance(86_000)
    stage.push()
    assert len(open_submissions(stage)) == 1
    stage.clock.advance(500)
    stage.push()
    level = stage.level("S00")
    assert (level.bulk_handle, level.uncertain) == (None, Doubt.ANSWER_LOST)
    assert ["still open" in words for words in lost(stage)] == [True] * 12
    stage.settle()
    assert shown(stage) == {40}


def test_no_more_than_five_feeds_go_out_in_any_five_minutes_and_none_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = in_step(feed_seconds=0.0)
    made: list[float] = []
    stage.transport._on_send = lambda when, request: (
        made.append(stage.clock.now().timestamp()) if when == "after" and request.url.endswith("/feeds") else None
    )
    monkeypatch.setattr(client, "BULK", replace(SMALL, check_every=0.0))
    for minute in range(20):
        count_all(stage, 49 - minute)
        report = stage.push()
        assert report.problem == ""
        stage.settle()
        stage.clock.advance(50)
    assert len(made) >= 9
    assert all(later - sooner > 300 for sooner, later in zip(made, made[5:], strict=False))


def test_feeds_keep_their_own_rate_and_the_rest_goes_singly(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = in_step(feed_seconds=0.0)
    made = calls(stage)
    monkeypatch.setattr(client, "BULK", replace(SMALL, check_every=0.0, window=1e6))
    for quantity in (49, 48, 47, 46, 45, 44, 43):
        count_all(stage, quantity)
        stage.push()
        stage.settle()
    assert made.count("POST feeds") == 5
    assert made.count("PATCH items") == 24
    assert shown(stage) == {43}


@pytest.mark.parametrize("step", [0, 1])
def test_what_fails_before_the_feed_is_made_has_sent_nothing_and_goes_singly(step: int) -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.faults.script([None] * (1 + step) + [Fault(Kind.REFUSE)])
    made = calls(stage)
    report = stage.push()
    assert report.not_sent == 12
    assert "in bulk" in report.problem
    assert made.count("PATCH items") == 12
    assert {stage.level(sku).uncertain for sku in SKUS} == {Doubt.ACCEPTED}
    stage.settle()
    assert shown(stage) == {40}


def test_a_lost_answer_to_the_feed_leaves_its_levels_unknown_for_an_hour() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.faults.script([None, None, None, Fault(Kind.TIMEOUT_AFTER)])
    report = stage.push()
    assert report.unknown == 12
    level = stage.level("S00")
    assert level.uncertain == Doubt.ANSWER_LOST
    assert (level.linger_until - stage.clock.now()).total_seconds() == 3600
    for _ in range(3):
        stage.settle_for(1800)
    assert shown(stage) == {40}
    assert stage.changes() == []


def test_a_feed_that_amazon_refuses_is_no_fault_of_its_rows() -> None:
    stage = in_step()
    count_all(stage, 40)

    def refuse(request: Request) -> Response:
        body = json.dumps({"errors": [{"code": "InvalidInput", "message": "No such feed type."}]}).encode()
        return Response(400, {}, body)

    handle = stage.transport._handler
    stage.transport._handler = lambda request: refuse(request) if request.url.endswith("/feeds") else handle(request)
    report = stage.push()
    assert "No such feed type." in report.problem
    assert (report.rejected, report.accepted) == (0, 12)
    assert stage.level("S00").failures == 0


def test_a_process_that_dies_with_a_feed_on_the_wire_leaves_doubt_and_nothing_lost() -> None:
    stage = in_step(feed_seconds=30.0)
    count_all(stage, 40)

    def die(when: str, request: Request) -> None:
        if when == "after" and request.url.endswith("/feeds"):
            raise SimulatedDeathError

    stage.transport._on_send = die
    with pytest.raises(SimulatedDeathError):
        stage.push()
    stage.transport._on_send = None
    assert {stage.level(sku).claim is None for sku in SKUS} == {False}
    stage.clock.advance(200)
    stage.push()
    assert stage.level("S00").uncertain == Doubt.CLAIM_TAKEN_OVER
    stage.clock.advance(3600)
    stage.settle()
    assert shown(stage) == {40}


def test_a_listing_that_is_paused_while_its_feed_is_open_is_reported_on_and_left_alone() -> None:
    stage = in_step()
    count_all(stage, 40)
    stage.push()
    with write_transaction(stage.engine) as connection:
        of_sku = select(platform_mapping.c.id).where(platform_mapping.c.platform_sku == "S03")
        listing = connection.execute(of_sku).scalar_one()
        set_status(connection, [listing], "paused", actor="test", reason="", now=stage.clock.now())
    until_reported(stage)
    level = stage.level("S03")
    assert (level.bulk_handle, level.pushable) == (None, False)
    stage.settle()
    assert stage.shown("S03") == 40


def test_a_first_push_reads_first_and_hands_in_what_it_made_certain() -> None:
    many = [f"S{number:02d}" for number in range(24)]
    stage = AmazonStage(dict.fromkeys(many, 40) | {"S23": 1}, dict.fromkeys(many, 50))
    made = calls(stage)
    report = stage.push()
    assert (report.read, report.accepted, report.problem) == (24, 24, "")
    # A reading recognises the shop. The low one goes as soon as it is read; of those that a feed may carry none before all are.
    of_stock = [call for call in made if "orders" not in call and call != "POST signed"]  # and the token
    assert of_stock == ["GET items"] * 2 + ["PATCH items", "GET items", "POST documents", "PUT signed", "POST feeds"]
    (row,) = open_submissions(stage)
    assert row.rows == 23


def test_a_push_of_some_skus_hands_nothing_in() -> None:
    stage = in_step()
    count_all(stage, 40)
    made = calls(stage)
    stage.push(skus=SKUS[:9])
    assert made.count("POST feeds") == 0
    assert made.count("PATCH items") == 9
