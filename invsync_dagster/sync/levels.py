"""The state of a level in the push protocol, and its transitions: pure functions from what happened to what is known.

The table is `inventory_levels`; DESIGN's words hold: *effective* is what is on its way, else acknowledged; *expected* is
what the platform should show if nothing unknown happened; a level with an `uncertain` reason is settled by reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Update, bindparam, case, func, null, select, update

from invsync_dagster.inventory.bulk import any_of, as_parameter, found_by, update_rows
from invsync_dagster.inventory.tables import NOT_THERE, inventory_levels, work_queue

# A failed row is tried again after 5 s, 10 s, 20 s … and at most every hour: a wrong row must neither hammer the
# platform nor be forgotten.
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=1)

# A compare-and-set that was refused is information (an unseen sale), so the level is read again at once; after three
# refusals in a row something else writes all the time, and it waits like any failure.
REFUSALS_AT_ONCE = 3

# But no longer than this: nothing is expected of such a level, so a decrease waits with it.
LONGEST_REFUSAL_WAIT = timedelta(minutes=1)

# A bulk submission that nobody can ask for, its handle lost or its claim taken over, may stand in the platform's queue so long.
SUBMISSION_LANDS_WITHIN = timedelta(hours=1)

# Nothing is to be learnt by reading a level before its bulk submission's report, which makes it due.
LONGEST_REPORT_WAIT = timedelta(days=1)


class Doubt(StrEnum):
    """Why a level is uncertain, where the push protocol says so (`own_sale`, `never_read`, `resumed` come from the ledger
    and the listings)."""

    ACCEPTED = "accepted"
    ANSWER_LOST = "answer_lost"
    CLAIM_TAKEN_OVER = "claim_taken_over"
    COMPARE_AND_SET_REFUSED = "compare_and_set_refused"
    LATE_ANSWER = "late_answer"
    DRIFT = "drift"
    RESTORE = "restore"
    NEW_ADDRESS = "new_address"


class LevelState(NamedTuple):
    """The columns of one level that the push protocol changes, with those that it decides on.

    No dataclass: copying 29 fields took 20 us there, more than writing them.
    """

    id: int
    central_sku: str
    item_id: str
    location_id: str
    desired: int
    desired_sequence: int
    rules_revision: int
    touched: int
    attempt: int
    claim: str | None
    sent_quantity: int | None
    sent_at: datetime | None
    effective_quantity: int
    expected: int | None
    accepted_quantity: int | None
    accepted_handle: str | None
    accepted_check_after: datetime | None
    bulk_handle: str | None
    acknowledged_quantity: int | None
    acknowledged_at: datetime | None
    acknowledged_attempt: int | None
    observed_quantity: int | None
    observed_at: datetime | None
    uncertain: str | None
    uncertain_since: datetime | None
    linger_until: datetime | None
    moved_at: datetime | None
    out_of_step_since: datetime | None
    due_at: datetime
    failures: int
    last_error: str


_COLUMNS = [inventory_levels.c[name] for name in LevelState._fields]
_LOAD = select(*_COLUMNS).where(found_by(inventory_levels.c.id, "ids"))
_DECIDED_ELSEWHERE = {
    "id",
    "central_sku",
    "item_id",
    "location_id",
    "desired",
    "desired_sequence",
    "rules_revision",
    "claim",
    "moved_at",
}
_SAVED = [name for name in LevelState._fields if name not in _DECIDED_ELSEWHERE]
_SAVED_COLUMNS = tuple(inventory_levels.c[name] for name in ("id", *_SAVED))
_saved_values = attrgetter("id", *_SAVED)


def _save(given: Mapping[str, ColumnElement[Any]]) -> Update:
    values = {name: given[name] for name in _SAVED} | dict.fromkeys(("claim", "claim_until", "claim_worker"), null())
    return update(inventory_levels).where(inventory_levels.c.id == given["id"]).values(values)


def load(connection: Connection, level_ids: Sequence[int]) -> dict[int, LevelState]:
    """Read the states of levels in the transaction that will change them."""
    return {row.id: LevelState(*row) for row in connection.execute(_LOAD, {"ids": as_parameter(level_ids)})}


def save(connection: Connection, states: Sequence[LevelState], now: datetime) -> None:
    """Write states back, their claims released, and note since when each has been out of step."""
    update_rows(connection, _save, _SAVED_COLUMNS, [_saved_values(_stepped(state, now)) for state in states])


_SINCE = func.coalesce(inventory_levels.c.out_of_step_since, bindparam("now", type_=inventory_levels.c.due_at.type))
CLAIMED_BY = any_of(
    inventory_levels.c.id,
    select(work_queue.c.level_id)
    .where(work_queue.c.channel == bindparam("of_channel"), work_queue.c.claim == bindparam("by_token"))
    .scalar_subquery(),
)
"""The condition of the levels that carry the claim `by_token` of the channel `of_channel`."""

_UNDISTURBED = select(
    inventory_levels.c.id, inventory_levels.c.touched, inventory_levels.c.rules_revision, inventory_levels.c.expected
).where(CLAIMED_BY, inventory_levels.c.uncertain.is_(None), inventory_levels.c.linger_until.is_(None))
_ACKNOWLEDGE = (
    update(inventory_levels)
    .where(CLAIMED_BY)
    .values(
        dict.fromkeys(("effective_quantity", "expected", "acknowledged_quantity"), inventory_levels.c.sent_quantity)
        | {name: bindparam("now") for name in ("acknowledged_at", "due_at")}
        | dict.fromkeys(("accepted_quantity", "accepted_handle", "accepted_check_after"))
        | dict.fromkeys(("claim", "claim_until", "claim_worker"))
        | {
            "acknowledged_attempt": inventory_levels.c.attempt,
            "out_of_step_since": case(
                (inventory_levels.c.desired != inventory_levels.c.sent_quantity, _SINCE), else_=None
            ),
            "failures": 0,
            "last_error": "",
        }
    )
)


def undisturbed(connection: Connection, channel: str, token: str) -> set[tuple[int, int, int, int | None]]:
    """Return id, `touched`, rules revision and expected of the levels that carry the claim `token` and are certain."""
    return {tuple(row) for row in connection.execute(_UNDISTURBED, {"of_channel": channel, "by_token": token})}


def acknowledge_claimed(connection: Connection, channel: str, token: str, now: datetime) -> None:
    """Do to all levels that carry the claim `token` what `acknowledged` and `save` do to one that is certain.

    As one statement, since almost every write ends so: level by level it took most of a push's time.
    """
    connection.execute(_ACKNOWLEDGE, {"of_channel": channel, "by_token": token, "now": now})


def note_late_answers(connection: Connection, until: Mapping[int, datetime], now: datetime) -> None:
    """Doubt levels whose claim was taken over before its write was answered, and leave the claim of whoever has it now.

    `until` says by level id when that write has landed at the latest.
    """
    level = inventory_levels.c
    moment, end = bindparam("moment", type_=level.due_at.type), bindparam("end", type_=level.due_at.type)
    connection.execute(
        update(inventory_levels)
        .where(level.id == bindparam("key"))
        .values(
            uncertain=func.coalesce(level.uncertain, str(Doubt.LATE_ANSWER)),
            uncertain_since=func.coalesce(level.uncertain_since, moment),
            out_of_step_since=func.coalesce(level.out_of_step_since, moment),
            linger_until=case((level.linger_until > end, level.linger_until), else_=end),
            touched=level.touched + 1,
        ),
        [{"key": level_id, "moment": now, "end": when} for level_id, when in until.items()],
    )


def _stepped(state: LevelState, now: datetime) -> LevelState:
    if state.desired == state.effective_quantity and state.uncertain is None:
        return state._replace(out_of_step_since=None)
    return state._replace(out_of_step_since=state.out_of_step_since or now)


def acknowledged(
    state: LevelState, quantity: int, now: datetime, *, raced: bool = False, own_movement: int = 0
) -> LevelState:
    """The platform confirmed `quantity`. Where own sales were booked since the claim (`raced`, in sum `own_movement`),
    whether they came before or after our write can't be known, so the level stays uncertain and is settled by reading."""
    lingering = state.linger_until is not None and state.linger_until > now
    uncertain: str | None = None
    if raced:
        uncertain = state.uncertain or Doubt.LATE_ANSWER
    elif lingering:
        uncertain = _in_doubt(state, Doubt.ANSWER_LOST)
    return state._replace(
        effective_quantity=quantity,
        expected=quantity + own_movement,
        accepted_quantity=None,
        accepted_handle=None,
        accepted_check_after=None,
        acknowledged_quantity=quantity,
        acknowledged_at=now,
        acknowledged_attempt=state.attempt,
        uncertain=uncertain,
        uncertain_since=(state.uncertain_since or now) if uncertain else None,
        linger_until=state.linger_until if lingering else None,
        due_at=state.linger_until if lingering and state.linger_until and not raced else now,
        failures=0,
        last_error="",
    )


