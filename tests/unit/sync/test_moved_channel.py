"""A channel that goes on at another address: nothing of the one before is waited for, booked or forgotten there."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from invsync_dagster.events import Content
from invsync_dagster.inventory.tables import channels
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
    ws = world.processes[0]
    with monkeypatch.context() as patch:  # the copy has no orders of its own
        patch.setattr(ws.platform(ws.channel(WOO)), "orders_changed", lambda *window: OrdersPage(Content()))
        for _ in range(3):
            world.clock.advance(1200)
            assert world.push(WOO, skus=["none of these"]).problem == ""
    for process, configuration in zip(world.processes, live, strict=True):
        process.configuration = configuration
    world.clock.advance(300)
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
    for module in (client, feeds):
        monkeypatch.setattr(module, "BULK", SMALL)
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
        assert stage.push().problem == ""
        stage.clock.advance(60)
    assert open_submissions(stage) == []
    assert {stage.shown(sku) for sku in SKUS} == {60}


def test_a_patch_that_is_taken_at_the_address_before_is_not_waited_for_at_the_new_one() -> None:
    stage = AmazonStage({"A": 20}, {"A": 20})
    stage.pushes(12)
    before, moved = stage.ws, elsewhere(stage.ws)
    stage.count("A", 22)

    def move(when: str, request: Request) -> None:
        if when == "before" and request.method == "PATCH":
            stage.transport._on_send = None
            channel = moved.channel(AMAZON)
            calls = calls_of(moved, channel, stage.clock.now() + timedelta(minutes=1), background=False)
            require_our_shop(moved, channel, address_of(before.channel(AMAZON)), calls)

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
