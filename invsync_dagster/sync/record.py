"""Records what became of claims: the level's new state and one `sync_logs` row an attempt, in one transaction."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, literal, select

from invsync_dagster.inventory.bulk import insert_rows
from invsync_dagster.inventory.tables import NOT_THERE, channels, inventory_levels, sync_logs
from invsync_dagster.platforms.contract import Limits, Outcome, Reading, Result
from invsync_dagster.platforms.errors import Recovery, with_class
from invsync_dagster.sync import asynchronous, levels, settling
from invsync_dagster.sync.claims import READ, Claim
from invsync_dagster.sync.levels import Doubt, LevelState
from invsync_dagster.sync.report import PushReport, RowFailure
from invsync_dagster.sync.settling import ReadingBasis
from invsync_dagster.sync.stopped import NO_NUMBER, is_kept_by_platform, stop_level


@dataclass(frozen=True, slots=True)
class Attempted:
    """One call with its claims: the token that they carry, the idempotency key, and when the request began and ended.

    `bulk`: it handed them in through the bulk lane.
    """

    channel: str
    token: str
    key: str
    run_id: str
    began: datetime
    ended: datetime
    bulk: bool = False


def record_writes(
    connection: Connection,
    attempted: Attempted,
    claims: Sequence[Claim],
    outcomes: Sequence[Outcome],
    limits: Limits,
    rng: random.Random,
    report: PushReport,
) -> None:
    """Record one outcome a claim. A claim that was taken over meanwhile changes nothing but the doubt of its level."""
    now = attempted.ended
    undisturbed = levels.undisturbed(connection, attempted.channel, attempted.token)
    plain: list[Claim] = []
    others: list[tuple[Claim, Outcome]] = []
    for claim, outcome in zip(claims, outcomes, strict=True):
        if outcome == _DONE and (claim.level_id, claim.touched, claim.rules_revision, claim.expected) in undisturbed:
            plain.append(claim)
        else:
            others.append((claim, outcome))
    if others:
        _record_others(connection, attempted, others, limits, rng, report)  # their claims are released
    if plain:
        _log_acknowledged(connection, attempted)
        levels.acknowledge_claimed(connection, attempted.channel, attempted.token, now)
        for claim in plain:
            _count(report, claim, _DONE, now)


_DONE = Outcome(Result.ACKNOWLEDGED)


def _record_others(
    connection: Connection,
    attempted: Attempted,
    claims: Sequence[tuple[Claim, Outcome]],
    limits: Limits,
    rng: random.Random,
    report: PushReport,
) -> None:
    """Record claims level by level: what was not plainly acknowledged, or what else happened to meanwhile."""
    now = attempted.ended
    before = levels.load(connection, [claim.level_id for claim, _ in claims])
    after: list[LevelState] = []
    late: dict[int, datetime] = {}
    logs: list[dict[str, Any]] = []
    stopped: list[tuple[int, Outcome]] = []
    for claim, outcome in claims:
        state = before[claim.level_id]
        if state.claim != attempted.token or state.attempt != claim.attempt:
            if outcome.result not in (Result.NOT_SENT, Result.REJECTED):
                done = outcome.result is Result.ACKNOWLEDGED
                late[claim.level_id] = now + timedelta(seconds=0.0 if done else limits.write_linger)
            logs.append(_log(attempted, claim, state, outcome, "claim was taken over; "))
            continue
        after.append(_after(state, claim, outcome, attempted, limits, rng.random()))
        logs.append(_log(attempted, claim, state, outcome))
        if outcome.recovery is Recovery.REVIEW:
            stopped.append((claim.level_id, outcome))
        _count(report, claim, outcome, now)
    levels.save(connection, after, now)
    if late:
        levels.note_late_answers(connection, late, now)
    write_logs(connection, logs)
    for level_id, problem in stopped:
        stop_level(connection, attempted.channel, level_id, problem, now)


def _after(
    state: LevelState, claim: Claim, outcome: Outcome, attempted: Attempted, limits: Limits, jitter: float
) -> LevelState:
    now = attempted.ended
    message = outcome.words
    moved = 0
    if state.expected is not None and claim.expected is not None:  # a pause or a new mapping meanwhile forgets it
        moved = state.expected - claim.expected
    if outcome.result is Result.ACKNOWLEDGED:
        raced = state.touched != claim.touched
        return levels.acknowledged(state, claim.quantity, now, raced=raced, own_movement=moved)
    if outcome.result is Result.ACCEPTED:
        if state.uncertain == Doubt.NEW_ADDRESS and state.touched != claim.touched:
            # The address before has taken it; what the shop of now shows is to be read.
            return levels.doubted(state, Doubt.NEW_ADDRESS, now, timedelta(seconds=limits.write_linger))
        handle, check_after = outcome.handle, outcome.check_after
        bulk = attempted.bulk
        return asynchronous.accepted(state, claim.quantity, handle, check_after, now, own_movement=moved, bulk=bulk)
    if outcome.result is Result.UNKNOWN:
        doubted = levels.doubted(state, Doubt.ANSWER_LOST, now, timedelta(seconds=limits.write_linger))
        failures = state.failures + 1
        wait = levels.wait_after(failures, jitter)
        return doubted._replace(failures=failures, last_error=message, due_at=now + wait)
    if outcome.recovery is Recovery.SETTLE:
        return levels.refused(state, message, now, jitter)
    if outcome.recovery is Recovery.REJECT:
        return levels.failed(state, message, now, jitter)
    if outcome.result is Result.REJECTED and outcome.recovery is Recovery.WAIT:
        wait = timedelta(seconds=outcome.retry_after or 0.0) or levels.wait_after(state.failures + 1, jitter)
        return state._replace(last_error=message, due_at=now + wait)
    # Not sent, or to be reviewed: nothing was written, and the wait is the limiter's or the review's.
    return state._replace(last_error=message)


def _count(report: PushReport, claim: Claim, outcome: Outcome, now: datetime) -> None:
    report.pushed += 1
    match outcome.result:
        case Result.ACKNOWLEDGED:
            report.acknowledged += 1
            if claim.out_of_step_since is not None:
                report.latencies.append((now - claim.out_of_step_since).total_seconds())
        case Result.ACCEPTED:
            report.accepted += 1
        case Result.NOT_SENT:
            report.not_sent += 1
        case Result.UNKNOWN:
            report.unknown += 1
        case Result.REJECTED:
            report.rejected += 1
    if outcome.recovery is Recovery.REVIEW:
        report.review += 1
    if outcome.result in (Result.REJECTED, Result.UNKNOWN):
        reference = claim.reference
        report.failures.append(
            RowFailure(
                claim.sku,
                reference.item_id,
                reference.location_id,
                claim.quantity,
                outcome.code,
                with_class(outcome.message, outcome.recovery),
            )
        )


def _log(attempted: Attempted, claim: Claim, state: LevelState, outcome: Outcome, note: str = "") -> dict[str, Any]:
    return {
        "timestamp": attempted.ended,
        "platform": attempted.channel,
        "sku": claim.sku,
        "action": "push",
        "old_quantity": state.acknowledged_quantity,
        "new_quantity": claim.quantity,
        "status": str(outcome.result),
        "error_message": note + with_class(outcome.message, outcome.recovery),
        "code": outcome.code,
        "level_id": claim.level_id,
        "attempt": claim.attempt,
        "ledger_sequence": claim.ledger_sequence,
        "rules_revision": claim.rules_revision,
        "started_at": attempted.began,
        "idempotency_key": attempted.key,
        "run_id": attempted.run_id,
    }


def _log_acknowledged(connection: Connection, attempted: Attempted) -> None:
    """Log the acknowledgement of all levels that still carry the attempt's claim, before they are changed."""
    values = {"of_channel": attempted.channel, "by_token": attempted.token, "ended": attempted.ended}
    values |= {"began": attempted.began, "by_key": attempted.key, "by_run": attempted.run_id}
    connection.execute(_LOG_ACKNOWLEDGED, values)


