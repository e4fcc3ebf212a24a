"""Whenever it is in doubt whether a number is an edit, it is reported: what is adopted stays in the stock for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from invsync_dagster.events import LineReference
from invsync_dagster.inventory import lines
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.references import resolve
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.contract import LevelReference, ReadAnswer
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync import adoption, reconcile
from invsync_dagster.sync.differences import FullSyncReport
from invsync_dagster.sync.recognition import ELSEWHERE, MOVING
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.test_adoption import SHOP, SKU, adopts, booked, edit, listing, stock, unheard
from tests.unit.sync.test_recognition import WOO, look, point_elsewhere


def set_to(world: LittleWorld, **settings: Any) -> None:
    ws = world.processes[0]
    ws.configuration = replace(ws.configuration, settings=ws.configuration.settings.model_copy(update=settings))


@pytest.fixture
def right(world: LittleWorld) -> LittleWorld:
    """The little world whose shop is right, in one batch; its last orders were heard of an hour ago."""
    adopts(world.processes[0], SHOP)
    set_to(world, sku_batches=1)
    world.clock.advance(3600)
    return world


def others(world: LittleWorld, many: int) -> list[str]:
    """Return SKUs beside `SKU` that the shop shows several of."""
    shown = world.shops[SHOP].shows()
    return sorted(sku for sku, quantity in shown.items() if sku != SKU and quantity > 3)[:many]


def edit_of(world: LittleWorld, sku: str, more: int) -> None:
    world.shops[SHOP].edit_stock(world.reference(SHOP, sku), world.shown(SHOP, sku) + more)


def whole(world: LittleWorld, channel: str = SHOP) -> FullSyncReport:
    return full_sync(world.processes[0], channel, 0, run_id="full")


def done(world: LittleWorld) -> dict[str, str]:
    """Run all of the shop; return by SKU what was done about its difference."""
    report = whole(world)
    assert report.problem == ""
    return {one.sku: one.done for one in report.differences}


def test_one_level_that_is_sold_all_the_time_keeps_no_other_from_being_adopted(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    [other] = others(right, 1)
    edit(right, 60)
    edit_of(right, other, 2)

    def sell() -> None:
        right.sell(SHOP, SKU)
        unheard(right)

    listing(right, monkeypatch, sell)
    began = right.clock.now()
    assert done(right) == {SKU: adoption.EXPLAINED, other: "adopted"}
    assert {kind for kind, *_ in booked(right.engine)} == {"reserve", "adopt"}
    assert [entry for entry in booked(right.engine) if entry[0] == "adopt"] == [("adopt", 2, 0)]
    assert right.clock.now() - began < timedelta(minutes=4)


@pytest.mark.parametrize(("back", "entries"), [(-3, []), (-2, []), (0, [("adopt", 3, 0)])])
def test_an_edit_that_is_changed_again_before_the_orders_are_known_is_not_adopted(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch, back: int, entries: list[Any]
) -> None:
    before, at = stock(right.engine, SKU), right.clock.now()
    edit(right, 3)
    changed: list[int] = []

    def change() -> None:
        if right.clock.now() - at > timedelta(seconds=60) and not changed:
            changed.append(back)
            edit(right, back)

    listing(right, monkeypatch, change)
    assert done(right) == {SKU: "adopted" if entries else adoption.CHANGED}
    assert changed == [back]
    assert booked(right.engine) == entries
    assert stock(right.engine, SKU)[0] == before[0] + sum(more for _, more, _ in entries)
    monkeypatch.undo()
    if back == -3:
        assert done(right) == {}
    if back == -2:
        assert (done(right), booked(right.engine)) == ({SKU: "adopted"}, [("adopt", 1, 0)])


def test_while_an_order_line_belongs_to_no_listing_nothing_is_adopted(right: LittleWorld) -> None:
    shop, [other] = right.shops[SHOP], others(right, 1)
    new = shop.add_article("NEW", 5)
    shop._skus[new] = "NEW"
    shop.buy({new: 1})
    unheard(right)
    edit(right, 3)
    words = "1 order lines belong to no listing: map them (invsync discover shop_main)"
    assert done(right) == {SKU: f"reported, not adopted: {words}; the next full run looks again"}
    assert booked(right.engine) == []
    with write_transaction(right.engine) as connection:
        mapped = Listing(SHOP, other, new.item_id, new.location_id, platform_sku="NEW")
        set_listings(connection, [mapped], actor="ann", reason="test", now=right.clock.now())
    right.push(SHOP)
    right.clock.advance(600)
    assert (done(right)[SKU], booked(right.engine)) == ("adopted", [("adopt", 3, 0)])


@pytest.mark.parametrize("to_zero", [True, False])
def test_the_limits_are_judged_over_what_would_be_adopted(right: LittleWorld, to_zero: bool) -> None:
    ws = right.processes[0]
    limits = ws.configuration.settings.import_limits.model_copy(update={"zeroed_minimum": 1})
    set_to(right, import_limits=limits)
    [other] = others(right, 1)
    edit(right, 3)
    edit_of(right, other, -right.shown(SHOP, other) if to_zero else 1)
    told = done(right)
    if to_zero:
        assert told == {SKU: "adopted", other: "reported: its rules leave open how many are on hand"}
    else:
        assert set(told.values()) == {"reported: 2 listings, 4 units in one run are too many to adopt unseen"}
    assert booked(right.engine) == ([("adopt", 3, 0)] if to_zero else [])


def test_what_cannot_be_read_once_more_is_reported_and_the_rest_is_adopted(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    [other] = others(right, 1)
    edit(right, 3)
    edit_of(right, other, 2)
    ws, at = right.processes[0], right.clock.now()
    platform: Any = ws.platform(ws.channel(SHOP))
    read, refused = platform.read, right.reference(SHOP, SKU).item_id
    monkeypatch.setattr(platform, "_limits", replace(platform.limits, read_batch=1))

    def reads(asked: Sequence[LevelReference]) -> ReadAnswer:
        if asked[0].item_id == refused and right.clock.now() - at > timedelta(seconds=60):
            raise PlatformError(Recovery.REJECT, "not_now", "no reading now")
        answer: ReadAnswer = read(asked)
        return answer

    monkeypatch.setattr(platform, "read", reads)
    told = {one.sku: one.done for one in whole(right).differences}
    words = "it could not be read once more: not_now: no reading now [reject]"
    assert told == {other: "adopted", SKU: f"reported, not adopted: {words}; the next full run looks again"}
    assert booked(right.engine) == [("adopt", 2, 0)]


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_order_of_an_item_at_two_locations_that_names_none_of_them_is_booked_once(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    def untold(connection: Any, channel: str, references: Any) -> Any:
        bare = {one: LineReference(one.platform_sku, one.item_id, one.variant_id) for one in references}
        found = resolve(connection, channel, set(bare.values()))
        return {one: found[name] for one, name in bare.items() if name in found}

    monkeypatch.setattr(lines, "resolve", untold)
    shop, here = world.shops[SHOP], world.reference(SHOP, SKU)
    there = LevelReference(here.item_id, shop.add_location())
    shop.stock(there, 0)
    shop._skus[there] = f"{SKU} there"
    with write_transaction(world.engine) as connection:
        one = Listing(SHOP, SKU, there.item_id, there.location_id, platform_sku=SKU)
        set_listings(connection, [one], actor="ann", reason="two warehouses", now=world.clock.now())
    world.push(SHOP)
    world.clock.advance(3600)
    assert world.push(SHOP).problem == ""
    adopts(world.processes[0], SHOP)
    set_to(world, sku_batches=1)
    (on_hand, reserved), shown = stock(world.engine, SKU), world.shown(SHOP, SKU)
    assert world.changes(SHOP) == 0
    assert shown == shop.shows()[f"{SKU} there"]
    order = world.sell(SHOP, SKU, 2)
    unheard(world)
    if cancelled:
        world.push(SHOP)
        world.clock.advance(600)
        world.push(SHOP)
        shop.cancel(order)
        unheard(world)
    world.clock.advance(600)
    entry = ("release", 0, -2) if cancelled else ("reserve", 0, 2)
    told = done(world)
    assert set(told.values()) == {adoption.EXPLAINED}
    assert booked(world.engine) == [entry]
    world.clock.advance(600)
    done(world)
    assert booked(world.engine) == [entry]
    assert stock(world.engine, SKU) == (on_hand, reserved + (0 if cancelled else 2))


def test_a_batch_that_is_under_way_at_the_address_before_settles_nothing_at_the_new_one(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = world.processes[0]
    set_to(world, sku_batches=1)
    monkeypatch.setattr(reconcile, "LEVELS_COMPARED_AT_ONCE", 4)
    monkeypatch.setattr(reconcile, "LEVELS_BETWEEN_LOOKS", 4)
    platform: Any = ws.platform(ws.channel(WOO))
    read, calls = platform.read, [0]

    def reads(asked: Sequence[LevelReference]) -> ReadAnswer:
        calls[0] += 1
        answer: ReadAnswer = read(asked)
        if calls[0] == 1:
            point_elsewhere(world)
            look(world, process=1)
        return answer

    monkeypatch.setattr(platform, "read", reads)
    report = whole(world, WOO)
    assert (report.problem, report.levels, world.changes(WOO)) == (ELSEWHERE, 0, 16)
    monkeypatch.undo()
    assert world.push(WOO, process=1).problem == ""
    assert world.changes(WOO) == 0
    assert (again := whole(world, WOO)).problem == ""
    assert again.equal == 16


def test_an_edit_is_not_adopted_while_the_channel_is_moving_to_another_address(
    right: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, before, at = right.processes[0], stock(right.engine, SKU), right.clock.now()
    edit(right, 3)
    platform: Any = ws.platform(ws.channel(SHOP))
    read = platform.read

    def reads(asked: Sequence[LevelReference]) -> ReadAnswer:
        if right.clock.now() - at > timedelta(seconds=60):  # once more; no level is in doubt yet
            with write_transaction(right.engine) as connection:
                connection.execute(update(channels).where(channels.c.name == SHOP).values(recognised=MOVING))
        answer: ReadAnswer = read(asked)
        return answer

    monkeypatch.setattr(platform, "read", reads)
    report = whole(right)
    assert (report.problem, [one.done for one in report.differences]) == (ELSEWHERE, [reconcile.NOT_DONE])
    assert (stock(right.engine, SKU), booked(right.engine)) == (before, [])
    monkeypatch.undo()
    right.keep_address(SHOP)
    assert (done(right), booked(right.engine)) == ({SKU: "adopted"}, [("adopt", 3, 0)])
