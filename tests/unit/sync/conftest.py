"""A quiet little world for the sync tests: four shops and an ERP in step, twenty SKUs, a good network."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels, is_change
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.recognition import address_of
from invsync_dagster.sync.report import PushReport
from tests.simulation.stock import level_of
from tests.simulation.watch import Watch
from tests.simulation.world import World


class WatchOfTheStocked(Watch):
    """`Watch` for shops in which an article may be taken off its location: there it sells nothing."""

    def _check_rise(self, channel: str, row: Any, quantity: int, compare: int | None) -> None:
        if row.central_sku in self._shops[channel].shows():
            super()._check_rise(channel, row, quantity, compare)


class LittleWorld(World):
    """`World` without an agenda, with the handles that tests want."""

    watches = WatchOfTheStocked
    shops: dict[str, Any]  # the stand-ins themselves, with all that one platform's people can do

    def push(
        self, channel: str, process: int = 0, *, seconds: float = 300, skus: list[str] | None = None
    ) -> PushReport:
        deadline = self.clock.now() + timedelta(seconds=seconds)
        return push_channel(self.processes[process], channel, run_id="run", deadline=deadline, skus=skus)

    def level(self, channel: str, sku: str) -> Any:
        item = sku if channel == "erp_main" else level_of(channel, sku).item_id
        query = select(inventory_levels).where(
            inventory_levels.c.channel == channel, inventory_levels.c.item_id == item
        )
        with self.engine.connect() as connection:
            return connection.execute(query).one()

    def shown(self, channel: str, sku: str) -> int:
        if channel == "erp_main":
            return self.erp.book(sku).available_quantity
        return self.shops[channel].shows()[sku]

    @staticmethod
    def reference(channel: str, sku: str) -> LevelReference:
        return level_of(channel, sku)

    def sell(self, channel: str, sku: str, units: int = 1) -> str:
        """Sell at a shop; its webhooks wait in `take_outgoing`."""
        return self.shops[channel].sell({sku: units})

    def deliver(self, channel: str) -> int:
        """Deliver the channel's waiting webhooks into the inbox list."""
        standin = self.erp if channel == "erp_main" else self.shops[channel]
        waiting = standin.take_outgoing()
        for delivery in waiting:
            self._deliver(channel, dict(delivery.headers), delivery.body)
        self.agenda.clear()
        self.cycle_planned = False
        return len(waiting)

    def keep_address(self, channel: str) -> None:
        """Note the channel's settings as those at which its shop is known."""
        address = address_of(self.processes[0].channel(channel))
        with write_transaction(self.engine) as connection:
            connection.execute(update(channels).where(channels.c.name == channel).values(recognised=address))

    def changes(self, channel: str) -> int:
        query = select(inventory_levels.c.id).where(inventory_levels.c.channel == channel, is_change())
        with self.engine.connect() as connection:
            return len(connection.execute(query).all())


def quiet_world() -> LittleWorld:
    """Return a world in which every channel is in step and nothing happens by itself."""
    world = LittleWorld(1, skus=20, orders=0, days=0)
    world.agenda.clear()
    for channel in ("shop_main", "shop_eu", "woo_main", "erp_main"):
        assert not world.push(channel).problem
        assert world.changes(channel) == 0
    return world


@pytest.fixture
def world(each_database: str) -> LittleWorld:
    return quiet_world()
