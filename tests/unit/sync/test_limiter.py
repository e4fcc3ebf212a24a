"""The shared rate limit: no window over the limit, waits as told, nothing reserved that can't start in time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
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


def test_a_throttled_answer_lets_no_process_call_before_the_time_told() -> None:
    engine = a_database()
    a_limiter(engine).block(1030.0)
    assert a_limiter(engine).reserve(1, 1000.0, NEVER) == 30.0
    a_limiter(engine).block(1010.0)
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


def test_channels_have_budgets_of_their_own() -> None:
    engine = a_database()
    a_limiter(engine, "one").block(1030.0)
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
