"""What a full run says of a level that shows another number than it should: each likely cause, and what is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.batches import batch_of
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import inventory_levels, sync_logs
from invsync_dagster.platforms.contract import Outcome, Result, WriteAnswer, WriteRow
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.differences import Cause, Difference, FullSyncReport
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.reconcile import full_sync
from tests.simulation.stock import item_of
from tests.unit.sync.alibaba_stage import NAME, AlibabaStage
from tests.unit.sync.conftest import LittleWorld

SKU, SHOP = "SKU-0001", "shop_main"
REFUSAL = Outcome(Result.REJECTED, Recovery.REJECT, "invalid_quantity", "no more than 9 of these")


def full(world: LittleWorld) -> FullSyncReport:
    """Run all batches and return their sum."""
    total = FullSyncReport(SHOP, -1)
    for batch in range(world.configuration.settings.sku_batches):
        report = full_sync(world.processes[0], SHOP, batch, run_id="full")
        assert report.problem == ""
        for name in ("levels", "equal", "failed_rows", "drift", "uncertain", "missing", "claimed", "repaired"):
            setattr(total, name, getattr(total, name) + getattr(report, name))
        total.differences += report.differences
    return total


def hear(world: LittleWorld, channel: str) -> None:
    """Let the channel's webhooks come in and be applied."""
    world.deliver(channel)
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.inbox.clear()


def restock(world: LittleWorld) -> None:
    """Let five more come in: the shop is to show them with the next push."""
    world.erp.restock(SKU, 5)
    hear(world, "erp_main")


def refuse_writes(world: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        return WriteAnswer(tuple(REFUSAL for _ in rows))

    ws = world.processes[0]
    monkeypatch.setattr(ws.platform(ws.channel(SHOP)), "write", refused)


def told(world: LittleWorld) -> list[Any]:
    """Return what the full run has logged."""
    query = select(sync_logs).where(sync_logs.c.run_id == "full").order_by(sync_logs.c.id)
    with world.engine.connect() as connection:
        return [(row.action, row.sku, row.new_quantity, row.error_message) for row in connection.execute(query)]


def numbers(found: Difference) -> tuple[str, int | None, int | None, int]:
    return found.sku, found.acknowledged, found.observed, found.desired


def test_a_number_that_the_shop_refused_is_a_failed_row_in_its_words(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.shown(SHOP, SKU)
    restock(world)
    refuse_writes(world, monkeypatch)
    assert world.push(SHOP).rejected == 1
    report = full(world)
    (found,) = report.differences
    assert numbers(found) == (SKU, before, before, before + 5)
    assert (found.cause, found.done) == (Cause.FAILED_ROW, "tried again by the pushes, later each time")
    assert found.words == "our last write failed: invalid_quantity: no more than 9 of these [reject]"
    assert (report.failed_rows, report.equal, report.drift) == (1, report.levels - 1, 0)
    assert told(world) == [("read", SKU, before, found.words)]
    level = world.level(SHOP, SKU)
    assert (report.repaired, level.failures, level.uncertain, level.observed_quantity) == (0, 1, None, before)


def test_a_failed_row_that_went_through_since_is_none(world: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    restock(world)
    refuse_writes(world, monkeypatch)
    world.push(SHOP)
    monkeypatch.undo()
    world.clock.advance(60)
    assert world.push(SHOP).acknowledged == 1
    report = full(world)
    assert (report.differences, report.failed_rows, report.equal) == ([], 0, report.levels)


def test_a_number_that_only_waits_for_the_next_push_is_no_difference(world: LittleWorld) -> None:
    restock(world)
    assert world.changes(SHOP) == 1
    report = full(world)
    assert (report.differences, report.failed_rows, report.equal) == ([], 0, report.levels)
    assert told(world) == []


def test_one_whose_refused_number_is_wanted_no_more_is_no_difference(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    restock(world)
    refuse_writes(world, monkeypatch)
    world.push(SHOP)
    world.erp.restock(SKU, -5)
    hear(world, "erp_main")
    level = world.level(SHOP, SKU)
    assert (level.failures, level.desired) == (1, level.acknowledged_quantity)
    report = full(world)
    assert (report.differences, report.equal) == ([], report.levels)


def test_a_write_that_nobody_answered_and_that_is_not_there_is_not_visible(world: LittleWorld) -> None:
    before = world.shown(SHOP, SKU)
    restock(world)
    world.faults[SHOP].script([None, Fault(Kind.TIMEOUT_BEFORE)])
    assert world.push(SHOP, seconds=35).unknown == 1
    report = full(world)
    (found,) = report.differences
    assert numbers(found) == (SKU, before, before, before + 5)
    assert (found.cause, found.done) == (Cause.NOT_VISIBLE, "to be settled by a push")
    assert found.words.startswith("uncertain since ")
    assert f": answer_lost; {before + 5} sent at " in found.words
    assert (report.uncertain, report.drift, report.equal) == (1, 0, report.levels - 1)
    assert (report.repaired, world.shown(SHOP, SKU)) == (0, before)  # it may still land


def test_a_write_that_nobody_answered_and_that_is_there_is_no_difference(world: LittleWorld) -> None:
    restock(world)
    world.faults[SHOP].script([None, Fault(Kind.TIMEOUT_AFTER)])
    assert world.push(SHOP, seconds=35).unknown == 1
    report = full(world)
    assert (report.differences, report.uncertain, report.equal) == ([], 1, report.levels - 1)


def test_an_edit_of_a_level_in_doubt_is_named_and_settled_as_ever(world: LittleWorld) -> None:
    right = world.shown(SHOP, SKU)
    in_doubt(world, uncertain="own_sale", uncertain_since=world.clock.now())
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), right + 4)
    report = full(world)
    (found,) = report.differences
    assert (*numbers(found), found.cause) == (SKU, right, right + 4, right, Cause.NOT_VISIBLE)
    assert found.words.endswith(f": own_sale; {right} expected")
    assert (report.uncertain, report.drift, world.shown(SHOP, SKU)) == (1, 0, right)
    assert full(world).differences == []


def in_doubt(world: LittleWorld, **values: Any) -> None:
    with write_transaction(world.engine) as connection:
        of_sku = inventory_levels.c.item_id == item_of(SHOP, SKU)
        connection.execute(update(inventory_levels).where(of_sku).values(**values))


@pytest.mark.parametrize("shown", [0, 3])
def test_what_was_never_written_is_said_of_a_level_that_shows_another_number(world: LittleWorld, shown: int) -> None:
    right = world.shown(SHOP, SKU)
    nothing = dict.fromkeys(("acknowledged_quantity", "expected", "sent_quantity", "sent_at"))
    in_doubt(world, uncertain="never_read", uncertain_since=world.clock.now(), effective_quantity=-1, **nothing)
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), right + shown)
    report = full(world)
    causes = [(found.observed, found.cause) for found in report.differences]
    assert causes == ([(right + shown, Cause.NEVER_WRITTEN)] if shown else [])
    assert (report.uncertain, world.shown(SHOP, SKU)) == (1, right)


