"""A channel that leads to another shop: nothing is written at a new address before it is recognised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels, stock_ledger
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.recognition import address_of
from invsync_dagster.sync.subscriptions import watch_subscriptions
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.test_push import logged, rename, restock, reviewed, stopped

WOO = "woo_main"


def recognised(world: LittleWorld, name: str = WOO) -> str:
    with world.engine.connect() as connection:
        return str(connection.execute(select(channels.c.recognised).where(channels.c.name == name)).scalar_one())


def point_elsewhere(world: LittleWorld, name: str = WOO) -> None:
    """Write another address into channels.yaml; the transport leads to the same stand-in, which plays the other shop."""
    for ws in world.processes:
        channel = ws.channel(name)
        settings = channel.settings.model_copy(update={"store_url": "http://127.0.0.1:9/other"})
        others = tuple(one for one in ws.configuration.channels if one.name != name)
        ws.configuration = replace(ws.configuration, channels=(*others, replace(channel, settings=settings)))


def fall(world: LittleWorld) -> list[str]:
    """Let all that the store lists fall by a sale elsewhere that it hasn't heard of: certain levels, to be written at once."""
    of_woo = inventory_levels.c.channel == WOO
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).where(of_woo).values(effective_quantity=77, expected=77))
        return list(connection.execute(select(inventory_levels.c.central_sku).where(of_woo)).scalars())


def numbers(world: LittleWorld) -> dict[Any, Any]:
    return {number: article.quantity for number, article in world.shops[WOO]._books.articles.items()}


def test_a_channel_that_is_pointed_at_another_store_writes_nothing_there_and_books_none_of_its_orders(
    world: LittleWorld,
) -> None:
    before = recognised(world)
    assert before == address_of(world.processes[0].channel(WOO))
    skus = fall(world)
    names = {number: article.sku for number, article in world.shops[WOO]._books.articles.items()}
    rename(world, skus)
    point_elsewhere(world)
    shown = numbers(world)
    entries = len(world_entries(world))
    world.clock.advance(60)
    report = world.push(WOO)
    assert report.problem.startswith(f"another_shop: 14 of 16 listings are unknown at {WOO}")  # two have no SKU there
    assert (report.pushed, report.orders, reviewed(world), numbers(world)) == (0, 0, 0, shown)
    assert stopped(world, WOO) == report.problem
    assert recognised(world) == before
    assert world.push(WOO).stopped
    assert (numbers(world), len(world_entries(world))) == (shown, entries)
    # It is the right one after all, under a new address.
    for number, sku in names.items():
        world.shops[WOO]._books.articles[number].sku = sku
    assert world.push(WOO).pushed == len(skus)
    assert (stopped(world, WOO), world.changes(WOO)) == ("", 0)
    assert recognised(world) not in ("", before)


def test_the_same_shop_under_a_new_address_is_looked_at_once_and_goes_on(world: LittleWorld) -> None:
    restock(world)
    point_elsewhere(world)
    first = world.push(WOO)
    assert (first.problem, first.pushed, world.changes(WOO)) == ("", 1, 0)
    restock(world)
    second = world.push(WOO)
    assert (second.problem, second.pushed) == ("", 1)
    assert first.api_calls == second.api_calls + 1


def test_at_a_new_address_nothing_is_subscribed_to_before_a_push_has_recognised_the_shop(world: LittleWorld) -> None:
    point_elsewhere(world)
    refused = watch_subscriptions(world.processes[0], WOO, mend=True)
    assert (refused.api_calls, refused.topics) == (0, [])
    assert refused.problem.startswith("its settings in channels.yaml have changed")
    world.push(WOO)
    watched = watch_subscriptions(world.processes[0], WOO, mend=True)
    assert (watched.api_calls > 0, watched.problem) == (True, "")


@pytest.mark.parametrize("error", [Kind.ERROR_500, Kind.REFUSE])
def test_a_new_address_that_does_not_answer_is_not_written_to(world: LittleWorld, error: Kind) -> None:
    skus = fall(world)
    point_elsewhere(world)
    attempts = len(logged(world, WOO))
    world.faults[WOO].script([Fault(error)] * 50)
    report = world.push(WOO)
    assert (report.problem != "", report.pushed, len(logged(world, WOO))) == (True, 0, attempts)
    world.faults[WOO].clear()
    world.clock.advance(3600)
    assert world.push(WOO).pushed == len(skus)


def test_at_the_first_contact_small_calls_write_nothing_either_before_the_shop_is_known(world: LittleWorld) -> None:
    world.erp._articles.clear()
    ws = world.processes[0]
    platform = ws.platform(ws.channel("erp_main"))
    platform._limits = replace(platform.limits, read_batch=3)  # type: ignore[attr-defined]
    with write_transaction(world.engine) as connection:
        connection.execute(update(channels).values(recognised=""))
        of_erp = inventory_levels.c.channel == "erp_main"
        connection.execute(update(inventory_levels).where(of_erp).values(uncertain="never_read", expected=None))
    report = world.push("erp_main")
    assert report.problem.startswith("another_shop: 10 of 10 listings are unknown at erp_main")
    assert (reviewed(world), recognised(world, "erp_main")) == (0, "")


def test_of_few_listings_most_must_be_there_under_a_new_address(world: LittleWorld) -> None:
    skus = fall(world)
    with write_transaction(world.engine) as connection:
        few = inventory_levels.c.central_sku.in_(skus[3:]) & (inventory_levels.c.channel == WOO)
        connection.execute(update(inventory_levels).where(few).values(pushable=False))
    rename(world, skus[:2])
    point_elsewhere(world)
    shown = numbers(world)
    report = world.push(WOO)
    assert report.problem.startswith(f"another_shop: 2 of 3 listings are unknown at {WOO}")
    assert numbers(world) == shown


def world_entries(world: LittleWorld) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.execute(select(stock_ledger.c.sequence)).scalars())
