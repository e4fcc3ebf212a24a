"""Puts the rows of an inventory file into the stock: new SKUs, counts, names and status; and says what moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, literal, null, select

from invsync_dagster.inventory.bulk import as_parameter, collector_paused, found_by
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.inventory_file import InventoryRow
from invsync_dagster.inventory.imports.results import Move, Preview, Tally
from invsync_dagster.inventory.imports.spool import Spool
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, stock_counts


class _Known(NamedTuple):
    """A SKU as the stock has it; `counted_at`, `version` and `source` are those of the count in force."""

    product_name: str
    quantity: int
    reserved: int
    status: str
    counted_at: datetime | None
    version: int | None
    source: str

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
    for rows in spool.chunks():
        with collector_paused():
            before = _load(connection, [row.sku for row in rows])
            fresh = [row for row in rows if _is_news(before.get(row.sku), as_of, earlier)]
            left_behind.subtract(one.source for one in before.values() if one.source in earlier)
            named = [Sku(row.sku, row.product_name, row.status) for row in fresh if _tells(row, before.get(row.sku))]
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
            apply_counts(
                connection, counts, source, now=basis.now, run_id=basis.run_id, reference=import_id, kind="import"
            )
            before |= {sku: before[sku]._replace(status=was[sku]) for sku in was.keys() & before.keys()}
            _compare(tally, before, _load(connection, [row.sku for row in rows], counted=False))
            tally.older += len(rows) - len(fresh)
        basis.progress("applied", tally.rows)
    skus = connection.execute(select(func.count()).select_from(central_inventory)).scalar_one()
    left = tuple((source, skus) for source, skus in sorted(left_behind.items()) if skus)
    return replace(tally.preview(), absent=skus - tally.rows, left_behind=left)


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
        known = _load(connection, [row.sku for row in stated])
        for row in stated:
            one = known.get(row.sku)
            if one is not None and one.status != row.status and _is_news(one, as_of, earlier):
                was[row.sku] = one.status
                changed.append(Sku(row.sku, status=row.status))
    set_skus(connection, changed, actor=basis.actor, reason=f"import {import_id}", now=basis.now)
    return was


def _is_news(known: _Known | None, as_of: datetime, earlier: Collection[str]) -> bool:
    if known is None or known.counted_at is None or known.counted_at < as_of:
        return True
    return known.counted_at == as_of and known.source in earlier


def _version(known: _Known | None, as_of: datetime) -> int:
    """The version that makes a count of `as_of` the newer one."""
    return (known.version or 0) + 1 if known is not None and known.counted_at == as_of else 0


def _in_force(connection: Connection, sources: Collection[str]) -> Counter[str]:
    """How many SKUs have a count of each source in force."""
    if not sources:
        return Counter()
    counted = central_inventory.join(stock_counts, stock_counts.c.id == central_inventory.c.count_id)
    source = stock_counts.c.source
    query = select(source, func.count().label("skus")).select_from(counted).where(source.in_(sources)).group_by(source)
    return Counter({row.source: row.skus for row in connection.execute(query)})


def _load(connection: Connection, skus: Collection[str], *, counted: bool = True) -> dict[str, _Known]:
    """The SKUs that the stock has; without `counted` the time of their count is left out, which halves the cost."""
    stock = central_inventory.c
    known = (stock.sku, stock.product_name, stock.quantity, stock.reserved_quantity, stock.status)
    query = select(*known, null(), null(), literal(""))
    if counted:
        counts = central_inventory.outerjoin(stock_counts, stock_counts.c.id == stock.count_id)
        query = select(
            *known, stock_counts.c.as_of, stock_counts.c.version, func.coalesce(stock_counts.c.source, "")
        ).select_from(counts)
    query = query.where(found_by(stock.sku, "skus"))
    found = connection.execute(query, {"skus": as_parameter(skus)}).all()
    return {sku: _Known._make(values) for sku, *values in found}


def _compare(tally: Tally, before: dict[str, _Known], after: dict[str, _Known]) -> None:
    for sku, now in after.items():
        then = before.get(sku)
        if then is None:
            tally.add(Move(sku, now.product_name, 0, now.quantity, 0, now.available), new=True)
            continue
        unchanged = (
            then.quantity == now.quantity
            and then.reserved == now.reserved
            and then.status == now.status
            and then.product_name == now.product_name
        )
        if unchanged:
            tally.add_unmoved(now.quantity, now.available)
            continue
        tally.changed += 1
        move = Move(sku, now.product_name, then.quantity, now.quantity, then.available, now.available)
        tally.add(move, new=False)
    tally.cut()
