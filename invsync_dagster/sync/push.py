"""The push of one channel: claim, compute, send, record, and settle what is uncertain, until nothing is due.

Waiting for the budget comes before the claim, so a quantity is computed from the ledger just before it is sent and is
never carried through a wait or a retry (DESIGN 2.2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.bulk import among, as_parameter
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels
from invsync_dagster.platforms.contract import Outcome, Reading, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync import day_limit
from invsync_dagster.sync.after_push import note_push
from invsync_dagster.sync.another_shop import ANOTHER_SHOP, is_another_shop, is_unknown
from invsync_dagster.sync.articles import told_apart
from invsync_dagster.sync.bulk import Bulk
from invsync_dagster.sync.calls import Calls, GaveWayError, OutOfTimeError, failure_of_call
from invsync_dagster.sync.claims import Claim, Due, claim_reads, claim_writes, count_changes, next_due, release
from invsync_dagster.sync.cut_out import PROBE_SECONDS, Reach, ask_whether_there
from invsync_dagster.sync.left_behind import ONE_CLAIMED, take_over
from invsync_dagster.sync.letting_in import lets_us_in, stop_channel
from invsync_dagster.sync.poll import PollReport, poll_orders
from invsync_dagster.sync.readings import note_whole, read_claimed
from invsync_dagster.sync.recognition import require_our_shop, require_same_shop, require_still_here
from invsync_dagster.sync.record import Attempted, record_readings, record_writes
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.side_by_side import SideBySide
from invsync_dagster.sync.stopped import stop_level
from invsync_dagster.sync.workspace import Workspace


@dataclass
class _Push:
    ws: Workspace
    channel: Channel
    calls: Calls
    run_id: str
    skus: tuple[str, ...] | None
    report: PushReport
    row: Row[Any]
    others: SideBySide
    orders_known_until: datetime | None = None
    asked: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    is_known: bool = False
    idle: timedelta = timedelta(0)
    told: tuple[int, str] | None = None
    problem: str = ""
    asked_before: int = field(init=False)

    def __post_init__(self) -> None:
        line = self.calls.line
        line.unanswered, self.asked_before = self.row.unanswered, line.asked

    @property
    def has_called(self) -> bool:
        """Whether any request was sent, or tried."""
        return self.calls.line.asked > self.asked_before

    def is_suspicious(self, outcomes: Mapping[int, Outcome | None]) -> bool:
        """Say whether a call, or all of this push so far, may have reached another shop: some platforms take five rows a call,
        or one. `outcomes` are those of the call, or the problems of its readings, by level."""
        unknown = {level_id for level_id, outcome in outcomes.items() if is_unknown(outcome)}
        self.asked.update(outcomes)  # `|=` of keys makes the set anew: 11 % of a push of 100,000
        self.unknown |= unknown
        many = is_another_shop(len(unknown), len(outcomes))
        return not self.is_known and (many or (bool(unknown) and is_another_shop(len(self.unknown), len(self.asked))))

    def recognise(self) -> None:
        """Return if other listings of the channel are there. Raises `PlatformError`, `OutOfTimeError`."""
        mine = among(inventory_levels.c.id, "asked")
        asked = as_parameter(self.asked)
        require_same_shop(
            self.ws, self.channel.name, mine, {"asked": asked}, len(self.unknown), len(self.asked), self.calls
        )
        self.is_known = True

    def token(self) -> str:
        return f"{self.ws.rng.getrandbits(128):032x}"

    def due(self, low_stock: int | None = None) -> Due:
        settles_first = self.calls.platform.limits.settles_first
        return Due(self.channel.name, self.ws.clock.now(), self.skus, settles_first, low_stock)

    def claim_until(self) -> datetime:
        # A request must end well before its claim does, whatever the channel's deadline for requests is.
        least = 2 * self.calls.platform.limits.request_deadline
        seconds = max(self.ws.configuration.settings.claim_seconds, least)
        return self.ws.clock.now() + timedelta(seconds=seconds)


def push_channel(
    ws: Workspace,
    name: str,
    *,
    run_id: str,
    deadline: datetime,
    skus: Collection[str] | None = None,
    background: bool = False,
    others: SideBySide | None = None,
) -> PushReport:
    """Bring what is due at channel `name` in step, of all its SKUs or of `skus` alone; in the `background`, behind the
    other pushes.

    Takes over dead claims, asks for the orders changed since the last time, writes what goes at once, reads and settles
    what is uncertain, and repeats until nothing is due or `deadline` (and what that first list of orders took) forbids
    new claims; and again whenever one of the `others` of the run has heard what it sold. Never raises for the platform's
    failures: they stand in the report, and what failed stays a change.

    A channel that is met for the first time, or at another address, is looked at before anything is heard or written there
    (`recognition`). One whose host doesn't answer is cut out: pushes before the end of the cut-out make no call (one of given
    SKUs that isn't in the background does), the first one after it asks once, and all goes on with an answer
    (docs/decisions/0030).
    """
    report = PushReport(channel=name)
    began = ws.clock.now()
    channel = ws.channel(name)
    row = _row_of(ws, channel, report)
    if row is None:
        return report
    calls = calls_of(ws, channel, deadline, background=background)
    push = _Push(
        ws, channel, calls, run_id, None if skus is None else tuple(skus), report, row, others or SideBySide([name])
    )
    try:
        by_hand = skus is not None and not background
        if lets_us_in(ws, row, calls, report, by_hand=by_hand):
            require_our_shop(ws, channel, row.recognised, calls)
            if row.claimed_level_id is not None or skus is not None:
                _make_due(push)
            _poll_first(push)
            takes_writes = row.status == "active" and not report.approval_missing
            if takes_writes:
                push.others.looks(name)
            push.others.heard(name)
            bulk = Bulk(ws, name, calls, run_id, report, push.token, push.is_suspicious, push.recognise)
            bulk.hear()
            # A paused channel, or one that nobody has approved yet, is heard and not written to: what it sells is gone
            # for the others too.
            if takes_writes:
                if skus is None:
                    bulk.hand_in()
                _bring_in_step_all_news(push, bulk, began, deadline)
    except OutOfTimeError as error:
        if error.why:  # the platform is to be waited for
            push.others.leaves(name)
        if not calls.made and error.why:
            report.problem = report.problem or str(error)
    except PlatformError as error:
        push.others.leaves(name)
        report.problem = report.problem or str(error)
        if error.recovery is Recovery.REAUTHENTICATE or error.code == ANOTHER_SHOP:
            report.stopped = error.recovery is Recovery.REAUTHENTICATE
            stop_channel(ws, name, report.problem)
    _finish(push, began)
    return report


def calls_of(ws: Workspace, channel: Channel, deadline: datetime, *, background: bool) -> Calls:
    """Return the bounded, budgeted calls of a channel."""
    return Calls(
        platform=ws.platform(channel),
        line=ws.line(channel),
        limiter=ws.limiter(channel),
        orders=ws.orders_limiter(channel),
        clock=ws.clock,
        rng=ws.rng,
        retries=ws.configuration.settings.retries,
        deadline=deadline,
        background=background,
    )


def _row_of(ws: Workspace, channel: Channel, report: PushReport) -> Row[Any] | None:
    """Return the row of a channel that lives; else say why not in the report."""
    if channel.disabled_reason:
        report.problem = f"configuration: {channel.disabled_reason}"
        return None
    with ws.engine.connect() as connection:
        row = connection.execute(_CHANNEL, {"channel": channel.name}).one_or_none()
    if row is None:
        report.problem = f"configuration: channel {channel.name!r} is not registered yet; run `invsync channels sync`"
        return None
    report.approval_missing = row.push_approved_at is None
    return None if row.status == "retired" else row


_CHANNEL = select(channels, ONE_CLAIMED).where(channels.c.name == bindparam("channel"))


def _make_due(push: _Push) -> None:
    """Take over what dead workers left, and make given SKUs due whatever they wait for."""
    ws, level = push.ws, inventory_levels.c
    now = ws.clock.now()
    with write_transaction(ws.engine, push.channel.name) as connection:
        take_over(connection, push.channel.name, ws.worker, push.calls.platform.limits, now)
        if push.skus is not None:
            # By its SKUs, in a query of its own: SQLite would walk through all of the channel's levels.
            of_skus = inventory_levels.alias().c
            chosen = level.id.in_(select(of_skus.id).where(among(of_skus.central_sku, "skus")))
            statement = update(inventory_levels).where(level.channel == push.channel.name, chosen).values(due_at=now)
            connection.execute(statement, {"skus": as_parameter(push.skus)})


def _poll_first(push: _Push) -> None:
    """Hear of the orders first; the writes keep the time that there was before it.

    Otherwise a list that is slower than the deadline would starve them in every push. It leaves a part of that time to the
    question whether anybody is there at all, which decides whether there is anything to keep it for.
    """
    calls, clock = push.calls, push.ws.clock
    left = calls.deadline - clock.now()
    calls.deadline -= min(timedelta(seconds=PROBE_SECONDS), left / 4)
    try:
        _poll(push)
    except OutOfTimeError as error:
        if left > timedelta(0):
            push.report.problem = f"orders could not be listed in time{f': {error.why}' if error.why else ''}"
    calls.deadline = clock.now() + left
    if calls.line.unanswered:
        ask_whether_there(push.calls)


def _poll(push: _Push) -> None:
    # Without the list, decreases and certain levels still go; only increases of uncertain levels wait for it.
    polled = PollReport()
    try:
        poll_orders(push.ws, push.channel.name, push.calls, polled, run_id=push.run_id)
    except PlatformError as error:
        if error.recovery is Recovery.REAUTHENTICATE:
            raise
        push.report.problem = f"orders could not be listed: {error}"
        return
    except GaveWayError as error:
        push.report.problem = f"orders could not be listed in time: {error.why}"
        return
    finally:
        push.others.tell(polled.entries)
    push.report.problem = push.report.problem or "; ".join(polled.refused[:3])
    push.report.orders += polled.documents
    push.orders_known_until = polled.known_until


def _bring_in_step_all_news(push: _Push, bulk: Bulk, began: datetime, deadline: datetime) -> None:
    """Bring in step what is due, and then what another channel of the run hears that it has sold, until all have heard or the
    run's time is over."""
    others, name = push.others, push.channel.name
    while True:
        news = others.news
        _bring_in_step(push, bulk)
        if push.skus is None:
            others.looks(name, news)
        _note(push, began)  # before the waiting: another run may learn better of the channel meanwhile
        is_more, waited = others.wait(news, push.ws.clock, deadline)
        push.idle += waited
        if not is_more or not _still_takes_writes(push):
            return


