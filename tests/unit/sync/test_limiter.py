"""The shared rate limit: no window over the limit, waits as told, nothing reserved that can't start in time."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from invsync_dagster.platforms.contract import Budget, Limits
from invsync_dagster.sync.limiter import Limiter
from tests import databases

pytestmark = pytest.mark.usefixtures("each_database")

NEVER = 1e12


def a_database() -> Engine:
    return databases.fresh_engine()


def a_limiter(engine: Engine, channel: str = "shop", rate: float = 2.0, burst: float = 4.0) -> Limiter:
    return Limiter(engine, channel, Limits(write_batch=1, read_batch=1, rate=rate, burst=burst))


def test_calls_up_to_the_burst_start_at_once_and_the_next_ones_at_the_rate() -> None:
    limiter = a_limiter(a_database())
    waits = [limiter.reserve(1, 1000.0, NEVER) for _ in range(7)]
    assert waits == [0, 0, 0, 0, 0.5, 1.0, 1.5]


def test_a_call_that_could_not_start_in_time_reserves_nothing() -> None:
    limiter = a_limiter(a_database())
    for _ in range(4):
        limiter.reserve(1, 1000.0, NEVER)
    assert limiter.reserve(1, 1000.0, 1000.2) is None
    assert limiter.reserve(1, 1000.0, NEVER) == 0.5


def test_refusals_that_tell_no_time_wait_longer_each_up_to_five_minutes_and_an_accepted_call_ends_the_row() -> None:
    engine = a_database()
    now, waits = 1000.0, []
    for _ in range(10):
        a_limiter(engine).refused(now, "throttled: too many [wait]", 1.0)  # each in another process
        a_limiter(engine).refused(now, "throttled: too many [wait]", 1.0)  # of one that was on its way beside it
        waits.append(a_limiter(engine).reserve(1, now, NEVER) or 0.0)
        now += waits[-1] + 10
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    limiter = a_limiter(engine)
    assert limiter.reserve(1, now, NEVER) == 0
    limiter.accepted()
    limiter.refused(now, "throttled: too many [wait]", 1.0)
    assert limiter.reserve(1, now, NEVER) == 2


def test_what_was_reserved_by_a_clock_that_is_set_back_keeps_nobody() -> None:
    engine = a_database()
    for _ in range(6):
        a_limiter(engine).reserve(1, 1900.0, NEVER)
    assert [a_limiter(engine).reserve(1, 1000.0, NEVER) for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_who_can_not_start_in_time_learns_the_platforms_words_and_none_where_the_rate_alone_forbids_it() -> None:
    engine = a_database()
    a_limiter(engine).block(1030.0, "throttled: too many [wait]")
    limiter = a_limiter(engine)
    assert (limiter.reserve(1, 1000.0, 1010.0), limiter.why) == (None, "throttled: too many [wait]")
    assert (limiter.start_behind(1, 1000.0), limiter.why) == (30, "throttled: too many [wait]")
    for _ in range(4):
        limiter.reserve(1, 1031.0, NEVER)
    assert (limiter.reserve(1, 1031.0, 1031.2), limiter.why) == (None, "")


def test_a_throttled_answer_lets_no_process_call_before_the_time_told() -> None:
    engine = a_database()
    a_limiter(engine).block(1030.0, "")
    assert a_limiter(engine).reserve(1, 1000.0, NEVER) == 30.0
    a_limiter(engine).block(1010.0, "")
    assert a_limiter(engine).reserve(1, 1000.0, NEVER) == 30.0


def test_an_answer_tightens_the_budget_and_does_not_loosen_it_for_points_that_others_reserved() -> None:
    limiter = a_limiter(a_database())
    limiter.learn(Budget(available=0.0, restore_rate=2.0), 1, 1000.0)
    assert limiter.reserve(1, 1000.0, NEVER) == 0.5
    limiter.learn(Budget(available=4.0, restore_rate=2.0), 1, 1000.0)
    assert limiter.reserve(1, 1000.0, NEVER) == 1.0


def test_an_answer_gives_back_what_the_call_reserved_and_did_not_spend() -> None:
    limiter = a_limiter(a_database())
    assert limiter.reserve(4, 1000.0, NEVER) == 0
    limiter.learn(Budget(available=3.0, restore_rate=2.0, spent=1.0), 4, 1000.0)
    assert [limiter.reserve(1, 1000.0, NEVER) for _ in range(4)] == [0, 0, 0, 0.5]


def test_an_answer_takes_what_its_calls_spent_beyond_what_was_reserved() -> None:
    limiter = a_limiter(a_database())
    assert limiter.reserve(1, 1000.0, NEVER) == 0
    limiter.learn(Budget(available=4.0, restore_rate=2.0, spent=3.0), 1, 1000.0)
    assert [limiter.reserve(1, 1000.0, NEVER) for _ in range(3)] == [0, 0.5, 1.0]


def test_channels_have_budgets_of_their_own() -> None:
    engine = a_database()
    a_limiter(engine, "one").block(1030.0, "")
    assert a_limiter(engine, "two").reserve(1, 1000.0, NEVER) == 0


def test_two_processes_over_one_file_share_one_budget(tmp_path: Path) -> None:
    url = databases.fresh_url(tmp_path)
    first, second = databases.opened(url), databases.opened(url)
    waits = [a_limiter(engine).reserve(1, 1000.0, NEVER) for engine in (first, second) * 3]
    assert waits == [0, 0, 0, 0, 0.5, 1.0]


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4)), min_size=1, max_size=40))
def test_no_window_ever_holds_more_than_the_burst_and_what_the_rate_restores(calls: list[tuple[float, int]]) -> None:
    engine = a_database()
    limiter = a_limiter(engine)
    now, started = 1000.0, []
    for pause, cost in calls:
        now += pause
        wait = limiter.reserve(cost, now, NEVER)
        assert wait is not None
        started.append((now + wait, cost))
    databases.give_back(engine)
    started.sort()
    for first in range(len(started)):
        for last in range(first, len(started)):
            window = started[last][0] - started[first][0]
            assert sum(cost for _, cost in started[first : last + 1]) <= 4 + window * 2 + 1e-6


@pytest.mark.parametrize("cost", [5, 40])
def test_a_call_dearer_than_the_burst_still_goes(cost: int) -> None:
    assert a_limiter(a_database()).reserve(cost, 1000.0, NEVER) == 0


RATE, BURST = 2.0, 20.0
ALLOWED = 2.0  # what a background call may take here: its own cost, as a quarter of a second of the rate is less


def starts_of_the_foreground(asks: list[tuple[float, int]], background: int) -> tuple[list[float], list[float]]:
    """Live through `asks` (seconds since the last one, cost), with so many background workers that have always something
    to do, each call ALLOWED points; return when the calls of both started."""
    engine = a_database()
    limiter = a_limiter(engine, rate=RATE, burst=BURST)
    now, started, behind = 1000.0, [], []
    wakes = [now] * background
    for pause, cost in asks:
        now += pause
        while wakes and min(wakes) <= now:
            worker = wakes.index(min(wakes))
            later = limiter.start_behind(ALLOWED, wakes[worker])
            if not later:
                behind.append(wakes[worker])
            wakes[worker] += max(later, 0.001)
        wait = limiter.reserve(cost, now, NEVER)
        assert wait is not None
        started.append(now + wait)
    databases.give_back(engine)
    return started, behind


@settings(max_examples=10)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4)), min_size=1, max_size=20), st.integers(1, 3))
def test_what_goes_first_waits_no_longer_for_any_background_than_for_one_call_of_it(
    asks: list[tuple[float, int]], background: int
) -> None:
    alone, _ = starts_of_the_foreground(asks, 0)
    beside, behind = starts_of_the_foreground(asks, background)
    assert behind
    for without, with_it in zip(alone, beside, strict=True):
        assert with_it <= without + ALLOWED / RATE + 1e-5


def test_a_push_that_comes_in_the_middle_of_a_full_run_starts_at_once() -> None:
    started, behind = starts_of_the_foreground([(60.0, 4), (0.0, 4), (0.0, 4), (0.0, 4)], 3)
    assert len(behind) > 50
    assert started == [1060.0] * 4


def test_the_background_starts_nothing_while_the_foreground_has_reserved_ahead() -> None:
    engine = a_database()
    limiter = a_limiter(engine, rate=RATE, burst=4.0)
    assert [limiter.reserve(4, 1000.0, NEVER) for _ in range(3)] == [0, 2.0, 4.0]
    assert limiter.start_behind(2, 1000.0) == 6.0
    assert limiter.start_behind(2, 1005.9) == pytest.approx(0.1)
    assert limiter.start_behind(2, 1006.0) == 0.0
    assert limiter.reserve(4, 1006.0, NEVER) == 1.0


def test_a_throttled_answer_holds_the_background_too() -> None:
    limiter = a_limiter(a_database())
    limiter.block(1030.0, "")
    assert limiter.start_behind(1, 1000.0) == 30.0
    assert limiter.start_behind(1, 1030.0) == 0.0


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("rate", "burst", "cost"), [(2.0, 20.0, 1.0), (100.0, 2000.0, 12.0), (5.0, 5.0, 1.0)])
def test_the_background_alone_reaches_the_rate_though_it_wakes_late(
    rate: float, burst: float, cost: float, workers: int
) -> None:
    limiter = a_limiter(a_database(), rate=rate, burst=burst)
    late, until, started = 0.01, 1020.0, 0
    wakes = [1000.0] * workers
    while min(wakes) < until:
        worker = wakes.index(min(wakes))
        wait = limiter.start_behind(cost, wakes[worker])
        started += not wait
        wakes[worker] += wait + late
    assert 0.95 <= started * cost / rate / 20 <= 1.06


def test_a_long_row_of_calls_gains_nothing_by_rounding() -> None:
    limiter = a_limiter(a_database(), rate=10.0, burst=1.0)
    today, calls = 1_772_400_000.1, 200
    waits = [limiter.reserve(1, today, NEVER) for _ in range(calls + 1)]
    assert 0.0 <= Fraction(waits[-1] or 0.0) - Fraction(calls, 10) < calls * 1e-6


def test_a_call_in_the_background_starts_at_once_while_nobody_else_calls() -> None:
    engine = a_database()
    names = itertools.count()

    @given(
        now=st.integers(1_700_000_000_000_000, 1_900_000_000_000_000).map(lambda micros: micros / 1_000_000),
        cost=st.floats(0.1, 5_000),
        rate=st.floats(0.01, 1_000),
        burst=st.floats(1, 5_000),
    )
    def starts_at_once(now: float, cost: float, rate: float, burst: float) -> None:
        limiter = a_limiter(engine, f"shop {next(names)}", rate=rate, burst=burst)
        assert limiter.start_behind(cost, now) == 0.0

    starts_at_once()
