"""A host that doesn't answer costs its channel and nobody else; a throttled list of orders costs no zero; a clock no order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from invsync_dagster.inventory.tables import channels, order_lines
from invsync_dagster.platforms.transport import Request, Response, TransportError
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.line import Line
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.reconcile import full_sync
from tests.simulation.built import START
from tests.unit.sync.amazon_stage import AmazonStage
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.ebay_stage import EbayStage

SHOP = "shop_main"
SKU = "SKU-0001"


def restock(world: LittleWorld) -> None:
    world.erp.restock(SKU, 5)
    world.deliver("erp_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.inbox.clear()


def row_of(world: LittleWorld, channel: str = SHOP) -> Any:
    with world.engine.connect() as connection:
        return connection.execute(select(channels).where(channels.c.name == channel)).one()


def requests_of(world: LittleWorld) -> list[Request]:
    """Return the list to which each request to the shop is added from now on."""
    made: list[Request] = []
    world.transports[SHOP]._on_send = lambda when, request: made.append(request) if when == "before" else None
    return made


# --- a host that is gone ----------------------------------------------------------------------------------------------


def test_a_dead_host_is_cut_out_asked_once_after_each_wait_and_all_goes_on_with_its_first_answer(
    world: LittleWorld,
) -> None:
    restock(world)
    made = requests_of(world)
    began = world.clock.now()
    world.faults[SHOP].set_rates({Kind.REFUSE: 1.0})
    report = world.push(SHOP, seconds=20)
    words = (
        f"no answer since {began:%Y-%m-%d %H:%M:%S} UTC: orders could not be listed: not_reached: connection refused"
    )
    assert report.problem == f"{words} [retry]"
    assert (row_of(world).unreachable_since, row_of(world).last_problem) == (began, report.problem)
    assert len(made) == 5  # the list and its retries, and whether it is there

    made.clear()
    assert full_sync(world.processes[0], SHOP, 0, run_id="full").problem == report.problem
    again = world.push(SHOP)
    assert (again.problem, again.seconds, again.api_calls, made) == (report.problem, 0.0, 0, [])
    waits = []
    for _ in range(8):
        waits.append((row_of(world).unreachable_until - world.clock.now()).total_seconds())
        world.clock.advance(waits[-1])
        made.clear()
        assert world.push(SHOP).problem.startswith(f"no answer since {began:%Y-%m-%d %H:%M:%S} UTC: not_reached")
        assert len(made) == 1
    assert waits == sorted(waits)
    assert (waits[0] < 30, waits[-1]) == (True, 300.0)

    world.faults[SHOP].clear()
    assert world.push(SHOP).pushed == 0  # its wait isn't over
    world.clock.advance(300)
    report = world.push(SHOP)
    assert (report.problem, report.acknowledged, world.changes(SHOP)) == ("", 1, 0)
    row = row_of(world)
    assert (row.unanswered, row.unreachable_since, row.unreachable_until) == (0, None, None)


def test_other_channels_are_pushed_meanwhile_and_what_was_in_doubt_stays_so(world: LittleWorld) -> None:
    restock(world)
    world.faults[SHOP].script([None])  # the orders are listed; then it hangs
    world.faults[SHOP].set_rates({Kind.TIMEOUT_AFTER: 1.0})
    for _ in range(4):
        world.push(SHOP, seconds=20)
    assert world.level(SHOP, SKU).uncertain == "answer_lost"
    assert row_of(world).unreachable_since is not None
    assert world.push("erp_main").acknowledged == 1
    world.faults[SHOP].clear()
    world.clock.advance(600)
    assert world.push(SHOP).settled == 1
    assert world.shown(SHOP, SKU) == world.level(SHOP, SKU).desired


def test_a_host_that_hangs_keeps_a_push_no_longer_than_its_deadline(world: LittleWorld) -> None:
    restock(world)
    world.faults[SHOP].set_rates({Kind.TIMEOUT_BEFORE: 1.0})
    seconds = []
    for _ in range(4):
        report = world.push(SHOP, seconds=20)
        assert "answer_lost: no answer within 15 s [retry]" in report.problem
        seconds.append(report.seconds)
    assert seconds == [20.0, 20.0, 0.0, 0.0]
    assert world.level(SHOP, SKU).uncertain is None  # nobody knows whether it's there: nothing was written


def test_a_list_of_orders_that_hangs_alone_cuts_nothing_out_and_decreases_go(world: LittleWorld) -> None:
    before = world.shown(SHOP, SKU)
    world.sell("shop_eu", SKU)
    world.deliver("shop_eu")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.faults[SHOP].script([Fault(Kind.ERROR_504)] * 4)
    report = world.push(SHOP, seconds=20)
    assert "orders could not be listed: server_error" in report.problem
    assert (report.acknowledged, world.shown(SHOP, SKU)) == (1, before - 1)
    assert row_of(world).unreachable_until is None


def test_given_skus_are_pushed_by_hand_whatever_was_cut_out(world: LittleWorld) -> None:
    restock(world)
    world.faults[SHOP].set_rates({Kind.REFUSE: 1.0})
    world.push(SHOP, seconds=20)
    world.faults[SHOP].clear()
    assert world.push(SHOP).problem
    assert world.push(SHOP, skus=[SKU]).acknowledged == 1
    assert row_of(world).unreachable_until is None


def test_a_key_that_is_refused_once_the_host_is_back_stops_the_channel(world: LittleWorld) -> None:
    world.faults[SHOP].set_rates({Kind.REFUSE: 1.0})
    world.push(SHOP, seconds=20)
    world.faults[SHOP].clear()
    world.shops[SHOP].access_token = "revoked"
    world.clock.advance(300)
    report = world.push(SHOP)
    assert (report.stopped, row_of(world).unreachable_until) == (True, None)
    assert row_of(world).stopped_reason == report.problem


# --- a budget of orders' own ------------------------------------------------------------------------------------------


def amazon_whose_orders_are_used_up() -> AmazonStage:
    stage = AmazonStage({"A": 9}, {"A": 9})
    stage.push()
    stage.settle()
    stage.clock.advance(400)
    gate = stage.account._gate
    gate._rates["orders"] = (1e-9, 20.0)
    gate._buckets["orders"] = (0.0, stage.clock.now())
    return stage


def test_a_zero_does_not_wait_for_a_list_of_orders_that_is_throttled() -> None:
    stage = amazon_whose_orders_are_used_up()
    sent: list[tuple[str, datetime]] = []
    stage.transport._on_send = lambda when, request: (
        sent.append((request.method, stage.clock.now())) if when == "before" else None
    )
    began = stage.clock.now()
    stage.count("A", 0)
    report = stage.push()
    assert sent == [("GET", began), ("PATCH", began)]
    assert report.problem == (
        "orders could not be listed in time: throttled: You exceeded your quota for the requested resource. [wait]"
    )
    sent.clear()
    stage.push()
    assert sent == []  # the orders' own wait isn't over: the next push leaves them alone too


def test_refusals_in_a_row_wait_twice_as_long_each_and_an_answer_ends_the_row() -> None:
    stage = EbayStage({"A": 9, "B": 5})
    stage.push()
    made: list[float] = []
    stage.transport._on_send = lambda when, request: (
        made.append(stage.clock.now().timestamp()) if when == "before" and "/sell/" in request.url else None
    )
    # Not the calls of the day, of which eBay tells until when they are used up.
    stage.account.quota.burst = 0
    for minute in range(60):
        stage.count_all({"A": minute % 9})
        stage.clock.advance(59)
    assert len(made) < 60  # an hour of nothing but refusals: two budgets, five minutes each at the end
    late = [later - sooner for sooner, later in itertools.pairwise(made) if later - sooner > 150]
    assert late
    report = stage.push()
    assert report.problem.endswith("throttled: Too many requests. [wait]")

    stage.account.quota.burst = 100
    stage.clock.advance(400)
    assert not stage.push().problem
    stage.clock.advance(400)
    stage.account.quota.burst = 0
    made.clear()
    stage.count_all({"A": 1})
    assert made[1] - made[0] <= 2.5  # the first one again


# --- clocks -----------------------------------------------------------------------------------------------------------


@dataclass
class Shifted:
    """Our machine's clock, off by so much."""

    right: VirtualClock
    by: timedelta

    def now(self) -> datetime:
        return self.right.now() + self.by

    def sleep(self, seconds: float) -> None:
        self.right.sleep(seconds)


