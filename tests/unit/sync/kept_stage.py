"""A little world whose webhooks go through an inbox on disk, as they do in the field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Table, select

from invsync_dagster.inventory.tables import central_inventory, order_lines, stock_ledger
from invsync_dagster.sync.intake import IntakeReport, apply_inbox
from invsync_dagster.sync.replay import replay
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.seals import Seals
from tests.unit.sync.conftest import LittleWorld

SKU = "SKU-0001"
EVER = datetime(2020, 1, 1, tzinfo=UTC)


class Kept:
    """The world, with the folder that its deliveries wait and are kept in."""

    def __init__(self, world: LittleWorld, folder: Path) -> None:
        self.world = world
        self.ws: Workspace = world.processes[0]
        self.ws.home = replace(self.ws.home, data=folder)
        self.folder = self.ws.home.inbox
        self.inbox.prepare(world.clock.now())

    @property
    def seals(self) -> Seals:
        return Seals.from_environment(self.ws.environ)

    @property
    def inbox(self) -> Inbox:
        return Inbox(self.folder, self.seals)

    def receive(self, *channels: str) -> None:
        """Let the channels' webhooks come in, a segment each channel."""
        for channel in channels:
            self.world.deliver(channel)
            if self.world.inbox:
                SegmentWriter(self.folder, self.world.clock, self.ws.rng, self.seals).write(self.world.inbox)
            self.world.inbox.clear()

    def apply(self) -> IntakeReport:
        return apply_inbox(self.ws, run_id="intake")

    def replay(self, **options: Any) -> IntakeReport:
        return replay(self.ws, EVER, self.world.clock.now() + timedelta(days=1), run_id="replay", **options)

    def rows(self, table: Table) -> list[Row[Any]]:
        with self.world.engine.connect() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key.columns)))

    def books(self) -> tuple[list[Row[Any]], ...]:
        """Return all that says what is in stock, promised and booked."""
        return tuple(self.rows(table) for table in (central_inventory, stock_ledger, order_lines))

    def sums(self) -> set[tuple[object, ...]]:
        """Return the balances, and the totals of every order line, without when and by what they came."""
        balances = {(row.sku, row.quantity, row.reserved_quantity) for row in self.rows(central_inventory)}
        return balances | {
            (row.order_id, row.line_id, row.sku, row.revision, row.ordered, row.cancelled, row.shipped, row.restocked)
            for row in self.rows(order_lines)
        }

    def reserved(self) -> int:
        query = select(central_inventory.c.reserved_quantity).where(central_inventory.c.sku == SKU)
        with self.world.engine.connect() as connection:
            return connection.execute(query).scalar_one()
