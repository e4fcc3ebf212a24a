"""The push of one channel: claim, compute, send, record, and settle what is uncertain, until nothing is due.

Waiting for the budget comes before the claim, so a quantity is computed from the ledger just before it is sent and is
never carried through a wait or a retry (DESIGN 2.2).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, not_, select, update

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels
from invsync_dagster.platforms.contract import Outcome, ReadAnswer, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync import claims as claiming
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.poll import poll_orders
from invsync_dagster.sync.record import Attempted, record_readings, record_writes
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace


@dataclass
class _Push:
    ws: Workspace
    channel: Channel
    calls: Calls
    run_id: str
    skus: Collection[str] | None
    report: PushReport
    orders_known_until: datetime | None = None

    def token(self) -> str:
        return f"{self.ws.rng.getrandbits(128):032x}"

    def due(self) -> ColumnElement[bool]:
        return claiming.due_changes(self.channel.name, self.ws.clock.now(), self.skus)

    def any_due(self, kind: ColumnElement[bool]) -> bool:
        with self.ws.engine.connect() as connection:
            return bool(connection.execute(select(exists().where(and_(self.due(), kind)))).scalar())

    def claim_until(self) -> datetime:
        return self.ws.clock.now() + timedelta(seconds=self.ws.configuration.settings.claim_seconds)


def push_channel(
    ws: Workspace,
    name: str,
    *,
    run_id: str,
    deadline: datetime,
    skus: Collection[str] | None = None,
) -> PushReport:
    """Bring what is due at channel `name` in step, of all its SKUs or of `skus` alone.

    Takes over dead claims, asks for the orders changed since the last time, writes what goes at once, reads and settles
    what is uncertain, and repeats until nothing is due or `deadline` forbids new claims. Never raises for the platform's
    failures: they stand in the report, and what failed stays a change.
    """
    report = PushReport(channel=name)
    began = ws.clock.now()
    channel = ws.channel(name)
    if not _may_push(ws, channel, report):
        return report
    calls = calls_of(ws, channel, deadline)
    push = _Push(ws, channel, calls, run_id, skus, report)
    try:
        if not _recovered(push):
            return report
        with write_transaction(ws.engine) as connection:
            claiming.take_over(connection, name, ws.worker, calls.platform.limits, ws.clock.now())
            if skus is not None:
                chosen = and_(inventory_levels.c.channel == name, inventory_levels.c.central_sku.in_(skus))
                connection.execute(update(inventory_levels).where(chosen).values(due_at=ws.clock.now()))
        _poll(push)
        while _write_round(push) or _read_round(push):
            pass
    except OutOfTimeError:
        pass
    except PlatformError as error:
        report.problem = report.problem or f"{error.code}: {error.message}"
        if error.recovery is Recovery.REAUTHENTICATE:
            stop_channel(ws, name, report.problem)
    _finish(push, began)
    return report


def calls_of(ws: Workspace, channel: Channel, deadline: datetime) -> Calls:
    """Return the bounded, budgeted calls of a channel."""
    return Calls(
        platform=ws.platform(channel),
        limiter=ws.limiter(channel),
        clock=ws.clock,
        rng=ws.rng,
        retries=ws.configuration.settings.retries,
        deadline=deadline,
    )


def stop_channel(ws: Workspace, name: str, reason: str) -> None:
    """Stop a channel whose credentials are dead: each later push checks them first, and goes on once they work."""
    with write_transaction(ws.engine) as connection:
        connection.execute(
            update(channels)
            .where(channels.c.name == name)
            .values(stopped_reason=reason, stopped_at=ws.clock.now())
        )


def _may_push(ws: Workspace, channel: Channel, report: PushReport) -> bool:
    if channel.disabled_reason:
        report.problem = f"configuration: {channel.disabled_reason}"
        return False
    with ws.engine.connect() as connection:
        row = connection.execute(select(channels).where(channels.c.name == channel.name)).one_or_none()
    if row is None:
        report.problem = f"configuration: channel {channel.name!r} is not registered yet; run `invsync channels sync`"
        return False
    if row.push_approved_at is None:
        report.approval_missing = True
        return False
    return bool(row.status == "active")


def _recovered(push: _Push) -> bool:
    with push.ws.engine.connect() as connection:
        stopped = connection.execute(
            select(channels.c.stopped_reason).where(channels.c.name == push.channel.name)
        ).scalar_one()
    if not stopped:
        return True
    push.calls.wait(push.calls.platform.limits.read_cost)
    try:
        push.calls.platform.check_credentials()
    except PlatformError as error:
        push.report.problem = f"{error.code}: {error.message}"
        return False
    with write_transaction(push.ws.engine) as connection:
        connection.execute(
            update(channels).where(channels.c.name == push.channel.name).values(stopped_reason="", stopped_at=None)
        )
    return True


def _poll(push: _Push) -> None:
    # Without the list, decreases and certain levels still go; only increases of uncertain levels wait for it.
    try:
        polled = poll_orders(push.ws, push.channel.name, push.calls, run_id=push.run_id)
    except PlatformError as error:
        if error.recovery is Recovery.REAUTHENTICATE:
            raise
        push.report.problem = f"orders could not be listed: {error.code}: {error.message}"
        return
    push.report.orders += polled.documents
    push.orders_known_until = polled.known_until


def _write_round(push: _Push) -> bool:
    """Write one batch; return whether there was one."""
    return push.calls.retrying(lambda: _write_once(push))


def _write_once(push: _Push) -> bool:
    ws, calls = push.ws, push.calls
    if not push.any_due(claiming.goes_at_once()):
        return False
    calls.wait(calls.platform.limits.write_cost)
    token, began = push.token(), ws.clock.now()
    with write_transaction(ws.engine) as connection:
        claims = claiming.claim_writes(
            connection, ws.worker, token, push.due(), calls.platform.limits.write_batch, push.claim_until(), began
        )
    if not claims:
        return False
    rows = [WriteRow(claim.reference, claim.quantity, claim.compare) for claim in claims]
    answer = calls.platform.write(rows, key=token)
    attempted = Attempted(push.channel.name, token, token, push.run_id, began, ws.clock.now())
    with write_transaction(ws.engine) as connection:
        record_writes(connection, attempted, claims, answer.outcomes, calls.platform.limits, ws.rng, push.report)
    calls.learn(answer.budget, calls.platform.limits.write_cost)
    failure = _failure_of_call(answer.outcomes)
    if failure is None:
        return True
    if failure.recovery is Recovery.WAIT:
        calls.throttled(failure.retry_after)
        return True
    raise failure


def _failure_of_call(outcomes: Sequence[Outcome]) -> PlatformError | None:
    """Return what failed the call as a whole: every row shares one outcome that no row of its own would have."""
    first = outcomes[0]
    if first.result not in (Result.NOT_SENT, Result.UNKNOWN) or first.recovery is None:
        return None
    if any(outcome != first for outcome in outcomes):
        return None
    return PlatformError(first.recovery, first.code, first.message, first.retry_after)


def _read_round(push: _Push) -> bool:
    """Read one batch of uncertain levels and settle them; return whether there was one."""
    ws, calls = push.ws, push.calls
    limits = calls.platform.limits
    if not push.any_due(not_(claiming.goes_at_once())):
        return False
    token = push.token()
    with write_transaction(ws.engine) as connection:
        claims = claiming.claim_reads(
            connection, ws.worker, token, push.due(), limits.read_batch, push.claim_until()
        )
    if not claims:
        return False
    began = ws.clock.now()

    def read() -> ReadAnswer:
        nonlocal began
        began = ws.clock.now()
        return calls.platform.read([claim.reference for claim in claims])

    try:
        answer = calls.ask(limits.read_cost, read)
        attempted = Attempted(push.channel.name, token, "", push.run_id, began, ws.clock.now())
        pairs = zip(claims, answer.readings, strict=True)
        if any(reading.quantity is not None and reading.quantity < claim.quantity for claim, reading in pairs):
            _poll(push)
    except (PlatformError, OutOfTimeError):
        with write_transaction(ws.engine) as connection:
            claiming.release(connection, claims, token)
        raise
    with write_transaction(ws.engine) as connection:
        record_readings(connection, attempted, claims, answer.readings, push.orders_known_until, limits, push.report)
    return True


def _finish(push: _Push, began: datetime) -> None:
    ws, report = push.ws, push.report
    now = ws.clock.now()
    report.api_calls, report.wait_seconds = push.calls.made, push.calls.waited
    report.seconds = (now - began).total_seconds()
    with write_transaction(ws.engine) as connection:
        report.left, report.waiting = claiming.count_changes(connection, push.channel.name, now)
        values = {"last_push_at": now} if report.problem else {"last_push_at": now, "last_success_at": now}
        connection.execute(update(channels).where(channels.c.name == push.channel.name).values(values))
