"""A database server that goes away in mid-cycle, and comes back: said in one sentence, nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select

from invsync_dagster.inventory import database
from invsync_dagster.inventory.database import DatabaseGoneError
from invsync_dagster.inventory.tables import deliveries, stock_ledger
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from tests import databases
from tests.postgres_server import shared_server
from tests.unit.sync.conftest import LittleWorld, quiet_world

SKU = "SKU-0001"
SENTENCE = r"the stock's database can't be used: .+ What was under way and not committed has not happened"


@pytest.fixture
def world() -> Iterator[LittleWorld]:
    databases.use("postgresql")
    yield quiet_world()
    databases.use("sqlite")


def apply(world: LittleWorld) -> IntakeReport:
    report = IntakeReport()
    apply_deliveries(world.processes[0], world.inbox, report, run_id="intake")
    return report


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_push_whose_answer_can_not_be_recorded_is_settled_once_the_database_is_back(
    world: LittleWorld, moment: str
) -> None:
    world.erp.restock(SKU, 5)
    world.deliver("erp_main")
    apply(world)
    attempt = world.level("erp_main", SKU).attempt

    def server_dies(when: str, request: Request) -> None:
        if when == moment and request.url.endswith("/stock"):
            databases.stop_server()

    world.transports["erp_main"]._on_send = server_dies
    with pytest.raises(DatabaseGoneError, match=SENTENCE):
        world.push("erp_main")
    world.transports["erp_main"]._on_send = None
    with pytest.raises(DatabaseGoneError, match=SENTENCE):
        world.push("erp_main", process=1)

    shared_server().start()
    level = world.level("erp_main", SKU)
    assert (level.attempt, level.claim is not None) == (attempt + 1, True)
    assert world.push("erp_main", process=1).pushed == 0  # its owner lives: its claim is respected
    world.clock.advance(130)
    world.push("erp_main", process=1)
    assert world.level("erp_main", SKU).claim is None
    world.clock.advance(200)
    world.push("erp_main", process=1)
    level = world.level("erp_main", SKU)
    assert world.shown("erp_main", SKU) == level.desired == level.acknowledged_quantity
    assert world.changes("erp_main") == 0
    assert world.audit() == []


@pytest.mark.parametrize("statement", [1, 4, 9])
def test_deliveries_cut_off_in_mid_transaction_are_applied_once_the_database_is_back(
    world: LittleWorld, statement: int
) -> None:
    world.sell("shop_main", SKU)
    world.sell("shop_main", "SKU-0003", 2)
    assert world.deliver("shop_main") >= 2
    count = 0

    def server_dies(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
        nonlocal count
        count += 1
        if count == statement:
            databases.stop_server()

    event.listen(world.engine, "before_cursor_execute", server_dies)
    with pytest.raises(DatabaseGoneError, match=SENTENCE):
        apply(world)
    event.remove(world.engine, "before_cursor_execute", server_dies)

    shared_server().start()
    with world.engine.connect() as connection:
        assert connection.execute(select(deliveries)).all() == []
        assert connection.execute(select(stock_ledger).where(stock_ledger.c.channel == "shop_main")).all() == []
    first = apply(world)
    assert first.entries == 2
    assert apply(world).entries == 0
    assert world.audit() == []


def test_a_rested_connection_that_died_is_replaced_without_anybody_noticing(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RESTED_SECONDS", 0.0)
    before = world.level("shop_main", SKU).desired
    databases.stop_server()
    shared_server().start()
    assert world.level("shop_main", SKU).desired == before


def test_a_connection_that_died_just_now_is_told_of_once_and_replaced(world: LittleWorld) -> None:
    before = world.level("shop_main", SKU).desired
    databases.stop_server()
    shared_server().start()
    with pytest.raises(DatabaseGoneError, match=SENTENCE):
        world.level("shop_main", SKU)
    assert world.level("shop_main", SKU).desired == before
