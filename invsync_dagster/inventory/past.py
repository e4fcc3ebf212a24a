"""Explains from the records what channels showed of a SKU at a past moment, and why; in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from invsync_dagster.inventory import rewound
from invsync_dagster.inventory.explain import (
    UnknownError,
    explain,
    last_attempts,
    last_entries,
    refuse_unknown_channel,
    unknown_sku,
    who_set_the_rules,
)
from invsync_dagster.inventory.explanation import Attempt, Entry, ExplainedBalance, Explanation, in_utc
from invsync_dagster.inventory.rules import RULES, Rules, desired
from invsync_dagster.inventory.tables import central_inventory, stock_ledger, sync_logs

_Number = Row[int | None, datetime]
_CONFIRMED = ("acknowledged", "observed")


@dataclass(frozen=True, slots=True)
class PastListing:
    """What a channel showed of a listing then; quantities in units, None where nothing is known.

    `shown` was confirmed last, at `shown_at`; `moved_since` is by how much the channel had moved that number by itself then.
    `confirmed_next` is the first number confirmed afterwards.
    """

    channel: str
    platform_sku: str
    item_id: str
    location_id: str
    variant_id: str
    verdict: str
    by_the_rules: int
    rule_steps: tuple[str, ...]
    rules_set: str
    shown: int | None
    shown_at: datetime | None
    moved_since: int
    confirmed_next: int | None
    confirmed_next_at: datetime | None
    attempts: tuple[Attempt, ...]

    def lines(self) -> list[str]:
        """Return the listing in words."""
        level = self.item_id + (f" at {self.location_id}" if self.location_id else "")
        rules = f" ({self.rules_set})" if self.rules_set else ""
        lines = [
            f"{self.channel}: {self.verdict}",
            f"  listing {self.platform_sku or self.variant_id or '-'}, level {level}",
            f"  rules then: {', '.join(self.rule_steps)}{rules}",
        ]
        if self.shown is not None:
            moved = f", and {self.moved_since:+d} by its own orders since" if self.moved_since else ""
            lines.append(f"  confirmed before: {self.shown} at {in_utc(self.shown_at)}{moved}")
        if self.confirmed_next is not None:
            lines.append(f"  confirmed next: {self.confirmed_next} at {in_utc(self.confirmed_next_at)}")
        if self.attempts:
            lines += ["  attempts and readings before, newest first:", *(one.line() for one in self.attempts)]
        return lines


@dataclass(frozen=True, slots=True)
class PastExplanation(ExplainedBalance):
    """A SKU's balance at a moment, what its channels showed then, and the ledger entries up to there."""

    at: datetime
    listings: tuple[PastListing, ...]
    entries: tuple[Entry, ...]

    def render(self) -> str:
        """The moment in words: the balance, each channel, the last ledger entries before."""
        lines = [f"{self.sku} at {in_utc(self.at)}", self.balance_in_words()]
        for listing in self.listings:
            lines += ["", *listing.lines()]
        if not self.listings:
            lines += ["", "it had no listing then"]
        lines += ["", "ledger entries before, newest first:"]
        return "\n".join([*lines, *([entry.line() for entry in self.entries] or ["  none"])])


def explain_at(
    connection: Connection, sku: str, at: datetime | None, channel: str | None = None
) -> Explanation | PastExplanation:
    """Explain a SKU as it is, or with `at` as it was then. Raises `UnknownError`."""
    return explain(connection, sku, channel) if at is None else explain_past(connection, sku, at, channel)


def explain_past(connection: Connection, sku: str, at: datetime, channel: str | None = None) -> PastExplanation:
    """Explain what the channels, or one of them, showed of a SKU at `at`.

    The balance comes from the ledger, rules and mapping from the record of their changes, the numbers from `sync_logs`:
    attempts older than its retention are in data/archive/. Raises `UnknownError` if the SKU or the channel isn't known.
    """
    if connection.execute(select(central_inventory.c.sku).where(central_inventory.c.sku == sku)).first() is None:
        raise UnknownError(unknown_sku(connection, sku))
    refuse_unknown_channel(connection, channel)
    entry = stock_ledger.c
    last = connection.execute(
        select(entry.quantity_after, entry.reserved_after)
        .where(entry.sku == sku, entry.applied_at <= at)
        .order_by(entry.sequence.desc())
        .limit(1)
    ).one_or_none()
    quantity, reserved = (0, 0) if last is None else (last.quantity_after, last.reserved_after)
    status = rewound.sku_status(connection, sku, at)
    rows = [row for row in rewound.listings_of(connection, sku, at) if channel in (None, row["platform_name"])]
    owners = {name: rewound.channel(connection, name, at) for name in {row["platform_name"] for row in rows}}
    return PastExplanation(
        sku=sku,
        at=at,
        status=status,
        quantity=quantity,
        reserved_quantity=reserved,
        listings=tuple(
            _listing(connection, row, owner, at, quantity - reserved, status == "active")
            for row in rows
            if (owner := owners[row["platform_name"]]) is not None
        ),
        entries=tuple(last_entries(connection, sku, at)),
    )


