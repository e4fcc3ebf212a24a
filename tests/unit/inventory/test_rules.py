"""Rules: their order, their trace, their limits, and that SQL and Python agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.inventory import levels
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.rules import LOW_STOCK, Rules, desired
from invsync_dagster.inventory.tables import central_inventory, inventory_levels
from tests.unit.inventory.stock import SHOP, START, Stock

rule_sets = st.builds(
    Rules,
    buffer=st.integers(0, 30),
    percent=st.integers(0, 100),
    minimum=st.integers(0, 30),
    maximum=st.none() | st.integers(0, 60),
    dead_band=st.integers(0, 10),
)


@pytest.mark.parametrize(
    ("available", "rules", "result"),
    [
        (10, Rules(), 10),
        (-3, Rules(), 0),
        (10, Rules(buffer=2), 8),
        (1, Rules(buffer=2), 0),
        (9, Rules(percent=50), 4),
        (10, Rules(buffer=1, percent=50), 4),
        (10, Rules(maximum=3), 3),
        (4, Rules(minimum=5), 0),
        (5, Rules(minimum=5), 5),
        (100, Rules(minimum=5, maximum=3), 0),
        (10, Rules(percent=0), 0),
        (10, Rules(maximum=0), 0),
    ],
)
def test_each_rule_does_what_its_name_says(available, rules, result):
    assert desired(available, rules)[0] == result


def test_an_inactive_sku_desires_nothing():
    assert desired(10, Rules(), active=False)[0] == 0


@pytest.mark.parametrize(
    ("available", "acknowledged", "result"),
    [
        (22, 20, 20),
        (23, 20, 20),
        (24, 20, 24),
        (20, 22, 20),  # 22 would be more than there is
        (LOW_STOCK, LOW_STOCK + 1, LOW_STOCK),  # low
        (LOW_STOCK + 2, LOW_STOCK, LOW_STOCK + 2),  # was low
        (0, 2, 0),
        (8, None, 8),
    ],
)
def test_a_dead_band_of_three_keeps_what_is_acknowledged(available, acknowledged, result):
    assert desired(available, Rules(dead_band=3), acknowledged=acknowledged)[0] == result


def test_a_dead_band_over_a_buffer_holds_back_small_decreases_too():
    assert desired(24, Rules(buffer=5, dead_band=3), acknowledged=21)[0] == 21


def test_the_trace_names_every_rule_that_took_part():
    result, trace = desired(57, Rules(buffer=5, percent=50, maximum=20, dead_band=2), acknowledged=19)
    assert result == 19
    assert str(trace) == "available 57 -> buffer 5: 52 -> percent 50: 26 -> maximum 20: 20 -> dead band 2: 19"


@given(
    available=st.integers(-50, 200), rules=rule_sets, active=st.booleans(), acknowledged=st.none() | st.integers(0, 200)
)
def test_nothing_ever_shows_more_than_is_available(available, rules, active, acknowledged):
    result, trace = desired(available, rules, active=active, acknowledged=acknowledged)
    assert 0 <= result <= max(0, available)
    assert (trace.steps[-1].result if trace.steps else max(0, available)) == result


@settings(max_examples=60, deadline=None)
@given(
    cases=st.lists(
        st.tuples(
            st.integers(-20, 120),
            st.integers(0, 40),
            rule_sets,
            st.booleans(),
            st.none() | st.integers(0, 120),
            st.lists(st.sampled_from(["buffer", "percent", "minimum", "maximum", "dead_band"]), unique=True),
        ),
        min_size=1,
        max_size=8,
    ),
    of_channel=rule_sets,
)
def test_sql_and_python_agree_with_the_listings_rules_over_the_channels(cases, of_channel):
    stock = Stock(skus=[])
    stock.rules(SHOP, of_channel)
    from invsync_dagster.inventory.skus import Sku, set_skus

    with write_transaction(stock.engine) as connection:
        set_skus(
            connection,
            [Sku(str(n), status="active" if case[3] else "inactive") for n, case in enumerate(cases)],
            actor="test",
            reason="",
            now=START,
        )
    wanted = {}
    for number, (quantity, reserved, own, active, acknowledged, given_rules) in enumerate(cases):
        sku = str(number)
        own_values = {name: getattr(own, name) for name in given_rules}
        stock.map(Listing(SHOP, sku, f"shop-{sku}", **own_values))
        names = ("buffer", "percent", "minimum", "maximum", "dead_band")
        merged: dict[str, Any]
        merged = {
            name: own_values.get(name) if own_values.get(name) is not None else getattr(of_channel, name)
            for name in names
        }
        wanted[sku] = desired(quantity - reserved, Rules(**merged), active=active, acknowledged=acknowledged)[0]
        stock.change_levels(inventory_levels.c.central_sku == sku, acknowledged_quantity=acknowledged)
        with write_transaction(stock.engine) as connection:
            connection.execute(
                central_inventory.update()
                .where(central_inventory.c.sku == sku)
                .values(quantity=quantity, reserved_quantity=reserved)
            )
    with write_transaction(stock.engine) as connection:
        levels.recompute(connection, list(wanted), START)
    assert {row.central_sku: row.desired for row in stock.rows(inventory_levels)} == wanted
    stock.close()
