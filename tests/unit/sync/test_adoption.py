"""Foreign edits that are taken into the stock: never an order or a cancel that no webhook told of, and never twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from invsync_dagster.events import Content
from invsync_dagster.inventory import channels
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.batches import batch_of
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import central_inventory, stock_ledger
from invsync_dagster.platforms.contract import OrdersPage
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync import adoption, reconcile
from invsync_dagster.sync.differences import Difference
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.workspace import Workspace
from tests.unit.sync.alibaba_stage import NAME as ALIBABA
from tests.unit.sync.alibaba_stage import AlibabaStage
from tests.unit.sync.amazon_stage import NAME as AMAZON
from tests.unit.sync.amazon_stage import AmazonStage
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.ebay_stage import NAME as EBAY
from tests.unit.sync.ebay_stage import EbayStage
from tests.unit.sync.stage import Stage

SKU, SHOP = "SKU-0001", "shop_main"
EXPLAINED = adoption.EXPLAINED
NOT_LISTED = PlatformError(Recovery.REJECT, "forbidden", "this key may not list orders")


def adopts(ws: Workspace, channel: str) -> None:
    """Let the channel be right."""
    which = tuple(
        replace(one, differences="adopt") if one.name == channel else one for one in ws.configuration.channels
    )
    ws.configuration = replace(ws.configuration, channels=which)


@pytest.fixture
def right(world: LittleWorld) -> LittleWorld:
    """The little world whose shop is right; its last orders were heard of an hour ago."""
    adopts(world.processes[0], SHOP)
    world.clock.advance(3600)
    return world


def full(ws: Workspace, channel: str, level_id: int) -> Difference | None:
    """Run the batch of a level, and return what it says of it."""
    report = full_sync(ws, channel, batch_of(level_id, ws.configuration.settings.sku_batches), run_id="full")
    assert report.problem == ""
    return next(iter(report.differences), None)


def run(world: LittleWorld, channel: str = SHOP) -> Difference | None:
    return full(world.processes[0], channel, world.level(channel, SKU).id)


def stock(engine: Any, sku: str) -> tuple[int, int]:
    """Return what of a SKU is on hand and reserved, by a stock that adds up."""
    column = central_inventory.c
    with engine.connect() as connection:
        assert audit(connection) == []
        row = connection.execute(select(column.quantity, column.reserved_quantity).where(column.sku == sku)).one()
    return row.quantity, row.reserved_quantity


def booked(engine: Any, run_id: str = "full") -> list[tuple[str, int, int]]:
    """Return the entries of the full runs: kind, on hand, reserved."""
    entry = stock_ledger.c
    query = select(entry.kind, entry.quantity_delta, entry.reserved_delta).where(entry.run_id == run_id)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(entry.sequence))]


def edit(world: LittleWorld, more: int) -> None:
    """Let somebody change the shop's number by hand."""
    world.shops[SHOP].edit_stock(world.reference(SHOP, SKU), world.shown(SHOP, SKU) + more)


def unheard(world: LittleWorld) -> None:
    """Lose all webhooks that the shop has sent."""
    world.shops[SHOP].take_outgoing()


def settled(world: LittleWorld, sku: str = SKU) -> int:
    """Return the one number that the shop shows, acknowledged and should show."""
    level, shown = world.level(SHOP, sku), world.shown(SHOP, sku)
    assert (level.uncertain, level.desired, level.acknowledged_quantity) == (None, shown, shown)
    return shown


def test_an_order_that_no_webhook_told_of_is_booked_as_an_order_and_not_adopted(right: LittleWorld) -> None:
    (on_hand, reserved), shown = stock(right.engine, SKU), right.shown(SHOP, SKU)
    right.sell(SHOP, SKU, 3)
    unheard(right)
    began = right.clock.now()
    found = run(right)
    assert found is not None
    assert (found.cause, found.observed, found.done) == ("unseen_order", shown - 3, EXPLAINED)
    assert booked(right.engine) == [("reserve", 0, 3)]
    assert stock(right.engine, SKU) == (on_hand, reserved + 3)
    assert settled(right) == shown - 3
    assert right.clock.now() - began < timedelta(seconds=30)  # what the orders explain is waited for by nobody


