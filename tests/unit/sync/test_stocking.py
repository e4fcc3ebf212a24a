"""Items that a Shopify location doesn't stock, in the push and in the full run: stocked there like any other write."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.batches import batch_of
from invsync_dagster.inventory.changes import oldest_changes
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explain import explain
from invsync_dagster.inventory.tables import NOT_THERE, inventory_levels, platform_mapping, sync_logs
from invsync_dagster.platforms import shopify
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.differences import Cause, FullSyncReport, Policy
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.preview import preview_channel
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.conftest import LittleWorld, quiet_world

SHOP, SKU = "shop_main", "SKU-0001"


@pytest.fixture
def world() -> LittleWorld:
    return quiet_world()


@pytest.fixture
def world_on_each(each_database: str) -> LittleWorld:
    return quiet_world()


def choose(world: LittleWorld, unstocked: Literal["review", "activate"], policy: Policy = "repair") -> None:
    for ws in world.processes:
        ws._platforms.clear()
        ws.configuration = replace(
            ws.configuration,
            channels=tuple(
                replace(
                    channel, differences=policy, settings=channel.settings.model_copy(update={"unstocked": unstocked})
                )
                if channel.name == SHOP
                else channel
                for channel in ws.configuration.channels
            ),
        )
    world.keep_address(SHOP)


def unstock(world: LittleWorld) -> int:
    right = world.shown(SHOP, SKU)
    world.shops[SHOP].unstock(world.reference(SHOP, SKU))
    return right


def begin_anew(world: LittleWorld, sku: str) -> None:
    """Leave a level as a new mapping does: nothing is known of it."""
    values = {"uncertain": "never_read", "expected": None, "effective_quantity": -1, "acknowledged_quantity": None}
    level_id = world.level(SHOP, sku).id
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).where(inventory_levels.c.id == level_id).values(values))


def sell_elsewhere(world: LittleWorld) -> None:
    world.sell("shop_eu", SKU)
    world.deliver("shop_eu")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="in")


def reviewed(world: LittleWorld) -> str:
    query = select(platform_mapping.c.status).where(
        platform_mapping.c.platform_name == SHOP, platform_mapping.c.central_sku == SKU
    )
    with world.engine.connect() as connection:
        return str(connection.execute(query).scalar_one())


def logged(world: LittleWorld) -> list[tuple[str, str, str]]:
    query = select(sync_logs).where(sync_logs.c.platform == SHOP, sync_logs.c.sku == SKU).order_by(sync_logs.c.id)
    with world.engine.connect() as connection:
        return [(row.action, row.status, row.code) for row in connection.execute(query)]


def full(world: LittleWorld) -> FullSyncReport:
    batch = batch_of(world.level(SHOP, SKU).id, world.configuration.settings.sku_batches)
    return full_sync(world.processes[0], SHOP, batch, run_id="full")


def test_by_default_the_write_sends_it_to_review(world: LittleWorld) -> None:
    unstock(world)
    sell_elsewhere(world)
    world.push(SHOP)
    assert reviewed(world) == "needs_review"
    assert SKU not in world.shops[SHOP].shows()


def test_where_it_is_to_be_activated_the_refused_write_reads_and_stocks_it(world_on_each: LittleWorld) -> None:
    world = world_on_each
    choose(world, "activate")
    right = unstock(world)
    sell_elsewhere(world)
    report = world.push(SHOP)
    assert (report.problem, report.review, world.changes(SHOP)) == ("", 0, 0)
    assert world.shown(SHOP, SKU) == right - 1
    level = world.level(SHOP, SKU)
    assert (level.uncertain, level.acknowledged_quantity, level.effective_quantity) == (None, right - 1, right - 1)
    assert logged(world)[-3:] == [
        ("push", "rejected", "item_not_stocked_at_location"),
        ("read", "observed", "compare_and_set_refused"),
        ("push", "acknowledged", ""),
    ]


@pytest.mark.parametrize("kind", [Kind.CUT_AFTER, Kind.LATE])
def test_an_activation_whose_answer_was_lost_is_settled_by_a_reading(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    choose(world, "activate")
    right = unstock(world)
    sell_elsewhere(world)
    lose_activation(world, monkeypatch, kind)
    for _ in range(12):
        world.push(SHOP)
        world.clock.advance(30)
    assert (world.changes(SHOP), reviewed(world)) == (0, "active")
    assert world.shown(SHOP, SKU) == right - 1
    assert ("push", "unknown", "answer_lost") in logged(world)
    assert world.tally.violations == []


def test_what_is_sold_after_a_lost_activation_is_taken_off_at_once(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(world, "activate")
    right = unstock(world)
    sell_elsewhere(world)
    lose_activation(world, monkeypatch, Kind.CUT_AFTER)
    world.push(SHOP)
    assert (world.shown(SHOP, SKU), world.level(SHOP, SKU).uncertain) == (right - 1, "answer_lost")
    sell_elsewhere(world)
    world.push(SHOP)
    assert world.shown(SHOP, SKU) == right - 2
    assert world.level(SHOP, SKU).acknowledged_quantity == right - 2


def test_what_is_sold_after_an_activation_that_never_came_waits_for_a_reading(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(world, "activate")
    right = unstock(world)
    sell_elsewhere(world)
    lose_activation(world, monkeypatch, Kind.CUT_BEFORE)
    world.push(SHOP)
    sell_elsewhere(world)
    world.push(SHOP)
    assert SKU not in world.shops[SHOP].shows()
    for _ in range(6):
        world.clock.advance(30)
        world.push(SHOP)
    assert (world.shown(SHOP, SKU), world.changes(SHOP), reviewed(world)) == (right - 2, 0, "active")
    assert world.tally.violations == []


def lose_activation(world: LittleWorld, monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """Let the first activation's answer be lost."""
    transport = world.transports[SHOP]
    send = transport.send
    lost: list[Request] = []

    def scripted(request: Request, *, deadline: float) -> Response:
        if b"inventoryActivate" in request.body and not lost:
            lost.append(request)
            world.faults[SHOP].script([Fault(kind)])
        return send(request, deadline=deadline)

    monkeypatch.setattr(transport, "send", scripted)


