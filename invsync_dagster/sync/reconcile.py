"""The full run: read back one batch of a channel's levels, compare, record drift, and repair by the settling rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from traceback import format_exception

from sqlalchemy import Connection, bindparam, select, update

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.batches import batch_of, batches_in_force, in_batch, set_batches, wrong_batches
from invsync_dagster.inventory.bulk import as_parameter, numbers_by_id
from invsync_dagster.inventory.channels import CONFIGURATION, why_at_rest
from invsync_dagster.inventory.database import DatabaseGoneError, write_transaction
from invsync_dagster.inventory.full_runs import BatchDone, keep_batch, keep_findings
from invsync_dagster.inventory.tables import NOT_THERE, channels, inventory_levels
from invsync_dagster.platforms.contract import Limits, Platform, Reading
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync import levels, settling
from invsync_dagster.sync.adoption import Adopted, adopt
from invsync_dagster.sync.another_shop import ANOTHER_SHOP, SHARE, is_unknown
from invsync_dagster.sync.bulk_reading import BulkLook
from invsync_dagster.sync.calls import OutOfTimeError
from invsync_dagster.sync.cut_out import why_cut_out
from invsync_dagster.sync.differences import (
    Adoptable,
    Cause,
    FullSyncReport,
    Gone,
    Policy,
    difference,
    doubt_about,
    failed_row_words,
    has_failed_row,
    has_no_failed_row,
    likely_cause,
)
from invsync_dagster.sync.letting_in import stop_channel
from invsync_dagster.sync.levels import Doubt, LevelState
from invsync_dagster.sync.push import calls_of, push_channel
from invsync_dagster.sync.readings import PLACES, ReadBack, in_readings, note_whole, read_back
from invsync_dagster.sync.recognition import require_same_shop, require_still_here, why_elsewhere
from invsync_dagster.sync.record import Attempted, reading_log, settled_how, write_logs
from invsync_dagster.sync.settling import ReadingBasis
from invsync_dagster.sync.stopped import NO_NUMBER, stop_level
from invsync_dagster.sync.workspace import Workspace

# Readings that one transaction takes: a commit a call of 100 was most of what a comparison cost.
LEVELS_COMPARED_AT_ONCE = 2_000

# While a reading of all is under way it is looked for so often: what it clears need not be read.
LEVELS_BETWEEN_LOOKS = 500

SETTLED_BY_PUSH = "to be settled by a push"
TRIED_AGAIN = "tried again by the pushes, later each time"
BEING_RESUMED = "the channel is being resumed, and some of its levels are not yet; run it again in a minute"
NOT_DONE = "not done: the batch did not come to its end"

LONGEST_BATCH = timedelta(minutes=30)

# A server that restarts, or a writer that holds all others up for its longest time, is over by then: what came of a batch is kept
# then. Later the database is taken to be gone for good.
DATABASE_BACK_WITHIN = timedelta(minutes=2)
KEPT_AGAIN_SECONDS = 5.0


def full_sync(ws: Workspace, name: str, batch: int, *, run_id: str, adopted: Adopted | None = None) -> FullSyncReport:
    """Read back, compare and repair the levels of batch `batch` of channel `name`; `adopted` is what the batches of its run
    have adopted so far.

    What a difference leads to is the channel's policy. To be repaired, a drifted level becomes uncertain and is settled by
    the push that follows; missing ones go to review (those that the platform keeps itself are excluded), unless most of the
    channel's are unknown: then the channel is stopped instead. Running a batch again is harmless. What fails stands in the
    report, and what came of the batch is kept. One of a channel that is paused, at its end at least, is passed over: it stays as
    it was run last. Raises only what keeps that from being kept (`DatabaseGoneError`).
    """
    report = FullSyncReport(name, batch)
    began = ws.clock.now()
    try:
        _full_sync(ws, report, began, run_id, adopted or Adopted())
    except Exception as error:  # whatever broke this batch, the others may do well without
        report.problem = str(error) if isinstance(error, DatabaseGoneError) else f"{type(error).__name__}: {error}"
        report.traceback = "".join(format_exception(error))
    report.seconds = (ws.clock.now() - began).total_seconds()
    keep_report(ws, report, run_id)
    return report


def keep_report(ws: Workspace, report: FullSyncReport, run_id: str) -> None:
    """Keep what came of a batch. Raises `DatabaseGoneError` where the database has been away for `DATABASE_BACK_WITHIN`."""
    numbers = (report.levels, report.drift, report.failed_rows, report.missing)
    gives_up_at = ws.clock.now() + DATABASE_BACK_WITHIN
    while True:
        done = BatchDone(report.channel, report.batch, run_id, ws.clock.now(), *numbers, report.problem)
        try:
            with write_transaction(ws.engine, report.channel) as connection:
                if report.passed_over:
                    keep_findings(connection, done)
                else:
                    keep_batch(connection, done)
        except DatabaseGoneError:
            if ws.clock.now() >= gives_up_at:
                raise
            ws.clock.sleep(KEPT_AGAIN_SECONDS)
        else:
            return


def _full_sync(ws: Workspace, report: FullSyncReport, began: datetime, run_id: str, adopted: Adopted) -> None:
    name, batch = report.channel, report.batch
    channel = ws.channel(name)
    if channel.disabled_reason:
        report.problem = f"configuration: {channel.disabled_reason}"
        return
    with ws.engine.connect() as connection:
        report.passed_over = why_at_rest(connection, name)
    if report.passed_over:
        return
    report.problem = _batches_fixed(ws)
    if report.problem:
        return
    deadline = began + LONGEST_BATCH
    calls = calls_of(ws, channel, deadline, background=True)
    level = inventory_levels.c
    with ws.engine.connect() as connection:
        report.problem = why_cut_out(connection, name, began) or why_elsewhere(connection, channel)
        if report.problem:
            return
        # Read longest ago first: a batch that did not finish goes on where it was.
        oldest = (level.observed_at.asc().nulls_first(), level.id)
        mine = in_batch(batch, ws.configuration.settings.sku_batches)
        # Not the column itself: SQLite would walk through all of the channel's levels by its index.
        of_batch = select(level.id).where(mine, level.channel.concat("") == name)
        ids = list(connection.execute(of_batch.where(level.pushable.is_(True)).order_by(*oldest)).scalars())
        is_behind = select(channels.c.recomputed_revision < channels.c.rules_revision).where(channels.c.name == name)
        at_rest = of_batch.where(level.stopped_reason.startswith("channel "), is_behind.scalar_subquery())
        if connection.execute(at_rest.limit(1)).first():
            report.passed_over = BEING_RESUMED
            return
    try:
        in_bulk, is_known = BulkLook(ws, name, calls, run_id), False
        while ids:
            in_bulk.look()
            size = LEVELS_BETWEEN_LOOKS if in_bulk.open else LEVELS_COMPARED_AT_ONCE
            cleared = in_bulk.cleared(ids[:size])
            some, ids = [level_id for level_id in ids[:size] if level_id not in cleared], ids[size:]
            report.levels += len(cleared)
            report.equal += len(cleared)
            report.in_bulk += len(cleared)
            reads: list[ReadBack] = []
            with ws.engine.connect() as connection:
                found = {row.id: row for row in connection.execute(PLACES, {"ids": as_parameter(some)})}
            places = [found[level_id] for level_id in some if level_id in found]
            try:
                for part in in_readings(places, calls.platform.limits):
                    reads.append(read_back(ws, name, part, calls, run_id))
            finally:
                _compare(ws, reads, channel, calls.platform, report)
            if not is_known and report.unknown > report.levels * SHARE:
                those = batch_of(level.id, ws.configuration.settings.sku_batches) == batch
                require_same_shop(ws, name, those, {}, report.unknown, report.levels, calls)
                is_known = True
        _review_missing(ws, report)
        if report.to_adopt:
            report.to_repair |= adopt(ws, name, report.to_adopt, calls, run_id, adopted)
        if report.to_repair:
            pushed = push_channel(ws, name, run_id=run_id, deadline=deadline, skus=report.to_repair, background=True)
            report.problem = pushed.problem
            report.stops_channel = pushed.stopped or pushed.problem.startswith(ANOTHER_SHOP)
            report.repaired = pushed.acknowledged
            report.left = pushed.left + pushed.waiting
            report.api_calls += pushed.api_calls
        with ws.engine.connect() as connection:
            report.passed_over = "" if report.problem else why_at_rest(connection, name)
    except OutOfTimeError:
        late = f"batch {batch} did not finish within {LONGEST_BATCH}; run it again, it goes on from here"
        with ws.engine.connect() as connection:
            report.problem = why_elsewhere(connection, channel) or late
    except PlatformError as error:
        report.problem = str(error)
        report.stops_channel = error.recovery is Recovery.REAUTHENTICATE or error.code == ANOTHER_SHOP
        if error.code == ANOTHER_SHOP:
            stop_channel(ws, name, report.problem)
    finally:
        report.api_calls += calls.made


def _batches_fixed(ws: Workspace) -> str:
    """Keep the number of batches that the first full run has; say what is wrong if it is another one now."""
    configured = ws.configuration.settings.sku_batches
    with ws.engine.connect() as connection:
        in_force = batches_in_force(connection)
    if in_force is None:
        with write_transaction(ws.engine) as connection:
            set_batches(connection, configured, actor=CONFIGURATION, reason="the first full run", now=ws.clock.now())
    wrong = wrong_batches(configured, in_force)
    return f"configuration: {wrong}" if wrong else ""


def _review_missing(ws: Workspace, report: FullSyncReport) -> None:
    now = ws.clock.now()
    with write_transaction(ws.engine, report.channel) as connection:
        states = levels.load(connection, list(report.gone))
        for level_id, gone in report.gone.items():
            # A write since the reading, or under way, says itself what is there.
            if states[level_id].touched == gone.touched:
                gone.difference.done = stop_level(connection, report.channel, level_id, gone.problem, now)
            else:
                gone.difference.done = "looked at again by the next full run: it was written meanwhile"


def _compare(
    ws: Workspace, reads: Sequence[ReadBack], channel: Channel, platform: Platform, report: FullSyncReport
) -> None:
    with write_transaction(ws.engine, report.channel) as connection:
        require_still_here(connection, channel)
        equal = _note_equal(connection, reads)
        report.levels += len(equal)
        report.equal += len(equal)
        for one in reads:
            note_whole(connection, platform, one.readings, one.attempted.began)
            others = {level_id: reading for level_id, reading in one.readings.items() if level_id not in equal}
            if others:
                _record(connection, one.attempted, others, one.touched, channel.differences, platform.limits, report)


def _note_equal(connection: Connection, reads: Sequence[ReadBack]) -> set[int]:
    """Note the readings that show what they should; return their levels. Almost all do, so they cost one statement.

    The levels of several calls are noted as seen when the first of these was answered: no later than they were.
    """
    numbers = {
        level_id: reading.quantity
        for one in reads
        for level_id, reading in one.readings.items()
        if reading.quantity is not None
    }
    if not numbers:
        return set()
    seen = {"shown": json.dumps(numbers), "now": reads[0].attempted.ended}
    return set(connection.execute(_SEEN_EQUAL, seen).scalars())


_LEVEL = inventory_levels.c
_SHOWN = numbers_by_id("shown")
_SEEN_EQUAL = (
    update(inventory_levels)
    .where(
        _LEVEL.id == _SHOWN.c.id,
        _LEVEL.acknowledged_quantity == _SHOWN.c.number,
        _LEVEL.claim.is_(None),
        _LEVEL.uncertain.is_(None),
        has_no_failed_row(),
    )
    .values(observed_quantity=_LEVEL.acknowledged_quantity, observed_at=bindparam("now"))
    .returning(_LEVEL.id)
)


def _record(
    connection: Connection,
    attempted: Attempted,
    readings: Mapping[int, Reading],
    touched: Mapping[int, int],
    policy: Policy,
    limits: Limits,
    report: FullSyncReport,
) -> None:
    now = attempted.ended
    after, logs = [], []
    for state in levels.load(connection, list(readings)).values():
        reading = readings[state.id]
        report.levels += 1
        if reading.quantity is None and not reading.absent:
            report.missing += 1
            report.unknown += is_unknown(reading.problem)
            problem = reading.problem or NO_NUMBER
            found = difference(state, None, Cause.GONE, problem.words, NOT_DONE)
            report.differences.append(found)
            logs.append(reading_log(attempted, state, None, problem.words))
            report.gone[state.id] = Gone(problem, touched[state.id], found)
            continue
        if state.claim is not None:
            report.claimed += 1
            continue
        seen = state._replace(observed_quantity=reading.quantity, observed_at=now)
        if state.uncertain is not None:
            report.uncertain += 1
            report.to_repair.add(state.central_sku)
            if doubt := doubt_about(state, reading.quantity):
                report.differences.append(difference(state, reading.quantity, *doubt, SETTLED_BY_PUSH))
            basis = ReadingBasis(attempted.began, now, touched[state.id], orders_known_until=None)
            shown = reading.quantity
            seen = (
                settling.absent(state, basis, limits) if shown is None else settling.settle(state, shown, basis, limits)
            )
            logs.append(reading_log(attempted, state, reading.quantity, settled_how(state, seen, basis)))
        elif _shows_what_is_acknowledged(state, reading):
            if has_failed_row(state):
                report.failed_rows += 1
                words = failed_row_words(state)
                report.differences.append(difference(state, reading.quantity, Cause.FAILED_ROW, words, TRIED_AGAIN))
                logs.append(reading_log(attempted, state, reading.quantity, words))
        elif _comparable(state, touched[state.id], began=attempted.began, limits=limits):
            report.drift += 1
            cause, words = likely_cause(state, reading.quantity)
            found = difference(state, reading.quantity, cause, words, _DONE[policy])
            report.differences.append(found)
            logs.append(reading_log(attempted, state, reading.quantity, words, action="drift"))
            if policy == "repair":
                report.to_repair.add(state.central_sku)
                seen = seen._replace(uncertain=Doubt.DRIFT, uncertain_since=now, expected=reading.quantity, due_at=now)
            elif policy == "adopt" and reading.quantity is None:
                found.done = "reported: it isn't there, which tells of no number"
            elif policy == "adopt" and reading.quantity is not None:
                report.to_adopt.append(
                    Adoptable(state.id, reading.quantity, attempted.began, now, touched[state.id], found)
                )
        else:
            words = "a write of ours, or a sale, came in between or may not be visible yet"
            logs.append(reading_log(attempted, state, reading.quantity, words))
            report.differences.append(
                difference(state, reading.quantity, Cause.NOT_VISIBLE, words, "looked at again by the next full run")
            )
        after.append(seen)
    levels.save(connection, after, now)
    write_logs(connection, logs)


def _shows_what_is_acknowledged(state: LevelState, reading: Reading) -> bool:
    if reading.absent:
        return state.effective_quantity == NOT_THERE  # known: the next push makes it
    return reading.quantity == state.acknowledged_quantity


# What isn't done at once is done at the batch's end, and said then.
_DONE: dict[Policy, str] = {"repair": SETTLED_BY_PUSH, "report": "reported", "adopt": NOT_DONE}


def _comparable(state: LevelState, touched: int, *, began: datetime, limits: Limits) -> bool:
    """A reading tells of drift only if nothing of ours happened meanwhile and our last write must be visible."""
    if state.touched != touched:
        return False
    return state.sent_at is None or state.sent_at + timedelta(seconds=limits.read_lag) <= began
