"""A world whose database is lost amid its life, and restored from a backup of some hours before: deliveries since are gone."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, bindparam, func, select

from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.tables import order_lines
from invsync_dagster.sync.restored import doubt_all
from tests.simulation.processes import mortal_connections
from tests.simulation.watch import Watch
from tests.simulation.world import World

_LINE = order_lines.c
_HEARD = select(_LINE.channel, func.count(_LINE.order_id.distinct())).where(_LINE.sku == bindparam("sold"))


class WatchOfTheRestored(Watch):
    """`Watch` that knows, from the restore on, how many orders of an article each shop had then."""

    sold: Mapping[tuple[str, str], int]

    def _check_rise(self, channel: str, row: Any, quantity: int, compare: int | None) -> None:
        super()._check_rise(channel, row, quantity, compare)
        if quantity <= self._shops[channel].show(row.central_sku):
            return
        with self._engine.connect() as connection:
            counted = connection.execute(_HEARD.group_by(_LINE.channel), {"sold": row.central_sku})
            heard: dict[str, int] = dict(counted.all())
        for shop in self._shops:
            unheard = self.sold.get((shop, row.central_sku), 0) - heard.get(shop, 0)
            if unheard > 0:
                self._violation(
                    channel, f"raised {row.central_sku} over {unheard} orders of {shop} from before the restore"
                )


class RestoredWorld(World):
    """`World`, backed up at two fifths of its time and restored at a half; on SQLite."""

    watches = WatchOfTheRestored
    watch: WatchOfTheRestored

    def _plan(self, orders: int, span: timedelta) -> None:
        super()._plan(orders, span)
        self.watch.sold = {}
        self.at(self.end - span * 0.6, self._back_up)
        self.at(self.end - span * 0.5, self._restore)

    def _back_up(self) -> None:
        self._copy = _driver(self.engine).serialize()

    def _restore(self) -> None:
        """Let every process die, and whatever was delivered since be lost with the database."""
        self.alive.clear()
        for process in self.processes:
            self.watch.over(process.worker.name)
        self.engine = open_database("sqlite://")
        _driver(self.engine).deserialize(self._copy)
        self.engine._connection_cls = mortal_connections(lambda: self._maybe_die(0.002))
        self.watch._engine = self.engine
        self.watch.sold = Counter(
            (name, sku)
            for name, shop in self.shops.items()
            for order in shop.order_ids()
            for sku in {line.sku for line in shop.lines_of(order)}
        )
        self.inbox.clear()
        self.processes = [self._process(), self._process()]
        with write_transaction(self.engine) as connection:
            doubt_all(self.processes[0], connection, self.clock.now())
        self.tally.restores += 1


def _driver(engine: Engine) -> Any:
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
