"""Books order lines: stored totals read, documents judged against them, differences entered, levels told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from operator import attrgetter, itemgetter

from sqlalchemy import Connection, bindparam, or_, select

from invsync_dagster.events import LineReference
from invsync_dagster.inventory.book import Book, event_id
from invsync_dagster.inventory.bulk import among, as_parameter, chunks, upsert_rows
from invsync_dagster.inventory.channels import rehearses
from invsync_dagster.inventory.elsewhere import sold_elsewhere
from invsync_dagster.inventory.orders import (
    Document,
    Line,
    Restock,
    Totals,
    Verdict,
    as_stored,
    bookings,
    frozen,
    judge,
    own_movement,
)
from invsync_dagster.inventory.polled import keep_polled
from invsync_dagster.inventory.references import Target, resolve
from invsync_dagster.inventory.tables import ELSEWHERE, channels, order_lines

Key = tuple[str, str, str]  # channel, order, line

BEFORE_CUT_OVER = "the order is from before the channel's cut-over"
REHEARSAL = "a sandbox beside production channels: its orders don't move the stock"
KEPT_BY_PLATFORM = "the listing is excluded: the platform keeps this stock itself"

_NOTHING = Totals(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """What booking needs to know of a channel. `contains` and `lag_seconds` speak of the counts that it sends.

    `rehearses`: a sandbox beside production channels, whose orders and counts have no effect.
    """

    moves_own_number: bool = True
    cut_over_at: datetime | None = None
    contains: tuple[str, ...] = ()
    lag_seconds: float = 0.0
    restock: Restock = Restock.AS_TOLD
    rehearses: bool = False


class Assigned(Enum):
    """Whether a line has a SKU that it can be booked on."""

    BOOKABLE = "bookable"
    UNRESOLVED = "unresolved"
    IGNORED = "ignored"


@dataclass(slots=True)
class LinesBooked:
    """What became of line documents, in lines."""

    booked: int = 0
    unchanged: int = 0
    older: int = 0
    unresolved: int = 0
    ignored: int = 0


def channel_facts(connection: Connection, names: Collection[str]) -> dict[str, ChannelFacts]:
    """Read the facts of channels; one that isn't registered has the defaults, and no listings."""
    rows = connection.execute(_FACTS, {"names": list(names)})
    facts = dict.fromkeys(names, ChannelFacts())
    facts |= {
        name: ChannelFacts(moves, cut, tuple(contains), lag, Restock(restock), rehearsing)
        for name, moves, cut, contains, lag, restock, rehearsing in rows
    }
    return facts


_FACTS = select(
    channels.c.name,
    channels.c.moves_own_number,
    channels.c.cut_over_at,
    channels.c.contains_orders_of,
    channels.c.count_lag_seconds,
    channels.c.restock,
    rehearses(),
).where(channels.c.name.in_(bindparam("names", expanding=True)))


def book_documents(
    book: Book, documents: Mapping[Key, Document], facts: Mapping[str, ChannelFacts], unclear: set[tuple[str, str]]
) -> LinesBooked:
    """Book the newest document of each line against what is stored; unclear ones are added to `unclear`."""
    result = LinesBooked()
    stored = _stored(book.connection, documents)
    keep_polled(book.connection, documents, stored)
    elsewhere = sold_elsewhere(book.connection, documents, stored)
    changed: list[tuple[Line, Document, Totals]] = []  # with the totals that are booked
    leaving: list[tuple[Line, Document, Totals]] = []
    for key, document in documents.items():
        line = stored.get(key)
        if line is None:
            line = _new_line(key, document, facts[key[0]])
            if key in elsewhere:
                line.ignored_reason = line.ignored_reason or ELSEWHERE
            changed.append((line, document, _NOTHING))
            continue
        if key in elsewhere and not line.ignored_reason and document.revision >= line.revision:
            leaving.append((line, document, line.totals))
            continue
        if line.ignored_reason == ELSEWHERE and document.revision >= line.revision:
            _renew(line, document)
            if key not in elsewhere and document.line.reference.locations:
                line.ignored_reason, line.level_id = document.line.ignored, None
            changed.append((line, document, _NOTHING))
            continue
        verdict = judge(
            document.revision,
            document.totals,
            document.asked,
            line.revision,
            line.totals,
            may_stay=document.revision_may_stay,
        )
        if verdict.is_to_be_asked:
            unclear.add(key[:2])
        if document.open_at_cut_over and line.ignored_reason == BEFORE_CUT_OVER:
            line.ignored_reason = ELSEWHERE if key in elsewhere else document.line.ignored
            if verdict is Verdict.NEWER:
                _renew(line, document)
            changed.append((line, document, _NOTHING))
        elif verdict.holds:
            before = line.totals if line.bookings else _NOTHING
            _renew(line, document)
            changed.append((line, document, before))
        elif verdict is Verdict.OLDER:
            result.older += 1
        elif verdict is Verdict.SAME and _names_anew(line, document):
            _renew(line, document)
            changed.append((line, document, _NOTHING))
        elif verdict is Verdict.SAME:
            result.unchanged += 1
    targets = _targets(book, ((line, document.line.reference) for line, document, _ in changed + leaving))
    for line, document, before in leaving:
        target = targets[line.channel].get(document.line.reference)
        _leave(book, line, before, document, target, facts[line.channel])
    result.ignored += len(leaving)
    for line, document, before in changed:
        target = targets[line.channel].get(document.line.reference)
        assigned = _assign(book, line, target)
        if assigned is not Assigned.BOOKABLE:
            result.ignored += assigned is Assigned.IGNORED
            result.unresolved += assigned is Assigned.UNRESOLVED
            continue
        _enter(book, line, before, facts[line.channel].restock, document.received_at, document.reference)
        # What was sold before the cut-over had left the channel's number before we read it.
        if not document.open_at_cut_over and facts[line.channel].moves_own_number:
            _move(book, line, target, own_movement(before, line.totals))
        result.booked += 1
    _store(book.connection, [line for line, *_ in changed + leaving])
    return result