@pytest.mark.parametrize("seconds", [900, -900])
def test_a_clock_that_is_off_loses_no_sale_and_is_told(world: LittleWorld, seconds: int) -> None:
    clock = Shifted(world.clock, timedelta(seconds=seconds))

    def push(name: str = SHOP) -> Any:
        # Each run is a process of its own.
        ws = replace(world.processes[0], clock=clock, _platforms={}, _lines={})
        return push_channel(ws, name, run_id="", deadline=clock.now() + timedelta(seconds=60))

    push()
    for _ in range(4):
        world.clock.advance(300)
        sku = next(sku for sku, shown in world.shops[SHOP].shows().items() if shown > 4)
        world.sell(SHOP, sku)  # and no webhook of it ever comes
        world.clock.advance(30)
        report = push()
    with world.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(order_lines)).scalar_one() == 4
    assert (report.problem, row_of(world).clock_ahead) == ("", report.clock_ahead)
    assert report.clock_ahead == pytest.approx(-seconds, abs=1)

    clock.by = timedelta(0)  # it is set right
    for _ in range(2):
        world.clock.advance(30)
        world.sell(SHOP, SKU)
        report = push()
    assert (report.problem, report.clock_ahead) == ("", 0)
    with world.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(order_lines)).scalar_one() == 6