def _in_doubt(state: LevelState, doubt: Doubt) -> Doubt:
    """A level of a restored stock stays one, whatever becomes of its writes: its rise waits for all channels' orders."""
    return Doubt.RESTORE if state.uncertain == Doubt.RESTORE else doubt


def later(state: LevelState, when: datetime, now: datetime) -> LevelState:
    """Make a level due `when`, or now if it fell below what is expected meanwhile."""
    falls = state.expected is not None and state.desired < state.expected
    return state._replace(due_at=now if falls else when)


def doubted(state: LevelState, doubt: Doubt, now: datetime, linger: timedelta = timedelta(0)) -> LevelState:
    """Our last write may or may not have landed, and may land until `now + linger`.

    What the platform should show is then the higher of before and sent, so that a decrease goes on at once. Before a level is
    there it shows nothing.
    """
    expected = state.expected
    if expected is not None and state.sent_quantity is not None:
        expected = max(expected, state.sent_quantity)
    elif state.effective_quantity == NOT_THERE and state.uncertain is None:
        expected = state.sent_quantity
    until = now + linger
    return state._replace(
        expected=expected,
        uncertain=_in_doubt(state, doubt),
        uncertain_since=state.uncertain_since or now,
        linger_until=max(until, state.linger_until) if state.linger_until else until,
        touched=state.touched + 1,
    )