def test_a_mapped_item_that_was_never_stocked_there_is_read_first_and_then_stocked(world: LittleWorld) -> None:
    choose(world, "activate")
    right = unstock(world)
    begin_anew(world, SKU)
    report = world.push(SHOP)
    assert (report.read, report.acknowledged, world.changes(SHOP)) == (1, 1, 0)
    assert world.shown(SHOP, SKU) == right


def test_what_somebody_stocked_meanwhile_is_compared_with_though_it_is_not_to_be_activated_any_more(
    world: LittleWorld,
) -> None:
    choose(world, "activate")
    right = unstock(world)
    begin_anew(world, SKU)
    level_id = world.level(SHOP, SKU).id
    with write_transaction(world.engine) as connection:  # as a reading leaves it
        values = {"uncertain": None, "effective_quantity": -2}
        connection.execute(update(inventory_levels).where(inventory_levels.c.id == level_id).values(values))
    choose(world, "review")
    world.shops[SHOP].stock(world.reference(SHOP, SKU), right + 2)
    world.push(SHOP)
    assert logged(world)[-3:] == [
        ("push", "rejected", "not_stocked_then"),
        ("read", "observed", "compare_and_set_refused"),
        ("push", "acknowledged", ""),
    ]
    assert (world.shown(SHOP, SKU), world.changes(SHOP), reviewed(world)) == (right, 0, "active")


