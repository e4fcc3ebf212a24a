"""A channel's bulk lane: ample stock is handed in many rows at once, and later runs hear what came of it.

No run waits for a submission. What is open stands in `bulk_submissions`, and its levels carry its handle. Zeros, low stock
and whatever is uncertain go by the single lane, and so does a decrease while a submission is open (DESIGN 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, select, update

from invsync_dagster.inventory.bulk import as_parameter, chunks, found_by
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import bulk_submissions, inventory_levels, sync_logs, work_queue
from invsync_dagster.platforms.contract import (
    BulkLane,
    BulkReport,
    BulkState,
    LevelReference,
    Outcome,
    Result,
    WriteRow,
)
from invsync_dagster.platforms.errors import PlatformError, Recovery, with_class
from invsync_dagster.sync import asynchronous, levels
from invsync_dagster.sync.another_shop import is_unknown
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.claims import BULK, Claim, Due, any_bulk_due, claim_bulk
from invsync_dagster.sync.levels import SUBMISSION_LANDS_WITHIN, Doubt, LevelState
from invsync_dagster.sync.limiter import Limiter
from invsync_dagster.sync.recognition import require_still_here
from invsync_dagster.sync.record import Attempted, record_writes, write_logs
from invsync_dagster.sync.report import PushReport, RowFailure
from invsync_dagster.sync.stopped import stop_level
from invsync_dagster.sync.workspace import Workspace

# A transaction for all 25,000 rows of a submission would keep the stock's writer for seconds.
LEVELS_AT_ONCE = 2_500

# The `rows` of a submission that no level waits for any more, though the platform isn't through with it.
GIVEN_UP = 0
GIVEN_UP_ASKED_EVERY = timedelta(hours=1)
GIVEN_UP_FORGOTTEN_AFTER = timedelta(days=7)

# A claim outlives its calls: a bulk submission takes up to four.
CALLS_A_SUBMISSION = 4

_OPEN = bulk_submissions.c
_OF_HANDLE = and_(_OPEN.channel == bindparam("of_channel"), _OPEN.handle == bindparam("of_handle"))
_DUE = (
    select(bulk_submissions)
    .where(_OPEN.channel == bindparam("of_channel"), _OPEN.check_after <= bindparam("now"))
    .order_by(_OPEN.submitted_at)
)
_QUEUED = work_queue.c
_IN_IT = and_(_QUEUED.channel == bindparam("of_channel"), _QUEUED.bulk_handle == bindparam("of_handle"))
_REMAINING = select(_QUEUED.level_id).where(_IN_IT).limit(1)
_SOME = select(_QUEUED.level_id).where(_IN_IT, _QUEUED.claim.is_(None)).limit(bindparam("most"))
_OF_ANOTHER_ADDRESS = (
    select(inventory_levels.c.id)
    .join(work_queue, _QUEUED.level_id == inventory_levels.c.id)
    .where(_IN_IT, inventory_levels.c.uncertain == Doubt.NEW_ADDRESS)
    .limit(1)
)
_HAND_IN = (
    update(inventory_levels)
    .where(found_by(inventory_levels.c.id, "ids"), inventory_levels.c.bulk_handle.is_(None))
    .values(bulk_handle=bindparam("of_handle"))
)
_CHECK_AGAIN = update(bulk_submissions).where(_OF_HANDLE).values(check_after=bindparam("again"))
_GIVE_UP = update(bulk_submissions).where(_OF_HANDLE).values(check_after=bindparam("again"), rows=GIVEN_UP)
_FORGET = delete(bulk_submissions).where(_OF_HANDLE)
_ASK_NOW = (
    update(bulk_submissions)
    .where(_OF_HANDLE, _OPEN.check_after > bindparam("now"))
    .values(check_after=bindparam("now", type_=_OPEN.check_after.type))
)


def ask_now(connection: Connection, channel: str, handles: Iterable[str], now: datetime) -> None:
    """Let the next push ask for submissions that the platform says it is through with; unknown ones are nobody's."""
    for handle in handles:
        connection.execute(_ASK_NOW, {"of_channel": channel, "of_handle": handle, "now": now})


# What was handed in, as its log says: a patch beside it, or another address since, has changed what the level says.
_SENT = select(sync_logs).where(
    found_by(sync_logs.c.level_id, "ids"),
    sync_logs.c.idempotency_key == bindparam("of_handle"),
    sync_logs.c.status == str(Result.ACCEPTED),
)