def _still_takes_writes(push: _Push) -> bool:
    """Read the channel's row anew: while this push waited, another run may have cut the channel out, or a person paused it."""
    with push.ws.engine.connect() as connection:
        push.row = connection.execute(_CHANNEL, {"channel": push.channel.name}).one()
    push.calls.line.unanswered = push.row.unanswered
    if push.row.status == "active" and not Reach.of(push.row).lasts(push.ws.clock.now()):
        return True
    push.others.leaves(push.channel.name)
    return False


def _bring_in_step(push: _Push, bulk: Bulk) -> None:
    has_bulk = push.skus is None and bulk.lane is not None
    low_stock = push.ws.configuration.settings.low_stock if has_bulk else None
    while True:
        with push.ws.engine.connect() as connection:
            upcoming = next_due(connection, push.due(low_stock))
        if upcoming is None:
            return
        if upcoming == "read":
            push.calls.retrying(partial(_read_batch, push))
        elif upcoming == "write":
            push.calls.retrying(partial(_write_batch, push, low_stock))
        elif not bulk.hand_in():
            push.calls.retrying(partial(_write_batch, push, None))


def _write_batch(push: _Push, low_stock: int | None) -> None:
    ws, calls = push.ws, push.calls
    calls.wait(calls.platform.limits.write_cost)
    token, began = push.token(), ws.clock.now()
    with write_transaction(ws.engine, push.channel.name) as connection:
        require_still_here(connection, push.channel)
        due = push.due(low_stock)
        claims = claim_writes(connection, ws.worker, token, due, calls.platform.limits, push.claim_until())
        held = day_limit.waiting(connection, push.channel.name, claims, calls.platform.limits, began)
    if not claims:
        return  # another worker was faster
    rows = [_row(claim) for claim in claims if claim.level_id not in held]
    answer = calls.platform.write(rows, key=token)
    attempted = Attempted(push.channel.name, token, token, push.run_id, began, ws.clock.now())
    sent = iter(answer.outcomes)
    outcomes = tuple(held.get(claim.level_id) or next(sent) for claim in claims) if held else answer.outcomes
    told = dict(zip((row.level_id for row in claims if row.level_id not in held), answer.outcomes, strict=True))
    suspicious = push.is_suspicious(told)
    if suspicious:  # the rows wait like refused ones, instead of going to review one by one
        outcomes = tuple(replace(one, recovery=one.recovery and Recovery.REJECT) for one in outcomes)
    with write_transaction(ws.engine, push.channel.name) as connection:
        record_writes(connection, attempted, claims, outcomes, calls.platform.limits, ws.rng, push.report)
    calls.learn(answer.budget, calls.platform.limits.write_cost)
    if suspicious:
        push.recognise()
        with write_transaction(ws.engine, push.channel.name) as connection:
            for level_id, outcome in told.items():
                if is_unknown(outcome):
                    stop_level(connection, push.channel.name, level_id, outcome, ws.clock.now())
    failure = failure_of_call(answer.outcomes)
    if failure is not None and failure.recovery is Recovery.WAIT:
        calls.throttled(failure)
    elif failure is not None:
        raise failure
    else:
        calls.answered()


