"""Whether what channels send still comes in: the last delivery, orders that none told of, and the oldest that waits."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.hearing import Unheard, keep_silence, note_deliveries
from invsync_dagster.inventory.subscribed import expect_deliveries, mended_again, note_mends
from invsync_dagster.inventory.tables import channels
from invsync_dagster.settings import Home
from invsync_dagster.sync.hearing import hear, oldest_waiting
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests.unit.sync.conftest import LittleWorld

SKU = "SKU-0001"


def take(world: LittleWorld) -> None:
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.inbox.clear()


def row(world: LittleWorld, name: str = "shop_main"):
    with world.engine.connect() as connection:
        return connection.execute(select(channels).where(channels.c.name == name)).one()


def test_the_last_delivery_of_each_channel_is_noted_whatever_became_of_it(world: LittleWorld) -> None:
    assert row(world).last_delivery_at is None
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    take(world)
    first = row(world).last_delivery_at
    assert first == world.clock.now()
    world.clock.advance(60)
    unread = Delivery("shop_main", "orders/create", world.clock.now(), {}, b"not JSON", "unread:1")
    apply_deliveries(world.processes[0], [unread], IntakeReport(), run_id="intake")
    assert row(world).last_delivery_at == first + timedelta(seconds=60)
    assert row(world, "shop_eu").last_delivery_at is None


def test_a_replayed_delivery_is_no_news(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    kept = list(world.inbox)
    world.clock.advance(60)
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    take(world)
    last = row(world).last_delivery_at
    again = [each._replace(receipt_id=f"again:{number}") for number, each in enumerate(kept)]
    apply_deliveries(world.processes[0], again, IntakeReport(), run_id="intake")
    assert row(world).last_delivery_at == last


def test_an_order_that_no_delivery_told_of_for_an_hour_is_silence_until_the_next_delivery(world: LittleWorld) -> None:
    ws = world.processes[0]
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    take(world)
    world.clock.advance(3600)
    world.sell("shop_main", SKU)
    placed = world.clock.now().replace(microsecond=0)  # shops tell whole seconds
    world.shops["shop_main"].take_outgoing()
    world.clock.advance(300)
    world.push("shop_main")
    assert hear(ws, "shop_main").since is None
    world.clock.advance(3600)
    unheard = hear(ws, "shop_main")
    assert (unheard.changes, unheard.since) == (1, placed)
    assert row(world).silent_since == placed
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    take(world)
    assert row(world).silent_since is None
    assert hear(ws, "shop_main").changes == 0


def test_a_quiet_shop_is_not_silent(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    take(world)
    world.clock.advance(30 * 86_400)
    world.push("shop_main")
    assert hear(world.processes[0], "shop_main").since is None


def test_where_no_delivery_ever_came_none_is_expected(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.shops["shop_main"].take_outgoing()
    world.clock.advance(300)
    world.push("shop_main")
    world.clock.advance(86_400)
    unheard = hear(world.processes[0], "shop_main")
    assert (unheard.last_delivery_at, unheard.changes, unheard.since) == (None, 0, None)


def test_where_all_is_subscribed_to_a_first_delivery_is_expected(world: LittleWorld) -> None:
    ws = world.processes[0]
    with write_transaction(world.engine) as connection:
        expect_deliveries(connection, "shop_main", world.clock.now())
    subscribed = world.clock.now()
    world.clock.advance(86_400)
    assert hear(ws, "shop_main") == Unheard(None, subscribed, 0, None)
    world.sell("shop_main", SKU)
    placed = world.clock.now().replace(microsecond=0)
    world.shops["shop_main"].take_outgoing()
    world.clock.advance(300)
    world.push("shop_main")
    world.clock.advance(7200)
    assert hear(ws, "shop_main") == Unheard(None, subscribed, 1, placed)
    assert row(world).silent_since == placed
    with write_transaction(world.engine) as connection:
        expect_deliveries(connection, "shop_main", world.clock.now())
    assert row(world).subscribed_at == subscribed
    with write_transaction(world.engine) as connection:
        expect_deliveries(connection, "shop_main", None)
    assert hear(ws, "shop_main").since is None
    assert row(world).silent_since is None


def test_what_happened_before_all_was_subscribed_to_anew_is_no_silence(world: LittleWorld) -> None:
    ws = world.processes[0]
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    take(world)
    world.clock.advance(600)
    for _ in range(2):  # what is lost after it is silence again
        world.sell("shop_main", SKU)
        world.shops["shop_main"].take_outgoing()
        world.clock.advance(300)
        world.push("shop_main")
        world.clock.advance(7200)
        assert hear(ws, "shop_main").changes == 1
        with write_transaction(world.engine) as connection:
            expect_deliveries(connection, "shop_main", None)
            expect_deliveries(connection, "shop_main", world.clock.now())
        world.clock.advance(7200)
        assert hear(ws, "shop_main").changes == 0
        assert row(world).silent_since is None


def test_what_is_mended_twice_within_a_day_is_known_for_a_day(world: LittleWorld) -> None:
    def mend(made: dict[str, bool], hours: float) -> list[str]:
        world.clock.advance(hours * 3600)
        with write_transaction(world.engine) as connection:
            note_mends(connection, "shop_main", made, world.clock.now())
            return list(mended_again(connection, "shop_main", world.clock.now()))

    assert mend({"create": True, "update": True}, 0) == []  # set up
    assert mend({"create": True, "update": False}, 1) == []
    assert mend({"create": True}, 23.9) == ["create"]
    assert mend({}, 23.9) == ["create"]
    assert mend({}, 0.2) == []
    assert mend({"update": False}, 1) == []  # two days later
    with world.engine.connect() as connection:
        assert mended_again(connection, "shop_eu", world.clock.now()) == {}


def test_the_platforms_clock_may_be_ahead_of_ours(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    world.inbox[:] = [each._replace(received_at=each.received_at - timedelta(minutes=4)) for each in world.inbox]
    take(world)
    world.clock.advance(7200)
    assert hear(world.processes[0], "shop_main").since is None


def test_the_oldest_waiting_delivery_is_found_in_the_inbox(world: LittleWorld, tmp_path: Path) -> None:
    home = Home(root=tmp_path, data=tmp_path, database_url="", channels_file=tmp_path / "channels.yaml")
    assert oldest_waiting(home.inbox, world.clock.now()) is None
    Inbox(home.inbox).prepare(world.clock.now())
    assert oldest_waiting(home.inbox, world.clock.now()) is None
    writer = SegmentWriter(home.inbox, world.clock, random.Random(1))
    for _ in range(3):
        writer.write([Delivery("shop_main", "orders/create", world.clock.now(), {}, b"{}")])
        world.clock.advance(100)
    assert oldest_waiting(home.inbox, world.clock.now()) == timedelta(seconds=300)


def test_an_erp_whose_counts_come_by_lists_alone_is_silent(world: LittleWorld) -> None:
    ws = world.processes[0]
    world.erp.sell(SKU, 1)
    world.deliver("erp_main")
    take(world)
    assert row(world, "erp_main").last_delivery_at is not None
    world.clock.advance(600)
    world.erp.sell(SKU, 1)
    world.erp.take_outgoing()
    world.clock.advance(60)
    world.push("erp_main")
    world.clock.advance(3600)
    assert hear(ws, "erp_main").changes == 1


def test_a_delivery_that_comes_while_silence_is_looked_for_ends_it(world: LittleWorld) -> None:
    first, now = world.clock.now(), world.clock.advance(7200)
    with write_transaction(world.engine) as connection:
        note_deliveries(connection, [("shop_main", first)])
        looked = Unheard(first, None, 1, first)
        note_deliveries(connection, [("shop_main", now)])
        keep_silence(connection, "shop_main", looked)
    assert (row(world).last_delivery_at, row(world).silent_since) == (now, None)
