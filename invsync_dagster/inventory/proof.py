"""Proves what order lines say against the documents that brought it, as they were kept: an audit from the outside.

The ledger's own audit (`audit.py`) proves balances and bookings from the totals of order lines. This one proves the totals
from the deliveries, and from what is kept of polls (`polled.py`): nothing that was told may say more or newer than what is
stored, and what it booked must be what it says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, or_, select

from invsync_dagster.inventory.bulk import among, as_parameter, chunks
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.orders import Totals, Verdict, judge
from invsync_dagster.inventory.polled import SOURCES
from invsync_dagster.inventory.tables import order_lines, stock_ledger

Key = tuple[str, str, str]  # channel, order, line

# Contradictions that one audit lists: more of them are no more useful to a person.
LISTED = 1000


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A line of which a kept delivery says something else than the books."""

    channel: str
    order_id: str
    line_id: str
    delivery: str
    what: str
    told: str
    booked: str


@dataclass
class Proven:
    """Of the lines that `deliveries` and polls name, `proven` have the totals that one of them says, and `moved_on` were changed
    since by what came outside the time looked at. `polled` counts what polls told that was news. `contradictions` are the
    first of the `contradicted`.

    Per channel, `lines` are those of the books that changed last in the time looked at; of `provable` ones something that is
    kept says what they must be.
    """

    deliveries: int = 0
    polled: int = 0
    proven: int = 0
    moved_on: int = 0
    contradicted: int = 0
    contradictions: list[Contradiction] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    provable: dict[str, int] = field(default_factory=dict)

    @property
    def shares(self) -> str:
        """How much of each channel can be proven, in words; "" where nothing changed."""
        each = [f"{channel} {self.provable[channel]} of {lines}" for channel, lines in sorted(self.lines.items())]
        return f"Provable lines: {', '.join(each)}; what told of the others is no longer kept." if each else ""


@dataclass(frozen=True, slots=True)
class _Told:
    revision: int
    totals: Totals
    may_stay: bool  # whether an edit may leave the revision
    delivery: str
    at: datetime
    asked: bool = False


@dataclass(frozen=True, slots=True)
class _Stored:
    revision: int
    totals: Totals
    sku: str


