"""An item at several locations of one shop: together they show what the percents name, and no piece is lost or doubled."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explain import explain
from invsync_dagster.inventory.listings import Listing, set_listings, set_status
from invsync_dagster.inventory.rules import Rules, desired
from invsync_dagster.inventory.tables import inventory_levels, platform_mapping
from tests.unit.inventory.stock import SHOP, START, Stock

BY = {"actor": "test", "reason": "test", "now": START}


def at_locations(*percents: int) -> list[Listing]:
    return [Listing(SHOP, "A", "item", f"place-{number}", percent=percent) for number, percent in enumerate(percents)]


def shown(stock: Stock) -> list[int]:
    rows = [row for row in stock.rows(inventory_levels) if row.item_id == "item"]
    return [row.desired for row in sorted(rows, key=lambda row: row.location_id)]


@pytest.mark.usefixtures("each_database")
@pytest.mark.parametrize(
    ("percents", "quantity", "parts"),
    [
        ((50, 50), 1, [1, 0]),
        ((50, 50), 7, [4, 3]),
        ((40, 60), 1, [0, 1]),
        ((33, 33, 33), 100, [33, 33, 33]),
        ((30, 20), 10, [3, 2]),
        ((100, 0), 5, [5, 0]),
    ],
)
def test_the_only_piece_is_where_the_largest_share_is(
    percents: tuple[int, ...], quantity: int, parts: list[int]
) -> None:
    stock = Stock({"A": quantity})
    stock.map(*at_locations(*percents))
    assert shown(stock) == parts


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=5).filter(lambda percents: sum(percents) <= 100),
    st.integers(0, 400),
)
def test_the_parts_are_the_whole_and_each_is_within_a_piece_of_its_share(percents: list[int], quantity: int) -> None:
    stock = Stock({"A": quantity}, skus=["A"])
    stock.map(*at_locations(*percents))
    parts = shown(stock)
    rows = {row.platform_location_id: row for row in stock.rows(platform_mapping)}
    before = [rows[f"place-{number}"].percent_before for number in range(len(percents))]
    stock.close()
    assert sum(parts) == quantity * sum(percents) // 100
    assert all(abs(part - quantity * percent / 100) < 1 for part, percent in zip(parts, percents, strict=True))
    assert parts == [
        desired(quantity, Rules(percent=percent), percent_before=earlier)[0]
        for percent, earlier in zip(percents, before, strict=True)
    ]


def test_a_location_that_goes_leaves_the_others_to_plain_percents() -> None:
    stock = Stock({"A": 7})
    stock.map(*at_locations(50, 50))
    ids = {row.platform_location_id: row.id for row in stock.rows(platform_mapping) if row.platform_item_id == "item"}
    with write_transaction(stock.engine) as connection:
        set_status(connection, [ids["place-1"]], "retired", **BY)  # type: ignore[arg-type]
    assert shown(stock)[0] == 3
    assert {row.percent_before for row in stock.rows(platform_mapping)} == {None}
    with write_transaction(stock.engine) as connection:
        set_status(connection, [ids["place-1"]], "active", **BY)  # type: ignore[arg-type]
    assert shown(stock) == [4, 3]


@pytest.mark.parametrize("changed", [{"buffer": 1}, {"percent": None}, {"percent": 70}])
def test_what_does_not_fit_together_is_rounded_down_one_by_one(changed: dict[str, int | None]) -> None:
    stock = Stock({"A": 7})
    first, second = at_locations(50, 50)
    stock.map(first, second)
    stock.map(second._replace(**changed))  # type: ignore[arg-type]
    assert shown(stock)[0] == 3
    assert [row.percent_before for row in stock.rows(platform_mapping) if row.platform_item_id == "item"] == [0, 0]


@pytest.mark.usefixtures("each_database")
@pytest.mark.parametrize("buffer", [None, 1])
def test_a_dead_band_holds_no_fall_back_since_the_shop_adds_its_locations_up(buffer: int | None) -> None:
    stock = Stock({"A": 40})
    first, second = (one._replace(dead_band=3) for one in at_locations(50, 50))
    stock.map(first, second._replace(buffer=buffer))
    stock.change_levels(inventory_levels.c.item_id == "item", acknowledged_quantity=inventory_levels.c.desired)
    acknowledged = shown(stock)
    stock.count({"A": 36}, as_of=-20)
    assert sum(shown(stock)) <= 36
    stock.change_levels(inventory_levels.c.item_id == "item", acknowledged_quantity=inventory_levels.c.desired)
    less = shown(stock)
    stock.count({"A": 40}, as_of=-10)
    assert shown(stock) == less != acknowledged  # small rises wait as ever


def test_an_excluded_location_that_goes_to_review_has_its_share_at_once() -> None:
    stock = Stock({"A": 7})
    first, second = at_locations(50, 50)
    stock.map(first, second._replace(status="excluded"))
    assert shown(stock)[0] == 3
    stock.map(second._replace(sku="B", platform_sku="another"))
    statuses = {row.status for row in stock.rows(platform_mapping) if row.platform_location_id == "place-1"}
    assert statuses == {"needs_review"}
    assert shown(stock)[0] == 4


def test_the_reason_of_a_number_shows_the_same_number() -> None:
    stock = Stock({"A": 7})
    stock.map(*at_locations(50, 50))
    with stock.engine.connect() as connection:
        explained = explain(connection, "A")
    steps = [level.rule_steps for level in explained.listings if level.item_id == "item"]
    assert sorted(one[-2] for one in steps) == ["percent 50: 3", "percent 50: 4"]


def test_a_mapping_that_says_nothing_new_changes_nothing() -> None:
    stock = Stock({"A": 7})
    stock.map(*at_locations(50, 50))
    with write_transaction(stock.engine) as connection:
        done = set_listings(connection, at_locations(50, 50), **BY)  # type: ignore[arg-type]
    assert (done.unchanged, shown(stock)) == (2, [4, 3])