def test_a_cancel_that_no_webhook_told_of_is_booked_as_a_cancel_and_not_adopted(right: LittleWorld) -> None:
    (on_hand, reserved), shown = stock(right.engine, SKU), right.shown(SHOP, SKU)
    order = right.sell(SHOP, SKU, 4)
    unheard(right)
    right.push(SHOP)
    assert (stock(right.engine, SKU), settled(right)) == ((on_hand, reserved + 4), shown - 4)
    right.clock.advance(600)
    right.shops[SHOP].cancel(order)
    unheard(right)
    found = run(right)
    assert found is not None
    assert (found.observed, found.done) == (shown, EXPLAINED)
    assert booked(right.engine) == [("release", 0, -4)]
    assert (stock(right.engine, SKU), settled(right)) == ((on_hand, reserved), shown)


def test_an_edit_together_with_an_unseen_order_is_not_adopted_and_one_after_it_is(right: LittleWorld) -> None:
    (on_hand, reserved), shown = stock(right.engine, SKU), right.shown(SHOP, SKU)
    right.sell(SHOP, SKU, 3)
    unheard(right)
    edit(right, 10)
    found = run(right)
    assert found is not None
    assert (found.observed, found.done) == (shown + 7, EXPLAINED)
    assert booked(right.engine) == [("reserve", 0, 3)]
    assert stock(right.engine, SKU) == (on_hand, reserved + 3)
    assert settled(right) == shown - 3
    edit(right, 10)
    right.clock.advance(60)
    assert (again := run(right)) is not None
    assert (again.done, booked(right.engine)) == ("adopted", [("reserve", 0, 3), ("adopt", 10, 0)])
    assert (stock(right.engine, SKU), settled(right)) == ((on_hand + 10, reserved + 3), shown + 7)


@pytest.mark.parametrize("more", [3, -2])
def test_a_plain_edit_is_adopted_once_orders_that_are_listed_late_would_be_known(right: LittleWorld, more: int) -> None:
    (on_hand, reserved), shown = stock(right.engine, SKU), right.shown(SHOP, SKU)
    edit(right, more)
    began = right.clock.now()
    found = run(right)
    assert found is not None
    assert (found.observed, found.done) == (shown + more, "adopted")
    assert timedelta(seconds=120) <= right.clock.now() - began < timedelta(seconds=180)
    assert (stock(right.engine, SKU), settled(right)) == ((on_hand + more, reserved), shown + more)
    assert run(right) is None
    assert booked(right.engine) == [("adopt", more, 0)]