class Proof:
    """Takes deliveries in the order of arrival, in batches, and holds them against the books."""

    def __init__(self) -> None:
        self._result = Proven()
        # Hashes of keys: a tenth of the keys' memory.
        self._proven = defaultdict[str, set[int]](set)
        self._contradicted = defaultdict[str, set[int]](set)
        self._open: dict[Key, _Told] = {}
        self._wholes: dict[tuple[str, str], tuple[int, frozenset[str]]] = {}
        self._origins: set[str] = set()
        # The first of the contradicted, each with the newest revision, and the latest time, of what says otherwise.
        self._listed: dict[Key, tuple[int, datetime, Contradiction]] = {}

    def take(self, connection: Connection, batch: Sequence[Inbound]) -> None:
        """Hold a batch of deliveries, each applied before, against what is stored now."""
        self._result.deliveries += len(batch)
        self._origins.update(_origin(inbound.receipt_id, inbound.received_at) for inbound in batch)
        said: list[tuple[Key, _Told]] = []
        for inbound in batch:
            for order in inbound.content.documents:
                if order.whole:
                    known = self._wholes.get((inbound.channel, order.order_id))
                    if known is None or order.revision >= known[0]:
                        named = frozenset(line.line_id for line in order.lines)
                        self._wholes[inbound.channel, order.order_id] = (order.revision, named)
                for line in order.lines:
                    totals = Totals(*(getattr(line, name) for name in Totals._fields))
                    told = _Told(
                        order.revision, totals, order.revision_may_stay, inbound.receipt_id, inbound.received_at
                    )
                    said.append(((inbound.channel, order.order_id, line.line_id), told))
        self._hold_all(connection, said)

    def take_polled(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        """Hold what polls told, in the order of time and after all deliveries, against what is stored now."""
        self._result.polled += len(rows)
        said: list[tuple[Key, _Told]] = []
        for row in rows:
            origin = _origin(row.source, row.told_at)
            self._origins.add(origin)
            totals = Totals(*(getattr(row, name) for name in Totals._fields))
            told = _Told(row.revision, totals, row.revision_may_stay, origin, row.told_at, row.source != "poll")
            said.append(((row.channel, row.order_id, row.line_id), told))
        self._hold_all(connection, said)

    def _hold_all(self, connection: Connection, said: Sequence[tuple[Key, _Told]]) -> None:
        stored = _stored(connection, {key for key, _ in said})
        for key, told in said:
            self._hold(key, told, stored.get(key))

    def result(self, connection: Connection, since: datetime, until: datetime, channel: str) -> Proven:
        """Return what was found, once all batches were taken, of the lines that changed last from `since` to before `until`, of
        one channel or ("") of all."""
        result = self._result
        stored = _stored(connection, self._open)
        references = _last_references(connection, stored)
        for key, told in self._open.items():
            if hash(key) in self._contradicted[key[0]]:
                continue
            known, whole = stored[key], self._wholes.get(key[:2])
            left_out = whole is not None and known.revision == whole[0] and key[2] not in whole[1]
            if left_out and known.totals.ordered - known.totals.cancelled <= known.totals.shipped:
                self._proven[key[0]].add(hash(key))
                continue
            reference = references.get(key, ("", since))
            # A newer document may have changed totals without a booking: one more, and one cancelled.
            if _origin(*reference) in self._origins and known.revision <= told.revision:
                delivery = told.delivery if reference[0] in SOURCES else reference[0]
                self._contradict(key, told, delivery, "what this delivery has booked no delivery says", known)
            else:
                result.moved_on += 1
        result.contradictions = [found for _, _, found in self._listed.values()]
        result.contradicted = sum(map(len, self._contradicted.values()))
        result.proven = sum(len(proven - self._contradicted[name]) for name, proven in self._proven.items())
        named = {name: self._proven[name] | self._contradicted[name] for name in {*self._proven, *self._contradicted}}
        provable = {name: lines for name, lines in named.items() if lines}
        others = Counter[str]()
        times = {"since": since, "until": until, "of_channel": channel}
        for key in connection.execute(_CHANGED, times):
            others[key.channel] += hash(tuple(key)) not in provable.get(key.channel, ())
        for name in others.keys() | provable.keys():
            result.provable[name] = len(provable.get(name, ()))
            result.lines[name] = result.provable[name] + others[name]
        return result

    def _hold(self, key: Key, told: _Told, stored: _Stored | None) -> None:
        if stored is None:
            self._contradict(key, told, told.delivery, "the line is not in the books", None)
            return
        if stored.totals == told.totals and stored.revision >= told.revision:
            self._proven[key[0]].add(hash(key))
            self._open.pop(key, None)
        elif _is_news(told, stored):
            self._contradict(key, told, told.delivery, "what the delivery says is not booked", stored)
            return
        elif hash(key) not in self._proven[key[0]] and (
            key not in self._open or told.revision >= self._open[key].revision
        ):
            self._open[key] = told
        if told.asked:
            self._take_back(key, told)

    def _contradict(self, key: Key, told: _Told, delivery: str, what: str, stored: _Stored | None) -> None:
        if (before := self._listed.get(key)) is not None:
            self._listed[key] = (max(before[0], told.revision), max(before[1], told.at), before[2])
        elif hash(key) not in self._contradicted[key[0]] and len(self._listed) < LISTED:
            booked = "" if stored is None else _text(stored.revision, stored.totals)
            found = Contradiction(*key, delivery, what, _text(told.revision, told.totals), booked)
            self._listed[key] = (told.revision, told.at, found)
        self._contradicted[key[0]].add(hash(key))

    def _take_back(self, key: Key, told: _Told) -> None:
        """What was said of a line before, up to a revision, doesn't hold: the whole order was asked for, and says otherwise."""
        if key in self._listed and self._listed[key][0] <= told.revision and self._listed[key][1] <= told.at:
            del self._listed[key]
            self._contradicted[key[0]].discard(hash(key))


def _is_news(told: _Told, stored: _Stored) -> bool:
    known = (stored.revision, stored.totals)
    # What contradicted and took more may have been taken back by an order that was asked for after the time looked at.
    return judge(told.revision, told.totals, False, *known, may_stay=told.may_stay) is Verdict.NEWER


def _origin(reference: str, at: datetime) -> str:
    """Return what a ledger entry's reference stands for: the segment of a receipt, or a poll by its time."""
    return f"{reference} of {at.isoformat()}" if reference in SOURCES else reference.rpartition(":")[0]


_CHANGED = (
    select(order_lines.c.channel, order_lines.c.order_id, order_lines.c.line_id)
    .where(
        order_lines.c.updated_at >= bindparam("since", type_=order_lines.c.updated_at.type),
        order_lines.c.updated_at < bindparam("until", type_=order_lines.c.updated_at.type),
        or_(bindparam("of_channel") == "", order_lines.c.channel == bindparam("of_channel")),
    )
    .execution_options(yield_per=10_000)
)


def _text(revision: int, totals: Totals) -> str:
    units = ", ".join(f"{name} {number}" for name, number in totals._asdict().items() if number)
    return f"{units or 'nothing'} at revision {revision}"


_LINES = select(
    order_lines.c.order_id,
    order_lines.c.line_id,
    order_lines.c.revision,
    order_lines.c.sku,
    *(order_lines.c[name] for name in Totals._fields),
).where(order_lines.c.channel == bindparam("of_channel"), among(order_lines.c.order_id, "orders"))


def _stored(connection: Connection, keys: Iterable[Key]) -> dict[Key, _Stored]:
    orders: dict[str, set[str]] = defaultdict(set)
    for channel, order_id, _ in keys:
        orders[channel].add(order_id)
    found = {}
    for channel, order_ids in orders.items():
        for part in chunks(order_ids):
            for row in connection.execute(_LINES, {"of_channel": channel, "orders": as_parameter(part)}):
                order_id, line_id, revision, sku, *totals = row
                found[channel, order_id, line_id] = _Stored(revision, Totals(*totals), sku or "")
    return found


_ENTRIES = (
    select(
        stock_ledger.c.channel,
        stock_ledger.c.order_id,
        stock_ledger.c.line_id,
        stock_ledger.c.reference,
        stock_ledger.c.received_at,
    )
    .where(among(stock_ledger.c.sku, "skus"), among(stock_ledger.c.order_id, "orders"))
    .order_by(stock_ledger.c.sequence)
)


def _last_references(connection: Connection, stored: Mapping[Key, _Stored]) -> dict[Key, tuple[str, datetime]]:
    """Return reference and time of the last ledger entry of each line; those without one are left out."""
    last = {}
    for part in chunks(key for key, known in stored.items() if known.sku):
        skus, orders = {stored[key].sku for key in part}, {order_id for _, order_id, _ in part}
        for row in connection.execute(_ENTRIES, {"skus": as_parameter(skus), "orders": as_parameter(orders)}):
            last[row.channel, row.order_id, row.line_id] = row.reference, row.received_at
    return last
