"""A number that the stock was to show anyway, or that somebody typed in at several places, is not booked on top."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from invsync_dagster.inventory import batches
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.contract import Outcome, Result, WriteAnswer
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.sync import adoption, reconcile
from invsync_dagster.sync.adoption import OUT_OF_STEP, SEVERAL
from invsync_dagster.sync.full_run import full_run
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.amazon_stage import NAME as AMAZON
from tests.unit.sync.amazon_stage import AmazonStage
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.test_adoption import SHOP, SKU, adopts, booked, edit, listing, on_stage, settled, stock
from tests.unit.sync.test_adoption_doubts import done, edit_of, others, right, set_to
from tests.unit.sync.test_recognition import WOO

__all__ = ["right"]

pytestmark = pytest.mark.usefixtures("each_database")


def count(world: LittleWorld, quantity: int, source: CountSource, basis: Any = "on_hand") -> None:
    now = world.clock.now()
    with write_transaction(world.engine) as connection:
        apply_counts(connection, [Count(SKU, quantity, now, basis)], source, now=now, run_id="count")


def refuse(world: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shop refuse each row that is written."""
    ws = world.processes[0]
    platform: Any = ws.platform(ws.channel(SHOP))
    outcome = Outcome(Result.REJECTED, Recovery.REJECT, "invalid", "no")
    monkeypatch.setattr(platform, "write", lambda rows, key: WriteAnswer(tuple(outcome for _ in rows)))


