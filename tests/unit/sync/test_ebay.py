"""eBay between its notifications, its orders and the stock: what a sale, a shipment and a cancellation come to."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.tables import central_inventory
from tests.unit.sync.ebay_stage import EbayStage

pytestmark = pytest.mark.usefixtures("each_database")


def balance(stage: EbayStage, sku: str) -> tuple[int, int]:
    table = central_inventory.c
    with stage.engine.connect() as connection:
        row = connection.execute(select(table.quantity, table.reserved_quantity).where(table.sku == sku)).one()
    return row.quantity, row.reserved_quantity


@pytest.mark.parametrize("own", [False, True])
def test_a_notification_completed_by_its_order_reserves_ships_and_releases_once(own: bool) -> None:
    stage = EbayStage({"A": 9, "B": 4}, own=own)
    stage.push()
    stage.clock.advance(60)
    order = stage.account.buy({stage.levels["A"]: 3, stage.levels["B"]: 1})
    stage.deliver()
    assert stage.unclear() == [order]
    stage.push()
    assert (stage.unclear(), balance(stage, "A"), balance(stage, "B")) == ([], (9, 3), (4, 1))
    stage.deliver()
    stage.clock.advance(60)
    line = next(each.line for each in stage.account.order(order).lines.values() if each.sku == "A")
    stage.account.ship(order, {line: 2})
    stage.deliver()
    stage.push()
    assert (balance(stage, "A"), balance(stage, "B")) == ((7, 1), (4, 1))
    stage.clock.advance(60)
    stage.account.cancel(order)
    stage.clock.advance(60)
    for _ in range(3):
        stage.push()
        stage.clock.advance(60)
    assert (balance(stage, "A"), balance(stage, "B")) == ((7, 0), (4, 0))
    assert (stage.shown("A"), stage.shown("B")) == (7, 4)


def test_a_sale_that_nothing_told_of_is_found_by_the_poll() -> None:
    stage = EbayStage({"A": 9})
    stage.push()
    stage.clock.advance(60)
    stage.account.buy({stage.levels["A"]: 2})
    stage.account.take_outgoing()
    stage.clock.advance(60)
    stage.push()
    assert balance(stage, "A") == (9, 2)
    assert stage.shown("A") == 7


def test_a_withdrawn_consent_stops_the_channel_and_a_new_one_lets_it_go_on() -> None:
    stage = EbayStage({"A": 9})
    stage.push()
    stage.account.access.change("another")
    stage.clock.advance(7200)
    report = stage.count("A", 5)
    assert report.stopped
    assert "let the seller consent again" in report.problem
    assert stage.shown("A") == 9
    stage.account.access.change("v^1.1#i^1#r^1#refresh-5d8c2e")
    stage.clock.advance(60)
    stage.push()
    assert stage.shown("A") == 5


def test_a_token_that_ran_out_early_costs_one_attempt_and_no_stop() -> None:
    stage = EbayStage({"A": 9})
    stage.push()
    stage.clock.advance(600)
    stage.account.access.expire()
    report = stage.count("A", 5)
    assert not report.stopped
    assert stage.shown("A") == 5
