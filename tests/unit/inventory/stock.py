"""A small stock behind the public doors of `inventory`: two shops, an ERP, and short names for what tests do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, Table, select, update

from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine, StockCount
from invsync_dagster.inventory import channels, ledger, listings
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.counts import Count, CountsApplied, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Applied, Inbound
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.rules import Rules, RuleValues
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, stock_ledger
from invsync_dagster.settings import ImportLimits
from tests import databases

IMPORT = CountSource("import-1")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOP, OTHER, ERP = "shop", "other", "erp"


def at(minutes: float) -> datetime:
    """The time so many minutes after the start of the test."""
    return START + timedelta(minutes=minutes)


def order(
    order_id: str = "1",
    *,
    revision: int = 1,
    item: str = "shop-A",
    sku: str = "",
    variant: str = "",
    ordered: int = 1,
    cancelled: int = 0,
    shipped: Sequence[tuple[int, float]] = (),
    restocked: Sequence[tuple[int, float]] = (),
    written_off: Sequence[tuple[int, float]] = (),
    created: float = 0,
    updated: float | None = None,
    ignored: str = "",
    locations: Sequence[str] = (),
) -> OrderDocument:
    """An order of one line; movements are (units, minute)."""
    line = OrderLine(
        "1",
        LineReference(sku, item, variant, tuple(locations)),
        ordered,
        cancelled,
        tuple(Movement(units, at(minute)) for units, minute in shipped),
        tuple(Movement(units, at(minute)) for units, minute in restocked),
        tuple(Movement(units, at(minute)) for units, minute in written_off),
        ignored,
    )
    return OrderDocument(order_id, revision, at(created), at(created if updated is None else updated), (line,))


class Stock:
    """SKUs A and B, each listed in both shops (items shop-A, other-A, …) and in the ERP (item A)."""

    def __init__(self, quantities: dict[str, int] | None = None, *, skus: Iterable[str] = ("A", "B")) -> None:
        self.engine = databases.fresh_engine()
        self.now = START
        self.skus = list(skus)
        with write_transaction(self.engine) as connection:
            for name in (SHOP, OTHER, ERP):
                channels.register(
                    connection,
                    name,
                    "erp" if name == ERP else "shopify",
                    "sandbox",
                    name != ERP,
                    Rules(),
                    at(-60),
                    START,
                )
            set_skus(connection, [Sku(sku) for sku in self.skus], actor="test", reason="", now=START)
        self.map(
            *(
                Listing(name, sku, f"{name}-{sku}", platform_sku=f"{sku}@{name}")
                for name in (SHOP, OTHER)
                for sku in self.skus
            )
        )
        self.map(*(Listing(ERP, sku, sku, platform_sku=sku) for sku in self.skus))
        if quantities:
            self.count(quantities, as_of=-30)

    def close(self) -> None:
        """Give the database back; for tests that open many."""
        databases.give_back(self.engine)

    def map(self, *wanted: Listing, reason: str = "test") -> listings.ListingsSet:
        with write_transaction(self.engine) as connection:
            return listings.set_listings(connection, wanted, actor="test", reason=reason, now=self.now)

    def count(
        self,
        quantities: dict[str, int],
        *,
        as_of: float,
        source: CountSource = IMPORT,
        limits: ImportLimits | None = None,
        reference: str = "",
        **more: Any,
    ) -> CountsApplied:
        """`reference`: the import that they stand in, "" for none."""
        counts = [Count(sku, quantity, at(as_of), **more) for sku, quantity in quantities.items()]
        with write_transaction(self.engine) as connection:
            return apply_counts(
                connection,
                counts,
                source,
                now=self.now,
                run_id="run",
                reference=reference,
                kind="import",
                limits=limits,
            )

    def apply(
        self, *documents: OrderDocument, channel: str = SHOP, receipt: str = "", source: Any = "webhook"
    ) -> Applied:
        return self.apply_batch([Inbound(channel, Content(documents), self.now, receipt, source=source)])

    def tell(self, *counts: StockCount, receipt: str = "", limits: ImportLimits | None = None) -> Applied:
        """The ERP states counts."""
        return self.apply_batch([Inbound(ERP, Content(counts=counts), self.now, receipt)], limits)

    def apply_batch(self, batch: Sequence[Inbound], limits: ImportLimits | None = None) -> Applied:
        with write_transaction(self.engine) as connection:
            return ledger.apply(connection, batch, now=self.now, run_id="run", limits=limits or ImportLimits())

    def balance(self, sku: str = "A") -> tuple[int, int]:
        """On hand and reserved."""
        central = central_inventory.c
        with self.engine.connect() as connection:
            row = connection.execute(
                select(central.quantity, central.reserved_quantity).where(central.sku == sku)
            ).one()
        return row.quantity, row.reserved_quantity

    def level(self, channel: str = SHOP, sku: str = "A") -> Row[Any]:
        item = sku if channel == ERP else f"{channel}-{sku}"
        level = inventory_levels.c
        with self.engine.connect() as connection:
            return connection.execute(
                select(inventory_levels).where(level.channel == channel, level.item_id == item)
            ).one()

    def desired(self, sku: str = "A") -> dict[str, int]:
        return {name: self.level(name, sku).desired for name in (SHOP, OTHER, ERP)}

    def in_step(self, **columns: Any) -> None:
        """As after a push: every level's platform shows what is desired."""
        level = inventory_levels.c
        values = {
            "effective_quantity": level.desired,
            "acknowledged_quantity": level.desired,
            "expected": level.desired,
            "uncertain": None,
            "uncertain_since": None,
            "out_of_step_since": None,
        }
        self.change_levels(**(values | columns))

    def change_levels(self, *conditions: Any, **columns: Any) -> None:
        with write_transaction(self.engine) as connection:
            connection.execute(update(inventory_levels).where(*conditions).values(columns))

    def rules(self, channel: str, rules: RuleValues) -> bool:
        with write_transaction(self.engine) as connection:
            return channels.register(connection, channel, "shopify", "sandbox", True, rules, None, self.now)

    def entries(self, sku: str = "A") -> list[Row[Any]]:
        entry = stock_ledger.c
        query = select(stock_ledger).where(entry.sku == sku, entry.kind != "import").order_by(entry.sequence)
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def rows(self, table: Table) -> list[Row[Any]]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key.columns)))

    def prove(self) -> None:
        """The self-audit finds nothing."""
        with self.engine.connect() as connection:
            assert audit(connection) == []
