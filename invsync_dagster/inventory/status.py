"""How things stand: per channel what is in step, held, in review, out of step; and what waits for a person."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, not_, select

from invsync_dagster.clock import age_in_words
from invsync_dagster.inventory.channels import rehearses
from invsync_dagster.inventory.clocks import clock_off
from invsync_dagster.inventory.full_runs import NEVER_RUN, full_runs
from invsync_dagster.inventory.lines import REHEARSAL
from invsync_dagster.inventory.tables import (
    CHANGES,
    central_inventory,
    channels,
    imports,
    inventory_levels,
    is_not_active,
    order_lines,
    platform_mapping,
    stock_ledger,
    sync_logs,
    unclear_orders,
    work_queue,
)

WINDOW = timedelta(hours=1)  # of the success rate and the syncs

# Most often a mapping was missing.
QUARANTINE_MEND = (
    "`invsync inbox list` says why; `invsync inbox replay FILE…` applies them once that is mended, `invsync inbox drop FILE…` "
    "gives them up"
)

COLUMNS = (
    "channel", "environment", "state", "active", "in step", "out of step", "held", "review", "paused",
    "oldest change", "last push", "last delivery", "last full run", "success, last hour", "syncs, last hour",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One channel; listings in numbers, ages in seconds, times aware UTC.

    Every active listing is either in step, out of step, held (by the breaker), or stopped (its level can't be pushed:
    the channel or another listing of the level is paused or in review). `uncertain` are those among the out of step
    whose number at the platform isn't known for sure, `held_decided` those among the held of which a person decided that they
    stay so. Rates are None where nothing was attempted. `silent_since` is when
    the first order or count was made there that no delivery told of, as far as was looked. Since `last_full_run_at` all levels
    were read back and compared, but those of the `failed_batches` (None: never all). `clock_ahead_seconds` is 0 where the
    clocks agree well enough.
    """

    channel: str
    platform: str
    environment: str
    rehearses: bool
    state: str
    reason: str
    active: int
    in_step: int
    out_of_step: int
    uncertain: int
    held: int
    held_decided: int
    stopped: int
    review: int
    paused: int
    excluded: int
    oldest_change_seconds: float | None
    last_push_at: datetime | None
    last_success_at: datetime | None
    last_delivery_at: datetime | None
    silent_since: datetime | None
    clock_ahead_seconds: float
    syncs_last_hour: int
    failed_last_hour: int
    success_rate_last_hour: float | None
    last_full_run_at: datetime | None
    failed_batches: tuple[int, ...]
    unresolved_lines: int
    unclear_orders: int


@dataclass(frozen=True, slots=True)
class HeldImport:
    """An import or a batch of counts that waits for a person."""

    import_id: str
    kind: str
    file_name: str
    rows: int
    reason: str
    held_seconds: float

    @property
    def words(self) -> str:
        return (
            f"{self.kind} {self.file_name} is held since {age_in_words(self.held_seconds)}: {self.reason}"
            f" (import id {self.import_id})"
        )


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the whole at `at`; `negative` counts SKUs whose reservations exceed what is on hand, `quarantined`
    deliveries that could not be applied."""

    at: datetime
    skus: int
    inactive: int
    units: int
    reserved: int
    negative: int
    ledger_sequence: int
    channels: tuple[ChannelStatus, ...]
    held_imports: tuple[HeldImport, ...]
    quarantined: int

    @property
    def out_of_step(self) -> int:
        return sum(channel.out_of_step for channel in self.channels)

    @property
    def open_cases(self) -> int:
        """What waits for a person or an answer: listings held (but not those decided to stay so) or in review, held imports,
        unclear orders and lines, and deliveries in quarantine."""
        each = (
            one.held - one.held_decided + one.review + one.unresolved_lines + one.unclear_orders
            for one in self.channels
        )
        return sum(each) + len(self.held_imports) + self.quarantined

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys; times as ISO text."""
        plain = asdict(self) | {
            "out_of_step": self.out_of_step,
            "open_cases": self.open_cases,
            "at": self.at.isoformat(),
        }
        plain["channels"] = [_plain(asdict(channel)) for channel in self.channels]
        plain["held_imports"] = [asdict(one) for one in self.held_imports]
        return plain

    def rows(self) -> list[tuple[str, ...]]:
        """One row of texts a channel, under `COLUMNS`."""
        return [
            (
                one.channel,
                one.environment,
                one.state,
                *(
                    str(number)
                    for number in (one.active, one.in_step, one.out_of_step, one.held, one.review, one.paused)
                ),
                age_in_words(one.oldest_change_seconds),
                _ago(one.last_push_at, self.at),
                _ago(one.last_delivery_at, self.at),
                _ago(one.last_full_run_at, self.at)
                + (f", {len(one.failed_batches)} failed" if one.failed_batches else ""),
                "-" if one.success_rate_last_hour is None else f"{one.success_rate_last_hour:.1%}",
                str(one.syncs_last_hour),
            )
            for one in self.channels
        ]

    def notes(self) -> list[str]:
        """What needs attention, one sentence each."""
        notes = [f"{one.channel}: {one.state}, {one.reason}" for one in self.channels if one.reason]
        for one in self.channels:
            if one.rehearses:
                notes.append(f"{one.channel}: {REHEARSAL}; its numbers are kept in step")
            if one.unresolved_lines:
                notes.append(
                    f"{one.channel}: {one.unresolved_lines} order lines belong to no listing; import their mapping"
                )
            if one.unclear_orders:
                notes.append(f"{one.channel}: {one.unclear_orders} unclear orders, asked for again with the next push")
            if one.failed_batches:
                batches = ", ".join(map(str, one.failed_batches))
                notes.append(
                    f"{one.channel}: of the last full run these batches failed: {batches}; look at their reasons at "
                    f"full_sync/{one.channel} in the UI, and run the job retry_failed_batches"
                )
            if one.silent_since is not None:
                notes.append(
                    f"{one.channel}: a change of {_ago(one.silent_since, self.at)} and no delivery since; "
                    f"`invsync webhooks list --channel {one.channel}` says what is subscribed to"
                )
            if one.clock_ahead_seconds:
                notes.append(clock_off(one.channel, one.clock_ahead_seconds))
            if one.stopped:
                notes.append(
                    f"{one.channel}: {one.stopped} active listings are stopped with their level; `explain` says why"
                )
        notes += [one.words for one in self.held_imports]
        if self.quarantined:
            notes.append(f"{self.quarantined} deliveries are in quarantine: {QUARANTINE_MEND}")
        if self.negative:
            notes.append(f"{self.negative} SKUs have more reserved than on hand; they show 0")
        return notes


