"""The rows of an inventory file (`sku, product_name, quantity, reserved_quantity, status`), checked one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from invsync_dagster.inventory.imports import fields
from invsync_dagster.inventory.imports.reading import CellError, Rejection, Row, Source

Status = Literal["active", "inactive"]

STATUSES: tuple[Status, ...] = ("active", "inactive")


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """What one row states of a SKU; None where the file says nothing, and what is known stays."""

    line: int
    sku: str
    quantity: int
    product_name: str | None
    reserved_quantity: int | None
    status: Status | None


def read_inventory(file: str, source: Source) -> tuple[list[InventoryRow], list[Rejection]]:
    """Take all rows of `source`; returns those that can go in, and the others, by line.

    A SKU that is there twice goes in once where both rows say the same; else neither does, since nobody can say which
    is right. Raises `FileError` where the file breaks off.
    """
    rows: dict[str, InventoryRow] = {}
    disputed: dict[str, int] = {}
    rejections: list[Rejection] = []
    for row in source.rows:
        if isinstance(row, Rejection):
            rejections.append(row)
            continue
        try:
            stated = _inventory_row(row)
        except CellError as error:
            rejections.append(error.rejection(file, row.line))
            continue
        first = rows.get(stated.sku)
        if stated.sku in disputed:
            rejections.append(_twice(file, stated, disputed[stated.sku], same=False))
        elif first is None:
            rows[stated.sku] = stated
        elif replace(stated, line=first.line) == first:
            rejections.append(_twice(file, stated, first.line, same=True))
        else:
            del rows[first.sku]
            disputed[first.sku] = first.line
            rejections += [_twice(file, first, stated.line, same=False), _twice(file, stated, first.line, same=False)]
    return list(rows.values()), sorted(rejections, key=lambda one: one.line)


def _inventory_row(row: Row) -> InventoryRow:
    cells = row.cells
    return InventoryRow(
        line=row.line,
        sku=fields.identity(cells, "sku"),
        quantity=fields.quantity(cells, "quantity"),
        product_name=fields.label(cells, "product_name") or None,
        reserved_quantity=fields.units(cells, "reserved_quantity"),
        status=fields.choice(cells, "status", STATUSES),
    )


def _twice(file: str, row: InventoryRow, other: int, *, same: bool) -> Rejection:
    if same:
        return Rejection(
            file, row.line, "sku", row.sku, f"the SKU is already on line {other}, the same", "take the row out"
        )
    reason = f"the SKU is also on line {other}, with other values: neither goes in"
    return Rejection(file, row.line, "sku", row.sku, reason, "keep the right one of them")
