"""One stock with files around it, for the tests of imports."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.imports import folder as watched
from invsync_dagster.inventory.imports import importing
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.tables import central_inventory, imports, inventory_levels, stock_ledger
from invsync_dagster.settings import ImportLimits, ImportSource

# Each test knows which of the optional parts its result has.
import_file: Any = importing.import_file
approve: Any = importing.approve
drop: Any = importing.drop
process_file: Any = watched.process_file

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
LIMITS = ImportLimits(zeroed_share=0.2, zeroed_minimum=2, moved_share=0.5, moved_minimum_units=100)
# Both channels of the tests, `shop` and `erp`, are of the platform Shopify.
OF_SHOP = Declaration(contains=("shop",))
SUPPLIER = ImportSource(
    columns={"sku": "Art.-Nr.", "quantity": "Bestand", "product_name": "Bezeichnung"},
    decimal_mark=",",
    encoding="windows-1252",
    contains=("shop",),
)
MAPPING_HEADER = "central_sku,channel,platform_sku,platform_item_id,platform_location_id"


class Stock:
    """One stock with its import folder, its clock, and a folder of the user's own files."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.files = root / "files"
        self.files.mkdir()
        self.basis = Basis(engine, root / "imports", LIMITS, NOW, actor="ann", run_id="run-1")
        self.basis.folder.mkdir()

    def at(self, **span: float) -> Basis:
        return replace(self.basis, now=NOW + timedelta(**span))

    def file(self, text: str, name: str = "stock.csv", at: datetime = NOW, folder: Path | None = None) -> Path:
        path = (folder or self.files) / name
        path.write_text(text, encoding="utf-8")
        os.utime(path, (at.timestamp(), at.timestamp()))
        return path

    def load(self, text: str, as_of: datetime = NOW - timedelta(hours=1)) -> None:
        result = import_file(self.basis, self.file(text, "first.csv"), Declaration(as_of=as_of))
        assert result.state == "applied", result.render()

    def rows(self, *columns: Any) -> list[tuple[Any, ...]]:
        with self.basis.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(select(*columns).order_by(columns[0]))]

    def quantities(self) -> dict[str, int]:
        return dict(self.rows(central_inventory.c.sku, central_inventory.c.quantity))

    def desired(self) -> dict[str, int]:
        return dict(self.rows(inventory_levels.c.central_sku, inventory_levels.c.desired))

    def entries(self) -> int:
        with self.basis.engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(stock_ledger)).scalar_one()

    def states(self) -> list[tuple[Any, ...]]:
        return [row[1:] for row in sorted(self.rows(imports.c.created_at, imports.c.kind, imports.c.state))]

    def sell(self, item_id: str, units: int, at: datetime, *, shipped: bool = False, variant_id: str = "") -> None:
        called = LineReference(item_id=item_id, variant_id=variant_id)
        line = OrderLine("1", called, units, shipments=(Movement(units, at),) if shipped else ())
        document = OrderDocument(f"order-{at.isoformat()}", 1, at, at, (line,))
        with write_transaction(self.basis.engine) as connection:
            inbound = ledger.Inbound("shop", Content((document,)), at)
            ledger.apply(connection, [inbound], now=NOW, run_id="run-0")

    def prove(self) -> None:
        """The balance of every SKU is the sum of its ledger entries."""
        ledgered = select(
            stock_ledger.c.sku, func.sum(stock_ledger.c.quantity_delta), func.sum(stock_ledger.c.reserved_delta)
        ).group_by(stock_ledger.c.sku)
        stock = central_inventory.c
        with self.basis.engine.connect() as connection:
            sums = {row[0]: (row[1], row[2]) for row in connection.execute(ledgered)}
            for sku, quantity, reserved in connection.execute(
                select(stock.sku, stock.quantity, stock.reserved_quantity)
            ):
                assert (quantity, reserved) == sums.get(sku, (0, 0))


def many(quantity: int, count: int = 10, start: int = 0) -> str:
    return "sku,quantity\n" + "".join(f"S{number},{quantity}\n" for number in range(start, start + count))


def names(stock: Stock) -> dict[str, str]:
    return dict(stock.rows(central_inventory.c.sku, central_inventory.c.product_name))


def raw(stock: Stock, content: bytes, name: str = "stock.csv") -> Path:
    path = stock.file("", name)
    path.write_bytes(content)
    return path