def test_many_that_are_not_there_leave_room_for_the_others_and_are_claimed_as_they_can_be_sent(
    each_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify, "ACTIVATIONS_A_CALL", 2)
    monkeypatch.setattr(shopify.writes, "ACTIVATIONS_A_CALL", 2)
    world = quiet_world()
    choose(world, "activate")
    listed = sorted(world.shops[SHOP].shows())
    for sku in listed:
        if sku != SKU:
            world.shops[SHOP].unstock(world.reference(SHOP, sku))
            begin_anew(world, sku)
    sell_elsewhere(world)
    assert world.push(SHOP).problem == ""
    assert (sorted(world.shops[SHOP].shows()), world.changes(SHOP)) == (listed, 0)
    with world.engine.connect() as connection:
        of_shop = select(sync_logs.c.status).where(sync_logs.c.platform == SHOP, sync_logs.c.action == "push")
        assert set(connection.execute(of_shop).scalars()) == {"acknowledged"}


def test_a_preview_counts_what_a_push_would_stock_there(world: LittleWorld) -> None:
    right = unstock(world)
    (row,) = [one for one in preview_channel(world.processes[0], SHOP).rows if one.sku == SKU]
    assert (row.move, row.absent) == (0, False)
    choose(world, "activate")
    preview = preview_channel(world.processes[0], SHOP)
    assert [(one.sku, one.shown, one.move) for one in preview.changes] == [(SKU, None, right)]
    totals = preview.totals()
    assert (totals["made"], totals["raised"], totals["unreadable"]) == (1, 1, 0)
    assert totals["units_desired"] - totals["units_shown"] == right


def test_the_full_run_repairs_what_somebody_took_off_the_location(world_on_each: LittleWorld) -> None:
    world = world_on_each
    choose(world, "activate")
    right = unstock(world)
    report = full(world)
    (found,) = report.differences
    assert (found.cause, found.observed, "took it off" in found.words) == (Cause.FOREIGN_EDIT, None, True)
    assert (report.missing, report.drift, report.repaired) == (0, 1, 1)
    assert world.shown(SHOP, SKU) == right


@pytest.mark.parametrize("policy", ["report", "adopt"])
def test_where_differences_are_not_repaired_it_is_only_reported(world: LittleWorld, policy: Policy) -> None:
    choose(world, "activate", policy)
    unstock(world)
    (found,) = full(world).differences
    assert found.done.startswith("reported")
    assert SKU not in world.shops[SHOP].shows()
    assert world.changes(SHOP) == 0


@pytest.mark.parametrize("failures", [0, 1])
def test_one_that_the_next_push_makes_is_a_failed_row_only_where_that_has_failed(
    world_on_each: LittleWorld, failures: int
) -> None:
    world = world_on_each
    choose(world, "activate")
    right = unstock(world)
    values = {"effective_quantity": NOT_THERE, "acknowledged_quantity": None, "expected": None}
    failed = {"failures": failures, "last_error": "locked: not now"}
    level = world.level(SHOP, SKU)
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).where(inventory_levels.c.id == level.id).values(**values, **failed))
    report = full(world)
    told = [(found.observed, found.desired, found.cause, found.words) for found in report.differences]
    assert told == [(None, right, Cause.FAILED_ROW, "our last write failed: locked: not now")][:failures]
    assert (report.failed_rows, report.repaired, SKU in world.shops[SHOP].shows()) == (failures, 0, False)


def test_a_shop_that_stocks_nothing_there_is_not_taken_for_another_shop(world: LittleWorld) -> None:
    for sku in world.skus[:20]:
        if sku in world.shops[SHOP].shows():
            world.shops[SHOP].unstock(world.reference(SHOP, sku))
            begin_anew(world, sku)
    report = world.push(SHOP)
    assert report.problem == ""
    assert report.review >= 10


def test_the_explanation_says_that_the_next_push_makes_it(world: LittleWorld) -> None:
    values = {"effective_quantity": NOT_THERE, "acknowledged_quantity": None, "expected": None}
    level = world.level(SHOP, SKU)
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).where(inventory_levels.c.id == level.id).values(values))
    with world.engine.connect() as connection:
        explained = explain(connection, SKU)
        (change,) = oldest_changes(connection, channel=SHOP)
    (verdict,) = [one.verdict for one in explained.listings if one.channel == SHOP]
    assert verdict == f"not there at the channel: the next push makes it, with {level.desired}"
    assert (change.shown, change.desired) == (None, level.desired)
