"""Webhooks and polls: booked once, in any order; what can't be understood is kept; what was lost is fetched."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.channels import NoSettings
from invsync_dagster.inventory.tables import central_inventory, channels, deliveries, stock_ledger
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries, apply_inbox
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from tests.simulation.world import SimulatedDeathError
from tests.unit.sync.conftest import LittleWorld

SKU = "SKU-0001"


def reserved(world: LittleWorld) -> int:
    with world.engine.connect() as connection:
        return connection.execute(
            select(central_inventory.c.reserved_quantity).where(central_inventory.c.sku == SKU)
        ).scalar_one()


def entries(world: LittleWorld) -> int:
    with world.engine.connect() as connection:
        return len(connection.execute(select(stock_ledger.c.sequence)).all())


def take(world: LittleWorld) -> IntakeReport:
    report = IntakeReport()
    apply_deliveries(world.processes[0], world.inbox, report, run_id="intake")
    return report


def test_the_pair_of_webhooks_of_one_sale_and_their_doubles_book_it_once(world: LittleWorld) -> None:
    before = entries(world)
    world.sell("shop_main", SKU, 2)
    world.deliver("shop_main")
    world.inbox += [replace(delivery, receipt_id=f"again:{n}") for n, delivery in enumerate(world.inbox)]
    report = take(world)
    assert (report.deliveries, report.entries) == (4, 1)
    assert reserved(world) == 2
    assert take(world).duplicates == 4
    assert entries(world) == before + 1


def test_a_sale_whose_webhooks_are_lost_is_booked_by_the_next_cycle_and_lowers_the_others(world: LittleWorld) -> None:
    shown = world.shown("erp_main", SKU)
    world.sell("shop_main", SKU)
    world.shops["shop_main"].take_outgoing()
    world.clock.advance(300)
    assert world.push("shop_main").orders == 1
    assert reserved(world) == 1
    world.push("erp_main")
    assert world.shown("erp_main", SKU) == shown - 1


def test_a_poll_sees_orders_again_in_the_overlap_and_books_nothing_twice(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    take(world)
    before = entries(world)
    world.clock.advance(60)
    assert world.push("shop_main").orders == 1
    assert entries(world) == before


def test_the_orders_are_known_until_the_poll_began_and_not_further_if_it_fails(world: LittleWorld) -> None:
    def known() -> object:
        with world.engine.connect() as connection:
            return connection.execute(
                select(channels.c.orders_known_until).where(channels.c.name == "shop_main")
            ).scalar_one()

    world.clock.advance(300)
    began = world.clock.now()
    world.push("shop_main")
    assert known() == began
    world.clock.advance(300)
    world.shops["shop_main"].access_token = "revoked"
    world.push("shop_main")
    assert known() == began


def test_a_refund_names_its_order_and_the_whole_order_is_asked_for(world: LittleWorld) -> None:
    order = world.sell("shop_main", SKU, 2)
    shop = world.shops["shop_main"]
    (line,) = shop.lines(order)
    world.clock.advance(400)  # so that the poll's window does not reach back to the refund
    shop.refund(order, {line: 1}, "cancel")
    refund = [d for d in shop.take_outgoing() if d.headers["X-Shopify-Topic"] == "refunds/create"]
    world.clock.advance(400)
    for delivery in refund:
        world._deliver("shop_main", dict(delivery.headers), delivery.body)
    take(world)
    assert reserved(world) == 0
    world.push("shop_main")
    assert reserved(world) == 1


def test_what_can_not_be_understood_is_kept_with_its_reason_and_the_rest_goes_on(world: LittleWorld) -> None:
    shop = world.shops["shop_main"]
    shop.send_webhook("orders/create", {"id": "no order at all"})
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    report = take(world)
    assert report.quarantined == 1
    assert reserved(world) == 1
    with world.engine.connect() as connection:
        row = connection.execute(select(deliveries).where(deliveries.c.state == "quarantined")).one()
    assert row.channel == "shop_main"
    assert row.reason == report.reasons[0]


def test_a_death_between_the_ledger_and_the_move_applies_nothing_twice(
    world: LittleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = world.processes[0]
    ws.home = replace(ws.home, data=tmp_path)
    inbox = Inbox(ws.home.inbox)
    inbox.prepare(world.clock.now())
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    SegmentWriter(ws.home.inbox, world.clock, ws.rng).write(world.inbox)
    world.inbox.clear()

    def die(self: Inbox, path: Path) -> None:
        raise SimulatedDeathError

    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "finish", die)
        with pytest.raises(SimulatedDeathError):
            apply_inbox(ws, run_id="one")
    before = entries(world)
    assert len(inbox.segments(10)) == 1
    report = apply_inbox(ws, run_id="two")
    assert (report.segments, report.entries, report.duplicates) == (1, 0, 2)
    assert entries(world) == before
    assert inbox.segments(10) == []
    assert reserved(world) == 1


def test_a_delivery_of_a_channel_that_is_gone_is_kept(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    world.inbox = [replace(delivery, channel="shop_closed") for delivery in world.inbox]
    report = take(world)
    assert report.quarantined == 2
    assert "shop_closed" in report.reasons[0]


def test_an_old_order_far_outside_the_window_is_not_asked_again(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.push("shop_main")
    world.clock.advance(timedelta(hours=2).total_seconds())
    world.push("shop_main")
    world.clock.advance(timedelta(hours=2).total_seconds())
    assert world.push("shop_main").orders == 0


def test_a_delivery_of_a_channel_that_is_disabled_is_kept_and_the_others_go_on(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.sell("shop_outlet", SKU)
    world.deliver("shop_main")
    world.deliver("shop_outlet")
    disabled = tuple(
        replace(channel, settings=NoSettings(), disabled_reason="line 4: no address")
        if channel.name == "shop_main"
        else channel
        for channel in world.configuration.channels
    )
    world.processes[0].configuration = replace(world.configuration, channels=disabled)
    report = take(world)
    assert report.quarantined == 2
    assert "line 4: no address" in report.reasons[0]
    assert reserved(world) == 1
