"""A world whose database is lost amid its life, and restored from a backup of some hours before: deliveries since are gone."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine

from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.sync.restored import doubt_all
from tests.simulation.processes import mortal_connections
from tests.simulation.world import World


class RestoredWorld(World):
    """`World`, backed up at two fifths of its time and restored at a half; on SQLite."""

    def _plan(self, orders: int, span: timedelta) -> None:
        super()._plan(orders, span)
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
