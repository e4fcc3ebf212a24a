"""Reads from the tables why a channel shows what it shows: the walk of DESIGN invariant 8, as an `Explanation`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, true

from invsync_dagster.inventory.explanation import Attempt, Entry, Explanation, ListingExplanation, in_utc
from invsync_dagster.inventory.rules import RULES, Rules, desired
from invsync_dagster.inventory.tables import (
    NOT_THERE,
    central_inventory,
    channels,
    deliveries,
    imports,
    inventory_levels,
    operator_actions,
    order_lines,
    platform_mapping,
    stock_counts,
    stock_ledger,
    sync_logs,
)

ENTRIES = 10  # last ledger entries shown
ATTEMPTS = 5  # last attempts and readings shown a level


class UnknownError(LookupError):
    """There is no such SKU or channel; the message names near ones."""


def explain(connection: Connection, sku: str, channel: str | None = None) -> Explanation:
    """Explain a SKU on all channels, or on one. Raises `UnknownError` if the SKU or the channel isn't known."""
    stock = connection.execute(select(central_inventory).where(central_inventory.c.sku == sku)).one_or_none()
    if stock is None:
        raise UnknownError(unknown_sku(connection, sku))
    refuse_unknown_channel(connection, channel)
    return Explanation(
        sku=sku,
        product_name=stock.product_name,
        status=stock.status,
        quantity=stock.quantity,
        reserved_quantity=stock.reserved_quantity,
        reserved_external=stock.reserved_external,
        version=stock.version,
        last_updated=stock.last_updated,
        count=_count(connection, stock.count_id),
        open_orders=_open_orders(connection, sku),
        listings=tuple(_listings(connection, stock, channel)),
        entries=tuple(last_entries(connection, sku)),
    )


def refuse_unknown_channel(connection: Connection, channel: str | None) -> None:
    """Raise `UnknownError` for a channel that isn't there; None stands for all."""
    if channel is not None:
        names = connection.execute(select(channels.c.name).order_by(channels.c.name)).scalars().all()
        if channel not in names:
            raise UnknownError(f"there is no channel '{channel}'; known: {', '.join(names) or 'none'}")


def unknown_sku(connection: Connection, sku: str) -> str:
    """Name what differs only in case or spaces, else what begins alike: SKUs compare exactly, and people don't."""
    column = central_inventory.c.sku
    same = select(column).where(func.lower(func.trim(column)) == sku.strip().lower()).order_by(column).limit(5)
    near: Sequence[str] = connection.execute(same).scalars().all()
    if not near and len(sku) > 2:
        begins = select(column).where(column.startswith(sku[:3], autoescape=True)).order_by(column).limit(500)
        near = difflib.get_close_matches(sku, connection.execute(begins).scalars().all(), n=5)
    return f"there is no SKU '{sku}' in the stock" + (
        f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
    )


def _count(connection: Connection, count_id: int | None) -> str:
    row = connection.execute(select(stock_counts).where(stock_counts.c.id == count_id)).one_or_none()
    if row is None:
        return ""
    contained = f", the orders of {', '.join(row.contains)} contained" if row.contains else ""
    what = f"{row.quantity} {row.basis.replace('_', ' ')} as of {in_utc(row.as_of)}"
    return f"{what} from {row.source}{contained}"


def _open_orders(connection: Connection, sku: str) -> tuple[str, ...]:
    line = order_lines.c
    query = (
        select(order_lines)
        .where(line.sku == sku, line.booked_reserved > 0)
        .order_by(line.created_at, line.order_id, line.line_id)
    )
    return tuple(
        f"{row.channel} order {row.order_id}: {row.booked_reserved} reserved since {in_utc(row.created_at)}"
        for row in connection.execute(query)
    )


