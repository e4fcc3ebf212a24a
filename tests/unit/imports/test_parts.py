"""A file goes in a part of its rows at once: by SKU, and alike whatever the size of the parts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from invsync_dagster.inventory.imports import spool
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.inventory_file import InventoryRow
from invsync_dagster.inventory.imports.spool import Spool
from invsync_dagster.inventory.tables import central_inventory
from tests.unit.imports.stock import NOW, import_file

HEADER = "sku,product_name,quantity,reserved_quantity,status\n"


@pytest.mark.parametrize("rows_at_once", [2, 3, 20_000])
def test_a_file_goes_in_alike_in_parts_of_any_size(stock, monkeypatch, rows_at_once):
    monkeypatch.setattr(spool, "ROWS_AT_ONCE", rows_at_once)
    stock.load(HEADER + "".join(f"{sku},{sku.lower()},10,0,active\n" for sku in "ABCDEFG"))
    stock.load("sku,quantity\nG,12\n", as_of=NOW - timedelta(minutes=1))
    lines = [
        "X,new,4,,inactive",
        "W,,3,1,",
        "F,f,9,0,inactive",
        "A,other name,10,0,",
        "B,b,10,0,inactive",
        "C,c,10,3,active",
        "D,d,10,0,active",
        "E,e,6,0,",
        "G,late,1,0,inactive",
    ]
    path = stock.file(HEADER + "\n".join(lines) + "\n")
    result = import_file(stock.basis, path, Declaration(as_of=NOW - timedelta(minutes=2)))
    found = result.preview
    assert (result.state, found.rows, found.older) == ("applied", 9, 1)
    # D says what is known, and G was counted later: they are as they were.
    assert (found.added, found.changed, found.unchanged) == (2, 5, 2)
    columns = central_inventory.c
    assert stock.rows(
        columns.sku, columns.product_name, columns.quantity, columns.reserved_quantity, columns.status
    ) == [
        ("A", "other name", 10, 0, "active"),
        ("B", "b", 10, 0, "inactive"),
        ("C", "c", 10, 3, "active"),
        ("D", "d", 10, 0, "active"),
        ("E", "e", 6, 0, "active"),
        ("F", "f", 9, 0, "inactive"),
        ("G", "g", 12, 0, "active"),
        ("W", "", 3, 1, "active"),
        ("X", "new", 4, 0, "inactive"),
    ]
    stock.prove()


def test_kept_rows_come_by_their_skus_and_not_as_they_lay_in_the_file(monkeypatch):
    monkeypatch.setattr(spool, "ROWS_AT_ONCE", 2)
    with Spool("stock.csv") as kept:
        kept.add([InventoryRow(line, sku, line, None, None, None) for line, sku in enumerate("DBEACB", start=2)])
        kept.settle()  # takes B out, which is there twice with different quantities
        assert [[row.sku for row in part] for part in kept.chunks()] == [["A", "C"], ["D", "E"]]
