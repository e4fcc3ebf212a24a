"""Puts the rows of an inventory file into the stock: new SKUs, counts, names and status; and says what moved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.inventory_file import InventoryRow
from invsync_dagster.inventory.imports.reading import INVENTORY
from invsync_dagster.inventory.imports.results import SHOWN, Move, Preview, judge
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, stock_counts


@dataclass(frozen=True, slots=True)
class _Known:
    """A SKU as the stock has it; `counted_at` is the as-of time of the count in force."""

    product_name: str
    quantity: int
    reserved: int
    status: str
    counted_at: datetime | None

    @property
    def available(self) -> int:
        return max(0, self.quantity - self.reserved) if self.status == "active" else 0


def apply_inventory(
    connection: Connection, rows: Sequence[InventoryRow], declaration: Declaration, basis: Basis, import_id: str
) -> Preview:
    """Apply rows in the caller's transaction; returns what changed and which limits that goes beyond.

    Rows of SKUs whose count in force is as new as the declared as-of time, or newer, change nothing: a name or status
    of then is no news either.
    """
    as_of = declaration.as_of or basis.now
    before = _load(connection, [row.sku for row in rows])
    fresh = [row for row in rows if _is_news(before.get(row.sku), as_of)]
    named = [Sku(row.sku, row.product_name, row.status) for row in fresh]
    set_skus(connection, named, actor=basis.actor, reason=f"import {import_id}", now=basis.now)
    counts = [
        Count(
            row.sku, row.quantity, as_of, declaration.basis, reserved=row.reserved_quantity, reason=f"line {row.line}"
        )
        for row in fresh
    ]
    source = CountSource(import_id, declaration.contains, declaration.lag_seconds)
    apply_counts(connection, counts, source, now=basis.now, run_id=basis.run_id, reference=import_id, kind="import")
    return _compare(rows, before, _load(connection, [row.sku for row in rows]), len(rows) - len(fresh), basis)


def _is_news(known: _Known | None, as_of: datetime) -> bool:
    return known is None or known.counted_at is None or known.counted_at < as_of


def _load(connection: Connection, skus: Collection[str]) -> dict[str, _Known]:
    stock = central_inventory.c
    query = select(
        stock.sku, stock.product_name, stock.quantity, stock.reserved_quantity, stock.status, stock_counts.c.as_of
    ).select_from(central_inventory.outerjoin(stock_counts, stock_counts.c.id == stock.count_id))
    found = {}
    for part in chunks(skus):
        for sku, *values in connection.execute(query.where(stock.sku.in_(part))):
            found[sku] = _Known(*values)
    return found


def _compare(
    rows: Sequence[InventoryRow], before: dict[str, _Known], after: dict[str, _Known], older: int, basis: Basis
) -> Preview:
    moves: list[Move] = []  # of known SKUs, unmoved ones included: what the limits are about
    added: list[Move] = []
    changed = 0
    for row in rows:
        now, then = after[row.sku], before.get(row.sku)
        if then is None:
            added.append(Move(row.sku, now.product_name, 0, now.quantity, 0, now.available))
            continue
        moves.append(Move(row.sku, now.product_name, then.quantity, now.quantity, then.available, now.available))
        facts = (then.product_name, then.quantity, then.reserved, then.status)
        changed += facts != (now.product_name, now.quantity, now.reserved, now.status)
    moved = sorted((move for move in moves + added if move.units), key=lambda move: (-move.units, move.sku))
    return Preview(
        kind=INVENTORY,
        rows=len(rows),
        added=len(added),
        changed=changed,
        unchanged=len(moves) - changed,
        older=older,
        zeroed=sum(move.zeroes for move in moves),
        stocked=sum(move.available_before > 0 for move in moves),
        units_before=sum(move.quantity_before for move in moves),
        units_after=sum(move.quantity_after for move in moves + added),
        units_moved=sum(move.units for move in moves),
        largest=tuple(moved[:SHOWN]),
        beyond=judge(moves, basis.limits),
    )