def last_entries(connection: Connection, sku: str, at: datetime | None = None) -> Iterable[Entry]:
    """Yield the last entries of a SKU, newest first; with `at` those applied by then."""
    ledger = stock_ledger.c
    query = (
        select(stock_ledger, deliveries.c.topic, deliveries.c.state, imports.c.file_name, imports.c.decided_by)
        .outerjoin(deliveries, deliveries.c.receipt_id == ledger.reference)
        .outerjoin(imports, imports.c.id == ledger.reference)
        .where(ledger.sku == sku, true() if at is None else ledger.applied_at <= at)
        .order_by(ledger.sequence.desc())
        .limit(ENTRIES)
    )
    for row in connection.execute(query):
        names = [name for name in Entry.__dataclass_fields__ if name != "origin"]
        yield Entry(**{name: getattr(row, name) for name in names}, origin=_origin(row))


def _origin(row: Row[Any]) -> str:
    if row.topic is not None:
        segment, _, index = row.reference.rpartition(":")
        return f"delivery {row.topic or 'without topic'}, record {index} of inbox segment {segment}"
    if row.file_name is not None:
        approved = f", approved by {row.decided_by}" if row.decided_by else ""
        return f"import {row.reference} of {row.file_name}{approved}"
    return str(row.reference)


def _listings(connection: Connection, stock: Row[Any], channel: str | None) -> Iterable[ListingExplanation]:
    query = (
        select(platform_mapping, inventory_levels, channels)
        .join(inventory_levels, inventory_levels.c.id == platform_mapping.c.level_id)
        .join(channels, channels.c.name == platform_mapping.c.platform_name)
        .where(platform_mapping.c.central_sku == stock.sku)
        .order_by(platform_mapping.c.platform_name, platform_mapping.c.id)
    )
    if channel is not None:
        query = query.where(platform_mapping.c.platform_name == channel)
    for row in connection.execute(query):
        listing, level, its_channel = _Part(row, platform_mapping), _Part(row, inventory_levels), _Part(row, channels)
        attempts = tuple(last_attempts(connection, stock.sku, level.id))
        yield ListingExplanation(
            channel=its_channel.name,
            environment=its_channel.environment,
            platform_sku=listing.platform_sku,
            item_id=listing.platform_item_id,
            location_id=listing.platform_location_id,
            variant_id=listing.platform_variant_id,
            status=listing.status,
            status_reason=listing.status_reason,
            verdict=_verdict(listing, level, its_channel),
            desired=level.desired,
            desired_sequence=level.desired_sequence,
            rule_steps=_rule_steps(stock, listing, level, its_channel),
            rules_set=who_set_the_rules(connection, level.rules_revision),
            expected=level.expected,
            observed=level.observed_quantity,
            observed_at=level.observed_at,
            acknowledged=level.acknowledged_quantity,
            acknowledged_at=level.acknowledged_at,
            accepted=level.accepted_quantity,
            sent=level.sent_quantity,
            sent_at=level.sent_at,
            sent_sequence=level.sent_sequence,
            attempt=level.attempt,
            uncertain=level.uncertain,
            uncertain_since=level.uncertain_since,
            out_of_step_since=level.out_of_step_since,
            due_at=level.due_at,
            failures=level.failures,
            last_error=level.last_error,
            held_quantity=level.held_quantity,
            held_reason=level.held_reason,
            stopped_reason=level.stopped_reason,
            attempts=attempts,
        )


class _Part:
    """The columns of one table in a joined row, by their names in that table (several tables have a `status`)."""

    def __init__(self, row: Row[Any], table: Any) -> None:
        self._row, self._table = row, table

    def __getattr__(self, name: str) -> Any:
        return self._row._mapping[self._table.c[name]]


