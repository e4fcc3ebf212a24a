"""The virtual clock, the faults, and the transport in process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.platforms.transport import Request, Response, TransportError
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.faults import DONE_FIRST, STATUS, Fault, Faults, Kind
from invsync_dagster.sandbox.transport import InProcessTransport

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
REQUEST = Request("POST", "http://127.0.0.1/x", {}, b"1")


class Counter:
    """A stand-in that counts what reached it."""

    def __init__(self) -> None:
        self.done: list[Request] = []

    def handle(self, request: Request) -> Response:
        self.done.append(request)
        return Response(200, {}, b"done")


def wired(*faults: Fault | None) -> tuple[InProcessTransport, Counter, VirtualClock]:
    clock, counter, planned = VirtualClock(START), Counter(), Faults(Random(1))
    planned.script(faults)
    return InProcessTransport(counter.handle, clock, planned), counter, clock


# --- the clock --------------------------------------------------------------------------------------------------------


def test_time_passes_only_when_somebody_waits_or_moves_it() -> None:
    clock = VirtualClock(START)
    clock.sleep(1.5)
    clock.sleep(-3)
    assert clock.now() == START + timedelta(seconds=1.5)
    assert clock.advance(0.5) == START + timedelta(seconds=2)
    assert clock.advance_to(START) == START + timedelta(seconds=2)
    assert clock.advance_to(START + timedelta(hours=1)) == clock.now() == START + timedelta(hours=1)


def test_a_naive_time_and_a_step_back_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(START.replace(tzinfo=None))
    with pytest.raises(ValueError, match="go back"):
        VirtualClock(START).advance(-1)


# --- the faults -------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), rates=st.permutations([(Kind.REFUSE, 0.2), (Kind.LATE, 0.3), (Kind.THROTTLE, 0.2)]))
def test_a_seed_gives_the_same_faults_in_whatever_order_the_rates_are_named(
    seed: int, rates: list[tuple[Kind, float]]
) -> None:
    first = Faults(Random(seed), dict(rates))
    second = Faults(Random(seed), dict(sorted(rates)))
    assert [first.next() for _ in range(50)] == [second.next() for _ in range(50)]


def test_faults_come_at_their_rates_with_their_seconds() -> None:
    faults = Faults(Random(3), {Kind.LATE: 0.25, Kind.ERROR_502: 0.5}, late_seconds=(2.0, 4.0))
    drawn = [faults.next() for _ in range(4000)]
    late = [fault for fault in drawn if fault is not None and fault.kind is Kind.LATE]
    assert abs(len(late) - 1000) < 100
    assert abs(sum(fault is None for fault in drawn) - 1000) < 100
    assert all(2.0 <= fault.seconds <= 4.0 for fault in late)


def test_scripted_faults_go_first_and_none_lets_a_request_pass() -> None:
    faults = Faults(Random(1), {Kind.REFUSE: 1.0})
    faults.script([Fault(Kind.SLOW, 2.0), None])
    assert [faults.next(), faults.next(), faults.next()] == [Fault(Kind.SLOW, 2.0), None, Fault(Kind.REFUSE)]
    faults.clear()
    assert faults.next() is None


@pytest.mark.parametrize("rates", [{Kind.REFUSE: -0.1}, {Kind.REFUSE: 0.6, Kind.LATE: 0.5}])
def test_rates_that_cannot_be_are_refused(rates: dict[Kind, float]) -> None:
    with pytest.raises(ValueError, match="rates"):
        Faults(Random(1), rates)


# --- the transport ----------------------------------------------------------------------------------------------------


def test_without_a_fault_the_answer_is_the_stand_ins() -> None:
    transport, counter, clock = wired()
    assert transport.send(REQUEST, deadline=10).body == b"done"
    assert counter.done == [REQUEST]
    assert clock.now() == START


@pytest.mark.parametrize("kind", sorted(STATUS))
def test_a_fault_that_is_an_answer_has_its_status_and_is_done_or_not_as_it_says(kind: Kind) -> None:
    transport, counter, _ = wired(Fault(kind, 2.2))
    response = transport.send(REQUEST, deadline=10)
    assert (response.status, b"<html>" in response.body) == (STATUS[kind], True)
    assert response.headers.get("retry-after") == ("3" if kind is Kind.THROTTLE else None)
    assert len(counter.done) == (1 if kind in DONE_FIRST else 0)


@pytest.mark.parametrize(
    ("kind", "sent", "done", "seconds"),
    [
        (Kind.REFUSE, False, 0, 0),
        (Kind.TIMEOUT_BEFORE, True, 0, 10),
        (Kind.TIMEOUT_AFTER, True, 1, 10),
        (Kind.LATE, True, 0, 10),
        (Kind.CUT_BEFORE, True, 0, 0),
        (Kind.CUT_AFTER, True, 1, 0),
    ],
)
def test_a_fault_without_an_answer_tells_what_was_sent_and_takes_its_time(
    kind: Kind, sent: bool, done: int, seconds: float
) -> None:
    transport, counter, clock = wired(Fault(kind, 5))
    with pytest.raises(TransportError) as raised:
        transport.send(REQUEST, deadline=10)
    assert (raised.value.sent, len(counter.done)) == (sent, done)
    assert clock.now() == START + timedelta(seconds=seconds)


def test_a_slow_answer_comes_late_or_past_the_deadline_not_at_all() -> None:
    transport, counter, clock = wired(Fault(Kind.SLOW, 4), Fault(Kind.SLOW, 40))
    assert transport.send(REQUEST, deadline=10).body == b"done"
    assert clock.now() == START + timedelta(seconds=4)
    with pytest.raises(TransportError):
        transport.send(REQUEST, deadline=10)
    assert clock.now() == START + timedelta(seconds=14)
    assert len(counter.done) == 2


def test_a_late_write_lands_after_the_deadline_and_its_delay_and_only_once() -> None:
    transport, counter, clock = wired(Fault(Kind.LATE, 5))
    with pytest.raises(TransportError):
        transport.send(REQUEST, deadline=10)
    assert transport.next_landing == START + timedelta(seconds=15)
    assert transport.land_due(clock.advance(4.9)) == 0
    assert counter.done == []
    assert transport.land_due(clock.advance(0.1)) == 1
    assert transport.land_due(clock.advance(100)) == 0
    assert counter.done == [REQUEST]
    assert transport.next_landing is None


def test_the_next_request_finds_what_has_landed_before_it() -> None:
    second = Request("POST", "http://127.0.0.1/x", {}, b"2")
    transport, counter, clock = wired(Fault(Kind.LATE, 5), None)
    with pytest.raises(TransportError):
        transport.send(REQUEST, deadline=10)
    clock.advance(5)
    transport.send(second, deadline=10)
    assert counter.done == [REQUEST, second]


def test_other_code_runs_before_the_request_arrives_and_after_it_was_worked_on() -> None:
    counter = Counter()
    seen: list[tuple[str, int]] = []
    transport = InProcessTransport(
        counter.handle, VirtualClock(START), on_send=lambda when, request: seen.append((when, len(counter.done)))
    )
    transport.send(REQUEST, deadline=10)
    assert seen == [("before", 0), ("after", 1)]


@pytest.mark.parametrize(("when", "done"), [("before", 0), ("after", 1)])
def test_a_process_that_dies_in_the_midst_of_a_send_leaves_what_was_done(when: str, done: int) -> None:
    class DeathError(Exception):
        pass

    def die_at(moment: str) -> Callable[[str, Request], None]:
        def hook(now: str, request: Request) -> None:
            if now == moment:
                raise DeathError

        return hook

    counter = Counter()
    transport = InProcessTransport(counter.handle, VirtualClock(START), on_send=die_at(when))
    with pytest.raises(DeathError):
        transport.send(REQUEST, deadline=10)
    assert len(counter.done) == done
