"""Before the demo begins: what it refuses, the two weeks behind it, and what the shops show at first."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import func, select

from invsync_dagster.channels import load
from invsync_dagster.demo.history import DAYS, invent
from invsync_dagster.demo.services import DemoError
from invsync_dagster.demo.shops import Shops
from invsync_dagster.demo.stage import Stage, fill_stock, set_stage
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.tables import central_inventory, daily_closings, order_lines, stock_ledger
from invsync_dagster.settings import Home
from invsync_dagster.sync.workspace import Workspace

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)


def test_a_production_channel_is_refused_since_the_demo_invents_sales(home: Home) -> None:
    text = home.channels_file.read_text().replace("environment: sandbox", "environment: production", 1)
    home.channels_file.write_text(text)
    with pytest.raises(DemoError, match="sandbox channels only; production: shop"):
        set_stage(home, load(home))


def test_a_missing_variable_is_refused_naming_it_and_its_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERP_KEY")
    with pytest.raises(DemoError, match=r"channels\.yaml line \d+: channel 'erp': .*ERP_KEY is not set"):
        set_stage(home, load(home))


def test_a_broken_channels_file_is_refused_in_one_line(home: Home) -> None:
    home.channels_file.write_text("channels: [\n")
    with pytest.raises(DemoError) as refused:
        set_stage(home, load(home))
    assert str(refused.value).startswith("channels.yaml line")
    assert "\n" not in str(refused.value)


def test_shops_at_two_addresses_are_refused(home: Home) -> None:
    home.channels_file.write_text(home.channels_file.read_text().replace(":8790/erp", ":8795/erp"))
    with pytest.raises(DemoError, match="one address"):
        set_stage(home, load(home))


def test_history_ends_with_every_order_closed_and_the_shelf_as_the_file_says(stage: Stage) -> None:
    history = invent(stage.catalogue, stage.shops, stage.erp, NOW, Random(3))
    newest = {}
    for happening in history.happenings:
        for order in happening.inbound.content.documents:
            newest[order.order_id] = order
    moved: dict[str, int] = defaultdict(int)
    central = {listing.item_id: listing.sku for listing in stage.catalogue.of_shop("shop")}
    for order in newest.values():
        for line in order.lines:
            assert line.ordered == line.cancelled + line.shipped
            moved[central[line.reference.item_id]] += line.restocked - line.shipped
    assert len(newest) > 500
    assert history.begins > NOW - timedelta(days=DAYS, hours=1)
    assert all(history.begins < happening.at < NOW for happening in history.happenings)
    assert all(quantity >= 0 for quantity in history.opening.values())


def test_the_same_seed_invents_the_same_weeks(stage: Stage) -> None:
    first = invent(stage.catalogue, stage.shops, stage.erp, NOW, Random(3))
    assert invent(stage.catalogue, stage.shops, stage.erp, NOW, Random(3)) == first
    assert invent(stage.catalogue, stage.shops, stage.erp, NOW, Random(4)) != first


def test_the_stock_is_filled_through_the_ledger_and_ends_as_the_sample_says(ws: Workspace, stage: Stage) -> None:
    said: list[str] = []
    fill_stock(ws, stage, Random(3), said.append)
    with ws.engine.connect() as connection:
        rows = {row.sku: row for row in connection.execute(select(central_inventory))}
        days = connection.execute(select(func.count()).select_from(daily_closings)).scalar_one()
        unresolved = select(func.count()).where(order_lines.c.sku.is_(None))
        assert connection.execute(unresolved).scalar_one() == 0
        assert audit(connection) == []
    for article in stage.catalogue.articles.values():
        assert (rows[article.sku].quantity, rows[article.sku].reserved_quantity) == (article.quantity, article.reserved)
    assert days == DAYS


def test_a_second_start_leaves_the_stock_as_it_is(ws: Workspace, stage: Stage) -> None:
    fill_stock(ws, stage, Random(3), lambda words: None)
    count = select(func.count()).select_from(stock_ledger)
    with ws.engine.connect() as connection:
        before = connection.execute(count).scalar_one()
    said: list[str] = []
    fill_stock(ws, stage, Random(4), said.append)
    with ws.engine.connect() as connection:
        assert connection.execute(count).scalar_one() == before
    assert said == [f"the stock goes on from {before} ledger entries"]


def test_the_shops_begin_with_their_own_numbers_and_the_erp_with_the_shelf(stage: Stage, shops: Shops) -> None:
    erp = {book.sku: book for book in shops.books("erp")}
    assert {sku: book.on_hand for sku, book in erp.items()} == {
        article.sku: article.quantity for article in stage.catalogue.articles.values()
    }
    shown = {book.sku: book.quantity for book in shops.books("shop")}
    should = {
        listing.shop_sku: listing.rules.over(stage.rules["shop"]).of(
            stage.catalogue.articles[listing.sku].quantity - stage.catalogue.articles[listing.sku].reserved
            if stage.catalogue.articles[listing.sku].active
            else 0
        )
        for listing in stage.catalogue.of_shop("shop")
    }
    equal = [sku for sku in should if shown[sku] == should[sku]]
    assert len(shown) == 12
    assert len(equal) >= 9