def _verdict(listing: _Part, level: _Part, channel: _Part) -> str:
    if listing.status != "active":
        return f"the listing is {listing.status.replace('_', ' ')}: the channel's number is left as it is"
    if not level.pushable:
        return f"nothing is pushed: {level.stopped_reason or 'the level is stopped'}"
    if channel.stopped_reason:
        return f"the channel is stopped: {channel.stopped_reason}"
    if channel.unreachable_since is not None:
        return f"the channel does not answer, and is asked again every few minutes: {channel.last_problem}"
    if channel.push_approved_at is None:
        return "the channel's first push is not approved yet: nothing is written there"
    held = f"held by the breaker ({level.held_reason}); " if level.held_quantity is not None else ""
    shown = level.acknowledged_quantity if level.accepted_quantity is None else level.accepted_quantity
    if level.uncertain is not None:
        return f"{held}uncertain ({level.uncertain}): should show {level.desired}, will be read or written when due"
    if level.desired == level.effective_quantity:
        return f"{held}in step: shows {shown}, as it should"
    if level.effective_quantity == NOT_THERE:
        return f"{held}not there at the channel: the next push makes it, with {level.desired}"
    before = "nothing yet" if shown is None else str(shown)
    return f"{held}out of step: last shown {before}, should show {level.desired}"


def _rule_steps(stock: Row[Any], listing: _Part, level: _Part, channel: _Part) -> tuple[str, ...]:
    """The rules in force applied to what is available now; last what the level makes of it, where that differs."""
    own = {name: getattr(listing, name) for name in RULES}
    rules = Rules(**{name: getattr(channel, name) if value is None else value for name, value in own.items()})
    result, trace = desired(
        stock.quantity - stock.reserved_quantity,
        rules,
        active=stock.status == "active",
        acknowledged=level.acknowledged_quantity,
        low_stock=channel.low_stock,
        percent_before=listing.percent_before,
    )
    whose = [f"{name} is the listing's own" for name in RULES if own[name] is not None]
    steps = [f"available {trace.available}", *(f"{step.rule}: {step.result}" for step in trace.steps), *whose]
    if level.desired != result and level.held_quantity is not None:
        steps.append(f"held at {level.held_quantity} less what was sold since: {level.desired}")
    elif level.desired != result and not level.pushable:
        steps.append(f"stopped, left at {level.desired}")
    elif level.desired != result:
        steps.append(f"least of the level's listings: {level.desired}")
    return tuple(steps)


def who_set_the_rules(connection: Connection, revision: int) -> str:
    """Say in words which action made a rules revision; "" for one that isn't recorded."""
    row = connection.execute(select(operator_actions).where(operator_actions.c.id == revision)).one_or_none()
    if row is None:
        return ""
    return f"{row.action} by {row.actor} at {in_utc(row.at)}" + (f": {row.reason}" if row.reason else "")


def last_attempts(connection: Connection, sku: str, level_id: int, at: datetime | None = None) -> Iterable[Attempt]:
    """Yield the last attempts and readings of a level, newest first; with `at` those made by then."""
    log = sync_logs.c
    # The balance then: the SKU's last entry up to the sequence that the attempt was computed from.
    earlier = stock_ledger.alias()
    basis = (
        select(func.max(earlier.c.sequence))
        .where(earlier.c.sku == sku, earlier.c.sequence <= log.ledger_sequence)
        .scalar_subquery()
    )
    query = (
        select(sync_logs, stock_ledger.c.quantity_after, stock_ledger.c.reserved_after)
        .select_from(sync_logs)
        .outerjoin(stock_ledger, stock_ledger.c.sequence == basis)
        .where(log.level_id == level_id, true() if at is None else log.timestamp <= at)
        .order_by(log.id.desc())
        .limit(ATTEMPTS)
    )
    for row in connection.execute(query):
        yield Attempt(
            at=row.timestamp,
            action=row.action,
            status=row.status,
            old_quantity=row.old_quantity,
            new_quantity=row.new_quantity,
            number=row.attempt,
            ledger_sequence=row.ledger_sequence,
            quantity_then=row.quantity_after,
            reserved_then=row.reserved_after,
            rules_revision=row.rules_revision,
            code=row.code,
            message=row.error_message,
            run_id=row.run_id,
        )