def _leave(
    book: Book, line: Line, before: Totals, document: Document, target: Target | None, facts: ChannelFacts
) -> None:
    """Take back what is booked of a line whose units are taken from elsewhere: its webhook couldn't tell, or it was moved."""
    if line.bookings:
        _renew(line, document)
        line.ignored_reason = ELSEWHERE
        line.cancelled, line.shipped, line.restocked, line.written_off = line.ordered, 0, 0, 0
        line.shipments = line.restocks = line.write_offs = ()
        _enter(book, line, before, facts.restock, document.received_at, document.reference)
        if facts.moves_own_number:
            _move(book, line, target, own_movement(before, line.totals))
    _renew(line, document)
    line.ignored_reason = ELSEWHERE


def _move(book: Book, line: Line, target: Target | None, movement: int | None) -> None:
    """Tell the level of a line by how much its own channel moved its number; the levels that it may be, if several."""
    if movement is None:
        return
    if line.level_id is not None:
        book.move_level(line.level_id, movement)
    elif target is not None:
        for level_id in target.level_ids:
            book.move_level(level_id, 0)


def apply_open_lines(book: Book, channel: str, names: Iterable[LineReference]) -> int:
    """Book the open cases of a channel that one of the listings called `names` resolves now; return how many.

    The platform moved its number when it sold; whether a reading since has seen that isn't known, so the level becomes
    uncertain, and what it is expected to show stays.
    """
    column = order_lines.c
    if book.connection.execute(_ANY_OPEN, {"of_channel": channel}).first() is None:
        return 0
    facts = channel_facts(book.connection, [channel])[channel]
    booked = 0
    for part in chunks(names):
        rows = book.connection.execute(
            select(*_COLUMNS).where(
                column.channel == channel,
                column.sku.is_(None),
                column.ignored_reason == "",
                or_(
                    column.platform_sku.in_({name.platform_sku for name in part} - {""}),
                    column.item_id.in_({name.item_id for name in part} - {""}),
                    column.variant_id.in_({name.variant_id for name in part} - {""}),
                ),
            )
        )
        lines = [Line(*row) for row in rows]
        for line in lines:
            line.shipments, line.restocks = frozen(line.shipments), frozen(line.restocks)
            line.write_offs = frozen(line.write_offs)
        targets = _targets(book, ((line, _reference(line)) for line in lines))
        resolved = []
        for line in lines:
            target = targets[channel].get(_reference(line))
            if target is None:
                continue
            if _assign(book, line, target) is Assigned.BOOKABLE:
                _enter(book, line, _NOTHING, facts.restock, book.now, "")
                if facts.moves_own_number:
                    for level_id in target.level_ids:
                        book.move_level(level_id, 0)
                booked += 1
            resolved.append(line)
        _store(book.connection, resolved)
    return booked


def _stored(connection: Connection, keys: Iterable[Key]) -> dict[Key, Line]:
    orders: dict[str, set[str]] = defaultdict(set)
    for channel, order_id, _ in keys:
        orders[channel].add(order_id)
    found = {}
    for channel, order_ids in orders.items():
        for row in connection.execute(_LINES, {"of_channel": channel, "orders": as_parameter(order_ids)}).all():
            found[row[0], row[1], row[2]] = Line(*row)
    return found


def _new_line(key: Key, document: Document, facts: ChannelFacts) -> Line:
    channel, order_id, line_id = key
    reference = document.line.reference
    early = facts.cut_over_at is not None and document.created_at < facts.cut_over_at
    early = early and not document.open_at_cut_over
    return Line(
        channel=channel,
        order_id=order_id,
        line_id=line_id,
        sku=None,
        level_id=None,
        platform_sku=reference.platform_sku,
        item_id=reference.item_id,
        variant_id=reference.variant_id,
        revision=document.revision,
        ordered=document.totals.ordered,
        cancelled=document.totals.cancelled,
        shipped=document.totals.shipped,
        restocked=document.totals.restocked,
        written_off=document.totals.written_off,
        shipments=as_stored(document.line.shipments),
        restocks=as_stored(document.line.restocks),
        write_offs=as_stored(document.line.write_offs),
        bookings=0,
        booked_reserved=0,
        booked_shipped=0,
        booked_restocked=0,
        declined=0,
        created_at=document.created_at,
        updated_at=document.updated_at,
        ignored_reason=REHEARSAL if facts.rehearses else BEFORE_CUT_OVER if early else document.line.ignored,
    )