def test_levels_that_a_push_has_in_hand_are_counted(world: LittleWorld) -> None:
    in_doubt(world, claim="somebody", claim_worker=world.processes[1].worker.name)
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), 99)
    report = full(world)
    assert (report.claimed, report.equal, report.differences) == (1, report.levels - 1, [])
    assert world.shown(SHOP, SKU) == 99


@pytest.mark.usefixtures("each_database")
def test_a_write_that_the_channel_shows_late_is_not_visible_until_then(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, {"A": 20}, lag=10.0)
    stage.count("A", 17)
    assert stage.push().acknowledged == 1
    batch = batch_of(stage.level("A").id, stage.ws.configuration.settings.sku_batches)
    early = full_sync(stage.ws, NAME, batch, run_id="full")
    (found,) = early.differences
    assert (*numbers(found), found.cause) == ("A", 17, 20, 17, Cause.NOT_VISIBLE)
    assert (early.drift, found.done) == (0, "looked at again by the next full run")
    stage.clock.advance(60)
    late = full_sync(stage.ws, NAME, batch, run_id="full")
    assert (late.differences, late.equal) == ([], 1)


def test_a_sale_that_nobody_told_is_an_unseen_order(world: LittleWorld) -> None:
    right = world.shown(SHOP, SKU)
    world.sell(SHOP, SKU, 2)
    world.shops[SHOP].take_outgoing()
    report = full(world)
    (found,) = report.differences
    assert (*numbers(found), found.cause) == (SKU, right, right - 2, right, Cause.UNSEEN_ORDER)
    assert found.words == "2 fewer than acknowledged: an order that we haven't seen, or a foreign edit"
    assert (report.drift, report.equal) == (1, report.levels - 1)


def test_a_sale_that_was_heard_of_is_no_difference(world: LittleWorld) -> None:
    world.sell(SHOP, SKU, 2)
    hear(world, SHOP)
    report = full(world)
    assert (report.differences, report.drift, report.uncertain) == ([], 0, 1)


def test_a_number_that_somebody_raised_there_is_a_foreign_edit(world: LittleWorld) -> None:
    right = world.shown(SHOP, SKU)
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), right + 4)
    report = full(world)
    (found,) = report.differences
    assert (*numbers(found), found.cause) == (SKU, right, right + 4, right, Cause.FOREIGN_EDIT)
    assert (report.drift, report.repaired, world.shown(SHOP, SKU)) == (1, 1, right)


def test_an_edit_that_somebody_took_back_is_no_difference(world: LittleWorld) -> None:
    right = world.shown(SHOP, SKU)
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), right + 4)
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), right)
    report = full(world)
    assert (report.differences, report.drift, report.equal) == ([], 0, report.levels)