def _read_batch(push: _Push) -> None:
    """Read one batch of uncertain levels and settle them."""
    ws, calls = push.ws, push.calls
    limits = calls.platform.limits
    calls.wait(limits.read_cost)
    token, began = push.token(), ws.clock.now()
    with write_transaction(ws.engine, push.channel.name) as connection:
        require_still_here(connection, push.channel)
        claims = claim_reads(connection, ws.worker, token, push.due(), limits, push.claim_until())
    if not claims:
        return
    try:
        by_level, whole = read_claimed(ws.engine, calls, claims, began)
        calls.answered()
        with ws.engine.connect() as connection:
            told = told_apart(connection, push.channel.name, by_level)
        readings = [told[claim.level_id] for claim in claims]
        if push.is_suspicious({claim.level_id: told[claim.level_id].problem for claim in claims}):
            push.recognise()
        attempted = Attempted(push.channel.name, token, "", push.run_id, began, ws.clock.now())
        pairs = zip(claims, readings, strict=True)
        if any(claim.quantity > (reading.quantity or 0) for claim, reading in pairs if _may_rise(reading)):
            _poll(push)
    except (PlatformError, OutOfTimeError) as error:
        with write_transaction(ws.engine, push.channel.name) as connection:
            release(connection, claims, token)
        if isinstance(error, PlatformError) and error.recovery is Recovery.WAIT:
            calls.throttled(error)
            return
        raise
    with write_transaction(ws.engine, push.channel.name) as connection:
        record_readings(connection, attempted, claims, readings, push.orders_known_until, limits, push.report)
        note_whole(connection, calls.platform, whole, began)


def _row(claim: Claim) -> WriteRow:
    return WriteRow(claim.reference, claim.quantity, claim.compare, claim.absent)


def _may_rise(reading: Reading) -> bool:
    return reading.quantity is not None or reading.absent


def _note(push: _Push, began: datetime) -> None:
    """Write the channel's row, if there is something to tell that it doesn't say yet."""
    told = (push.calls.line.asked, push.report.problem)
    if told != push.told:
        push.told = told
        push.problem = note_push(push.ws, push.row, push.calls, push.report, began, has_called=push.has_called)


def _finish(push: _Push, began: datetime) -> None:
    ws, report = push.ws, push.report
    push.calls.keep_pace()
    _note(push, began)
    now = ws.clock.now()
    report.problem = push.problem
    report.api_calls, report.wait_seconds = push.calls.made, push.calls.waited
    report.seconds = (now - began - push.idle).total_seconds()
    with ws.engine.connect() as connection:
        report.left, report.waiting = count_changes(connection, push.channel.name, now)