def refused(state: LevelState, message: str, now: datetime, jitter: float) -> LevelState:
    """A compare-and-set was refused: nothing was written, and the platform's number is not what we thought."""
    # Lost answers before it are no refusals: the first one is read at once.
    failures = state.failures + 1 if state.uncertain is None else 1
    return state._replace(
        expected=None,
        uncertain=_in_doubt(state, Doubt.COMPARE_AND_SET_REFUSED),
        uncertain_since=state.uncertain_since or now,
        due_at=now if failures <= REFUSALS_AT_ONCE else now + min(LONGEST_REFUSAL_WAIT, wait_after(failures, jitter)),
        failures=failures,
        last_error=message,
    )


def failed(state: LevelState, message: str, now: datetime, jitter: float) -> LevelState:
    """Nothing was written; it stays a change and is tried again later."""
    failures = state.failures + 1
    return state._replace(failures=failures, last_error=message, due_at=now + wait_after(failures, jitter))


def wait_after(failures: int, jitter: float) -> timedelta:
    """Return the exponential wait after the n-th failure in a row; `jitter` in [0, 1) adds up to half of it."""
    doublings = min(failures - 1, 12)
    wait = min(LONGEST_WAIT, FIRST_WAIT * float(2**doublings))
    return wait * (1 + jitter / 2)


def settled(state: LevelState, reading: int, now: datetime) -> LevelState:
    """A valid reading: the platform shows it, so it is the acknowledged number, and the level is certain."""
    return state._replace(
        effective_quantity=reading,
        expected=reading,
        accepted_quantity=None,
        accepted_handle=None,
        accepted_check_after=None,
        bulk_handle=None,
        acknowledged_quantity=reading,
        acknowledged_at=now,
        acknowledged_attempt=state.attempt,
        observed_quantity=reading,
        observed_at=now,
        uncertain=None,
        uncertain_since=None,
        linger_until=None,
        # It keeps its place in the queue: behind the others, each search for it would pass all that are still to be read.
        due_at=min(state.due_at, now),
        failures=state.failures if state.uncertain == Doubt.COMPARE_AND_SET_REFUSED else 0,
    )