def listing(world: LittleWorld, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Let something happen before each list of the shop's orders."""
    ws = world.processes[0]
    platform: Any = ws.platform(ws.channel(SHOP))
    orders_changed = platform.orders_changed

    def listed(*window: Any) -> OrdersPage:
        then()
        return orders_changed(*window)

    monkeypatch.setattr(platform, "orders_changed", listed)


def test_an_order_that_the_channel_lists_a_minute_late_is_waited_for(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    (on_hand, reserved), shown = stock(right.engine, SKU), right.shown(SHOP, SKU)
    right.sell(SHOP, SKU, 3)
    unheard(right)
    ws, listed_at = right.processes[0], right.clock.now() + timedelta(seconds=60)
    platform: Any = ws.platform(ws.channel(SHOP))
    orders_changed = platform.orders_changed

    def late(*window: Any) -> OrdersPage:
        page: OrdersPage = orders_changed(*window)
        return page if right.clock.now() >= listed_at else OrdersPage(Content())

    monkeypatch.setattr(platform, "orders_changed", late)
    found = run(right)
    assert found is not None
    assert (found.done, booked(right.engine)) == (EXPLAINED, [("reserve", 0, 3)])
    assert (stock(right.engine, SKU), settled(right)) == ((on_hand, reserved + 3), shown - 3)


def fail() -> None:
    raise NOT_LISTED


def test_where_orders_cannot_be_listed_it_is_reported_and_the_next_run_adopts_it(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, shown = stock(right.engine, SKU), right.shown(SHOP, SKU)
    edit(right, 3)
    listing(right, monkeypatch, fail)
    found = run(right)
    assert found is not None
    assert found.done == (
        "reported, not adopted: its orders could not be listed: forbidden: this key may not list orders [reject]; "
        "the next full run looks again"
    )
    assert (booked(right.engine), stock(right.engine, SKU), right.shown(SHOP, SKU)) == ([], before, shown + 3)
    assert right.changes(SHOP) == 0
    monkeypatch.undo()
    assert (again := run(right)) is not None
    assert (again.done, booked(right.engine)) == ("adopted", [("adopt", 3, 0)])


def test_while_an_order_is_unclear_nothing_is_adopted(right: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(right, 3)
    ws = right.processes[0]
    platform: Any = ws.platform(ws.channel(SHOP))
    page = OrdersPage(Content(unclear_orders=("9",)))
    monkeypatch.setattr(platform, "orders_changed", lambda *window: page)
    monkeypatch.setattr(platform, "orders", lambda ids: fail())
    found = run(right)
    assert found is not None
    assert found.done == "reported, not adopted: 1 of its orders are unclear; the next full run looks again"
    assert booked(right.engine) == []


def test_an_edit_of_a_level_that_is_sold_after_the_reading_is_not_adopted(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    (on_hand, reserved), shown = stock(right.engine, SKU), right.shown(SHOP, SKU)
    edit(right, 5)
    sold: list[str] = []

    def sell() -> None:
        if not sold:
            sold.append(right.sell(SHOP, SKU, 2))
            unheard(right)

    listing(right, monkeypatch, sell)
    found = run(right)
    assert found is not None
    assert found.done == EXPLAINED
    assert booked(right.engine) == [("reserve", 0, 2)]
    assert (stock(right.engine, SKU), settled(right)) == ((on_hand, reserved + 2), shown - 2)


def test_two_runs_over_one_batch_adopt_an_edit_once(right: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    on_hand, _ = stock(right.engine, SKU)
    edit(right, 3)
    others: list[Difference | None] = []
    adopt = adoption.adopt

    def beside(ws: Any, *rest: Any) -> set[str]:
        monkeypatch.setattr(reconcile, "adopt", adopt)
        others.append(run(right))  # it has read the same, and is done with it first
        return adopt(ws, *rest)

    monkeypatch.setattr(reconcile, "adopt", beside)
    found = run(right)
    assert [one and one.done for one in others] == ["adopted"]
    assert found is not None
    assert found.done == EXPLAINED
    assert booked(right.engine) == [("adopt", 3, 0)]
    assert (stock(right.engine, SKU)[0], settled(right)) == (on_hand + 3, right.shown(SHOP, SKU))


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", ["the orders", "the push"])
def test_a_run_that_is_killed_adopts_with_the_next_one_or_has_done_so(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    on_hand, _ = stock(right.engine, SKU)
    edit(right, 3)

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    if at == "the push":
        monkeypatch.setattr(reconcile, "push_channel", killed)
    else:
        listing(right, monkeypatch, killed)
    with pytest.raises(Killed):
        run(right)
    assert booked(right.engine) == ([("adopt", 3, 0)] if at == "the push" else [])
    monkeypatch.undo()
    right.clock.advance(60)
    run(right)
    assert booked(right.engine) == [("adopt", 3, 0)]
    assert (stock(right.engine, SKU)[0], settled(right)) == (on_hand + 3, right.shown(SHOP, SKU))


def test_what_was_counted_since_the_reading_is_not_adopted(right: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(right, 3)

    def count() -> None:
        right.clock.advance(1)
        now = right.clock.now()
        with write_transaction(right.engine) as connection:
            apply_counts(connection, [Count(SKU, 55, now)], CountSource("shelf"), now=now, run_id="count")

    listing(right, monkeypatch, count)
    found = run(right)
    assert found is not None
    assert found.done == "reported: it was counted since, and the count holds"
    assert stock(right.engine, SKU)[0] == 55


def test_a_channel_that_is_paused_meanwhile_has_no_edit_adopted(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(right, 3)

    def pause() -> None:
        with write_transaction(right.engine) as connection:
            channels.set_status(connection, SHOP, "paused", actor="ann", reason="sale", now=right.clock.now())

    listing(right, monkeypatch, pause)
    level = right.level(SHOP, SKU)
    batch = batch_of(level.id, right.configuration.settings.sku_batches)
    (found,) = full_sync(right.processes[0], SHOP, batch, run_id="full").differences
    assert (found.done, booked(right.engine)) == ("reported: it was paused or stopped meanwhile", [])


def test_a_channel_that_counts_its_stock_itself_has_no_edit_adopted(world: LittleWorld) -> None:
    adopts(world.processes[0], "erp_main")
    before = stock(world.engine, SKU)
    world.erp.edit_available(SKU, world.shown("erp_main", SKU) - 4)
    found = run(world, "erp_main")
    assert found is not None
    assert found.done.startswith("reported: the channel tells its stock by counts")
    assert (stock(world.engine, SKU), booked(world.engine)) == (before, [])


def on_stage(stage: Stage, name: str) -> Difference | None:
    return full(stage.ws, name, stage.level("A").id)


@pytest.fixture
def amazon(each_database: str) -> AmazonStage:
    """An account with a certain level of 20, whose orders are known until some minutes ago."""
    stage = AmazonStage({"A": 20}, {"A": 20})
    stage.pushes(12)
    assert stage.level("A").uncertain is None
    adopts(stage.ws, AMAZON)
    return stage


def test_an_amazon_order_is_waited_for_until_amazon_lists_it(amazon: AmazonStage) -> None:
    amazon.account.buy({"A": 3})
    amazon.account.take_outgoing()
    found = on_stage(amazon, AMAZON)
    assert found is not None
    assert (found.observed, found.done) == (17, EXPLAINED)
    assert (booked(amazon.engine), stock(amazon.engine, "A")) == ([("reserve", 0, 3)], (20, 3))


def test_an_amazon_edit_is_adopted_once_the_list_reaches_past_its_reading(amazon: AmazonStage) -> None:
    began = amazon.clock.now()
    amazon.account.edit_stock("A", 25)
    found = on_stage(amazon, AMAZON)
    assert found is not None
    assert (found.observed, found.done, stock(amazon.engine, "A")) == (25, "adopted", (25, 0))
    assert timedelta(minutes=4) <= amazon.clock.now() - began < timedelta(minutes=15)


@pytest.mark.parametrize(("sold", "edited"), [(3, 0), (0, 5), (3, 5)])
@pytest.mark.parametrize("name", [ALIBABA, EBAY])
def test_where_orders_are_asked_for_in_other_ways_they_come_before_edits_too(
    tmp_path: Path, name: str, sold: int, edited: int
) -> None:
    stage = AlibabaStage(tmp_path, {"A": 20}) if name == ALIBABA else EbayStage({"A": 20})
    stage.settle()
    adopts(stage.ws, name)
    if sold:
        stage.account.buy({stage.levels["A"]: sold})
        stage.account.take_outgoing()
    if edited:
        stage.account.edit_stock(stage.levels["A"], 20 - sold + edited)
    stage.clock.advance(60)
    assert on_stage(stage, name) is not None
    adopted = 0 if sold else edited
    assert stock(stage.engine, "A") == (20 + adopted, sold)
    assert stage.account.books()[stage.levels["A"]] == 20 + adopted - sold