def status(connection: Connection, now: datetime, quarantined: int) -> Status:
    """Read the status in the connection's transaction, so that its numbers belong together; `quarantined` is what the
    inbox's quarantine holds, which is no table."""
    stock = central_inventory.c
    skus, inactive, units, reserved, negative = connection.execute(
        select(
            func.count(),
            func.count().filter(stock.status == "inactive"),
            func.coalesce(func.sum(stock.quantity), 0),
            func.coalesce(func.sum(stock.reserved_quantity), 0),
            func.count().filter(stock.quantity < stock.reserved_quantity),
        )
    ).one()
    return Status(
        at=now,
        skus=skus,
        inactive=inactive,
        units=int(units),
        reserved=int(reserved),
        negative=negative,
        ledger_sequence=connection.execute(select(func.coalesce(func.max(stock_ledger.c.sequence), 0))).scalar_one(),
        channels=_channels(connection, now),
        held_imports=held_imports(connection, now),
        quarantined=quarantined,
    )


def held_imports(connection: Connection, now: datetime) -> tuple[HeldImport, ...]:
    """Return the imports and batches of counts that wait for a decision, the oldest first."""
    held = select(imports).where(imports.c.state == "held").order_by(imports.c.created_at, imports.c.id)
    return tuple(
        HeldImport(row.id, row.kind, row.file_name, row.rows, row.reason, (now - row.created_at).total_seconds())
        for row in connection.execute(held)
    )