@pytest.mark.parametrize("more", [5, -2])
def test_a_refused_number_that_a_person_types_into_the_shop_is_no_edit(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    on_hand, _ = stock(right.engine, SKU)
    if more > 0:
        count(right, on_hand + more, CountSource("shelf"))
    else:
        right.sell("shop_eu", SKU, -more)
        right.deliver("shop_eu")
        apply_deliveries(right.processes[0], right.inbox, IntakeReport(), run_id="intake")
    with monkeypatch.context() as patch:
        refuse(right, patch)
        right.push(SHOP)
    wanted, before = right.level(SHOP, SKU).desired, stock(right.engine, SKU)
    assert (right.level(SHOP, SKU).failures, wanted) == (1, right.shown(SHOP, SKU) + more)
    right.shops[SHOP].edit_stock(right.reference(SHOP, SKU), wanted)
    right.clock.advance(3600)
    assert done(right)[SKU] == OUT_OF_STEP
    assert (stock(right.engine, SKU), booked(right.engine), settled(right)) == (before, [], wanted)


def test_an_edit_that_a_count_contains_which_is_not_pushed_yet_is_not_adopted(right: LittleWorld) -> None:
    edit(right, 3)
    right.clock.advance(600)
    count(right, right.shown(SHOP, SKU), CountSource("export", (SHOP,)), "available")
    counted = stock(right.engine, SKU)
    right.clock.advance(30)
    assert done(right)[SKU] == OUT_OF_STEP
    assert (stock(right.engine, SKU), booked(right.engine)) == (counted, [])


def test_a_count_with_a_lag_contains_the_edit_that_was_read_before_it(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(right, 3)

    def counted() -> None:
        right.clock.advance(1)
        count(right, right.shown(SHOP, SKU), CountSource("export", (SHOP,), 600.0), "available")

    listing(right, monkeypatch, counted)
    assert done(right)[SKU] == "reported: it was counted since, and the count holds"
    assert booked(right.engine) == []


def test_one_correction_that_is_typed_into_two_shops_is_adopted_once(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopts(right.processes[0], WOO)
    before, shop, store = stock(right.engine, SKU), right.shown(SHOP, SKU), right.shown(WOO, SKU)
    edit(right, 3)
    right.shops[WOO].edit(SKU, store + 3)
    right.clock.advance(60)
    adopt, beside = adoption.adopt, []

    def as_the_store_does(ws: Any, *rest: Any) -> Any:
        monkeypatch.setattr(reconcile, "adopt", adopt)
        beside.extend(full_sync(ws, WOO, 0, run_id="store").differences)
        return adopt(ws, *rest)

    monkeypatch.setattr(reconcile, "adopt", as_the_store_does)
    assert done(right)[SKU] == OUT_OF_STEP
    assert [one.done for one in beside] == ["adopted"]
    right.push(WOO)
    assert stock(right.engine, SKU) == (before[0] + 3, before[1])
    assert (settled(right), right.shown(WOO, SKU)) == (shop + 3, store + 3)


def test_one_correction_that_is_typed_into_two_listings_of_one_shop_is_reported(right: LittleWorld) -> None:
    shop = right.shops[SHOP]
    new = shop.add_article("TWIN", right.shown(SHOP, SKU))
    shop._skus[new] = "TWIN"
    twin = Listing(SHOP, SKU, new.item_id, new.location_id, platform_sku="TWIN")
    with write_transaction(right.engine) as connection:
        set_listings(connection, [twin], actor="ann", reason="a pair", now=right.clock.now())
    right.push(SHOP)
    right.clock.advance(3600)
    before, number = stock(right.engine, SKU), right.shown(SHOP, SKU) + 3
    for reference in (right.reference(SHOP, SKU), new):
        shop.edit_stock(reference, number)
    right.clock.advance(60)
    assert done(right)[SKU] == SEVERAL
    assert (stock(right.engine, SKU), booked(right.engine)) == (before, [])


def test_an_edit_within_the_dead_band_is_reported_since_the_shop_would_not_keep_it(right: LittleWorld) -> None:
    with write_transaction(right.engine) as connection:
        connection.execute(update(channels).where(channels.c.name == SHOP).values(dead_band=5))
    before = stock(right.engine, SKU)
    edit(right, 3)
    right.clock.advance(60)
    assert done(right)[SKU] == "reported: its rules leave open how many are on hand"
    assert stock(right.engine, SKU) == before


@pytest.mark.parametrize("number", [1, 8])
def test_the_limits_count_what_all_batches_of_a_run_adopt(
    right: LittleWorld, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "NEIGHBOURS", 1)
    limits = right.processes[0].configuration.settings.import_limits.model_copy(update={"zeroed_minimum": 3})
    set_to(right, sku_batches=number, import_limits=limits, full_sync_at_once=1)
    edited = others(right, 8)
    for sku in edited:
        edit_of(right, sku, 1)
    reports = list(full_run(right.processes[0], SHOP, range(number), run_id="full"))
    told = [row.done for report in reports for row in report.differences]
    assert (len(told), [report.problem for report in reports]) == (8, [""] * number)
    adopted = told.count("adopted")
    assert adopted == (0 if number == 1 else 3)
    assert all("in one run are too many to adopt unseen" in words for words in told if words != "adopted")
    assert booked(right.engine) == [("adopt", 1, 0)] * adopted


def test_a_level_is_adopted_again_under_the_same_run_id(right: LittleWorld) -> None:
    edit(right, 3)
    assert done(right) == {SKU: "adopted"}
    right.clock.advance(600)
    edit(right, 2)
    assert done(right) == {SKU: "adopted"}
    assert booked(right.engine) == [("adopt", 3, 0), ("adopt", 2, 0)]


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("paid", [20, 60])
def test_an_amazon_order_that_is_changed_again_and_again_while_it_is_waited_for_is_not_adopted(
    monkeypatch: pytest.MonkeyPatch, paid: int, phase: int
) -> None:
    stage = AmazonStage({"A": 20}, {"A": 20})
    stage.pushes(12 + phase)
    adopts(stage.ws, AMAZON)
    account, clock = stage.account, stage.clock
    began, sleep = clock.now(), clock.sleep
    order = account.buy({"A": 3}, status="PENDING")
    account.take_outgoing()
    clock.advance(10)
    changes = [(paid, account.confirm), (paid + 210, account.ship)]

    def sleeping(seconds: float) -> None:
        until = clock.now() + timedelta(seconds=seconds)
        while changes and began + timedelta(seconds=changes[0][0]) < until:
            after, change = changes.pop(0)
            sleep(max(0.0, (began + timedelta(seconds=after) - clock.now()).total_seconds()))
            change(order)
            account.take_outgoing()
        sleep(max(0.0, (until - clock.now()).total_seconds()))

    monkeypatch.setattr(clock, "sleep", sleeping)
    found = on_stage(stage, AMAZON)
    assert found is not None
    assert (found.observed, found.done) == (17, adoption.EXPLAINED)
    assert {kind for kind, *_ in booked(stage.engine)} <= {"reserve", "ship"}
    on_hand, reserved = stock(stage.engine, "A")
    assert on_hand - reserved == 17
