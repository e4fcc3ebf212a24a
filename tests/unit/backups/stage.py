"""A home on disk with a stock and an inbox, to be backed up and brought back elsewhere."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests import databases
from tests.postgres_server import shared_server

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Stage:
    """A home with one SKU, and what writes into its inbox on the clock."""

    def __init__(self, folder: Path, name: str = "stock") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        url = databases.fresh_url(folder)
        if databases.current() == "postgresql":
            url = shared_server().tcp_url(str(databases.opened(url).url.database))
        elif name != "stock":
            (folder / "stock.db").rename(folder / f"{name}.db")
            url = f"sqlite:///{folder / name}.db"
        self.home = Home(folder, folder / "data", url, folder / "channels.yaml")
        self.home.data.mkdir(exist_ok=True)
        self.clock = VirtualClock(NOW)
        self.inbox = Inbox(self.home.inbox)
        self.inbox.prepare(NOW)
        self.writer = SegmentWriter(self.home.inbox, self.clock, random.Random(1))
        self.engine: Engine = databases.opened(url)
        with write_transaction(self.engine) as connection:
            set_skus(connection, [Sku("0071")], actor="test", reason="", now=NOW)

    def receive(self, body: bytes = b"{}") -> Path:
        """Write a delivery into the inbox, a second later than the one before."""
        self.clock.advance(1)
        return self.writer.write([Delivery("shop", "orders/create", self.clock.now(), {}, body)])


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
