"""Counts: what sources say they have, as of when and containing what; the breaker before the ledger."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, or_, select

from invsync_dagster.events import LineReference, StockCount
from invsync_dagster.inventory import levels
from invsync_dagster.inventory.book import Book, CountInForce, event_id
from invsync_dagster.inventory.bulk import as_parameter, chunks, found_by, insert_rows
from invsync_dagster.inventory.looks import Look
from invsync_dagster.inventory.references import resolve
from invsync_dagster.inventory.sources import Window
from invsync_dagster.inventory.tables import imports, stock_counts, stock_ledger
from invsync_dagster.settings import ImportLimits

Basis = Literal["on_hand", "available"]

DEFAULT_LIMITS = ImportLimits()

COUNT_COLUMNS = tuple(
    stock_counts.c[name]
    for name in (
        "id",
        "sku",
        "source",
        "basis",
        "quantity",
        "as_of",
        "version",
        "contains",
        "lag_seconds",
        "sequence",
    )
)


class Count(NamedTuple):
    """Units of one SKU that a source says it has at `as_of`; of two, the later one holds, then the higher version.

    `reserved`: units that the source says are promised (None: it says nothing); only what goes beyond the open orders
    that it contains is added to ours. `reason` goes into the ledger entry.
    """

    sku: str
    quantity: int
    as_of: datetime
    basis: Basis = "on_hand"
    version: int = 0
    reserved: int | None = None
    reason: str = ""

    def dump(self) -> list[Any]:
        """Return it as JSON values."""
        at = self.as_of.isoformat()
        return [self.sku, self.quantity, at, self.basis, self.version, self.reserved, self.reason]

    @classmethod
    def load(cls, values: Sequence[Any]) -> Count:
        """Take back what `dump` returned."""
        sku, quantity, as_of, *others = values
        return cls(sku, quantity, datetime.fromisoformat(as_of), *others)


@dataclass(frozen=True, slots=True)
class CountSource:
    """Who counted: a channel or an import id; the channels whose orders it contains, and how late it books them."""

    name: str
    contains: tuple[str, ...] = ()
    lag_seconds: float = 0.0


@dataclass(slots=True)
class CountsApplied:
    """What became of counts, in SKUs. `held_id` names the `imports` row where they wait; then nothing was applied."""

    applied: int = 0
    older: int = 0
    unknown: tuple[str, ...] = ()
    held: int = 0
    held_id: str = ""
    held_reason: str = ""


@dataclass(frozen=True, slots=True)
class Stated:
    """A count as a channel stated it, with its delivery."""

    count: StockCount
    received_at: datetime
    receipt_id: str


@dataclass(slots=True)
class ChannelCounts:
    """What became of a channel's counts; `troubles` gives the state and reason of deliveries that were not applied."""

    applied: int = 0
    older: int = 0
    held: int = 0
    unresolved: list[str] = field(default_factory=list)
    troubles: dict[str, tuple[str, str]] = field(default_factory=dict)


def apply_counts(
    connection: Connection,
    counts: Sequence[Count],
    source: CountSource,
    *,
    now: datetime,
    run_id: str,
    reference: str = "",
    kind: Literal["count", "import"] = "count",
    received_at: datetime | None = None,
    limits: ImportLimits | None = None,
) -> CountsApplied:
    """Put counts into force in the caller's `write_transaction`, and bring the levels of their SKUs up to date.

    On hand becomes the count plus what moved after it (see `CountInForce`). A count that isn't newer than the one in
    force changes nothing. SKUs must exist; others are returned as `unknown`. With `limits`, counts that zero or move more,
    together with what sources moved before within the window, are held as a whole. `reference` goes into the entries
    (import id, receipt).
    """
    book = Book(connection, now=now, run_id=run_id)
    origins = dict.fromkeys((count.sku for count in counts), (received_at or now, reference))
    result = put_in_force(book, counts, source, kind, origins, limits)
    book.close()
    return result