_LEVEL = inventory_levels.c
_ACKNOWLEDGED_LOG: dict[str, ColumnElement[Any]] = {
    "timestamp": bindparam("ended", type_=sync_logs.c.timestamp.type),
    "platform": _LEVEL.channel,
    "sku": _LEVEL.central_sku,
    "action": literal("push"),
    "old_quantity": _LEVEL.acknowledged_quantity,
    "new_quantity": _LEVEL.sent_quantity,
    "status": literal(str(Result.ACKNOWLEDGED)),
    "error_message": literal(""),
    "code": literal(""),
    "level_id": _LEVEL.id,
    "attempt": _LEVEL.attempt,
    "ledger_sequence": _LEVEL.sent_sequence,
    "rules_revision": _LEVEL.rules_revision,
    "started_at": bindparam("began", type_=sync_logs.c.started_at.type),
    "idempotency_key": bindparam("by_key", type_=sync_logs.c.idempotency_key.type),
    "run_id": bindparam("by_run", type_=sync_logs.c.run_id.type),
}
_LOG_ACKNOWLEDGED = insert(sync_logs).from_select(
    list(_ACKNOWLEDGED_LOG),
    select(*_ACKNOWLEDGED_LOG.values()).where(levels.CLAIMED_BY).order_by(_LEVEL.sent_quantity, _LEVEL.id),
)


