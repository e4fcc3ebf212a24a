"""Lines that an order has no more: where a document names every line of its order, a known line that it leaves out is gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from invsync_dagster.events import LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.inventory.bulk import among, as_parameter
from invsync_dagster.inventory.lines import Key
from invsync_dagster.inventory.orders import Document, Totals
from invsync_dagster.inventory.tables import order_lines


@dataclass(frozen=True, slots=True)
class Whole:
    """A document that names every line of its order, with how it reached us."""

    channel: str
    order: OrderDocument
    asked: bool
    received_at: datetime
    reference: str


def with_removed(
    connection: Connection,
    documents: Mapping[Key, Document],
    wholes: Iterable[Whole],
    unclear: set[tuple[str, str]],
) -> dict[Key, Document]:
    """Return `documents` with one more for each line that the newest whole document of its order leaves out: what of it
    wasn't shipped is cancelled. Lines come from `documents` themselves and from the stock's tables.

    Where a revision may stay, a document of the line's own revision counts if it was asked for; else its order is added
    to `unclear`.
    """
    newest: dict[tuple[str, str], Whole] = {}
    for whole in wholes:
        order = (whole.channel, whole.order.order_id)
        if order not in newest or whole.order.revision >= newest[order].order.revision:
            newest[order] = whole
    if not newest:
        return dict(documents)
    known = _stored(connection, newest) | {
        key: (document.revision, document.line) for key, document in documents.items() if key[:2] in newest
    }
    result = dict(documents)
    for key, (revision, line) in known.items():
        whole = newest[key[0], key[1]]
        named = {each.line_id for each in whole.order.lines}
        if key[2] in named or revision > whole.order.revision or line.ordered - line.cancelled <= line.shipped:
            continue
        if revision == whole.order.revision and not whole.asked:
            if whole.order.revision_may_stay:
                unclear.add(key[:2])
        elif revision < whole.order.revision or whole.order.revision_may_stay:
            result[key] = _document(whole, line._replace(cancelled=line.ordered - line.shipped))
    return result


def _document(whole: Whole, line: OrderLine) -> Document:
    order = whole.order
    return Document(
        order.revision,
        whole.asked,
        Totals(line.ordered, line.cancelled, line.shipped, line.restocked, line.written_off),
        line,
        order.created_at,
        order.updated_at,
        whole.received_at,
        whole.reference,
        revision_may_stay=order.revision_may_stay,
    )


_LINES = select(order_lines).where(
    order_lines.c.channel == bindparam("of_channel"), among(order_lines.c.order_id, "orders")
)


def _stored(connection: Connection, orders: Mapping[tuple[str, str], Whole]) -> dict[Key, tuple[int, OrderLine]]:
    """Return revision and totals of the known lines of orders."""
    ids: dict[str, list[str]] = defaultdict(list)
    for channel, order_id in orders:
        ids[channel].append(order_id)
    found = {}
    for channel, order_ids in ids.items():
        for row in connection.execute(_LINES, {"of_channel": channel, "orders": as_parameter(order_ids)}):
            reference = LineReference(row.platform_sku, row.item_id, row.variant_id)
            shipments, restocks = _movements(row.shipments), _movements(row.restocks)
            write_offs = _movements(row.write_offs)
            line = OrderLine(row.line_id, reference, row.ordered, row.cancelled, shipments, restocks, write_offs)
            found[channel, row.order_id, row.line_id] = (row.revision, line)
    return found


def _movements(stored: Sequence[Sequence[Any]]) -> tuple[Movement, ...]:
    return tuple(Movement(units, datetime.fromisoformat(at)) for units, at in stored)
