"""Reads all rows of an inventory file into the spool, each checked cell by cell."""

from __future__ import annotations

from collections.abc import Callable

from invsync_dagster.inventory.imports import fields
from invsync_dagster.inventory.imports.inventory_file import STATUSES, InventoryRow
from invsync_dagster.inventory.imports.reading import Row, Source
from invsync_dagster.inventory.imports.refusals import CellError, Rejection
from invsync_dagster.inventory.imports.spool import ROWS_AT_ONCE, Spool


def read_inventory(
    file: str, source: Source, spool: Spool, progress: Callable[[int], None] = lambda _rows: None
) -> list[Rejection]:
    """Take all rows of `source` into `spool`; returns those that can't go in, by line.

    `progress` is told the rows read so far. Raises `FileError` where the file breaks off.
    """
    rejections: list[Rejection] = []
    good: list[InventoryRow] = []
    for number, row in enumerate(source.rows, start=1):
        if isinstance(row, Rejection):
            rejections.append(row)
            continue
        if row.refused:
            rejections.append(row.refused)
            _take_out_sku(spool, row, source)
            continue
        try:
            good.append(_inventory_row(row, source))
        except CellError as error:
            error.column = source.named.get(error.column, error.column)
            rejections.append(error.rejection(file, row.line))
            _take_out_sku(spool, row, source)
        if len(good) >= ROWS_AT_ONCE:
            spool.add(good)
            good = []
            progress(number)
    spool.add(good)
    # A line that states several locations is told once.
    return sorted(dict.fromkeys(rejections + spool.settle()), key=lambda one: one.line)


def _take_out_sku(spool: Spool, row: Row, source: Source) -> None:
    """Take out the SKU of a row that can't go in; where places are added up also the one that only a space tells from it: it
    is meant."""
    sku = row.cells["sku"]
    for one in {sku, sku.strip()} if source.export and source.export.parts else {sku}:
        spool.break_sku(one, row.line)


def _inventory_row(row: Row, source: Source) -> InventoryRow:
    cells = row.cells
    negative = source.export is not None and source.export.negative
    stated = cells["reserved_quantity"] or cells["status"]
    return InventoryRow(
        line=row.line,
        sku=fields.identity(cells, "sku"),
        quantity=fields.quantity(cells, "quantity", decimal_mark=source.decimal_mark, negative=negative),
        product_name=fields.label(cells, "product_name") or None,
        reserved_quantity=fields.units(cells, "reserved_quantity", decimal_mark=source.decimal_mark)
        if stated
        else None,
        status=fields.choice(cells, "status", STATUSES) if stated else None,
        part=row.part,
    )