def write_logs(connection: Connection, logs: Sequence[dict[str, Any]]) -> None:
    """Append rows to `sync_logs`: each has all columns but the id."""
    insert_rows(connection, sync_logs, _LOG_COLUMNS, list(map(_log_values, logs)))


_LOG_COLUMNS = tuple(column for column in sync_logs.c if column.name != "id")
_log_values = itemgetter(*(column.name for column in _LOG_COLUMNS))


def record_readings(
    connection: Connection,
    attempted: Attempted,
    claims: Sequence[Claim],
    readings: Sequence[Reading],
    orders_known_until: datetime | None,
    limits: Limits,
    report: PushReport,
) -> None:
    """Settle claimed uncertain levels by their readings, as DESIGN 4 says, and log each."""
    now = attempted.ended
    before = levels.load(connection, [claim.level_id for claim in claims])
    restored = any(state.uncertain == Doubt.RESTORE for state in before.values())
    everyone = connection.execute(_ALL_KNOWN).scalar_one() if restored else None
    after: list[LevelState] = []
    logs: list[dict[str, Any]] = []
    stopped: list[tuple[int, Outcome]] = []
    for claim, reading in zip(claims, readings, strict=True):
        state = before[claim.level_id]
        if state.claim != READ + attempted.token:
            continue
        basis = ReadingBasis(attempted.began, now, claim.touched, orders_known_until, everyone)
        if reading.absent:
            after.append(settling.absent(state, basis, limits))
            reason = settled_how(state, after[-1], basis)
        elif reading.quantity is None:
            problem = reading.problem or NO_NUMBER
            reason = problem.words
            after.append(levels.failed(state, reason, now, 0.0))
            stopped.append((claim.level_id, problem))
            report.review += not is_kept_by_platform(problem)
        else:
            new = settling.settle(state, reading.quantity, basis, limits)
            after.append(new)
            report.settled += new.uncertain is None
            reason = settled_how(state, new, basis)
        report.read += 1
        logs.append(reading_log(attempted, state, reading.quantity, reason))
    levels.save(connection, after, now)
    write_logs(connection, logs)
    for level_id, problem in stopped:
        stop_level(connection, attempted.channel, level_id, problem, now)


# A channel whose orders were never listed begins with those that are open then.
_ALL_KNOWN = select(func.min(channels.c.orders_known_until)).where(channels.c.status != "retired")


def settled_how(before: LevelState, new: LevelState, basis: ReadingBasis) -> str:
    """Say in a word what a reading made of a level, for the log."""
    if new.uncertain is not None:
        return f"still uncertain: {new.uncertain}"
    if new.effective_quantity == NOT_THERE:
        return "not there yet: the next write makes it"
    if new.effective_quantity < new.desired and not settling.orders_known(before, basis):
        return "settled at the bound: it may rise though the channel's orders are not known past this reading"
    return "settled"


def reading_log(
    attempted: Attempted, state: LevelState, quantity: int | None, message: str, action: str = "read"
) -> dict[str, Any]:
    """Return the `sync_logs` row of a reading."""
    return {
        "timestamp": attempted.ended,
        "platform": attempted.channel,
        "sku": state.central_sku,
        "action": action,
        "old_quantity": state.acknowledged_quantity,
        "new_quantity": quantity,
        "status": "observed",
        "error_message": message,
        "code": state.uncertain or "",
        "level_id": state.id,
        "attempt": state.attempt,
        "ledger_sequence": state.desired_sequence,
        "rules_revision": state.rules_revision,
        "started_at": attempted.began,
        "idempotency_key": "",
        "run_id": attempted.run_id,
    }