def _listing(
    connection: Connection, row: Mapping[str, Any], owner: Mapping[str, Any], at: datetime, available: int, active: bool
) -> PastListing:
    before, after = _confirmed(connection, row["level_id"], at)
    shown = None if before is None else before.new_quantity
    moved = 0
    if before is not None and owner["moves_own_number"]:
        moved = _moved(connection, row["central_sku"], owner["name"], before.timestamp, at)
    own = {name: row[name] for name in RULES}
    rules = Rules(**{name: owner[name] if value is None else value for name, value in own.items()})
    result, trace = desired(
        available,
        rules,
        active=active,
        acknowledged=shown,
        low_stock=owner["low_stock"],
        percent_before=row["percent_before"],
    )
    whose = [f"{name} was the listing's own" for name in RULES if own[name] is not None]
    attempts = tuple(last_attempts(connection, row["central_sku"], row["level_id"], at))
    # The revision that the last attempt was computed by, where there is one: a listing's own is of any of its changes.
    revision = attempts[0].rules_revision if attempts else 0
    return PastListing(
        channel=owner["name"],
        platform_sku=row["platform_sku"],
        item_id=row["platform_item_id"],
        location_id=row["platform_location_id"],
        variant_id=row["platform_variant_id"],
        verdict=_verdict(row, owner, None if shown is None else shown + moved, result),
        by_the_rules=result,
        rule_steps=(f"available {trace.available}", *(f"{step.rule}: {step.result}" for step in trace.steps), *whose),
        rules_set=who_set_the_rules(connection, revision),
        shown=shown,
        shown_at=None if before is None else before.timestamp,
        moved_since=moved,
        confirmed_next=None if after is None else after.new_quantity,
        confirmed_next_at=None if after is None else after.timestamp,
        attempts=attempts,
    )


def _confirmed(connection: Connection, level_id: int, at: datetime) -> tuple[_Number | None, _Number | None]:
    """Return the last attempt or reading that told a level's number by `at`, and the first one after."""
    log = sync_logs.c
    query = (
        select(log.new_quantity, log.timestamp)
        .where(log.level_id == level_id, log.status.in_(_CONFIRMED), log.new_quantity.is_not(None))
        .limit(1)
    )
    before = connection.execute(query.where(log.timestamp <= at).order_by(log.id.desc())).one_or_none()
    after = connection.execute(query.where(log.timestamp > at).order_by(log.id)).one_or_none()
    return before, after


def _moved(connection: Connection, sku: str, channel: str, since: datetime, until: datetime) -> int:
    """Return by how much the channel's own orders, booked in between, moved its number: a shipment of what was reserved
    moves nothing."""
    entry = stock_ledger.c
    query = select(func.coalesce(func.sum(entry.moved_delta - entry.reserved_delta), 0)).where(
        entry.sku == sku,
        entry.channel == channel,
        entry.order_id != "",
        entry.applied_at > since,
        entry.applied_at <= until,
    )
    return int(connection.execute(query).scalar_one())


def _verdict(row: Mapping[str, Any], owner: Mapping[str, Any], showed: int | None, should: int) -> str:
    known = "nothing is known of what it showed" if showed is None else f"it showed {showed}"
    if row["status"] != "active":
        return f"the listing was {row['status'].replace('_', ' ')}: {known}"
    if owner["status"] != "active":
        return f"the channel was {owner['status']}: {known}"
    if owner["push_approved_at"] is None:
        return f"the channel's first push was not approved yet: {known}"
    if showed is None:
        return f"{known}; by its rules {should}"
    return (
        f"in step: it showed {showed}"
        if showed == should
        else f"out of step: it showed {showed}, by its rules {should}"
    )
