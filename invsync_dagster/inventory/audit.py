"""The self-audit of the stock: balances are the sums of a whole ledger, and what is booked is what orders say."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Text, and_, case, cast, exists, func, literal, not_, or_, select, text

from invsync_dagster.inventory.rules import greatest
from invsync_dagster.inventory.tables import (
    APPEND_ONLY,
    central_inventory,
    imports,
    inventory_levels,
    is_change,
    order_lines,
    stock_ledger,
    work_queue,
)

# Differences that one audit lists; more of them are no more useful to a person, and the first one is red already.
LISTED = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """Two numbers of the books that must be equal and are not; `subject` names the order line, if it is one."""

    sku: str
    what: str
    subject: str
    stored: int
    proven: int


def audit(connection: Connection) -> list[Difference]:
    """Return what doesn't add up, at most `LISTED` of each kind; an empty list proves the books."""
    return [
        *_balances(connection),
        *_reservations(connection),
        *_lines(connection),
        *_entries(connection),
        *_unknown_skus(connection),
        *_missing_entries(connection),
        *_sources(connection),
        *_queue(connection),
        *_guards(connection),
    ]


def _balances(connection: Connection) -> list[Difference]:
    central, entry = central_inventory.c, stock_ledger.c
    sums = (
        select(
            entry.sku,
            func.sum(entry.quantity_delta).label("quantity"),
            func.sum(entry.reserved_delta).label("reserved"),
            func.max(entry.sequence).label("version"),
        )
        .group_by(entry.sku)
        .subquery("sums")
    )
    proven = sums.c
    last_entry = stock_ledger.alias()
    last = last_entry.c
    pairs = (
        ("on hand", central.quantity, func.coalesce(proven.quantity, 0)),
        ("reserved", central.reserved_quantity, func.coalesce(proven.reserved, 0)),
        ("version", central.version, func.coalesce(proven.version, 0)),
        ("on hand, by the last entry", func.coalesce(last.quantity_after, 0), func.coalesce(proven.quantity, 0)),
        ("reserved, by the last entry", func.coalesce(last.reserved_after, 0), func.coalesce(proven.reserved, 0)),
    )
    query = (
        select(central.sku, *(column for _, *pair in pairs for column in pair))
        .select_from(
            central_inventory.outerjoin(sums, proven.sku == central.sku).outerjoin(
                last_entry, last.sequence == proven.version
            )
        )
        .where(or_(*(stored != summed for _, stored, summed in pairs)))
        .order_by(central.sku)
        .limit(LISTED)
    )
    found = []
    for sku, *numbers in connection.execute(query):
        for index, (what, *_) in enumerate(pairs):
            stored, summed = int(numbers[2 * index]), int(numbers[2 * index + 1])
            if stored != summed:
                found.append(Difference(sku, what, "", stored, summed))
    return found


def _reservations(connection: Connection) -> list[Difference]:
    """Reserved is what open orders promise and what imports stated."""
    central, line = central_inventory.c, order_lines.c
    promised = (
        select(line.sku, func.sum(line.booked_reserved).label("units"))
        .where(line.sku.is_not(None))
        .group_by(line.sku)
        .subquery("promised")
    )
    proven = func.coalesce(promised.c.units, 0) + central.reserved_external
    query = (
        select(central.sku, literal("promised"), literal(""), central.reserved_quantity, proven)
        .select_from(central_inventory.outerjoin(promised, promised.c.sku == central.sku))
        .where(central.reserved_quantity != proven)
        .order_by(central.sku)
        .limit(LISTED)
    )
    return [_difference(*row) for row in connection.execute(query)]


def _lines(connection: Connection) -> list[Difference]:
    """What is booked of a line is what its totals say; of an open or ignored one it is nothing."""
    line = order_lines.c
    counts = and_(line.sku.is_not(None), line.ignored_reason == "")

    def wanted(total: ColumnElement[int]) -> ColumnElement[int]:
        return case((counts, total), else_=0)

    pairs = (
        (
            "booked as reserved",
            line.booked_reserved,
            wanted(greatest(greatest(line.ordered - line.cancelled, 0) - line.shipped, 0)),
        ),
        ("booked as shipped", line.booked_shipped, wanted(line.shipped)),
        (
            "booked as restocked or declined",
            line.booked_restocked + line.declined,
            wanted(line.restocked + line.written_off),
        ),
    )
    found = []
    for what, stored, proven in pairs:
        subject = line.channel + literal(" order ") + line.order_id + literal(" line ") + line.line_id
        query = (
            select(func.coalesce(line.sku, ""), literal(what), subject, stored, proven)
            .where(stored != proven)
            .order_by(line.channel, line.order_id, line.line_id)
            .limit(LISTED)
        )
        found += [_difference(*row) for row in connection.execute(query)]
    return found


