"""The daily count: a platform's orders of a day against ours, with what was missing booked, and each difference named."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, func, select, update

from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.inventory import channels, ledger
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.order_totals import KnownLine, known_orders
from invsync_dagster.inventory.orders import Totals
from invsync_dagster.inventory.tables import central_inventory, stock_ledger
from invsync_dagster.inventory.tables import channels as registered
from invsync_dagster.platforms.contract import OrdersPage
from invsync_dagster.sync import order_count
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.order_count import Difference, Kind, OrderCount, closed_days, count_orders, differences_of
from invsync_dagster.sync.subscriptions import watch_subscriptions
from tests.unit.sync.conftest import LittleWorld, quiet_world
from tests.unit.sync.ebay_stage import NAME as EBAY
from tests.unit.sync.ebay_stage import EbayStage

SKU, OTHER = "SKU-0001", "SKU-0004"
DAY = 86_400


@pytest.fixture
def world() -> LittleWorld:
    """The little world on one kind of database; the queries of the count are tried on each by the first tests."""
    return quiet_world()


@pytest.fixture
def each_world(each_database: str) -> LittleWorld:
    return quiet_world()


def count(world: LittleWorld, name: str = "shop_main", days: int = 1) -> OrderCount:
    return count_orders(world.processes[0], name, days=days, run_id="count")


def take(world: LittleWorld) -> None:
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.inbox.clear()


def lose(world: LittleWorld, name: str = "shop_main") -> None:
    world.shops[name].take_outgoing()


def reserved(world: LittleWorld, sku: str = SKU) -> int:
    query = select(central_inventory.c.reserved_quantity).where(central_inventory.c.sku == sku)
    with world.engine.connect() as connection:
        return connection.execute(query).scalar_one()


def available(world: LittleWorld) -> int:
    column = central_inventory.c
    with world.engine.connect() as connection:
        query = select(column.quantity - column.reserved_quantity).where(column.sku == SKU)
        return connection.execute(query).scalar_one()


def entries(world: LittleWorld) -> int:
    with world.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(stock_ledger)).scalar_one()


def named(found: OrderCount) -> list[tuple[str, Kind]]:
    return [(one.order_id, one.kind) for one in found.differences]


def test_a_day_whose_orders_were_all_heard_agrees_and_books_nothing(each_world: LittleWorld) -> None:
    world = each_world
    world.clock.advance(3600)
    first = world.shops["shop_main"].sell({SKU: 2, OTHER: 1})
    world.sell("shop_main", SKU)
    world.shops["shop_main"].fulfil(first)
    world.deliver("shop_main")
    take(world)
    before = entries(world)
    world.clock.advance(DAY)
    found = count(world)
    assert (found.orders_there, found.orders_here, found.units_there, found.units_here) == (2, 2, 4, 4)
    assert (found.different, found.unasked, found.problem) == (0, 0, "")
    assert entries(world) == before


def test_an_order_that_was_never_heard_of_is_named_and_booked(each_world: LittleWorld) -> None:
    world = each_world
    world.clock.advance(3600)
    world.sell("shop_main", OTHER)
    world.deliver("shop_main")
    take(world)
    lost = world.sell("shop_main", SKU, 2)
    lose(world)
    world.clock.advance(DAY)
    found = count(world)
    assert (found.orders_there, found.orders_here, found.units_there, found.units_here) == (2, 1, 3, 1)
    (one,) = found.differences
    assert (one.order_id, one.kind, one.ordered_there, one.ordered_here) == (lost, Kind.MISSING, 2, None)
    assert (found.entries, reserved(world)) == (1, 2)
    again = count(world)
    assert (again.orders_here, again.different, again.entries) == (2, 0, 0)


@pytest.mark.parametrize("shop", ["shop_main", "woo_main"])
def test_a_change_that_was_never_heard_of_is_named_with_both_totals_and_booked(world: LittleWorld, shop: str) -> None:
    world.clock.advance(3600)
    order = world.sell(shop, SKU, 2)
    world.deliver(shop)
    take(world)
    world.clock.advance(60)
    world.shops[shop].cancel(order)
    lose(world, shop)
    world.clock.advance(DAY)
    assert reserved(world) == 2
    found = count(world, shop)
    (one,) = found.differences
    assert (one.kind, one.ordered_there, one.ordered_here) == (Kind.TOTALS, 2, 2)
    assert (one.cancelled_there, one.cancelled_here) == (2, 0)
    assert (found.units_there, found.units_here, reserved(world)) == (0, 2, 0)


def test_an_order_that_must_be_asked_for_by_itself_is_compared_whole(world: LittleWorld) -> None:
    world.clock.advance(3600)
    order = world.sell("woo_main", SKU, 3)
    world.shops["woo_main"].fulfil(order)
    (line,) = world.shops["woo_main"].lines_of(order)
    world.shops["woo_main"].send_back(order, line.line_id, restock=True)
    lose(world, "woo_main")
    world.clock.advance(DAY)
    found = count(world, "woo_main")
    (one,) = found.differences
    assert (one.kind, one.ordered_there, found.entries) == (Kind.MISSING, 3, 3)
    assert count(world, "woo_main").different == 0


def test_ebays_cancellation_that_nobody_is_notified_of_is_found() -> None:
    stage = EbayStage({"A": 10})
    stage.clock.advance(3600)
    order = stage.account.buy({stage.levels["A"]: 2})
    partly = stage.account.buy({stage.levels["A"]: 3})
    stage.account.ship(partly, {next(iter(stage.account.order(partly).lines)): 1})
    stage.deliver()
    stage.push()
    stage.clock.advance(60)
    stage.account.cancel(order)
    stage.clock.advance(DAY)
    found = count_orders(stage.ws, EBAY, days=1, run_id="count")
    assert named(found) == [(order, Kind.TOTALS)]
    assert (found.orders_there, found.orders_here) == (2, 2)
    assert count_orders(stage.ws, EBAY, days=1, run_id="again").different == 0


def booked(world: LittleWorld, *documents: OrderDocument) -> None:
    content = Content(documents=documents)
    inbound = Inbound("shop_main", content, world.clock.now(), source="poll")
    with write_transaction(world.engine) as connection:
        ledger.apply(connection, [inbound], now=world.clock.now(), run_id="earlier")


def order_of(number: str, at: datetime, *lines: OrderLine, revision: int = 1, whole: bool = True) -> OrderDocument:
    return OrderDocument(number, revision, at, at, lines, whole=whole)


def line_of(number: str, ordered: int, **totals: object) -> OrderLine:
    return OrderLine(number, LineReference(platform_sku="nothing-like-it"), ordered, **totals)  # type: ignore[arg-type]


def test_an_open_order_that_the_platform_does_not_have_any_more_is_named(world: LittleWorld) -> None:
    world.clock.advance(3600)
    at = world.clock.now()
    ended = line_of("2", 2, shipments=(Movement(2, at),))
    booked(world, order_of("900001", at, line_of("1", 3), ended), order_of("900002", at, ended))
    world.clock.advance(DAY)
    found = count(world)
    assert [
        (one.order_id, one.line_id, one.kind, one.ordered_there, one.ordered_here) for one in found.differences
    ] == [("900001", "1", Kind.GONE, None, 3)]
    assert (found.orders_there, found.orders_here, found.units_here) == (0, 2, 7)


def test_more_unlisted_orders_than_can_be_asked_for_are_counted(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_count, "MOST_ASKED", 2)
    at = world.clock.now() + timedelta(seconds=60)
    booked(world, *(order_of(f"90000{number}", at, line_of("1", 1)) for number in range(5)))
    world.clock.advance(DAY)
    found = count(world)
    assert (len(found.differences), found.unasked) == (2, 3)


def test_an_order_that_is_another_days_by_the_platforms_clock_is_no_difference(world: LittleWorld) -> None:
    order = world.sell("shop_main", SKU)
    lose(world)
    world.clock.advance(2 * DAY)
    (document,) = world.processes[0].platform(world.processes[0].channel("shop_main")).orders([order]).content.documents
    late = document.updated_at + timedelta(days=1)
    booked(world, OrderDocument(order, document.revision, document.created_at, late, document.lines, whole=True))
    found = count(world)
    assert (found.orders_there, found.orders_here, found.different) == (0, 0, 0)


def test_days_end_in_the_time_zone_of_the_settings_and_several_can_be_counted(world: LittleWorld) -> None:
    zone = ZoneInfo("Europe/Berlin")
    since, until = closed_days(date(2026, 3, 30), 1, zone)
    # The day on which the clocks go forward has 23 hours.
    assert (since, until) == (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))
    for _ in range(3):
        world.sell("shop_main", SKU)
        world.clock.advance(DAY)
    lose(world)
    assert count(world, days=1).orders_there == 1
    assert count(world, days=3).orders_there == 3


def test_orders_of_today_are_not_counted(world: LittleWorld) -> None:
    world.clock.advance(DAY + 60)
    world.sell("shop_main", SKU)
    lose(world)
    world.clock.advance(60)
    found = count(world)
    assert (found.orders_there, found.different, reserved(world)) == (0, 0, 0)


def test_a_platform_that_refuses_us_is_the_counts_problem(world: LittleWorld) -> None:
    world.shops["shop_main"].access_token = "another"
    found = count(world)
    assert found.problem == (
        "unauthorized: the access token is not valid (HTTP 401: [API] Invalid API key or access token "
        "(unrecognized login or wrong password)) [re-authenticate]"
    )


def test_pages_of_a_large_day_are_all_compared(world: LittleWorld) -> None:
    world.clock.advance(60)
    sold = []
    world.shops["shop_main"].edit(SKU, 100)
    for _ in range(25):
        sold.append(world.sell("shop_main", SKU))
        world.clock.advance(1)
    lose(world)
    world.clock.advance(DAY)
    found = count(world)
    assert (found.orders_there, found.different, found.entries) == (25, 25, 25)
    assert sorted(one.order_id for one in found.differences) == sorted(sold)


@pytest.mark.parametrize(
    ("ours", "revision", "expected"),
    [
        ({}, 5, [Kind.MISSING]),
        ({"1": (5, (2, 0, 0, 0))}, 5, []),
        ({"1": (5, (3, 0, 0, 0))}, 5, [Kind.TOTALS]),
        # Ours is of a later change: it is what holds.
        ({"1": (6, (3, 0, 0, 0))}, 5, []),
        ({"1": (5, (2, 0, 0, 0)), "2": (5, (1, 0, 0, 0))}, 5, [Kind.TOTALS]),
        # A line that is gone there and promises nothing here.
        ({"1": (5, (2, 0, 0, 0)), "2": (5, (1, 1, 0, 0))}, 5, []),
        ({"1": (5, (2, 0, 0, 0)), "2": (6, (1, 0, 0, 0))}, 5, []),
        # Refunded without restocking: a policy may put it back.
        ({"1": (5, (2, 0, 0, 0, 1))}, 5, [Kind.TOTALS]),
    ],
)
def test_lines_differ_by_their_totals_unless_ours_is_of_a_later_change(
    ours: dict[str, tuple[int, tuple[int, ...]]], revision: int, expected: Sequence[Kind]
) -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    known = {line: KnownLine(seen, Totals(*totals)) for line, (seen, totals) in ours.items()}
    document = order_of("7", at, line_of("1", 2), revision=revision)
    assert [one.kind for one in differences_of(document, known)] == expected
    assert all(isinstance(one, Difference) for one in differences_of(document, known))


def test_pages_of_a_platform_that_wants_to_be_asked_seldom_are_far_apart(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = world.processes[0]
    platform = ws.platform(ws.channel("shop_main"))
    monkeypatch.setattr(platform, "_limits", replace(platform.limits, orders_every=300.0))
    asked: list[datetime] = []

    def page(since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        asked.append(world.clock.now())
        return OrdersPage(Content(), str(len(asked)) if len(asked) < 8 else "")

    monkeypatch.setattr(platform, "orders_changed", page)
    assert count(world).problem == ""
    gaps = [round((later - at).total_seconds()) >= 300 for at, later in itertools.pairwise(asked)]
    assert gaps == [False] * 4 + [True] * 3


def test_a_refund_that_was_not_heard_is_booked_by_the_channels_policy(world: LittleWorld) -> None:
    with write_transaction(world.engine) as connection:
        connection.execute(update(registered).where(registered.c.name == "shop_main").values(restock="always"))
    shop, before = world.shops["shop_main"], available(world)
    order = world.sell("shop_main", SKU)
    shop.fulfil(order)
    world.deliver("shop_main")
    take(world)
    with world.engine.connect() as connection:
        lines = known_orders(connection, "shop_main", [order])[order]
    shop.refund(order, dict.fromkeys(lines, 1), "no_restock")
    lose(world)
    world.clock.advance(DAY)
    found = count(world)
    assert [(one.written_off_there, one.written_off_here) for one in found.differences] == [(1, 0)]
    assert available(world) == before


def test_a_channel_that_is_not_registered_yet_is_not_counted(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    lose(world)
    world.clock.advance(DAY)
    with write_transaction(world.engine) as connection:
        connection.execute(delete(registered).where(registered.c.name == "shop_main"))
    # Its cut-over isn't set: what it sold before would be booked.
    found = count(world)
    assert (found.orders_there, found.entries, found.api_calls) == (0, 0, 0)


def test_a_retired_channel_is_neither_counted_nor_watched(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    lose(world)
    world.clock.advance(DAY)
    with write_transaction(world.engine) as connection:
        channels.set_status(connection, "shop_main", "retired", actor="test", reason="sold", now=world.clock.now())
    found = count(world)
    assert (found.orders_there, found.problem, found.api_calls) == (0, "", 0)
    assert watch_subscriptions(world.processes[0], "shop_main", mend=True).unwatched == "the channel is retired"


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shop", ["shop_main", "woo_main"])
def test_whatever_was_lost_is_named_and_the_shops_own_books_are_ours_afterwards(shop: str, seed: int) -> None:
    world, rng = quiet_world(), random.Random(seed)
    skus = [sku for sku, shown in world.shops[shop].shows().items() if shown > 3]
    unheard: set[str] = set()
    for _ in range(30):
        world.clock.advance(rng.uniform(1, 600))
        open_orders = world.shops[shop].open_orders()
        step = rng.choice(("sell", "sell", "cancel", "fulfil")) if open_orders else "sell"
        if step == "sell":
            order = world.sell(shop, rng.choice(skus))
        else:
            order = rng.choice(open_orders)
            getattr(world.shops[shop], step)(order)
        if rng.random() < 0.4:
            lose(world, shop)
            unheard.add(order)
        else:
            world.deliver(shop)
            take(world)
            # What a shop sends shows the whole order, with what was lost before.
            unheard.discard(order)
    world.clock.advance(DAY)
    found = count(world, shop)
    assert {one.order_id for one in found.differences} == unheard
    assert found.orders_there == len(world.shops[shop].order_ids())
    promised = dict.fromkeys(skus, 0)
    for order in world.shops[shop].order_ids():
        for line in world.shops[shop].lines_of(order):
            promised[line.sku] += line.unshipped
    assert {sku: reserved(world, sku) for sku in skus} == promised
    assert count(world, shop).different == 0