def apply_channel(book: Book, source: CountSource, stated: Sequence[Stated], limits: ImportLimits) -> ChannelCounts:
    """Apply the counts that a channel sent; `ledger.apply` calls it with its own book."""
    result = ChannelCounts()
    targets = resolve(book.connection, source.name, {_names(one.count) for one in stated})
    book.load({target.sku for target in targets.values()})
    counts: list[Count] = []
    origins: dict[str, tuple[datetime, str]] = {}
    newest: dict[str, tuple[datetime, int]] = {}
    receipts: set[str] = set()
    for one in stated:
        count, target = one.count, targets.get(_names(one.count))
        if target is None or target.excluded or not book.knows(target.sku):
            result.unresolved.append(count.platform_sku)
            result.troubles[one.receipt_id] = ("quarantined", f"no listing of {source.name} for {count.platform_sku!r}")
            continue
        reason = f"{count.change_type} {count.event_id}".strip()
        counts.append(Count(target.sku, count.quantity, count.occurred_at, version=count.version, reason=reason))
        if (count.occurred_at, count.version) >= newest.get(target.sku, (count.occurred_at, count.version)):
            newest[target.sku] = (count.occurred_at, count.version)
            origins[target.sku] = (one.received_at, one.receipt_id or "poll")
        receipts.add(one.receipt_id)
    applied = put_in_force(book, counts, source, "count", origins, limits)
    result.applied, result.older, result.held = applied.applied, applied.older, applied.held
    if applied.held:
        result.troubles |= dict.fromkeys(receipts, ("held", f"{applied.held_reason}; {applied.held_id}"))
    result.troubles.pop("", None)
    return result


def _names(count: StockCount) -> LineReference:
    # An own ERP's level is named by its SKU (item id); other sources name the platform SKU.
    return LineReference(platform_sku=count.platform_sku, item_id=count.platform_sku)


def put_in_force(
    book: Book,
    counts: Sequence[Count],
    source: CountSource,
    kind: str,
    origins: Mapping[str, tuple[datetime, str]],
    limits: ImportLimits | None = None,
) -> CountsApplied:
    """Put counts into force in a book, which its owner closes; as `apply_counts` says.

    `origins` gives when each SKU's count was received, and the reference of its entry.
    """
    result = CountsApplied()
    book.load(dict.fromkeys(count.sku for count in counts))
    newest: dict[str, Count] = {}
    unknown = []
    for count in counts:
        if not book.knows(count.sku):
            unknown.append(count.sku)
            continue
        in_force = book.balance(count.sku).count
        known = newest.get(count.sku)
        if (in_force is not None and (count.as_of, count.version) <= (in_force.as_of, in_force.version)) or (
            known is not None and (count.as_of, count.version) <= (known.as_of, known.version)
        ):
            result.older += 1
            continue
        if known is not None:
            result.older += 1
        newest[count.sku] = count
    result.unknown = tuple(unknown)
    if not newest:
        return result

    contains, lag = frozenset(source.contains), timedelta(seconds=source.lag_seconds)
    in_forces = {
        sku: CountInForce(count.as_of, count.version, count.basis, contains, lag) for sku, count in newest.items()
    }
    wanted = balances_after(book, newest, in_forces)
    if limits is not None:
        reason = _beyond(book, source.name, wanted, limits)
        if reason:
            result.held = len(newest)
            result.held_reason = reason
            result.held_id = _hold(book, list(newest.values()), source, kind, reason)
            return result

    next_id = next_count_id(book.connection)
    rows = []
    contained = sorted(contains)
    for count_id, (sku, count) in enumerate(newest.items(), start=next_id):
        balance = book.balance(sku)
        quantity, external = wanted[sku]
        moved, promised = quantity - balance.quantity, external - balance.external
        received_at, reference = origins[sku]
        if moved or promised:
            book.add(
                sku,
                kind,
                moved,
                promised,
                event_id=event_id("count", source.name, str(count_id)),
                occurred_at=count.as_of,
                received_at=received_at,
                channel=source.name if kind == "count" else "",
                reference=reference,
                reason=count.reason,
            )
        book.set_count(sku, count_id, in_forces[sku], external)
        rows.append(
            (
                count_id,
                sku,
                source.name,
                count.basis,
                count.quantity,
                count.as_of,
                count.version,
                contained,
                source.lag_seconds,
                book.sequence,
            )
        )
    insert_rows(book.connection, stock_counts, COUNT_COLUMNS, rows)
    result.applied = len(rows)
    return result


def next_count_id(connection: Connection) -> int:
    """Return the id of the next count, in the caller's `write_transaction`."""
    return int(connection.execute(_LAST_COUNT).scalar() or 0) + 1


