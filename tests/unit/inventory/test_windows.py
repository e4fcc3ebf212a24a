"""Many small moves add up: of changes before the wire, and of sources before the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from invsync_dagster.events import StockCount
from invsync_dagster.inventory import channels, holds, listings
from invsync_dagster.inventory.catch_up import catch_up, hold_beyond_limits
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import imports, inventory_levels, moved_levels, platform_mapping, source_moves
from invsync_dagster.settings import ChangeLimits, ImportLimits
from tests.unit.inventory.stock import ERP, OTHER, SHOP, START, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")

SKUS = [f"S{number:03}" for number in range(100)]
LIMITS = ChangeLimits(zeroed_share=0.2, raised_share=0.3, minimum=5, window_minutes=60)
OF_SOURCES = ImportLimits(zeroed_share=0.2, zeroed_minimum=5, moved_share=0.5, moved_minimum_units=50)


@pytest.fixture
def stock() -> Stock:
    """A hundred SKUs of ten units on two shops and in the ERP, in step; of a shop 20 may be zeroed, 30 raised in an hour."""
    made = Stock(dict.fromkeys(SKUS, 10), skus=SKUS)
    for name in (SHOP, OTHER):
        set_rules(made, name, Rules(), at(0))
    made.in_step()
    return made


def set_rules(stock: Stock, channel: str, rules: Rules, now: datetime, limits: ChangeLimits = LIMITS) -> int:
    with write_transaction(stock.engine) as connection:
        channels.register(connection, channel, "shopify", "sandbox", True, rules, None, now, change_limits=limits)
        held = hold_beyond_limits(connection, now)
    catch_up(stock.engine, now)
    return held


def map_with(stock: Stock, skus: Sequence[str], now: datetime, reason: str = "import 7", **rules: Any) -> int:
    stock.now = now
    wanted = [Listing(SHOP, sku, f"{SHOP}-{sku}", platform_sku=f"{sku}@{SHOP}", **rules) for sku in skus]
    held = stock.map(*wanted, reason=reason).held
    stock.in_step()
    return held


def shown(stock: Stock, skus: Sequence[str] = SKUS, channel: str = SHOP) -> list[int]:
    found = {row.central_sku: row.desired for row in stock.rows(inventory_levels) if row.channel == channel}
    return [found[sku] for sku in skus]


def zeros(stock: Stock, channel: str = SHOP) -> int:
    return shown(stock, channel=channel).count(0)


def test_ten_mappings_that_zero_four_percent_each_within_an_hour_stop_at_the_limit(stock: Stock) -> None:
    held = [map_with(stock, SKUS[4 * n : 4 * n + 4], at(5 * n), f"import {n}", percent=0) for n in range(10)]
    assert held == [0] * 5 + [4] * 5
    assert zeros(stock) == 20
    assert stock.level(SHOP, SKUS[20]).held_reason == (
        "import 5 would set to 0 4 of 100 listings on shop, after 20 since 12:00 UTC; 20 may pass unseen within 60 minutes"
    )


def test_mappings_statuses_and_rules_of_a_channel_add_up(stock: Stock) -> None:
    map_with(stock, SKUS[:8], at(1), percent=0)
    with write_transaction(stock.engine) as connection:
        inactive = [Sku(sku, status="inactive") for sku in SKUS[8:16]]
        done = set_skus(connection, inactive, actor="ann", reason="season", now=at(2))
    assert done.held == 0
    stock.in_step()
    stock.count(dict.fromkeys(SKUS[16:24], 2), as_of=-10)
    stock.in_step()
    assert set_rules(stock, SHOP, Rules(buffer=2), at(3)) == 8
    assert zeros(stock) == 16
    assert set_rules(stock, OTHER, Rules(buffer=2), at(3)) == 0  # 8 inactive and 8 by its rules
    assert zeros(stock, OTHER) == 16


def test_what_was_moved_an_hour_ago_counts_no_more(stock: Stock) -> None:
    assert map_with(stock, SKUS[:15], at(0), percent=0) == 0
    assert map_with(stock, SKUS[15:30], at(59), percent=0) == 15
    assert map_with(stock, SKUS[30:45], at(60), percent=0) == 0
    assert {row.at for row in stock.rows(moved_levels)} == {at(60)}


def test_the_window_is_a_setting(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(), at(0), LIMITS.model_copy(update={"window_minutes": 10}))
    assert map_with(stock, SKUS[:15], at(0), percent=0) == 0
    assert map_with(stock, SKUS[15:30], at(10), percent=0) == 0


def test_raises_add_up_as_well(stock: Stock) -> None:
    map_with(stock, SKUS, at(-120), buffer=4)
    held = [map_with(stock, SKUS[8 * n : 8 * n + 8], at(n), f"import {n}", buffer=3 - n % 2) for n in range(6)]
    assert held == [0, 0, 0, 8, 8, 8]
    assert "would raise 8 of 100 listings on shop, after 24 since 12:00 UTC; 30 may" in (
        stock.level(SHOP, SKUS[24]).held_reason
    )


def test_what_is_put_back_counts_no_more_and_passes(stock: Stock) -> None:
    assert map_with(stock, SKUS[:20], at(0), percent=0) == 0
    assert map_with(stock, SKUS[:20], at(1)) == 0
    assert stock.rows(moved_levels) == []
    assert map_with(stock, SKUS[20:40], at(2), percent=0) == 0


def test_raises_that_are_put_back_count_no_more_either(stock: Stock) -> None:
    map_with(stock, SKUS, at(-120), buffer=4)
    assert map_with(stock, SKUS[:30], at(0)) == 0
    assert map_with(stock, SKUS[:30], at(1), buffer=4) == 0
    assert stock.rows(moved_levels) == []
    assert map_with(stock, SKUS[30:60], at(2)) == 0


def test_a_level_that_falls_but_stays_raised_still_counts_and_is_not_held(stock: Stock) -> None:
    map_with(stock, SKUS, at(-120), buffer=4)
    assert map_with(stock, SKUS[:30], at(0)) == 0
    assert map_with(stock, SKUS[:30], at(1), buffer=2) == 0
    assert len(stock.rows(moved_levels)) == 30
    assert map_with(stock, SKUS[30:31], at(2)) == 1


def test_a_level_counts_once_however_often_it_is_moved(stock: Stock) -> None:
    for n in range(4):
        assert map_with(stock, SKUS[:15], at(n), f"import {n}", percent=0 if n % 2 == 0 else 50) == 0
    assert map_with(stock, SKUS[:15], at(5), percent=0) == 0
    assert len(stock.rows(moved_levels)) == 15


def test_what_a_person_approved_counts_no_more(stock: Stock) -> None:
    assert map_with(stock, SKUS[:40], at(0), percent=0) == 40
    ids = [stock.level(SHOP, sku).id for sku in SKUS[:40]]
    with write_transaction(stock.engine) as connection:
        assert holds.approve(connection, ids, reason="season", actor="ann", now=at(1)) == 40
    stock.in_step()
    assert zeros(stock) == 40
    assert map_with(stock, SKUS[40:60], at(2), percent=0) == 0
    assert map_with(stock, SKUS[60:61], at(3), percent=0) == 1


def test_sales_are_no_moves_and_are_never_held(stock: Stock) -> None:
    assert map_with(stock, SKUS[:20], at(0), percent=0) == 0
    for number, sku in enumerate(SKUS[20:60]):
        stock.apply(order(str(number), item=f"{OTHER}-{sku}", ordered=10), channel=OTHER)
    assert shown(stock, SKUS[20:60]) == [0] * 40
    assert len(stock.rows(moved_levels)) == 20


def test_resumed_listings_add_up_by_what_their_channel_shows(stock: Stock) -> None:
    ids = {row.platform_item_id: row.id for row in stock.rows(platform_mapping) if row.platform_name == SHOP}

    def status(skus: Sequence[str], to: listings.Status, now: datetime) -> None:
        with write_transaction(stock.engine) as connection:
            chosen = [ids[f"{SHOP}-{sku}"] for sku in skus]
            listings.set_status(connection, chosen, to, actor="ann", reason="x", now=now)

    status(SKUS[:40], "paused", at(0))
    map_with(stock, SKUS[:40], at(1), percent=0)
    status(SKUS[:20], "active", at(2))
    status(SKUS[20:40], "active", at(3))
    assert shown(stock, SKUS[:40]) == [0] * 20 + [10] * 20


# --- before the ledger --------------------------------------------------------------------------------------------------


def tell(stock: Stock, quantities: dict[str, int], minute: float, limits: ImportLimits = OF_SOURCES) -> int:
    """The ERP states counts; returns how many were held."""
    stock.now = at(minute)
    counts = [StockCount(f"e-{sku}-{minute}", sku, units, at(minute), 0, "count") for sku, units in quantities.items()]
    return stock.tell(*counts, limits=limits).held


def test_counts_of_one_sku_each_that_empty_the_stock_stop_at_the_limit(stock: Stock) -> None:
    held = [tell(stock, {sku: 0}, minute) for minute, sku in enumerate(SKUS[:30])]
    assert held == [0] * 20 + [1] * 10
    assert sum(stock.balance(sku) == (0, 0) for sku in SKUS) == 20


def test_the_reason_names_what_came_before_and_by_whom(stock: Stock) -> None:
    assert tell(stock, dict.fromkeys(SKUS[:15], 0), 1) == 0
    assert tell(stock, dict.fromkeys(SKUS[15:25], 0), 2) == 10
    (held,) = stock.rows(imports)
    assert held.reason == "would zero 10 of 100 stocked SKUs, after 15 since 12:01 UTC by erp"


def test_units_add_up_and_goods_that_come_in_where_nothing_was_do_not(stock: Stock) -> None:
    assert tell(stock, dict.fromkeys(SKUS[:40], 2), 1) == 0  # 320 of 1,000 units
    assert tell(stock, dict.fromkeys(SKUS[40:80], 2), 2) == 40
    assert tell(stock, dict.fromkeys(SKUS[40:50], 2), 3) == 0
    stock.apply(order("all", item=f"{SHOP}-{SKUS[90]}", ordered=10, shipped=[(10, 3)], updated=3))
    assert tell(stock, {SKUS[90]: 60}, 4) == 0
    assert sum(row.moved for row in stock.rows(source_moves)) == 320 + 80


def test_counts_that_change_nothing_are_not_entered(stock: Stock) -> None:
    assert tell(stock, dict.fromkeys(SKUS, 10), 1) == 0
    assert stock.rows(source_moves) == []


def test_the_window_of_sources_ends_after_its_minutes(stock: Stock) -> None:
    limits = OF_SOURCES.model_copy(update={"window_minutes": 10})
    assert tell(stock, dict.fromkeys(SKUS[:20], 0), 0, limits) == 0
    assert tell(stock, {SKUS[20]: 0}, 9, limits) == 1
    assert tell(stock, {SKUS[20]: 0}, 10.5, limits) == 0
    assert {row.minute for row in stock.rows(source_moves)} == {START + timedelta(minutes=10)}


def test_the_stock_as_a_whole_is_summed_up_once_a_window(stock: Stock) -> None:
    for minute, sku in enumerate(SKUS[:10]):
        tell(stock, {sku: 0}, minute)
    measured = [row for row in stock.rows(source_moves) if row.stocked is not None]
    assert [(row.minute, row.stocked, row.units) for row in measured] == [(at(5), 100, 950)]


def test_orders_are_no_moves_of_a_source(stock: Stock) -> None:
    for number, sku in enumerate(SKUS[:60]):
        stock.apply(order(str(number), item=f"{SHOP}-{sku}", ordered=10, shipped=[(10, 1)], updated=1))
    assert stock.rows(source_moves) == []
    assert stock.level(ERP, SKUS[0]).desired == 0
