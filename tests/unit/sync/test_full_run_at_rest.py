"""Full runs of a channel that is paused: nothing of it counts as looked at, and what was found before stays."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from invsync_dagster.inventory import channels, listings
from invsync_dagster.inventory.batches import batch_of
from invsync_dagster.inventory.catch_up import catch_up
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.full_runs import FullRuns, full_runs
from invsync_dagster.inventory.tables import full_sync_batches, platform_mapping
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sync import reconcile
from invsync_dagster.sync.differences import FullSyncReport
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.conftest import LittleWorld

SHOP, SKU = "shop_main", "SKU-0001"
PAUSED = f"{SHOP} is paused (stocktaking) until `invsync channels resume {SHOP} --reason R`"


def choose(world: LittleWorld, status: str, *, catches_up: bool = True) -> None:
    """Let a person pause or resume the shop, and the levels follow."""
    now = world.clock.now()
    with write_transaction(world.engine) as connection:
        channels.set_status(connection, SHOP, status, actor="ann", reason="stocktaking", now=now)
    if catches_up:
        catch_up(world.engine, now)


def every_batch(world: LittleWorld) -> list[FullSyncReport]:
    batches = range(world.configuration.settings.sku_batches)
    return [full_sync(world.processes[0], SHOP, number, run_id="full") for number in batches]


def batch(world: LittleWorld) -> FullSyncReport:
    """Run the batch of one SKU."""
    number = batch_of(world.level(SHOP, SKU).id, world.configuration.settings.sku_batches)
    return full_sync(world.processes[0], SHOP, number, run_id="again")


def known(world: LittleWorld) -> FullRuns | None:
    with world.engine.connect() as connection:
        return full_runs(connection).get(SHOP)


def rows(world: LittleWorld) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.execute(select(full_sync_batches).order_by(full_sync_batches.c.batch)))


def test_a_paused_channel_is_passed_over_without_a_call_and_what_was_found_stays(world: LittleWorld) -> None:
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), world.shown(SHOP, SKU) + 4)
    every_batch(world)
    before = rows(world)
    assert sum(row.drift for row in before) == 1
    world.clock.advance(86_400)
    choose(world, "paused")
    for report in every_batch(world):
        assert (report.passed_over, report.problem) == (PAUSED, "")
        assert (report.levels, report.api_calls) == (0, 0)
    assert rows(world) == before
    choose(world, "active")
    world.push(SHOP)
    resumed = world.clock.now()
    assert {report.passed_over for report in every_batch(world)} == {""}
    found = known(world)
    assert found is not None
    assert (found.drift, found.failed, found.levels) == (0, (), sum(row.levels for row in before))
    assert found.since is not None
    assert found.since >= resumed


@pytest.mark.parametrize("status", ["paused", "retired"])
def test_of_a_channel_at_rest_that_was_never_read_back_nothing_is_kept(world: LittleWorld, status: str) -> None:
    choose(world, status)
    assert {report.passed_over.split(" (")[0] for report in every_batch(world)} == {f"{SHOP} is {status}"}
    assert known(world) is None


def test_a_pause_amid_a_batch_leaves_it_as_it_was_with_what_it_found(world: LittleWorld) -> None:
    every_batch(world)
    before = known(world)
    world.clock.advance(86_400)
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), world.shown(SHOP, SKU) + 4)

    def pause(when: str, request: Request) -> None:
        if when == "before":
            world.transports[SHOP]._on_send = None
            choose(world, "paused")

    world.transports[SHOP]._on_send = pause
    report = batch(world)
    assert (report.passed_over, report.problem, report.drift) == (PAUSED, "", 1)
    after = known(world)
    assert before is not None
    assert after is not None
    assert (after.drift, after.since, after.failed) == (1, before.since, ())
    assert {row.run_id for row in rows(world)} == {"full"}


def test_a_channel_whose_levels_are_not_all_resumed_yet_is_passed_over(world: LittleWorld) -> None:
    choose(world, "paused")
    choose(world, "active", catches_up=False)
    assert batch(world).passed_over == reconcile.BEING_RESUMED
    assert known(world) is None
    catch_up(world.engine, world.clock.now())
    report = batch(world)
    assert (report.passed_over, report.levels > 0) == ("", True)


def test_a_paused_listing_is_left_out_and_its_batch_is_done(world: LittleWorld) -> None:
    whole = batch(world).levels
    listing = platform_mapping.c
    query = select(listing.id).where(listing.platform_name == SHOP, listing.central_sku == SKU)
    with write_transaction(world.engine) as connection:
        ids = list(connection.execute(query).scalars())
        listings.set_status(connection, ids, "paused", actor="ann", reason="test", now=world.clock.now())
    report = batch(world)
    assert (report.passed_over, report.problem, report.levels) == ("", "", whole - 1)
    found = known(world)
    assert found is not None
    assert (found.batches, found.failed) == (1, ())