_LAST_COUNT = select(func.max(stock_counts.c.id))
_MOVED = select(
    stock_ledger.c.sku,
    stock_ledger.c.channel,
    stock_ledger.c.kind,
    stock_ledger.c.moved_delta,
    stock_ledger.c.reserved_delta,
    stock_ledger.c.occurred_at,
).where(
    found_by(stock_ledger.c.sku, "skus"),
    stock_ledger.c.occurred_at > bindparam("earliest"),
    or_(stock_ledger.c.moved_delta != 0, stock_ledger.c.order_id != ""),
)


def balances_after(
    book: Book, counts: Mapping[str, Count], in_forces: Mapping[str, CountInForce]
) -> dict[str, tuple[int, int]]:
    """Return on hand and the source's own reserved units that each count leads to; all contain the same channels' orders."""
    earliest = min(count.as_of - count.lag for count in in_forces.values())
    contained = in_forces[next(iter(in_forces))].contains
    moved: dict[str, int] = defaultdict(int)
    promised_since: dict[str, int] = defaultdict(int)
    promised = _promised(book.connection, counts, contained)
    for part in chunks(counts, levels.SKUS_AT_ONCE):
        since = {"skus": as_parameter(part), "earliest": earliest}
        for sku, channel, kind, moved_delta, reserved_delta, occurred_at in book.connection.execute(_MOVED, since):
            if in_forces[sku].is_before(channel, kind, occurred_at):
                continue
            moved[sku] += moved_delta
            if channel in contained:
                promised_since[sku] += reserved_delta
    wanted = {}
    for sku, count in counts.items():
        open_then = promised.get(sku, 0) - promised_since[sku]
        external = book.balance(sku).external
        if count.reserved is not None:
            external = max(0, count.reserved - open_then)
        on_hand = count.quantity + moved[sku]
        if count.basis == "available":
            on_hand += open_then + external
        wanted[sku] = (on_hand, external)
    return wanted


def _promised(connection: Connection, counts: Mapping[str, Count], contained: Collection[str]) -> dict[str, int]:
    """Return what the contained channels' orders promise now, where a count needs to know it."""
    entry = stock_ledger.c
    promised: dict[str, int] = {}
    if not contained:
        return promised
    asked: Iterable[str] = (
        sku for sku, count in counts.items() if count.basis == "available" or count.reserved is not None
    )
    for part in chunks(asked, levels.SKUS_AT_ONCE):
        query = (
            select(entry.sku, func.sum(entry.reserved_delta))
            .where(found_by(entry.sku, "skus"), entry.channel.in_(contained), entry.order_id != "")
            .group_by(entry.sku)
        )
        promised |= {sku: int(units) for sku, units in connection.execute(query, {"skus": as_parameter(part)})}
    return promised


def _beyond(book: Book, source: str, wanted: Mapping[str, tuple[int, int]], limits: ImportLimits) -> str:
    """Say what is beyond the limits, together with what sources moved before within the window."""
    zeroed = moved = filled = 0
    for sku, (quantity, _) in wanted.items():
        before = book.balance(sku).quantity
        zeroed += before > 0 >= quantity
        if before <= 0 < quantity:
            filled += quantity - before
        else:
            moved += abs(quantity - before)
    if not (zeroed or moved or filled):
        return ""
    return Window(book.connection, limits, book.now).beyond(source, zeroed, moved, filled=filled)


def _hold(book: Book, counts: Sequence[Count], source: CountSource, kind: str, reason: str) -> str:
    payload = [count.dump() for count in counts]
    digest = hashlib.sha256(json.dumps([source.name, payload]).encode()).hexdigest()
    held_id = f"counts-{digest[:16]}"
    known = book.connection.execute(select(imports.c.id).where(imports.c.id == held_id)).scalar()
    if known is None:
        row = {
            "id": held_id,
            "kind": "counts",
            "file_name": source.name,
            "sha256": digest,
            "path": "",
            "state": "held",
            "rows": len(counts),
            "summary": {
                "source": source.name,
                "contains": list(source.contains),
                "lag_seconds": source.lag_seconds,
                "kind": kind,
                "counts": payload,
                "look": str(Look.at_present(book.connection)),
            },
            "created_at": book.now,
            "reason": reason,
            "run_id": book.run_id,
        }
        book.connection.execute(insert(imports), [row])
    return held_id