def _renew(line: Line, document: Document) -> None:
    line.revision = document.revision
    line.ordered, line.cancelled, line.shipped, line.restocked, line.written_off = document.totals
    line.shipments = as_stored(document.line.shipments)
    line.restocks = as_stored(document.line.restocks)
    line.write_offs = as_stored(document.line.write_offs)
    line.updated_at = document.updated_at
    if line.sku is None:
        line.ignored_reason = line.ignored_reason or document.line.ignored
        # A webhook may know fewer names of what was sold than the list of orders does.
        reference = document.line.reference
        line.platform_sku = reference.platform_sku or line.platform_sku
        line.item_id = reference.item_id or line.item_id
        line.variant_id = reference.variant_id or line.variant_id


def _names_anew(line: Line, document: Document) -> bool:
    """Say whether a document of the same totals may let an open case apply."""
    reference = document.line.reference
    new = (
        reference.item_id not in ("", line.item_id)
        or reference.variant_id not in ("", line.variant_id)
        or reference.platform_sku not in ("", line.platform_sku)
    )
    return new and line.sku is None and not line.ignored_reason


def _reference(line: Line) -> LineReference:
    return LineReference(line.platform_sku, line.item_id, line.variant_id)


def _targets(book: Book, lines: Iterable[tuple[Line, LineReference]]) -> dict[str, dict[LineReference, Target]]:
    """Resolve the lines that have no SKU or no level yet, and load the balances of all SKUs concerned."""
    wanted: dict[str, set[LineReference]] = defaultdict(set)
    skus = set()
    for line, reference in lines:
        if line.sku is not None:
            skus.add(line.sku)
        if not line.ignored_reason and line.level_id is None:
            wanted[line.channel].add(reference)
    targets: dict[str, dict[LineReference, Target]] = defaultdict(dict)
    for channel, references in wanted.items():
        targets[channel] = resolve(book.connection, channel, references)
        skus.update(target.sku for target in targets[channel].values())
    book.load(skus)
    return targets


def _assign(book: Book, line: Line, target: Target | None) -> Assigned:
    """Give a line its SKU, which it keeps."""
    if line.ignored_reason:
        return Assigned.IGNORED
    if line.sku is not None:
        if line.level_id is None and target is not None and target.sku == line.sku:
            line.level_id = target.level_id
        return Assigned.BOOKABLE
    if target is None or not book.knows(target.sku):
        return Assigned.UNRESOLVED
    if target.excluded:
        line.ignored_reason = KEPT_BY_PLATFORM
        return Assigned.IGNORED
    line.sku, line.level_id = target.sku, target.level_id
    return Assigned.BOOKABLE


def _enter(book: Book, line: Line, before: Totals, policy: Restock, received_at: datetime, reference: str) -> None:
    assert line.sku is not None  # noqa: S101 - _assign has said so
    count = book.balance(line.sku).count
    entries = bookings(line, before, policy)
    line.bookings += 1
    prefix = event_id("order", line.channel, line.order_id, line.line_id)
    for index, entry in enumerate(entries):
        quantity = entry.moved
        if count is not None:
            quantity = count.booked(line.channel, entry.kind, entry.moved, entry.reserved, entry.occurred_at)
        book.add(
            line.sku,
            entry.kind,
            quantity,
            entry.reserved,
            moved=entry.moved,
            event_id=f"{prefix}/{line.bookings}.{index}/{entry.kind}={entry.cumulative}",
            occurred_at=entry.occurred_at,
            received_at=received_at,
            channel=line.channel,
            order_id=line.order_id,
            line_id=line.line_id,
            reference=reference,
            reason=entry.reason or line.ignored_reason,
        )
        line.booked_reserved += entry.reserved
        line.declined += entry.declined
    line.booked_shipped = line.shipped
    line.booked_restocked = line.restocked + line.written_off - line.declined


_COLUMNS = tuple(order_lines.c[name] for name in Line.__dataclass_fields__)
_O = order_lines.c
_LINES = select(*_COLUMNS).where(_O.channel == bindparam("of_channel"), among(_O.order_id, "orders"))
_IS_OPEN = (_O.channel == bindparam("of_channel"), _O.sku.is_(None), _O.ignored_reason == "")
_ANY_OPEN = select(_O.order_id).where(*_IS_OPEN).limit(1)
_as_row = attrgetter(*Line.__dataclass_fields__)


def _store(connection: Connection, lines: list[Line]) -> None:
    rows = sorted(map(_as_row, lines), key=itemgetter(0, 1, 2))
    upsert_rows(connection, order_lines, ("channel", "order_id", "line_id"), _COLUMNS, rows)
