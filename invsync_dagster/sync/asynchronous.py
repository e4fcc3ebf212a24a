"""Transitions of a level by what an asynchronous platform took and by its reports, beside those of `levels`."""

from __future__ import annotations

from datetime import datetime, timedelta

from invsync_dagster.inventory.tables import NOTHING_KNOWN
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.sync.levels import LONGEST_REPORT_WAIT, Doubt, LevelState, doubted, failed, later, settled


def accepted(
    state: LevelState,
    quantity: int,
    handle: str,
    check_after: float | None,
    now: datetime,
    *,
    own_movement: int = 0,
    bulk: bool = False,
) -> LevelState:
    """An asynchronous platform took `quantity`; whether it did it, a reading from the check on shows.

    What it took is expected until then: a lower number goes at once, a higher one waits for the reading. Of what was
    booked since the claim (`own_movement`) only a rise counts, as what is on its way may overwrite the rest. `bulk`: it
    was handed in with others, and their report comes before any reading.
    """
    check = now + (LONGEST_REPORT_WAIT if bulk else timedelta(seconds=check_after or 0.0))
    after = state._replace(
        effective_quantity=quantity,
        expected=quantity + max(0, own_movement),
        accepted_quantity=quantity,
        accepted_handle=handle,
        accepted_check_after=check,
        bulk_handle=handle if bulk else state.bulk_handle,
        uncertain=Doubt.ACCEPTED if state.uncertain is None or not state.linger_until else state.uncertain,
        uncertain_since=state.uncertain_since or now,
        failures=0,
        last_error="",
    )
    return later(after, check, now)


def _nothing_on_its_way(state: LevelState) -> LevelState:
    return state._replace(accepted_quantity=None, accepted_handle=None, accepted_check_after=None, bulk_handle=None)


def reported(state: LevelState, shown: int | None, now: datetime, limits: Limits) -> LevelState:
    """Its bulk submission is through and has taken the row. What was sent singly meanwhile may have come before or after
    it, so it is sent again, with the number of now, or read at once where an answer was lost; else a reading shows what came
    of it, unless the report itself shows just what was handed in."""
    if state.accepted_handle == state.bulk_handle:
        if (
            state.uncertain == Doubt.ACCEPTED
            and _has_not_moved(state)
            and shown is not None
            and shown == state.expected
        ):
            return settled(state, shown, now)
        check = now + timedelta(seconds=limits.read_lag)
        return later(state._replace(bulk_handle=None, accepted_check_after=check), check, now)
    if state.uncertain != Doubt.ACCEPTED:
        if state.accepted_quantity is None:
            return state._replace(bulk_handle=None, due_at=now)  # an answer that was lost meanwhile is settled first
        linger = timedelta(seconds=limits.write_linger)
        return doubted(_nothing_on_its_way(state), Doubt.ANSWER_LOST, now, linger)._replace(due_at=now)
    return _nothing_on_its_way(state)._replace(
        effective_quantity=NOTHING_KNOWN,
        expected=None,
        uncertain=None,
        uncertain_since=None,
        due_at=now,
    )


def report_failed(state: LevelState, message: str, now: datetime, jitter: float) -> LevelState:
    """Its bulk submission is through and didn't take the row: the platform shows what it showed, unless that is in doubt for
    another reason."""
    if state.accepted_handle != state.bulk_handle:
        return state._replace(bulk_handle=None, due_at=now)
    before = _nothing_on_its_way(state)
    if state.uncertain == Doubt.ACCEPTED:
        shown = state.acknowledged_quantity
        before = before._replace(effective_quantity=NOTHING_KNOWN if shown is None else shown, expected=shown)
        if _has_not_moved(state):
            before = before._replace(uncertain=None, uncertain_since=None)
        elif shown is not None and state.expected is not None and state.accepted_quantity is not None:
            # Its channel has moved it since, too: at most to this.
            before = before._replace(expected=shown + max(0, state.expected - state.accepted_quantity))
    return failed(before, message, now, jitter)


def _has_not_moved(state: LevelState) -> bool:
    """Whether nothing of the level's own channel was booked since it was sent: also of an order that was sold before the
    platform did it, and cancelled after, both heard of at once."""
    moved = state.moved_at is not None and (state.sent_at is None or state.moved_at >= state.sent_at)
    return not moved and state.expected == state.accepted_quantity


def report_lost(state: LevelState, message: str, now: datetime, linger: timedelta) -> LevelState:
    """Its bulk submission ended without a report: the row may be done or not, or may yet be. At another address than where it
    was handed in a reading lowers meanwhile."""
    doubted_state = doubted(state, Doubt.ANSWER_LOST, now, linger)
    numbers = (state.expected, state.accepted_quantity, state.acknowledged_quantity, state.sent_quantity)
    highest = max((number for number in numbers if number is not None), default=None)
    after = _nothing_on_its_way(doubted_state)._replace(expected=highest, last_error=message)
    return later(after, now if state.uncertain == Doubt.NEW_ADDRESS else now + linger, now)
