"""Puts the rows of an inventory file into the stock: new SKUs, counts, names and status; and says what moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from invsync_dagster.inventory.book import Book, CountInForce
from invsync_dagster.inventory.bulk import as_parameter, collector_paused, found_by
from invsync_dagster.inventory.counts import Count, CountSource, put_in_force
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.inventory_file import InventoryRow
from invsync_dagster.inventory.imports.results import Move, Preview, Tally
from invsync_dagster.inventory.imports.spool import Spool
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, stock_counts


class _Known(NamedTuple):
    """A SKU as the stock has it."""

    product_name: str
    quantity: int
    reserved: int
    status: str
    in_force: CountInForce | None

    @property
    def available(self) -> int:
        return max(0, self.quantity - self.reserved) if self.status == "active" else 0


def apply_inventory(
    connection: Connection,
    spool: Spool,
    declaration: Declaration,
    basis: Basis,
    import_id: str,
    earlier: Collection[str] = (),
) -> Preview:
    """Apply rows in the caller's transaction; returns what changed and which limits that goes beyond.

    Rows of SKUs whose count in force is as new as the declared as-of time, or newer, change nothing: a name or status
    of then is no news either. `declaration` has its kind's defaults filled in. `earlier` are imports of the same file, read in
    another way: their counts of the same time are corrected.
    """
    as_of = declaration.as_of or basis.now
    source = CountSource(import_id, declaration.contains or (), declaration.lag_seconds or 0.0)
    was = _set_statuses(connection, spool, as_of, basis, import_id, earlier) if spool.has_status else {}
    tally = Tally(basis.limits)
    left_behind = _in_force(connection, earlier)
    basis.progress("applied", 0)
    with collector_paused():
        for rows in spool.chunks():
            book = basis.book(connection)
            skus = [row.sku for row in rows]
            before = _load(book, skus)
            of_earlier = _counted_by(connection, earlier, skus)
            fresh = [row for row in rows if _is_news(before.get(row.sku), as_of, row.sku in of_earlier)]
            left_behind.subtract(of_earlier.values())
            # Statuses of known SKUs were set before, all at once.
            named = [
                Sku(row.sku, row.product_name, None if row.sku in before else row.status)
                for row in fresh
                if _tells(row, before.get(row.sku))
            ]
            set_skus(connection, named, actor=basis.actor, reason=f"import {import_id}", now=basis.now)
            counts = [
                Count(
                    row.sku,
                    row.quantity,
                    as_of,
                    declaration.basis or "on_hand",
                    version=_version(before.get(row.sku), as_of),
                    reserved=row.reserved_quantity,
                    reason=f"line {row.line}",
                )
                for row in fresh
            ]
            put_in_force(book, counts, source, "import", dict.fromkeys(skus, (basis.now, import_id)))
            book.close()
            before |= {sku: before[sku]._replace(status=was[sku]) for sku in was.keys() & before.keys()}
            # Of a file that comes daily most rows change nothing: only what was touched is compared, as the book has it now.
            names = {one.sku: one.product_name for one in named}
            touched = [sku for sku in skus if sku in book.touched or sku in names or sku in was]
            _compare(tally, before, _load(book, touched, names))
            tally.older += len(rows) - len(fresh)
            basis.progress("applied", tally.rows)
    in_stock = connection.execute(select(func.count()).select_from(central_inventory)).scalar_one()
    left = tuple((source, count) for source, count in sorted(left_behind.items()) if count)
    return replace(tally.preview(), absent=in_stock - tally.rows, left_behind=left)


def _tells(row: InventoryRow, known: _Known | None) -> bool:
    return known is None or row.product_name not in (None, known.product_name)


def _set_statuses(
    connection: Connection, spool: Spool, as_of: datetime, basis: Basis, import_id: str, earlier: Collection[str]
) -> dict[str, str]:
    """Set the statuses that the file changes, all at once, since the breaker judges a change as a whole.

    Returns what they were, by SKU.
    """
    was: dict[str, str] = {}
    changed: list[Sku] = []
    for rows in spool.chunks():
        stated = [row for row in rows if row.status is not None]
        skus = [row.sku for row in stated]
        known, of_earlier = _load(basis.book(connection), skus), _counted_by(connection, earlier, skus)
        for row in stated:
            one = known.get(row.sku)
            if one is not None and one.status != row.status and _is_news(one, as_of, row.sku in of_earlier):
                was[row.sku] = one.status
                changed.append(Sku(row.sku, status=row.status))
    set_skus(connection, changed, actor=basis.actor, reason=f"import {import_id}", now=basis.now)
    return was


def _is_news(known: _Known | None, as_of: datetime, of_earlier: bool) -> bool:
    if known is None or known.in_force is None or known.in_force.as_of < as_of:
        return True
    return known.in_force.as_of == as_of and of_earlier


def _version(known: _Known | None, as_of: datetime) -> int:
    """The version that makes a count of `as_of` the newer one."""
    count = known.in_force if known is not None else None
    return count.version + 1 if count is not None and count.as_of == as_of else 0


def _in_force(connection: Connection, sources: Collection[str]) -> Counter[str]:
    """How many SKUs have a count of each source in force."""
    if not sources:
        return Counter()
    source = stock_counts.c.source
    query = select(source, func.count().label("skus")).select_from(_COUNTED).where(source.in_(sources)).group_by(source)
    return Counter({row.source: row.skus for row in connection.execute(query)})


def _counted_by(connection: Connection, sources: Collection[str], skus: Collection[str]) -> dict[str, str]:
    """Which of the SKUs have a count of one of the sources in force, and of which."""
    if not sources:
        return {}
    sku, source = central_inventory.c.sku, stock_counts.c.source
    query = select(sku, source).select_from(_COUNTED).where(found_by(sku, "skus"), source.in_(sources))
    return {row.sku: row.source for row in connection.execute(query, {"skus": as_parameter(skus)})}


_COUNTED = central_inventory.join(stock_counts, stock_counts.c.id == central_inventory.c.count_id)


def _load(book: Book, skus: Collection[str], names: Mapping[str, str | None] | None = None) -> dict[str, _Known]:
    """The SKUs that the stock has, as a book has them; `names` are those given since it read them."""
    book.load(skus)
    given = names or {}
    found = {}
    for sku in filter(book.knows, skus):
        one = book.balance(sku)
        name = given.get(sku)
        name = one.product_name if name is None else name
        found[sku] = _Known(name, one.quantity, one.reserved, one.status, one.count)
    return found


def _compare(tally: Tally, before: dict[str, _Known], after: dict[str, _Known]) -> None:
    """Count what became of a part of the rows; SKUs that `after` doesn't tell of are as they were."""
    for sku, was in before.items():
        if sku not in after:
            tally.add_unmoved(was.quantity, was.available)
    for sku, now in after.items():
        known = before.get(sku)
        if known is None:
            tally.add(Move(sku, now.product_name, 0, now.quantity, 0, now.available), new=True)
        elif now._replace(in_force=known.in_force) == known:
            tally.add_unmoved(now.quantity, now.available)
        else:
            tally.changed += 1
            tally.add(
                Move(sku, now.product_name, known.quantity, now.quantity, known.available, now.available), new=False
            )
    tally.cut()
