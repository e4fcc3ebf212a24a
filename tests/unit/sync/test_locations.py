"""An item at two locations of one Shopify shop, in the push: together they show the stock, whatever sells from where."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.tables import central_inventory
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from tests.unit.sync.conftest import LittleWorld, quiet_world

SHOP, SKU = "shop_main", "SKU-0001"


@pytest.fixture
def world() -> LittleWorld:
    """The world with `SKU` at two locations of the main shop, 60 and 40 percent of it, in step."""
    world = quiet_world()
    shop, here = world.shops[SHOP], world.reference(SHOP, SKU)
    there = LevelReference(here.item_id, shop.add_location())
    shop.stock(there, 0)
    shop._skus[there] = f"{SKU} there"
    with write_transaction(world.engine) as connection:
        listings = [
            Listing(SHOP, SKU, level.item_id, level.location_id, platform_sku=SKU, percent=percent)
            for level, percent in ((here, 60), (there, 40))
        ]
        now = world.clock.now()
        retired = Listing(SHOP, SKU, here.item_id, here.location_id, status="retired")
        set_listings(connection, [retired, *listings], actor="ann", reason="two warehouses", now=now)
    settle(world)
    return world


def settle(world: LittleWorld) -> None:
    for _ in range(3):
        assert world.push(SHOP).problem == ""
        world.clock.advance(60)
    assert world.changes(SHOP) == 0


def available(world: LittleWorld) -> int:
    stock = central_inventory.c
    query = select(stock.quantity - stock.reserved_quantity).where(stock.sku == SKU)
    with world.engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def shows(world: LittleWorld) -> list[int]:
    shown = world.shops[SHOP].shows()
    return [shown[SKU], shown[f"{SKU} there"]]


def sell(world: LittleWorld, channel: str, units: int) -> None:
    world.sell(channel, SKU, units)
    world.deliver(channel)
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="in")
    world.inbox.clear()


def test_both_locations_show_their_share_and_together_the_stock(world: LittleWorld) -> None:
    stock = available(world)
    here, there = shows(world)
    assert here + there == stock > 0
    assert abs(here - stock * 0.6) < 1


@pytest.mark.parametrize("channel", [SHOP, "shop_eu"])
def test_a_sale_here_or_elsewhere_is_parted_anew(world: LittleWorld, channel: str) -> None:
    before = available(world)
    sell(world, channel, 3)
    settle(world)
    assert available(world) == before - 3
    here, there = shows(world)
    assert here + there == before - 3
    assert abs(there - (before - 3) * 0.4) < 1


def test_the_last_piece_is_shown_at_one_of_them(world: LittleWorld) -> None:
    sell(world, "shop_eu", available(world) - 2)
    settle(world)
    sell(world, SHOP, 1)
    settle(world)
    assert shows(world) == [1, 0]


def test_an_order_that_an_unmapped_location_ships_takes_nothing_from_the_stock(world: LittleWorld) -> None:
    shop, here = world.shops[SHOP], world.reference(SHOP, SKU)
    warehouse = LevelReference(here.item_id, shop.add_location())
    shop.stock(warehouse, 5)
    shop._skus[warehouse] = f"{SKU} warehouse"
    before, shown = available(world), shows(world)
    world.sell(SHOP, SKU, 3)
    number = next(reversed(shop.dump()["books"]["orders"]))["number"]
    shop.move(str(number), warehouse.location_id)
    world.deliver(SHOP)
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="in")
    world.inbox.clear()
    assert available(world) == before - 3  # its webhooks don't tell where it is shipped from
    settle(world)
    assert (available(world), shows(world)) == (before, shown)
    shop.move(str(number), here.location_id)
    settle(world)
    assert available(world) == before - 3
    assert sum(shows(world)) == before - 3
