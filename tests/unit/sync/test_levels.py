"""The transitions of a level: what may settle, what may only lower, and what stays uncertain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.inventory.tables import NOT_THERE
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.sync import asynchronous, levels, settling
from invsync_dagster.sync.levels import Doubt, LevelState
from invsync_dagster.sync.settling import ReadingBasis

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
LIMITS = Limits(write_batch=10, read_batch=10, rate=1.0, burst=1.0, read_lag=2.0, write_linger=60.0)


def a_level(**changes: object) -> LevelState:
    state = LevelState(
        id=1,
        central_sku="A",
        item_id="i",
        location_id="",
        desired=5,
        desired_sequence=7,
        rules_revision=0,
        touched=3,
        attempt=2,
        claim="token",
        sent_quantity=5,
        sent_at=NOW - timedelta(minutes=5),
        effective_quantity=8,
        expected=8,
        accepted_quantity=None,
        accepted_handle=None,
        accepted_check_after=None,
        bulk_handle=None,
        acknowledged_quantity=8,
        acknowledged_at=NOW - timedelta(minutes=9),
        acknowledged_attempt=1,
        observed_quantity=None,
        observed_at=None,
        uncertain="own_sale",
        uncertain_since=NOW - timedelta(seconds=30),
        linger_until=None,
        moved_at=None,
        out_of_step_since=NOW - timedelta(seconds=30),
        due_at=NOW,
        failures=0,
        last_error="",
    )
    return state._replace(**changes)  # type: ignore[arg-type]


def a_basis(**changes: object) -> ReadingBasis:
    return replace(ReadingBasis(NOW, NOW + timedelta(seconds=1), 3, NOW + timedelta(seconds=2)), **changes)  # type: ignore[arg-type]


def goes_at_once(state: LevelState) -> bool:
    return state.uncertain is None or (state.expected is not None and state.desired < state.expected)


def test_a_valid_reading_equal_to_desired_becomes_acknowledged_and_that_is_all() -> None:
    state = settling.settle(a_level(), 5, a_basis(), LIMITS)
    assert state.uncertain is None
    assert (state.acknowledged_quantity, state.effective_quantity, state.expected) == (5, 5, 5)


def test_a_valid_reading_above_desired_is_written_down_from_that_reading() -> None:
    state = settling.settle(a_level(), 9, a_basis(), LIMITS)
    assert state.uncertain is None
    assert state.effective_quantity == 9
    assert goes_at_once(state)


def test_a_reading_below_desired_waits_while_the_channels_orders_are_not_known_past_it() -> None:
    for known in (None, NOW):
        state = settling.settle(a_level(), 3, a_basis(orders_known_until=known), LIMITS)
        assert state.uncertain == "own_sale"
        assert state.effective_quantity == 8
        assert not goes_at_once(state)
        assert state.due_at > NOW


def test_a_reading_below_desired_raises_once_the_orders_are_known_past_it() -> None:
    state = settling.settle(a_level(), 3, a_basis(), LIMITS)
    assert state.uncertain is None
    assert state.effective_quantity == 3


def test_a_rise_is_written_at_the_bound_even_if_the_orders_never_become_known() -> None:
    long_ago = NOW - settling.LONGEST_RISE_WAIT
    state = settling.settle(a_level(uncertain_since=long_ago), 3, a_basis(orders_known_until=None), LIMITS)
    assert state.uncertain is None


def test_a_reading_does_not_settle_what_an_attempt_or_an_own_sale_touched_meanwhile() -> None:
    state = settling.settle(a_level(touched=4), 5, a_basis(), LIMITS)
    assert state.uncertain == "own_sale"
    assert state.due_at <= NOW + timedelta(seconds=1)


def test_a_reading_within_the_read_lag_of_our_write_does_not_settle() -> None:
    state = settling.settle(a_level(sent_at=NOW - timedelta(seconds=1)), 5, a_basis(), LIMITS)
    assert state.uncertain == "own_sale"


def test_a_reading_while_a_lost_write_may_still_land_does_not_settle_and_waits_for_its_end() -> None:
    end = NOW + timedelta(seconds=40)
    state = settling.settle(a_level(uncertain=Doubt.ANSWER_LOST, linger_until=end), 5, a_basis(), LIMITS)
    assert state.uncertain == Doubt.ANSWER_LOST
    assert state.due_at == end


def test_an_invalid_reading_above_desired_lowers_at_once() -> None:
    end = NOW + timedelta(seconds=40)
    state = settling.settle(a_level(expected=5, linger_until=end), 9, a_basis(), LIMITS)
    assert state.uncertain == "own_sale"
    assert goes_at_once(state)


def test_an_acknowledgement_makes_certain() -> None:
    state = levels.acknowledged(a_level(), 5, NOW)
    assert state.uncertain is None
    assert (state.effective_quantity, state.expected, state.acknowledged_quantity) == (5, 5, 5)
    assert state.failures == 0


def test_an_acknowledgement_that_raced_an_own_sale_is_settled_by_reading() -> None:
    state = levels.acknowledged(a_level(), 5, NOW, raced=True, own_movement=-1)
    assert state.uncertain == "own_sale"
    assert state.expected == 4


def test_an_acknowledgement_while_an_older_write_may_land_stays_uncertain_until_it_can_not() -> None:
    end = NOW + timedelta(seconds=40)
    state = levels.acknowledged(a_level(uncertain=Doubt.ANSWER_LOST, linger_until=end), 5, NOW)
    assert state.uncertain == Doubt.ANSWER_LOST
    assert state.due_at == end


def test_a_lost_answer_expects_the_higher_of_before_and_sent_so_that_a_decrease_goes_on() -> None:
    lost = levels.doubted(a_level(uncertain=None, expected=8, sent_quantity=5), Doubt.ANSWER_LOST, NOW)
    assert lost.expected == 8
    assert goes_at_once(lost)
    raised = levels.doubted(a_level(uncertain=None, expected=3, sent_quantity=5), Doubt.ANSWER_LOST, NOW)
    assert raised.expected == 5
    assert not goes_at_once(raised)


def test_a_refused_compare_and_set_is_read_again_at_once_and_waits_after_three_in_a_row() -> None:
    state = a_level(uncertain=None)
    dues = []
    for _ in range(4):
        state = levels.refused(state, "stale", NOW, 0.0)
        dues.append(state.due_at - NOW)
        assert state.uncertain == Doubt.COMPARE_AND_SET_REFUSED
        state = levels.settled(state, 9, NOW)._replace(claim="token")
    assert dues[:3] == [timedelta(0)] * 3
    assert dues[3] > timedelta(0)


def test_a_refusal_after_lost_answers_is_read_at_once_all_the_same() -> None:
    state = levels.refused(a_level(uncertain=Doubt.ANSWER_LOST, failures=5), "stale", NOW, 0.5)
    assert state.due_at == NOW
    assert state.expected is None
    assert not goes_at_once(state)


def test_a_refused_compare_and_set_never_waits_longer_than_a_minute() -> None:
    state = levels.refused(a_level(uncertain=None, failures=20), "stale", NOW, 0.9)
    assert state.due_at - NOW == levels.LONGEST_REFUSAL_WAIT


@pytest.mark.parametrize(
    "happens",
    [
        lambda state: levels.doubted(state, Doubt.ANSWER_LOST, NOW),
        lambda state: levels.doubted(state, Doubt.CLAIM_TAKEN_OVER, NOW),
        lambda state: levels.refused(state, "stale", NOW, 0.0),
        lambda state: levels.acknowledged(state, 5, NOW),  # while what the lost system sent may still land
    ],
)
def test_a_restored_level_rises_only_once_all_orders_are_known_whatever_became_of_its_writes(
    happens: Callable[[LevelState], LevelState],
) -> None:
    state = happens(a_level(uncertain="restore", linger_until=NOW + timedelta(minutes=1)))
    later = NOW + timedelta(hours=1)
    basis = a_basis(began=later, ended=later, touched=state.touched, orders_known_until=later)
    waits = settling.settle(state, 3, basis, LIMITS)
    assert (waits.uncertain, waits.expected) == ("restore", 3)
    assert settling.settle(state, 3, replace(basis, all_orders_known_until=later), LIMITS).uncertain is None


def test_the_wait_after_failures_grows_and_is_bounded() -> None:
    waits = [levels.wait_after(n, 0.0) for n in range(1, 40)]
    assert waits[:3] == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20)]
    assert waits == sorted(waits)
    assert max(levels.wait_after(n, 0.999) for n in range(1, 40)) <= levels.LONGEST_WAIT * 1.5


@given(
    reading=st.integers(0, 20),
    desired=st.integers(0, 20),
    touched=st.integers(0, 1),
    lingering=st.booleans(),
    known=st.booleans(),
)
def test_only_a_valid_reading_settles_and_only_known_orders_let_it_raise(
    reading: int, desired: int, touched: int, lingering: bool, known: bool
) -> None:
    level = a_level(
        desired=desired, touched=3 + touched, linger_until=NOW + timedelta(seconds=9) if lingering else None
    )
    basis = a_basis(orders_known_until=NOW + timedelta(seconds=2) if known else None)
    state = settling.settle(level, reading, basis, LIMITS)
    valid = not touched and not lingering
    assert (state.uncertain is None) == (valid and (reading >= desired or known))
    assert state.effective_quantity == (reading if state.uncertain is None else 8)
    if not valid and reading > desired:
        assert goes_at_once(state)


# --- what an asynchronous platform accepted -------------------------------------------------------------------------


def an_accepted(**changes: object) -> LevelState:
    before = a_level(uncertain=None, sent_at=NOW - timedelta(seconds=30), sent_quantity=5)
    return asynchronous.accepted(before, 5, "handle", 10.0, NOW - timedelta(seconds=30))._replace(**changes)  # type: ignore[arg-type]


def test_what_was_accepted_is_on_its_way_and_looked_at_when_the_platform_says() -> None:
    state = an_accepted()
    assert (state.effective_quantity, state.expected, state.acknowledged_quantity) == (5, 5, 8)
    assert (state.accepted_quantity, state.accepted_handle) == (5, "handle")
    assert state.uncertain == Doubt.ACCEPTED
    assert state.due_at == state.accepted_check_after == NOW - timedelta(seconds=20)
    assert not goes_at_once(state)
    assert goes_at_once(state._replace(desired=4))


def test_a_number_that_fell_during_the_call_is_due_at_once() -> None:
    state = asynchronous.accepted(a_level(uncertain=None, desired=4), 5, "handle", 10.0, NOW, own_movement=-1)
    assert (state.expected, state.due_at) == (5, NOW)
    assert goes_at_once(state)


def test_just_the_accepted_number_settles_though_the_channels_orders_are_not_known() -> None:
    state = settling.settle(an_accepted(desired=9), 5, a_basis(orders_known_until=None), LIMITS)
    assert (state.uncertain, state.acknowledged_quantity, state.effective_quantity) == (None, 5, 5)
    assert (state.accepted_quantity, state.accepted_handle, state.accepted_check_after) == (None, None, None)
    assert goes_at_once(state)


def test_after_a_cancel_at_the_platform_just_the_accepted_number_may_hide_a_sale() -> None:
    state = settling.settle(an_accepted(desired=6, expected=6), 5, a_basis(orders_known_until=None), LIMITS)
    assert state.uncertain == Doubt.ACCEPTED
    assert state.acknowledged_quantity == 8


@given(reading=st.integers(0, 20), desired=st.integers(0, 20))
def test_any_other_number_settles_nothing_and_sends_nothing_while_the_accepted_may_still_come(
    reading: int, desired: int
) -> None:
    state = settling.settle(an_accepted(desired=desired), reading, a_basis(), LIMITS)
    assert (state.uncertain is None) == (reading == 5)
    if reading != 5:
        assert (state.expected, state.effective_quantity) == (5, 5)
        assert state.due_at > NOW


def test_what_is_read_counts_once_the_accepted_can_no_longer_come() -> None:
    long_ago = NOW - timedelta(seconds=61)
    state = settling.settle(an_accepted(sent_at=long_ago), 8, a_basis(), LIMITS)
    assert (state.uncertain, state.effective_quantity, state.accepted_quantity) == (None, 8, None)
    assert goes_at_once(state)


def test_a_reading_too_soon_after_the_attempt_is_repeated_when_it_can_show() -> None:
    sent_at = NOW - timedelta(seconds=1)
    state = settling.settle(an_accepted(sent_at=sent_at), 5, a_basis(), LIMITS)
    assert state.uncertain == Doubt.ACCEPTED
    assert state.due_at == sent_at + timedelta(seconds=LIMITS.read_lag)


def test_an_older_lost_answer_outlives_an_accepted_write() -> None:
    end = NOW + timedelta(seconds=40)
    before = a_level(uncertain=Doubt.ANSWER_LOST, linger_until=end, sent_at=NOW - timedelta(seconds=30))
    state = asynchronous.accepted(before, 5, "handle", 10.0, NOW)
    assert state.uncertain == Doubt.ANSWER_LOST
    assert settling.settle(state, 5, a_basis(), LIMITS).uncertain == Doubt.ANSWER_LOST


def test_a_level_that_is_not_there_is_made_by_the_next_write_once_the_orders_are_known() -> None:
    state = settling.absent(a_level(), a_basis(), LIMITS)
    assert (state.effective_quantity, state.acknowledged_quantity, state.expected) == (NOT_THERE, None, None)
    assert (state.uncertain, state.due_at) == (None, NOW + timedelta(seconds=1))
    waits = settling.absent(a_level(), a_basis(orders_known_until=None), LIMITS)
    assert (waits.uncertain, waits.effective_quantity) == ("own_sale", 8)
    assert settling.absent(a_level(desired=0), a_basis(orders_known_until=None), LIMITS).uncertain is None


def test_a_level_that_a_write_of_ours_may_have_made_is_not_taken_for_one_that_is_not_there() -> None:
    for changes, due_at in (
        ({"touched": 4}, NOW + timedelta(seconds=1)),
        ({"linger_until": NOW + timedelta(seconds=50)}, NOW + timedelta(seconds=50)),
        ({"sent_at": NOW - timedelta(seconds=1)}, NOW + timedelta(seconds=1)),  # within the read lag
    ):
        state = settling.absent(a_level(desired=8, **changes), a_basis(), LIMITS)
        assert (state.uncertain, state.effective_quantity, state.expected) == ("own_sale", 8, 8)
        assert state.due_at == due_at
    falls = settling.absent(a_level(linger_until=NOW + timedelta(seconds=50)), a_basis(), LIMITS)
    assert goes_at_once(falls)
    assert falls.due_at == NOW + timedelta(seconds=1)
