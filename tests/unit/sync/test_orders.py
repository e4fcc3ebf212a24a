"""Webhooks and polls: booked once, in any order; what can't be understood is kept; what was lost is fetched."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from invsync_dagster.channels import NoSettings
from invsync_dagster.events import Content, LineReference, OrderDocument, OrderLine
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.tables import (
    central_inventory,
    channels,
    deliveries,
    order_lines,
    stock_ledger,
    unclear_orders,
)
from invsync_dagster.platforms.contract import OrdersPage
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries, apply_inbox
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from tests.simulation.built import SECRETS
from tests.simulation.processes import SimulatedDeathError
from tests.simulation.stock import is_listed
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
    world.inbox += [delivery._replace(receipt_id=f"again:{n}") for n, delivery in enumerate(world.inbox)]
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


def test_a_count_without_a_listing_is_kept_in_quarantine_under_its_receipt(world: LittleWorld) -> None:
    world.erp.add("NOT-MAPPED", 5)
    world.erp.restock("NOT-MAPPED", 1)
    world.deliver("erp_main")
    report = IntakeReport()
    refused = apply_deliveries(world.processes[0], world.inbox, report, run_id="intake")
    assert report.quarantined == 1
    assert [delivery.receipt_id for delivery, _ in refused] == [world.inbox[0].receipt_id]
    assert "NOT-MAPPED" in refused[0][1]


def test_the_entry_of_a_count_names_the_delivery_that_brought_it_whatever_order_they_came_in(
    world: LittleWorld,
) -> None:
    world.erp.restock(SKU, 1)
    world.clock.advance(5)
    world.erp.restock(SKU, 1)
    world.deliver("erp_main")
    older, newer = world.inbox
    apply_deliveries(world.processes[0], [newer, older], IntakeReport(), run_id="intake")
    with world.engine.connect() as connection:
        entry = connection.execute(select(stock_ledger).order_by(stock_ledger.c.sequence.desc()).limit(1)).one()
    assert (entry.kind, entry.reference) == ("count", newer.receipt_id)


def test_a_delivery_of_a_channel_that_is_gone_is_kept(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    world.inbox = [delivery._replace(channel="shop_closed") for delivery in world.inbox]
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
    world.sell("shop_eu", SKU)
    world.deliver("shop_main")
    world.deliver("shop_eu")
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


def signed_anew(world: LittleWorld, headers: dict[str, str], body: bytes) -> dict[str, str]:
    digest = hmac.new(SECRETS["HOOK"].encode(), body, hashlib.sha256).digest()
    return headers | {"X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode()}


@pytest.mark.parametrize(
    ("bad", "words"), [({"quantity": 10**20}, "quantity is not"), ({"sku": "\ud800"}, "can't be stored")]
)
def test_a_delivery_that_no_database_can_store_is_kept_and_stops_no_other(
    world: LittleWorld, bad: dict[str, object], words: str
) -> None:
    world.sell("shop_main", next(sku for sku in world.skus if sku != SKU and is_listed("shop_main", sku)))
    (first, *_) = world.shops["shop_main"].take_outgoing()
    order = json.loads(first.body)
    order["line_items"][0] |= bad
    body = json.dumps(order).encode()
    for _ in range(3):
        world.sell("shop_main", SKU)
    world.deliver("shop_main")
    world._deliver("shop_main", signed_anew(world, dict(first.headers), body), body)
    world.inbox.insert(2, world.inbox.pop())
    report = take(world)
    assert (report.deliveries, report.quarantined, report.entries) == (7, 1, 3)
    assert words in report.reasons[0]
    assert reserved(world) == 3
    with world.engine.connect() as connection:
        query = select(deliveries.c.receipt_id).where(deliveries.c.state == "quarantined")
        assert list(connection.execute(query).scalars()) == [world.inbox[2].receipt_id]
    assert take(world).duplicates == 6


def name_as_unclear(world: LittleWorld, *orders: str) -> None:
    content = Content(unclear_orders=orders)
    with write_transaction(world.engine) as connection:
        inbound = Inbound("shop_main", content, world.clock.now())
        ledger.apply(connection, [inbound], now=world.clock.now(), run_id="")


def unclear(world: LittleWorld) -> dict[str, str]:
    with world.engine.connect() as connection:
        query = select(unclear_orders.c.order_id, unclear_orders.c.reason)
        return {row.order_id: row.reason for row in connection.execute(query)}


def test_an_order_named_again_while_it_is_asked_for_is_asked_for_again(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_as_unclear(world, "1")
    platform = world.processes[0].platform(world.processes[0].channel("shop_main"))
    ask = platform.orders

    def meanwhile(order_ids: Sequence[str]) -> OrdersPage:
        answer = ask(order_ids)
        world.clock.advance(1)
        name_as_unclear(world, *order_ids)
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(platform, "orders", meanwhile)
        world.push("shop_main")
    assert list(unclear(world)) == ["1"]
    world.push("shop_main")
    assert unclear(world) == {}


def test_an_order_that_can_not_be_asked_for_stops_neither_the_others_nor_the_poll(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_as_unclear(world, "1", "2", "3")
    platform = world.processes[0].platform(world.processes[0].channel("shop_main"))
    ask = platform.orders

    def refuse(order_ids: Sequence[str]) -> OrdersPage:
        if "2" in order_ids:
            raise PlatformError(Recovery.REJECT, "order_too_large", "an order has 250 or more refunds")
        return ask(order_ids)

    monkeypatch.setattr(platform, "orders", refuse)
    began = world.clock.now()
    report = world.push("shop_main")
    assert unclear(world) == {"2": "order_too_large: an order has 250 or more refunds [reject]"}
    assert "order 2" in report.problem
    with world.engine.connect() as connection:
        known = select(channels.c.orders_known_until).where(channels.c.name == "shop_main")
        assert connection.execute(known).scalar_one() >= began


def test_the_first_poll_of_a_channel_promises_the_orders_that_are_open_from_before_its_cut_over(
    world: LittleWorld,
) -> None:
    open_order, shipped = world.sell("shop_main", SKU, 2), world.sell("shop_main", SKU, 3)
    shop = world.shops["shop_main"]
    shop.fulfil(shipped, {next(iter(shop.lines(shipped))): 3})
    shop.take_outgoing()
    world.clock.advance(3600)
    channel = channels.c
    begins = {"cut_over_at": world.clock.now(), "orders_known_until": None}
    with write_transaction(world.engine) as connection:
        connection.execute(update(channels).where(channel.name == "shop_main").values(begins))
    world.clock.advance(3600)
    assert world.push("shop_main").orders == 1
    assert reserved(world) == 2
    world.clock.advance(3600)
    world.push("shop_main")
    assert reserved(world) == 2
    shop.fulfil(open_order, {next(iter(shop.lines(open_order))): 2})
    world.deliver("shop_main")
    take(world)
    assert reserved(world) == 0


def test_a_large_order_that_is_open_at_the_cut_over_is_asked_for_whole(world: LittleWorld) -> None:
    skus = [f"SKU-{number:04}" for number in range(20) if is_listed("shop_main", f"SKU-{number:04}")]
    shop = world.shops["shop_main"]
    large = shop.buy({world.reference("shop_main", sku): 1 for sku in skus})
    for line in list(shop.lines(large))[1:]:
        shop.fulfil(large, {line: 1})
    shop.take_outgoing()
    world.clock.advance(60)
    begins = {"cut_over_at": world.clock.now(), "orders_known_until": None}
    with write_transaction(world.engine) as connection:
        connection.execute(update(channels).where(channels.c.name == "shop_main").values(begins))
    world.push("shop_main")
    with world.engine.connect() as connection:
        assert connection.execute(select(order_lines.c.ignored_reason)).scalars().all() == [""] * len(skus)


def test_a_poll_whose_answer_no_database_can_store_fails_alone_and_the_writes_go_on(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_as_unclear(world, "1")
    moment = world.clock.now()
    line = OrderLine("1", LineReference(platform_sku=SKU), ordered=10**20)
    page = OrdersPage(Content(documents=(OrderDocument("1", 1, moment, moment, (line,)),)))
    platform = world.processes[0].platform(world.processes[0].channel("shop_main"))
    monkeypatch.setattr(platform, "orders_changed", lambda since, until, cursor="": page)
    world.erp.restock(SKU, 5)
    world.deliver("erp_main")
    take(world)
    report = world.push("shop_main")
    assert report.problem.startswith("orders could not be listed: not_storable")
    assert report.acknowledged == 1


def test_a_poll_reaches_back_and_ahead_by_the_overlap_and_knows_until_it_began(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.push("shop_main")
    last = world.clock.now()
    world.clock.advance(1000)
    began = world.clock.now()
    windows: list[tuple[datetime, datetime]] = []
    platform = world.processes[0].platform(world.processes[0].channel("shop_main"))

    def slow(since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        windows.append((since, until))
        world.clock.advance(5)
        return OrdersPage(Content())

    monkeypatch.setattr(platform, "orders_changed", slow)
    world.push("shop_main")
    overlap = timedelta(seconds=world.configuration.settings.order_overlap_seconds)
    assert windows == [(last - overlap, began + overlap)]
    with world.engine.connect() as connection:
        known = select(channels.c.orders_known_until).where(channels.c.name == "shop_main")
        assert connection.execute(known).scalar_one() == began