def test_a_difference_within_the_overlap_is_nobodys_trouble(world: LittleWorld) -> None:
    ws = replace(world.processes[0], clock=Shifted(world.clock, timedelta(seconds=100)), _platforms={}, _lines={})
    report = push_channel(ws, SHOP, run_id="", deadline=ws.clock.now() + timedelta(seconds=60))
    assert (report.problem, report.clock_ahead, row_of(world).clock_ahead) == ("", 0, 0)


# --- the line itself --------------------------------------------------------------------------------------------------


@dataclass
class Wire:
    """A transport that answers with what `answer` returns or raises, and keeps the deadlines it was given."""

    answer: Callable[[], Response]

    def __post_init__(self) -> None:
        self.deadlines: list[float] = []

    def send(self, request: Request, *, deadline: float) -> Response:
        self.deadlines.append(deadline)
        return self.answer()


def refused() -> Response:
    raise TransportError("GET host/: the host could not be reached", sent=False)


def test_a_line_counts_what_is_not_answered_in_a_row_and_servers_in_trouble_too() -> None:
    answers = iter([refused, lambda: Response(503), lambda: Response(429), refused])
    line = Line(Wire(lambda: next(answers)()), VirtualClock(START))
    counted = []
    for _ in range(4):
        try:
            line.send(Request("GET", "https://host/"), deadline=30)
        except TransportError as error:
            assert str(error) == line.words
        counted.append(line.unanswered)
    assert counted == [1, 2, 0, 1]


def test_a_bound_holds_for_the_requests_within_it_and_leaves_each_five_seconds() -> None:
    wire, clock = Wire(lambda: Response(200)), VirtualClock(START)
    line = Line(wire, clock)
    request = Request("GET", "https://host/")
    with line.within(START + timedelta(seconds=12)):
        line.send(request, deadline=30)
        line.send(request, deadline=10)
        clock.advance(11)
        line.send(request, deadline=30)
    line.send(request, deadline=30)
    assert wire.deadlines == [12, 10, 5, 30]


@pytest.mark.parametrize(
    ("headers", "ahead"),
    [
        ({"date": "Mon, 02 Mar 2026 00:15:00 GMT"}, 900.5),
        ({"date": "Sun, 01 Mar 2026 23:59:59 GMT"}, -0.5),
        ({"date": "Mon, 02 Mar 2026 00:15:00 GMT", "age": "900"}, None),
        ({"date": "soon"}, None),
        ({}, None),
    ],
)
def test_the_hosts_clock_is_read_from_what_it_answers(headers: dict[str, str], ahead: float | None) -> None:
    line = Line(Wire(lambda: Response(200, headers)), VirtualClock(START))
    line.send(Request("GET", "https://host/"), deadline=30)
    assert (None if line.ahead is None else line.ahead.total_seconds()) == ahead
