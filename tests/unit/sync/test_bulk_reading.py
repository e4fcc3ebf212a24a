"""A full run whose channel reads all its levels in bulk: it waits for nothing, and only levels that are in step are cleared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.batches import batch_of
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import bulk_readings, inventory_levels
from invsync_dagster.platforms.contract import BulkNumbers, Outcome, Result, WriteAnswer, WriteRow
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.bulk_reading import ask_for_all
from invsync_dagster.sync.differences import Cause, Difference, FullSyncReport
from invsync_dagster.sync.full_run import full_run
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.conftest import LittleWorld, quiet_world

SHOP, SKU = "shop_main", "SKU-0001"
BATCHES = list(range(16))


def reading_in_bulk(world: LittleWorld) -> LittleWorld:
    """Return the world with a main shop that reads in bulk from one level on; its next operation is done at once."""
    for ws in world.processes:
        ws._platforms.clear()
        ws.configuration = replace(
            ws.configuration,
            settings=ws.configuration.settings.model_copy(update={"full_sync_at_once": 1}),
            channels=tuple(
                replace(channel, settings=channel.settings.model_copy(update={"bulk_read_from": 1}))
                if channel.name == SHOP
                else channel
                for channel in ws.configuration.channels
            ),
        )
    world.keep_address(SHOP)
    world.shops[SHOP].bulk.seconds = 0.0
    world.clock.advance(60)
    return world


@pytest.fixture
def shop() -> LittleWorld:
    return reading_in_bulk(quiet_world())


@pytest.fixture
def shop_on_each(world: LittleWorld) -> LittleWorld:
    return reading_in_bulk(world)


def ask(world: LittleWorld, run_id: str = "full") -> datetime:
    """Ask as a run does at its beginning; the answer may be looked for after it."""
    ws = world.processes[0]
    asked_at = world.clock.now()
    calls = calls_of(ws, ws.channel(SHOP), asked_at + timedelta(minutes=5), background=True)
    ask_for_all(ws, SHOP, BATCHES, calls, run_id=run_id)
    return asked_at


def run_all(world: LittleWorld, run_id: str = "full") -> FullSyncReport:
    """Run all batches and return their sum."""
    total = FullSyncReport(SHOP, -1)
    for batch in BATCHES:
        report = full_sync(world.processes[0], SHOP, batch, run_id=run_id)
        assert report.problem == ""
        for name in ("levels", "equal", "in_bulk", "drift", "repaired", "missing", "api_calls"):
            setattr(total, name, getattr(total, name) + getattr(report, name))
        total.differences += report.differences
    return total


def states(world: LittleWorld) -> list[tuple[str, str]]:
    with world.engine.connect() as connection:
        return [(row.run_id, row.state) for row in connection.execute(select(bulk_readings))]


def pushed_by_a_sale_elsewhere(world: LittleWorld) -> None:
    world.sell("shop_eu", SKU)
    take_in(world, "shop_eu")
    assert world.push(SHOP).acknowledged == 1


def take_in(world: LittleWorld, channel: str) -> None:
    world.deliver(channel)
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="in")
    world.inbox.clear()


def test_levels_in_step_are_cleared_without_a_reading_each(shop_on_each: LittleWorld) -> None:
    shop = shop_on_each
    asked_at = ask(shop)
    shop.clock.advance(10)
    total = run_all(shop)
    listed = len(shop.shops[SHOP].shows())
    assert (total.levels, total.equal, total.in_bulk, total.differences) == (listed, listed, listed, [])
    assert total.api_calls == 1  # the question whether it is there
    assert states(shop) == [("full", "done")]
    level = shop.level(SHOP, SKU)
    assert (level.observed_quantity, level.observed_at) == (level.acknowledged_quantity, asked_at)


def test_nobody_waits_for_it_and_it_is_asked_for_again_only_when_it_is_time(shop: LittleWorld) -> None:
    shop.shops[SHOP].bulk.seconds = 1_000.0
    now = ask(shop)
    total = run_all(shop)
    assert (total.equal, total.in_bulk) == (total.levels, 0)
    assert states(shop) == [("full", "open")]
    assert shop.clock.now() - now < timedelta(seconds=1)  # what the budget takes, and no more
    shop.clock.advance(10)
    assert full_sync(shop.processes[0], SHOP, 1, run_id="full").api_calls == 2
    assert full_sync(shop.processes[0], SHOP, 1, run_id="full").api_calls == 1


def test_what_it_clears_is_what_later_batches_need_not_read(shop: LittleWorld) -> None:
    ask(shop)
    first = full_sync(shop.processes[0], SHOP, 1, run_id="full")
    assert (first.in_bulk, first.equal) == (0, first.levels)
    shop.clock.advance(10)
    rest = [full_sync(shop.processes[0], SHOP, batch, run_id="full") for batch in BATCHES if batch != 1]
    assert sum(report.in_bulk for report in rest) == sum(report.levels for report in rest) > 0


def test_a_level_written_since_it_was_asked_for_gets_a_reading_of_its_own(shop_on_each: LittleWorld) -> None:
    shop = shop_on_each
    ask(shop)
    shop.clock.advance(10)
    pushed_by_a_sale_elsewhere(shop)
    total = run_all(shop)
    assert (total.levels - total.in_bulk, total.equal, total.differences) == (1, total.levels, [])
    assert shop.level(SHOP, SKU).observed_at == shop.clock.now()


def test_one_written_and_written_back_meanwhile_is_not_judged_by_it_though_the_numbers_agree(shop: LittleWorld) -> None:
    asked_at = ask(shop)
    shop.clock.advance(10)
    before = shop.shown(SHOP, SKU)
    pushed_by_a_sale_elsewhere(shop)
    shop.erp.restock(SKU, 1)
    take_in(shop, "erp_main")
    assert shop.push(SHOP).acknowledged == 1
    assert shop.shown(SHOP, SKU) == before
    total = run_all(shop)
    assert (total.levels - total.in_bulk, total.differences) == (1, [])
    assert shop.level(SHOP, SKU).observed_at > asked_at


def test_nor_is_one_that_was_cleared_first_and_written_to_and_fro_then(shop: LittleWorld) -> None:
    ask(shop)
    shop.clock.advance(10)
    other = next(batch for batch in BATCHES if batch != batch_of(shop.level(SHOP, SKU).id, 16))
    full_sync(shop.processes[0], SHOP, other, run_id="full")  # takes the numbers of all
    pushed_by_a_sale_elsewhere(shop)
    shop.erp.restock(SKU, 1)
    take_in(shop, "erp_main")
    assert shop.push(SHOP).acknowledged == 1
    shop.clock.advance(1)
    batch = full_sync(shop.processes[0], SHOP, batch_of(shop.level(SHOP, SKU).id, 16), run_id="full")
    assert batch.levels - batch.in_bulk == 1
    assert shop.level(SHOP, SKU).observed_at == shop.clock.now()


def test_a_file_that_is_slow_does_not_outlast_the_batch(shop: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(shop)
    shop.clock.advance(10)
    platform = shop.processes[0].platform(shop.processes[0].channel(SHOP))
    fetched: list[str] = []

    def slow(address: str, cursor: str = "") -> BulkNumbers:
        fetched.append(cursor)
        shop.clock.advance(1_000)
        return BulkNumbers({}, str(len(fetched)))

    monkeypatch.setattr(platform, "numbers_read", slow)
    report = full_sync(shop.processes[0], SHOP, 1, run_id="full")
    assert ("did not finish" in report.problem, fetched) == (True, ["", "1"])


def test_a_foreign_edit_is_found_by_the_reading_that_follows_and_repaired(shop_on_each: LittleWorld) -> None:
    shop = shop_on_each
    right = shop.shown(SHOP, SKU)
    shop.shops[SHOP].edit_stock(shop.reference(SHOP, SKU), right + 4)
    ask(shop)
    shop.clock.advance(10)
    total = run_all(shop)
    (found,) = total.differences
    assert (found.sku, found.observed, found.cause) == (SKU, right + 4, Cause.FOREIGN_EDIT)
    assert (total.drift, total.repaired, total.in_bulk) == (1, 1, total.levels - 1)
    assert shop.shown(SHOP, SKU) == right


def test_a_failed_row_is_read_and_named_though_the_file_shows_what_is_acknowledged(
    shop_on_each: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_on_each
    before = shop.shown(SHOP, SKU)
    refusal = Outcome(Result.REJECTED, Recovery.REJECT, "invalid_quantity", "no more than 9 of these")

    def refuse(rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        return WriteAnswer(tuple(refusal for _ in rows))

    shop.erp.restock(SKU, 5)
    take_in(shop, "erp_main")
    monkeypatch.setattr(shop.processes[0].platform(shop.processes[0].channel(SHOP)), "write", refuse)
    assert shop.push(SHOP).rejected == 1
    shop.clock.advance(1)
    ask(shop)
    shop.clock.advance(10)
    total = run_all(shop)
    (found,) = total.differences
    assert (found.observed, found.desired, found.cause) == (before, before + 5, Cause.FAILED_ROW)
    assert (total.in_bulk, total.equal) == (total.levels - 1, total.levels - 1)


def test_an_edit_that_was_taken_back_since_is_no_difference(shop: LittleWorld) -> None:
    level, right = shop.reference(SHOP, SKU), shop.shown(SHOP, SKU)
    shop.shops[SHOP].edit_stock(level, right + 4)
    ask(shop)
    shop.shops[SHOP].edit_stock(level, right)
    shop.clock.advance(10)
    differences: list[Difference] = run_all(shop).differences
    assert differences == []


def test_a_sale_there_that_was_booked_since_is_settled_and_not_taken_for_drift(shop: LittleWorld) -> None:
    ask(shop)
    shop.clock.advance(10)
    before = shop.shown(SHOP, SKU)
    shop.sell(SHOP, SKU, 2)
    take_in(shop, SHOP)
    total = run_all(shop)
    assert (total.drift, total.levels - total.in_bulk) == (0, 1)
    assert (shop.shown(SHOP, SKU), shop.changes(SHOP)) == (before - 2, 0)


@pytest.mark.parametrize("doubt", ["uncertain", "claim"])
def test_an_uncertain_or_claimed_level_is_never_cleared(shop: LittleWorld, doubt: str) -> None:
    level_id = shop.level(SHOP, SKU).id
    values = {"uncertain": "own_sale", "uncertain_since": shop.clock.now()} if doubt == "uncertain" else {"claim": "x"}
    with write_transaction(shop.engine) as connection:
        statement = update(inventory_levels).where(inventory_levels.c.id == level_id).values(values)
        connection.execute(statement)
    asked_at = ask(shop)
    shop.clock.advance(10)
    total = run_all(shop)
    assert total.levels - total.in_bulk == 1
    assert shop.level(SHOP, SKU).observed_at != asked_at


def test_of_one_that_broke_off_a_part_is_taken_and_the_rest_is_read(shop: LittleWorld) -> None:
    shop.shops[SHOP].bulk.end_next("FAILED", "INTERNAL_SERVER_ERROR", share=0.5)
    ask(shop)
    shop.clock.advance(10)
    total = run_all(shop)
    assert (total.equal, total.missing, total.differences) == (total.levels, 0, [])
    assert 0 < total.in_bulk < total.levels


def test_one_that_was_cancelled_leaves_all_to_ordinary_readings(shop: LittleWorld) -> None:
    shop.shops[SHOP].bulk.end_next("CANCELED")
    ask(shop)
    shop.clock.advance(10)
    total = run_all(shop)
    assert (total.equal, total.in_bulk, states(shop)) == (total.levels, 0, [("full", "lost")])


def test_one_that_stays_open_is_given_up_after_an_hour(shop: LittleWorld) -> None:
    shop.shops[SHOP].bulk.seconds = 90_000.0
    ask(shop)
    shop.clock.advance(3_601)
    total = run_all(shop)
    assert (total.equal, states(shop)) == (total.levels, [("full", "lost")])


def test_while_another_operation_runs_there_the_run_reads_in_the_ordinary_way(shop: LittleWorld) -> None:
    shop.shops[SHOP].bulk.seconds = 1_000.0
    ask(shop, "yesterday")
    ask(shop)
    assert states(shop) == [("yesterday", "open")]
    total = run_all(shop)
    assert (total.equal, total.in_bulk) == (total.levels, 0)


def test_another_run_takes_nothing_from_it_and_asks_for_its_own(shop: LittleWorld) -> None:
    ask(shop, "yesterday")
    shop.clock.advance(10)
    assert run_all(shop).in_bulk == 0
    ask(shop)
    shop.clock.advance(10)
    assert run_all(shop).in_bulk > 0
    assert states(shop) == [("full", "done")]


@pytest.mark.parametrize("answered", [0, 1])
def test_a_question_or_a_file_that_fails_is_asked_for_again_at_the_next_time(shop: LittleWorld, answered: int) -> None:
    ask(shop)
    shop.clock.advance(10)
    script = [Fault(Kind.CUT_BEFORE)] if not answered else [Fault(Kind.SLOW, 0.0), Fault(Kind.CUT_BEFORE)]
    shop.faults[SHOP].script(script)
    assert full_sync(shop.processes[0], SHOP, 1, run_id="full").problem == ""
    assert states(shop) == [("full", "open")]
    shop.clock.advance(10)
    assert run_all(shop).in_bulk > 0


def test_a_process_that_died_over_it_is_followed_by_another_later(shop: LittleWorld) -> None:
    ask(shop)
    shop.clock.advance(10)
    with write_transaction(shop.engine) as connection:  # as it stands while somebody fetches
        later = shop.clock.now() + timedelta(minutes=10)
        connection.execute(update(bulk_readings).values(check_after=later))
    assert run_all(shop).in_bulk == 0
    shop.clock.advance(600)
    assert run_all(shop).in_bulk > 0


def test_a_run_over_fewer_levels_than_the_setting_asks_for_nothing(shop: LittleWorld) -> None:
    ws = shop.processes[0]
    calls = calls_of(ws, ws.channel("shop_eu"), shop.clock.now() + timedelta(minutes=5), background=True)
    ask_for_all(ws, "shop_eu", BATCHES, calls, run_id="full")  # 2,000 by default
    ask_for_all(
        ws, "woo_main", BATCHES, calls_of(ws, ws.channel("woo_main"), calls.deadline, background=True), run_id=""
    )
    assert (calls.made, states(shop)) == (0, [])


def test_a_full_run_asks_once_and_says_in_each_batch_what_came_of_it(shop: LittleWorld) -> None:
    reports = list(full_run(shop.processes[0], SHOP, BATCHES, run_id="full"))
    assert sum(report.equal for report in reports) == len(shop.shops[SHOP].shows())
    assert {report.problem for report in reports} == {""}
    assert states(shop)[0][0] == "full"


def test_dead_credentials_end_no_run_before_its_batches_have_said_so(shop: LittleWorld) -> None:
    shop.shops[SHOP].access_token = "shpat_another"
    reports = list(full_run(shop.processes[0], SHOP, BATCHES[:2], run_id="full"))
    assert ["unauthorized: " in report.problem for report in reports] == [True] * 2
