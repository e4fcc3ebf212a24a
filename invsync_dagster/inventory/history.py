"""The stock at any past moment: balances as of a ledger sequence, and the sequence with which each day closed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, insert, select

from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.tables import daily_closings, stock_ledger


class DayNotOverError(Exception):
    """A day that hasn't ended yet in the configured time zone can't be closed."""


@dataclass(frozen=True, slots=True)
class DailyBalance:
    """The balance of one SKU at a sequence; `sequence` is that of its last entry up to there."""

    sku: str
    quantity: int
    reserved_quantity: int
    sequence: int


def close_day(connection: Connection, day: date, time_zone: str, now: datetime) -> int:
    """Return the last ledger sequence of `day`, fixed for good the first time, in a `write_transaction`.

    An earlier day never closes above a later one, and what is applied after a day was closed belongs to a later one,
    whatever the clock says. Raises `DayNotOverError`.
    """
    closing = daily_closings.c
    known = connection.execute(select(closing.sequence).where(closing.day == day.isoformat())).scalar()
    if known is not None:
        return int(known)
    end = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(time_zone))
    if now < end:
        raise DayNotOverError(f"{day.isoformat()} ends at {end.isoformat()}; it can be closed then")
    after = connection.execute(select(func.min(closing.sequence)).where(closing.day > day.isoformat())).scalar()
    # From the newest entry backwards: for the day that has just ended these are the few of today.
    entry = stock_ledger.c
    query = select(entry.sequence).where(entry.applied_at < end).order_by(entry.sequence.desc()).limit(1)
    if after is not None:
        query = query.where(entry.sequence <= after)
    sequence = connection.execute(query).scalar() or 0
    connection.execute(insert(daily_closings).values({"day": day.isoformat(), "sequence": sequence, "closed_at": now}))
    return int(sequence)


def daily_balances(connection: Connection, sequence: int) -> list[DailyBalance]:
    """Return the balance of every SKU that had an entry up to `sequence`, ordered by SKU."""
    return _balances(connection, sequence, None)


def balances_at(connection: Connection, sequence: int, skus: Collection[str]) -> dict[str, DailyBalance]:
    """Return the balances of some SKUs as of `sequence`; a SKU without an entry up to there is left out."""
    found: dict[str, DailyBalance] = {}
    for part in chunks(skus):
        found |= {balance.sku: balance for balance in _balances(connection, sequence, part)}
    return found


def _balances(connection: Connection, sequence: int, skus: Collection[str] | None) -> list[DailyBalance]:
    entry = stock_ledger.c
    last = select(entry.sku, func.max(entry.sequence).label("sequence")).where(entry.sequence <= sequence)
    if skus is not None:
        last = last.where(entry.sku.in_(skus))
    latest = last.group_by(entry.sku).subquery("latest")
    query = (
        select(entry.sku, entry.quantity_after, entry.reserved_after, entry.sequence)
        .join(latest, entry.sequence == latest.c.sequence)
        .order_by(entry.sku)
    )
    return [DailyBalance(*row) for row in connection.execute(query)]