_ALL_SENT = select(sync_logs.c.level_id).where(
    sync_logs.c.timestamp == bindparam("handed_in", type_=sync_logs.c.timestamp.type),
    sync_logs.c.platform == bindparam("of_channel"),
    sync_logs.c.idempotency_key == bindparam("of_handle"),
)


def _sent(connection: Connection, handle: str, level_ids: Iterable[int]) -> dict[int, Row[Any]]:
    found = connection.execute(_SENT, {"ids": as_parameter(list(level_ids)), "of_handle": handle})
    return {row.level_id: row for row in found}


@dataclass
class Bulk:
    """The bulk lane of one push; it does nothing where the platform has none."""

    ws: Workspace
    name: str
    calls: Calls
    run_id: str
    report: PushReport
    token: Callable[[], str]
    is_suspicious: Callable[[Mapping[int, Outcome]], bool]
    recognise: Callable[[], None]
    failed: bool = False  # in this push: what was to go in bulk goes singly

    @cached_property
    def lane(self) -> BulkLane | None:
        """The platform's bulk lane, None if it has none."""
        platform: Any = self.calls.platform
        return platform if isinstance(platform, BulkLane) else None

    # --- what came of it --------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Ask for the submissions that are open, and apply the reports that are there.

        Raises `OutOfTimeError`, and `PlatformError` where the credentials are dead or the shop is another one.
        """
        if self.lane is None:
            return
        now = self.ws.clock.now()
        with self.ws.engine.connect() as connection:
            due = connection.execute(_DUE, {"of_channel": self.name, "now": now}).all()
        for row in due:
            told, ended = self._told(self.lane, row)
            unknown: Mapping[int, Outcome] = {}
            if row.rows == GIVEN_UP:
                if ended:
                    self._doubt_all_of(row)
            elif told.state is not BulkState.OPEN:
                unknown = self._take(row.handle, told)
            self._close(row, self.lane.bulk.check_every, ended)
            if unknown:
                self.recognise()
                with write_transaction(self.ws.engine) as connection:
                    for level_id, problem in unknown.items():
                        stop_level(connection, self.name, level_id, problem, self.ws.clock.now())

    def _told(self, lane: BulkLane, row: Row[Any]) -> tuple[BulkReport, bool]:
        """Ask for a submission; say, too, whether the platform is through with it. Lost without that, it may yet land: it has
        been open for too long, or the address of now doesn't know it, and may be left again for the one that took it."""
        self.calls.wait(self.calls.platform.limits.read_cost)
        try:
            told = lane.submitted(row.handle)
        except PlatformError as error:
            refused = error.recovery is Recovery.REAUTHENTICATE
            # Refused by another account than the one that it was handed in at, the channel having moved meanwhile.
            if error.recovery is Recovery.REVIEW or (refused and not self._is_waited_for_here(row.handle)):
                unknown = f"the submission is unknown: {error.message}"
                return BulkReport(BulkState.LOST, message=unknown), False
            if refused:
                raise
            self.report.problem = self.report.problem or str(error)
            told = BulkReport(BulkState.OPEN)
        if told.state is not BulkState.OPEN:
            return told, True
        if self.ws.clock.now() - row.submitted_at > timedelta(seconds=lane.bulk.patience):
            told = BulkReport(BulkState.LOST, message=f"the submission of {row.submitted_at} is still open")
        return told, False

    def _doubt_all_of(self, row: Row[Any]) -> None:
        """Doubt what was handed in with a submission that the platform is through with after it was given up: its numbers are
        old."""
        with self.ws.engine.connect() as connection:
            keys = {"of_channel": self.name, "of_handle": row.handle, "handed_in": row.submitted_at}
            ids = connection.execute(_ALL_SENT, keys).scalars().all()
        for some in chunks(ids, LEVELS_AT_ONCE):
            with write_transaction(self.ws.engine) as connection:
                now = self.ws.clock.now()
                levels.note_late_answers(connection, dict.fromkeys(some, now), now)

    def _is_waited_for_here(self, handle: str) -> bool:
        keys = {"of_channel": self.name, "of_handle": handle}
        with self.ws.engine.connect() as connection:
            is_carried = connection.execute(_REMAINING, keys).first() is not None
            return is_carried and connection.execute(_OF_ANOTHER_ADDRESS, keys).first() is None

    def _take(self, handle: str, told: BulkReport) -> Mapping[int, Outcome]:
        """Apply a report; return what of it goes to review if the shop is still ours."""
        if not self.is_suspicious(told.failed):
            self._apply(handle, told)
            return {}
        # The rows wait like refused ones, instead of going to review one by one.
        rejected = {level_id: replace(one, recovery=Recovery.REJECT) for level_id, one in told.failed.items()}
        applied = self._apply(handle, replace(told, failed=rejected))
        return {level_id: told.failed[level_id] for level_id in applied if is_unknown(told.failed.get(level_id))}

    def _apply(self, handle: str, told: BulkReport) -> list[int]:
        """Apply a report to the levels that carry its handle, claimed ones left for the next time; return which."""
        applied: list[int] = []
        while True:
            with write_transaction(self.ws.engine) as connection:
                keys = {"of_channel": self.name, "of_handle": handle, "most": LEVELS_AT_ONCE}
                ids = list(connection.execute(_SOME, keys).scalars())
                now = self.ws.clock.now()
                before = list(levels.load(connection, ids).values())
                sent = _sent(connection, handle, ids if told.state is BulkState.LOST else told.failed.keys() & set(ids))
                after = [self._after(state, told, sent, now) for state in before]
                levels.save(connection, after, now)
                logs = map(partial(self._log, told=told, sent=sent, now=now), before, after)
                write_logs(connection, [log for log in logs if log is not None])
                for state in before:
                    outcome = told.failed.get(state.id)
                    if outcome is not None and outcome.recovery is Recovery.REVIEW:
                        stop_level(connection, self.name, state.id, outcome, now)
            applied += ids
            if len(ids) < LEVELS_AT_ONCE:
                return applied

    def _after(self, state: LevelState, told: BulkReport, sent: Mapping[int, Row[Any]], now: datetime) -> LevelState:
        limits = self.calls.platform.limits
        if told.state is BulkState.LOST:
            self.report.unknown += 1
            return asynchronous.report_lost(state, told.message, now, timedelta(seconds=limits.write_linger))
        outcome = told.failed.get(state.id)
        if outcome is None:
            shown = told.shown.get(LevelReference(state.item_id, state.location_id))
            after = asynchronous.reported(state, shown, now, limits)
            self.report.acknowledged += after.acknowledged_at == now
            return after
        self.report.rejected += 1
        self.report.review += outcome.recovery is Recovery.REVIEW
        place = (state.central_sku, state.item_id, state.location_id)
        message = with_class(outcome.message, outcome.recovery)
        quantity = sent[state.id].new_quantity if state.id in sent else None
        self.report.failures.append(RowFailure(*place, quantity, outcome.code, message))
        return asynchronous.report_failed(state, outcome.words, now, self.ws.rng.random())

    def _log(
        self, state: LevelState, after: LevelState, told: BulkReport, sent: Mapping[int, Row[Any]], now: datetime
    ) -> dict[str, Any] | None:
        """Return the log's row of what the report decided; None where a reading will."""
        if told.state is BulkState.LOST:
            outcome = Outcome(Result.UNKNOWN, Recovery.SETTLE, "report_lost", told.message)
        elif state.id in told.failed:
            outcome = told.failed[state.id]
        elif after.acknowledged_at == now:
            outcome = Outcome(Result.ACKNOWLEDGED)
        else:
            return None
        handed_in = sent.get(state.id)
        return {
            "timestamp": now,
            "platform": self.name,
            "sku": state.central_sku,
            "action": "push",
            "old_quantity": state.acknowledged_quantity,
            "new_quantity": state.accepted_quantity if handed_in is None else handed_in.new_quantity,
            "status": str(outcome.result),
            "error_message": with_class(outcome.message, outcome.recovery),
            "code": outcome.code,
            "level_id": state.id,
            "attempt": state.attempt if handed_in is None else handed_in.attempt,
            "ledger_sequence": state.desired_sequence,
            "rules_revision": state.rules_revision,
            "started_at": state.sent_at if handed_in is None else handed_in.started_at,
            "idempotency_key": state.bulk_handle or "",
            "run_id": self.run_id,
        }

    def _close(self, row: Row[Any], check_every: float, ended: bool) -> None:
        """Ask for a submission again while levels wait for it. One that the platform isn't through with is given up then, and
        asked for seldom; else it is forgotten."""
        keys: Mapping[str, Any] = {"of_channel": self.name, "of_handle": row.handle}
        with write_transaction(self.ws.engine) as connection:
            now = self.ws.clock.now()
            if connection.execute(_REMAINING, keys).first() is not None:
                connection.execute(_CHECK_AGAIN, {**keys, "again": now + timedelta(seconds=check_every)})
            elif ended or now - row.submitted_at > GIVEN_UP_FORGOTTEN_AFTER:
                connection.execute(_FORGET, keys)
            else:
                connection.execute(_GIVE_UP, {**keys, "again": now + GIVEN_UP_ASKED_EVERY})

    # --- handing in -------------------------------------------------------------------------------------------------

    def hand_in(self) -> bool:
        """Hand in what is due in bulk, as long as there is enough of it and the lane's own rate allows; return whether any
        was handed in.

        Raises `OutOfTimeError`, and `PlatformError` where the credentials are dead.
        """
        before = self.report.accepted
        while self.lane is not None and not self.failed and self._submit(self.lane):
            pass
        return self.report.accepted > before

    def _submit(self, lane: BulkLane) -> bool:
        """Hand in one submission; return whether another one may be worth trying."""
        ws, limits = self.ws, self.calls.platform.limits
        low_stock = ws.configuration.settings.low_stock
        with ws.engine.connect() as connection:
            if not any_bulk_due(connection, Due(self.name, ws.clock.now(), low_stock=low_stock), lane.bulk.least):
                return False
        if not self._has_turn(lane):
            return False
        self.calls.wait(limits.write_cost)
        token, began = BULK + self.token(), ws.clock.now()
        seconds = max(ws.configuration.settings.claim_seconds, CALLS_A_SUBMISSION * limits.request_deadline)
        until = began + timedelta(seconds=seconds)
        with write_transaction(ws.engine) as connection:
            due = Due(self.name, began, low_stock=low_stock)
            require_still_here(connection, ws.channel(self.name))
            claims = claim_bulk(connection, ws.worker, token, due, lane.bulk.rows, until)
        if not claims:
            return False
        outcome = lane.submit({claim.level_id: WriteRow(claim.reference, claim.quantity) for claim in claims})
        attempted = Attempted(self.name, token, outcome.handle, self.run_id, began, ws.clock.now(), bulk=True)
        self._record(attempted, claims, outcome)
        if outcome.recovery is Recovery.REAUTHENTICATE:
            raise PlatformError(outcome.recovery, outcome.code, outcome.message)
        self.failed = outcome.result is not Result.ACCEPTED
        return not self.failed

    def _has_turn(self, lane: BulkLane) -> bool:
        """Take one of the window's turns, if one is left. Each has a row of its own and comes again after a whole window: one
        rate with a burst would let twice as many pass in the first."""
        now = self.ws.clock.now().timestamp()
        once = replace(self.calls.platform.limits, rate=1.0 / lane.bulk.window, burst=1.0)
        turns = (Limiter(self.ws.engine, f"{self.name}:bulk:{turn}", once) for turn in range(lane.bulk.submissions))
        return any(turn.reserve(1.0, now, now) is not None for turn in turns)

    def _record(self, attempted: Attempted, claims: list[Claim], outcome: Outcome) -> None:
        limits = self.calls.platform.limits
        if outcome.result is Result.ACCEPTED:
            # With the handle at its levels, also at those whose claim was taken over meanwhile: whatever dies or stands still
            # from here on, its report is heard, and no level waits for one that was heard before it had the handle.
            with write_transaction(self.ws.engine) as connection:
                check_after = attempted.ended + timedelta(seconds=outcome.check_after or 0.0)
                values = {"channel": self.name, "handle": outcome.handle, "rows": len(claims)}
                values |= {"submitted_at": attempted.ended, "check_after": check_after, "run_id": self.run_id}
                connection.execute(insert(bulk_submissions).values(values))
                ids = as_parameter([claim.level_id for claim in claims])
                connection.execute(_HAND_IN, {"ids": ids, "of_handle": outcome.handle})
        else:
            self.report.problem = self.report.problem or f"in bulk: {outcome.words}"
            limits = replace(limits, write_linger=max(limits.write_linger, SUBMISSION_LANDS_WITHIN.total_seconds()))
            if outcome.result is Result.REJECTED:
                # The submission was refused, not its rows: they go by the single lane.
                outcome = replace(outcome, result=Result.NOT_SENT, recovery=Recovery.RETRY)
        for some in chunks(claims, LEVELS_AT_ONCE):
            with write_transaction(self.ws.engine) as connection:
                outcomes = [outcome] * len(some)
                record_writes(connection, attempted, some, outcomes, limits, self.ws.rng, self.report)
