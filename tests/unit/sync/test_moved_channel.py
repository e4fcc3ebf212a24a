"""A channel that goes on at another address: nothing of the one before is waited for, booked or forgotten there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from invsync_dagster.channels import Configuration
from invsync_dagster.events import Content
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, unclear_orders
from invsync_dagster.platforms.amazon import client, feeds
from invsync_dagster.platforms.contract import LevelReference, OrdersPage, ReadAnswer
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sync.another_shop import ANOTHER_SHOP
from invsync_dagster.sync.letting_in import stop_channel
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.recognition import address_of, require_our_shop
from invsync_dagster.sync.workspace import Workspace
from tests.unit.sync.amazon_stage import NAME as AMAZON
from tests.unit.sync.amazon_stage import AmazonStage
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.test_adoption import stock
from tests.unit.sync.test_bulk import SKUS, SMALL, count_all, in_step, open_submissions
from tests.unit.sync.test_push import SKU
from tests.unit.sync.test_recognition import WOO, look, point_elsewhere, point_one_elsewhere, recognised

pytestmark = pytest.mark.usefixtures("each_database")
REFUSED = "token_refused: Amazon refuses a token that isn't new any more [retry]"
OTHER = "http://127.0.0.1:9/other"


def known_until(world: LittleWorld) -> datetime:
    query = select(channels.c.orders_known_until).where(channels.c.name == WOO)
    with world.engine.connect() as connection:
        known: datetime = connection.execute(query).scalar_one()
    return known


def elsewhere(ws: Workspace) -> Workspace:
    """Return the workspace of a process that has read another address of the Amazon account in channels.yaml."""
    channel = ws.channel(AMAZON)
    moved = replace(channel, settings=channel.settings.model_copy(update={"api_url": OTHER}))
    return replace(ws, configuration=replace(ws.configuration, channels=(moved,)))


def small_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (client, feeds):
        monkeypatch.setattr(module, "BULK", SMALL)


def recognise_at(moved: Workspace, before: Workspace, now: datetime) -> None:
    """Let a process that has read another address recognise the account there, and go no further."""
    channel = moved.channel(AMAZON)
    calls = calls_of(moved, channel, now + timedelta(minutes=1), background=False)
    require_our_shop(moved, channel, address_of(before.channel(AMAZON)), calls)


def without_orders(world: LittleWorld, patch: pytest.MonkeyPatch, unclear: tuple[str, ...] = ()) -> None:
    """Let the store list no orders, as a copy has none of its own; those that are asked for are `unclear`."""
    ws = world.processes[0]
    platform = ws.platform(ws.channel(WOO))
    for listed in ("orders_changed", "open_orders"):
        patch.setattr(platform, listed, lambda *window: OrdersPage(Content()))
    patch.setattr(platform, "orders", lambda ids: OrdersPage(Content(unclear_orders=unclear)))


def an_hour_at_the_copy(world: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        without_orders(world, patch)
        for _ in range(3):
            world.clock.advance(1200)
            assert world.push(WOO, skus=["none of these"]).problem == ""


def back(world: LittleWorld, live: list[Configuration]) -> None:
    """Let all processes read the address of before in channels.yaml again."""
    for process, configuration in zip(world.processes, live, strict=True):
        process.configuration = configuration
    world.clock.advance(300)


def test_orders_of_an_address_that_comes_back_are_listed_from_when_it_was_left(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, shown = stock(world.engine, SKU), world.shown(WOO, SKU)
    live = [process.configuration for process in world.processes]
    point_elsewhere(world)
    world.clock.advance(60)
    world.push(WOO)
    assert world.changes(WOO) == 0
    world.clock.advance(600)
    world.sell(WOO, SKU, 3)
    world.shops[WOO].take_outgoing()
    an_hour_at_the_copy(world, monkeypatch)
    back(world, live)
    assert (world.push(WOO).problem, stock(world.engine, SKU)) == ("", (before[0], before[1] + 3))
    assert world.shown(WOO, SKU) == shown - 3


def test_who_looked_at_the_address_before_does_not_bring_it_back(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = world.processes[0]
    stop_channel(ws, WOO, f"{ANOTHER_SHOP}: so it seemed")
    point_one_elsewhere(world.processes[1], OTHER)
    platform: Any = ws.platform(ws.channel(WOO))
    read, moved = platform.read, list[bool]()

    def reads(asked: list[LevelReference]) -> ReadAnswer:
        answer: ReadAnswer = read(asked)
        if not moved:
            moved.append(True)
            assert world.push(WOO, process=1).problem == ""
        return answer

    monkeypatch.setattr(platform, "read", reads)
    world.push(WOO)
    assert moved == [True]
    assert recognised(world) == address_of(world.processes[1].channel(WOO))


def test_orders_that_the_address_before_lists_meanwhile_are_not_booked(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = world.processes[0]
    world.clock.advance(600)
    world.sell(WOO, SKU, 2)
    world.shops[WOO].take_outgoing()
    before, known = stock(world.engine, SKU), known_until(world)
    platform: Any = ws.platform(ws.channel(WOO))
    orders_changed = platform.orders_changed

    def moves(*window: Any) -> OrdersPage:
        page: OrdersPage = orders_changed(*window)
        point_one_elsewhere(world.processes[1], OTHER)
        look(world, process=1)
        return page

    monkeypatch.setattr(platform, "orders_changed", moves)
    world.push(WOO)
    assert recognised(world) == address_of(world.processes[1].channel(WOO))
    assert (stock(world.engine, SKU), known_until(world)) == (before, known)


@pytest.mark.parametrize("status", [404, 403])
def test_a_feed_of_the_address_before_keeps_no_number_too_high_at_the_new_one(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    small_feeds(monkeypatch)
    stage = in_step()
    handle = stage.account.handle

    def knows_no_feed(request: Request) -> Response:
        if "/feeds/" in request.url and request.method == "GET":
            words = b'{"errors":[{"code":"Unauthorized","message":"Access is denied."}]}'
            return Response(status, {"content-type": "application/json"}, words)
        return handle(request)

    count_all(stage, 60)
    stage.push()
    assert len(open_submissions(stage)) == 1
    stage.transport._handler = knows_no_feed
    for sku in SKUS:
        stage.account.edit_stock(sku, 90)
    stage.ws.configuration = elsewhere(stage.ws).configuration
    for _ in range(3):
        assert stage.push().problem in ("", REFUSED)
        stage.clock.advance(60)
    assert {stage.level(sku).bulk_handle for sku in SKUS} == {None}
    assert {stage.shown(sku) for sku in SKUS} == {60}
    stage.transport._handler = handle
    count_all(stage, 70)
    stage.clock.advance(2 * 3600)
    stage.settle()
    assert {stage.shown(sku) for sku in SKUS} == {70}


def test_a_patch_that_is_taken_at_the_address_before_is_not_waited_for_at_the_new_one() -> None:
    stage = AmazonStage({"A": 20}, {"A": 20})
    stage.pushes(12)
    before, moved = stage.ws, elsewhere(stage.ws)
    stage.count("A", 22)

    def move(when: str, request: Request) -> None:
        if when == "before" and request.method == "PATCH":
            stage.transport._on_send = None
            recognise_at(moved, before, stage.clock.now())

    stage.transport._on_send = move
    stage.push()
    stage.ws = moved
    assert (stage.level("A").uncertain, stage.level("A").accepted_quantity) == ("new_address", None)
    stage.clock.advance(130)
    stage.account.edit_stock("A", 90)
    for _ in range(3):
        stage.push()
        stage.clock.advance(60)
    assert stage.shown("A") == 22


@pytest.mark.parametrize("seconds", [1200, 7200])
def test_a_feed_that_lands_late_in_the_same_account_by_another_address_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    small_feeds(monkeypatch)
    stage = in_step(feed_seconds=seconds)
    count_all(stage, 60)
    stage.push()
    stage.clock.advance(60)
    stage.ws.configuration = elsewhere(stage.ws).configuration
    stage.push()
    stage.clock.advance(60)
    count_all(stage, 20)
    for _ in range(280):
        stage.push()
        stage.clock.advance(60)
    assert ({stage.shown(sku) for sku in SKUS}, stage.changes()) == ({20}, [])


@pytest.mark.parametrize("seconds", [600, 1500])
def test_a_feed_that_is_handed_in_while_the_channel_moves_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    small_feeds(monkeypatch)
    stage = in_step(feed_seconds=seconds)
    before, moved = stage.ws, elsewhere(stage.ws)
    count_all(stage, 60)

    def move(when: str, request: Request) -> None:
        if when == "before" and request.method == "POST" and request.url.endswith("/feeds"):
            stage.transport._on_send = None
            recognise_at(moved, before, stage.clock.now())

    stage.transport._on_send = move
    stage.push()
    stage.ws = moved
    assert len(open_submissions(stage)) == 1
    stage.clock.advance(60)
    count_all(stage, 20)
    for _ in range(90):
        stage.push()
        stage.clock.advance(60)
    assert ({stage.shown(sku) for sku in SKUS}, stage.changes()) == ({20}, [])


def test_an_address_that_was_left_before_its_first_list_of_orders_has_them_all_listed(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, live = stock(world.engine, SKU), [process.configuration for process in world.processes]
    with write_transaction(world.engine) as connection:
        connection.execute(update(channels).where(channels.c.name == WOO).values(orders_known_until=None))
    world.sell(WOO, SKU, 3)
    world.shops[WOO].take_outgoing()
    point_elsewhere(world)
    world.clock.advance(60)
    an_hour_at_the_copy(world, monkeypatch)
    back(world, live)
    assert world.push(WOO).problem == ""
    assert stock(world.engine, SKU) == (before[0], before[1] + 3)


def test_an_unclear_order_that_another_address_knows_nothing_of_is_asked_for_once_the_channel_is_back(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, live = stock(world.engine, SKU), [process.configuration for process in world.processes]
    world.clock.advance(600)
    order = str(world.sell(WOO, SKU, 3))
    world.shops[WOO].take_outgoing()
    with monkeypatch.context() as patch:  # the list leaves it out, and it can't be told yet
        without_orders(world, patch, unclear=(order,))
        unclear = {"channel": WOO, "order_id": order, "since": world.clock.now(), "reason": "refund"}
        with write_transaction(world.engine) as connection:
            connection.execute(insert(unclear_orders).values(unclear))
        world.clock.advance(300)
        world.push(WOO, skus=["none of these"])
    point_elsewhere(world)
    with monkeypatch.context() as patch:
        without_orders(world, patch)
        world.clock.advance(300)
        world.push(WOO, skus=["none of these"])
    back(world, live)
    for _ in range(3):
        world.clock.advance(1300)
        world.push(WOO)
    assert stock(world.engine, SKU) == (before[0], before[1] + 3)


def test_an_address_that_was_left_answers_no_unclear_order_of_the_one_gone_back_to(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stock(world.engine, SKU)
    world.clock.advance(600)
    order = str(world.sell(WOO, SKU, 3))
    world.shops[WOO].take_outgoing()
    with monkeypatch.context() as patch:
        without_orders(world, patch, unclear=(order,))
        named = {"channel": WOO, "order_id": order, "since": world.clock.now(), "reason": "refund"}
        with write_transaction(world.engine) as connection:
            connection.execute(insert(unclear_orders).values(named))
        world.clock.advance(300)
        world.push(WOO, skus=["none of these"])
    copy = world.processes[1]
    point_one_elsewhere(copy, OTHER)
    platform = copy.platform(copy.channel(WOO))
    asked: list[str] = []

    def go_back_meanwhile(order_ids: Sequence[str]) -> OrdersPage:
        asked.extend(order_ids)
        look(world)
        return OrdersPage(Content())

    with monkeypatch.context() as patch:
        for listed in ("orders_changed", "open_orders"):
            patch.setattr(platform, listed, lambda *_: OrdersPage(Content()))
        patch.setattr(platform, "orders", go_back_meanwhile)
        world.clock.advance(300)
        world.push(WOO, process=1, skus=["none of these"])
    assert asked == [order]
    for _ in range(3):
        world.clock.advance(1300)
        world.push(WOO)
    assert stock(world.engine, SKU) == (before[0], before[1] + 3)
