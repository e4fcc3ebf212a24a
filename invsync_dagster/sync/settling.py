"""What a reading makes of an uncertain level: the settling rules of DESIGN 4, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from invsync_dagster.inventory.tables import NOT_THERE
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.sync.levels import FIRST_WAIT, LONGEST_REPORT_WAIT, Doubt, LevelState, later, settled

# An increase of an uncertain level waits at most so long for the channel's orders to be known (DESIGN 2.4: bounded).
LONGEST_RISE_WAIT = timedelta(minutes=15)

# After a restore the sales of every channel since the backup are unheard of at first, and each of them lowers what all may show.
# A rise waits for all channels' orders, and that long for one that doesn't answer; it looks again once a minute.
LONGEST_RESTORE_WAIT = timedelta(hours=6)
RESTORE_WAIT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ReadingBasis:
    """What a reading is judged by: when its request began and ended, the level's `touched` when it began, and until when
    the channel's orders are known (None: not at all).

    `all_orders_known_until`: until when those of every channel are; only asked for where the stock was restored."""

    began: datetime
    ended: datetime
    touched: int
    orders_known_until: datetime | None
    all_orders_known_until: datetime | None = None

    @property
    def orders_known(self) -> bool:
        """Whether the channel's orders are known past the reading."""
        return self.orders_known_until is not None and self.orders_known_until >= self.ended


def settle(state: LevelState, reading: int, basis: ReadingBasis, limits: Limits) -> LevelState:
    """Apply the settling rules of DESIGN 4 to an uncertain level and a reading of it.

    A valid reading settles; one below desired settles (and so raises) only when the channel's orders are known past it,
    or at the bound. An invalid one may lower, by raising what we expect, and never settles.

    Where differences are written (`settles_first`), it is waited for a valid one, which must be a read lag past the last
    own movement too: a sale that it doesn't show yet would else be taken off twice.

    While what an asynchronous platform accepted may still come, only a reading of just that number settles: no order that
    we haven't heard of can hide in it, unless the platform has moved its number up since.
    """
    now = basis.ended
    state = state._replace(observed_quantity=reading, observed_at=now)
    visible_at = None if state.sent_at is None else state.sent_at + timedelta(seconds=limits.read_lag)
    lag_over = visible_at is None or visible_at <= basis.began
    if limits.settles_first and state.moved_at is not None:
        lag_over = lag_over and state.moved_at + timedelta(seconds=limits.read_lag) <= basis.began
    lingering = state.linger_until is not None and state.linger_until > basis.began
    valid = state.touched == basis.touched and lag_over and not lingering
    if state.bulk_handle is not None:
        # Handed in at another address, or before an answer was lost: nothing says that it will come.
        if state.accepted_quantity is None and reading > state.desired:
            return state._replace(expected=reading, due_at=now)
        return later(state, now + LONGEST_REPORT_WAIT, now)
    if state.accepted_quantity is not None:
        if valid and reading == state.accepted_quantity == state.expected:
            return settled(state, reading, now)
        if state.sent_at is not None and now < state.sent_at + timedelta(seconds=limits.write_linger):
            again = now + timedelta(seconds=limits.read_lag)
            return later(state, again if visible_at is None or lag_over else visible_at, now)
    if not valid:
        wait = state.linger_until if lingering and state.linger_until else now + timedelta(seconds=limits.read_lag)
        if reading > state.desired and not limits.settles_first:
            return state._replace(expected=reading, due_at=now)
        return state._replace(due_at=now if state.touched != basis.touched else wait)
    if reading < state.desired and not _rise_allowed(state, basis):
        # Where orders can't be listed more often, reading more often is of no use.
        return state._replace(expected=reading, due_at=now + _rise_wait(state, limits))
    return settled(state, reading, now)


def absent(state: LevelState, basis: ReadingBasis, limits: Limits) -> LevelState:
    """The platform shows no such level yet, and a write makes it: that is done as any rise, once the reading is valid and
    the channel's orders are known past it. Until the write's answer nothing is acknowledged."""
    now = basis.ended
    state = state._replace(observed_quantity=None, observed_at=now)
    if state.touched != basis.touched:
        return state._replace(due_at=now)
    visible_at = None if state.sent_at is None else state.sent_at + timedelta(seconds=limits.read_lag)
    for until in (state.linger_until, visible_at):
        if until is not None and until > basis.began:
            return later(state, until, now)  # a write of ours may have made it, or may yet
    state = state._replace(expected=None)
    if state.desired and not _rise_allowed(state, basis):
        return state._replace(due_at=now + _rise_wait(state, limits))
    return state._replace(
        effective_quantity=NOT_THERE,
        acknowledged_quantity=None,
        acknowledged_at=None,
        acknowledged_attempt=None,
        uncertain=None,
        uncertain_since=None,
        linger_until=None,
        due_at=now,
        failures=state.failures if state.uncertain == Doubt.COMPARE_AND_SET_REFUSED else 0,
    )


def orders_known(state: LevelState, basis: ReadingBasis) -> bool:
    """Whether the orders are known that a rise waits for: the channel's past the reading, after a restore all channels' too."""
    return basis.orders_known and not _waits_for_others(state, basis)


def _waits_for_others(state: LevelState, basis: ReadingBasis) -> bool:
    since, everyone = state.uncertain_since, basis.all_orders_known_until
    return state.uncertain == Doubt.RESTORE and since is not None and (everyone is None or everyone < since)


def _rise_allowed(state: LevelState, basis: ReadingBasis) -> bool:
    if orders_known(state, basis):
        return True
    bound = LONGEST_RESTORE_WAIT if _waits_for_others(state, basis) else LONGEST_RISE_WAIT
    since = state.uncertain_since
    if since is not None and state.uncertain != Doubt.RESTORE:
        # From when a reading tells anything: a feed of half an hour would else use up the wait before it has begun.
        since = max(since, state.linger_until or since, state.accepted_check_after or since)
    return since is not None and basis.ended - since >= bound


def _rise_wait(state: LevelState, limits: Limits) -> timedelta:
    least = RESTORE_WAIT if state.uncertain == Doubt.RESTORE else FIRST_WAIT
    return max(least, timedelta(seconds=limits.orders_every))