def _channels(connection: Connection, now: datetime) -> tuple[ChannelStatus, ...]:
    listings: dict[str, dict[str, int]] = {}
    listing, level = platform_mapping.c, inventory_levels.c
    # Nearly all listings are active: all are counted by an index, and the others by theirs.
    everything = select(listing.platform_name, func.count()).group_by(listing.platform_name)
    others = (
        select(listing.platform_name, listing.status, func.count())
        .where(is_not_active())
        .group_by(listing.platform_name, listing.status)
    )
    for name, number in connection.execute(everything):
        listings[name] = {"active": number}
    for name, state, number in connection.execute(others):
        listings[name][state] = number
        listings[name]["active"] -= number
    is_held = level.held_quantity.is_not(None)
    # Sums are decimals on PostgreSQL.
    changes = {
        row[0]: (int(row[1]), int(row[2]), row[3])
        for row in connection.execute(_active_listings(not_(is_held), changes=True))
    }
    held = _by_channel(connection, _active_listings(level.pushable.is_(True), is_held))
    decided = _by_channel(
        connection, _active_listings(level.pushable.is_(True), is_held, level.held_dropped_at.is_not(None))
    )
    stopped = _by_channel(connection, _active_listings(level.pushable.is_(False)))
    attempts = _attempts(connection, now)
    lines = order_lines.c
    unresolved = _by_channel(
        connection,
        select(lines.channel, func.count())
        .where(lines.sku.is_(None), lines.ignored_reason == "")
        .group_by(lines.channel),
    )
    unclear = _by_channel(connection, select(unclear_orders.c.channel, func.count()).group_by(unclear_orders.c.channel))
    full = full_runs(connection)
    result = []
    for row in connection.execute(
        select(channels, rehearses()).where(channels.c.status != "retired").order_by(channels.c.name)
    ):
        number = listings.get(row.name, {})
        out_of_step, uncertain, since = changes.get(row.name, (0, 0, None))
        done, failed, succeeded = attempts.get(row.name, (0, 0, 0))
        state, reason = _state(row)
        result.append(
            ChannelStatus(
                channel=row.name,
                platform=row.platform,
                environment=row.environment,
                rehearses=row.rehearses,
                state=state,
                reason=reason,
                active=number.get("active", 0),
                in_step=number.get("active", 0) - out_of_step - held.get(row.name, 0) - stopped.get(row.name, 0),
                out_of_step=out_of_step,
                uncertain=uncertain,
                held=held.get(row.name, 0),
                held_decided=decided.get(row.name, 0),
                stopped=stopped.get(row.name, 0),
                review=number.get("needs_review", 0),
                paused=number.get("paused", 0),
                excluded=number.get("excluded", 0),
                oldest_change_seconds=(now - since).total_seconds() if since else None,
                last_push_at=row.last_push_at,
                last_success_at=row.last_success_at,
                last_delivery_at=row.last_delivery_at,
                silent_since=row.silent_since,
                clock_ahead_seconds=row.clock_ahead,
                syncs_last_hour=done,
                failed_last_hour=failed,
                success_rate_last_hour=succeeded / (succeeded + failed) if succeeded + failed else None,
                last_full_run_at=full.get(row.name, NEVER_RUN).since,
                failed_batches=full.get(row.name, NEVER_RUN).failed,
                unresolved_lines=unresolved.get(row.name, 0),
                unclear_orders=unclear.get(row.name, 0),
            )
        )
    return tuple(result)


def _active_listings(*of_levels: ColumnElement[bool], changes: bool = False) -> Select[Any]:
    """Select, by channel, the active listings on these levels (on their `changes`), those of them that are uncertain, and since
    when the first is out of step.

    What can be pushed and isn't shared has one, which is active. Of the others they are looked up level by level: PostgreSQL
    takes changes for nearly all levels, and would join the two tables whole (0.7 s in place of 0.02 s at 500,000 levels with
    2,500 changes).
    """
    level, listing = inventory_levels.c, platform_mapping.c
    looked_up = (
        select(func.count())
        .where(listing.level_id == level.id, listing.status == "active")
        .correlate(inventory_levels)
        .scalar_subquery()
    )
    listings = case((and_(level.pushable.is_(True), level.shared.is_(False)), 1), else_=looked_up)
    among, channel = (CHANGES, work_queue.c.channel) if changes else (inventory_levels, level.channel)
    columns = (channel, level.uncertain, level.out_of_step_since, listings.label("listings"))
    on = select(*columns).select_from(among).where(*of_levels).subquery().c
    return select(
        on.channel,
        func.sum(on.listings),
        func.coalesce(func.sum(on.listings).filter(on.uncertain.is_not(None)), 0),
        func.min(on.out_of_step_since).filter(on.listings > 0),
    ).group_by(on.channel)


def _by_channel(connection: Connection, query: Select[Any]) -> dict[str, int]:
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def _attempts(connection: Connection, now: datetime) -> dict[str, tuple[int, int, int]]:
    """Pushes of the last hour by channel: attempts that reached the wire, failed, acknowledged.

    A row that was not sent (throttled, refused before any byte left) is no attempt; an accepted one is open: neither.
    """
    log = sync_logs.c
    query = (
        select(
            log.platform,
            func.count().filter(log.status != "not_sent"),
            func.count().filter(log.status.in_(("rejected", "unknown"))),
            func.count().filter(log.status == "acknowledged"),
        )
        .where(log.timestamp > now - WINDOW, log.action == "push")
        .group_by(log.platform)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in connection.execute(query)}


def _state(row: Any) -> tuple[str, str]:
    if row.status != "active":
        return row.status, row.status_reason
    if row.stopped_reason:
        return "stopped", row.stopped_reason
    if row.unreachable_since is not None:
        return "not answering", row.last_problem
    if row.push_approved_at is None:
        return "not approved", "its first push waits for a preview and an approval"
    return "active", ""


def _ago(then: datetime | None, now: datetime) -> str:
    return "never" if then is None else f"{age_in_words((now - then).total_seconds())} ago"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}