def _entries(connection: Connection) -> list[Difference]:
    """What the entries of a line sum up to is what is booked of it; of entries without a line it is nothing."""
    line, entry = order_lines.c, stock_ledger.c
    keys = ("channel", "order_id", "line_id")
    sums = (
        select(
            *(entry[name] for name in keys),
            func.max(entry.sku).label("sku"),
            func.sum(entry.reserved_delta).label("reserved"),
            func.sum(entry.moved_delta).label("moved"),
        )
        .where(entry.order_id != "")
        .group_by(*(entry[name] for name in keys))
        .subquery("sums")
    )
    summed = sums.c
    pairs = (
        ("booked as reserved", func.coalesce(line.booked_reserved, 0), summed.reserved),
        ("booked on the shelf", func.coalesce(line.booked_restocked - line.booked_shipped, 0), summed.moved),
    )
    query = (
        select(summed.sku, *(summed[name] for name in keys), *(column for _, *pair in pairs for column in pair))
        .select_from(sums.outerjoin(order_lines, and_(*(line[name] == summed[name] for name in keys))))
        .where(or_(*(stored != proven for _, stored, proven in pairs)))
        .order_by(*(summed[name] for name in keys))
        .limit(LISTED)
    )
    found = []
    for sku, channel, order_id, line_id, *numbers in connection.execute(query):
        subject = f"{channel} order {order_id} line {line_id}"
        for index, (what, *_) in enumerate(pairs):
            stored, proven = int(numbers[2 * index]), int(numbers[2 * index + 1])
            if stored != proven:
                found.append(Difference(sku, f"{what}, by its entries", subject, stored, proven))
    return found


def _unknown_skus(connection: Connection) -> list[Difference]:
    entry, central = stock_ledger.c, central_inventory.c
    query = (
        select(entry.sku, func.sum(entry.quantity_delta))
        .where(~exists().where(central.sku == entry.sku))
        .group_by(entry.sku)
        .order_by(entry.sku)
        .limit(LISTED)
    )
    return [Difference(sku, "entries of an unknown SKU", "", 0, int(units)) for sku, units in connection.execute(query)]


def _missing_entries(connection: Connection) -> list[Difference]:
    """One writer at a time counts the entries up from 1, so that one that is taken out leaves a gap."""
    entry = stock_ledger.c
    entries, latest = connection.execute(select(func.count(), func.coalesce(func.max(entry.sequence), 0))).one()
    return [] if entries == latest else [Difference("", "entries of the ledger", "", entries, latest)]


def _sources(connection: Connection) -> list[Difference]:
    """An entry of an order has its order line, and one of an import its import."""
    entry, line = stock_ledger.c, order_lines.c
    of_line = and_(line.channel == entry.channel, line.order_id == entry.order_id, line.line_id == entry.line_id)
    subject = literal("entry ") + cast(entry.sequence, Text)
    orphans = (
        ("entry of an unknown order line", entry.order_id != "", select(line.line_id).where(of_line)),
        (
            "entry of an unknown import",
            # A shipment of an order that is taken back is an undo as well, and names its delivery.
            and_(entry.kind.in_(("import", "undo")), entry.reference != "", entry.order_id == ""),
            select(imports.c.id).where(imports.c.id == entry.reference),
        ),
    )
    found = []
    for what, meant, source in orphans:
        query = (
            select(entry.sku, literal(what), subject, entry.quantity_delta, literal(0))
            .where(meant, ~source.exists())
            .order_by(entry.sequence)
            .limit(LISTED)
        )
        found += [_difference(*row) for row in connection.execute(query)]
    return found


def _queue(connection: Connection) -> list[Difference]:
    """What is to be pushed, is claimed, or stands in a submission is in the work queue as it is, and nothing else is."""
    level, queued = inventory_levels.c, work_queue.c
    belongs = or_(is_change(), level.claim.is_not(None), level.bulk_handle.is_not(None))
    is_there = queued.level_id.is_not(None)
    same = and_(
        queued.is_change.is_not_distinct_from(is_change()),
        *(
            column.is_not_distinct_from(level[column.name])
            for column in work_queue.c
            if column.name not in ("level_id", "is_change")
        ),
    )
    subject = level.channel + literal(" level ") + level.item_id
    query = (
        select(
            level.central_sku, literal("work queue"), subject, case((is_there, 1), else_=0), case((belongs, 1), else_=0)
        )
        .select_from(inventory_levels.outerjoin(work_queue, queued.level_id == level.id))
        .where(or_(belongs != is_there, and_(is_there, not_(same))))
        .order_by(level.channel, level.central_sku, level.id)
        .limit(LISTED)
    )
    # One without a level would be looked for by every push, which never finds it.
    nobodys = (
        select(queued.channel + literal(" level ") + cast(queued.level_id, Text))
        .where(~exists().where(level.id == queued.level_id))
        .order_by(queued.level_id)
        .limit(LISTED)
    )
    found = [_difference(*row) for row in connection.execute(query)]
    return found + [Difference("", "work queue", subject, 1, 0) for subject in connection.execute(nobodys).scalars()]


def _guards(connection: Connection) -> list[Difference]:
    """The database itself refuses changes of the logs, and keeps the work queue, by the triggers that the migrations made."""
    if connection.dialect.name == "postgresql":
        refusing = {f"{name}_append_only" for name in APPEND_ONLY}
        keeping = {f"work_queue_{change}" for change in ("insert", "update", "delete")}
        query = "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') AND NOT tgisinternal"
    else:
        refusing = {f"{name}_no_{change}" for name in APPEND_ONLY for change in ("update", "delete")}
        keeping = {f"work_queue_{change}" for change in ("insert", "update", "done", "delete")}
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    there = set(connection.execute(text(query)).scalars())
    return [
        Difference("", what, name, 0, 1)
        for what, wanted in (("refusal of changes", refusing), ("keeping of the work queue", keeping))
        for name in sorted(wanted - there)
    ]


def _difference(sku: str, what: str, subject: str, stored: int, proven: int) -> Difference:
    return Difference(sku, what, subject, int(stored), int(proven))
