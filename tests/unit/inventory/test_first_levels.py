"""Levels that begin complete are as those that begin stopped and are recomputed: two ways, and the same numbers."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from invsync_dagster.inventory import channels, levels, listings
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels, platform_mapping
from tests.unit.inventory.stock import OTHER, SHOP, Stock, at, order

RULES = st.builds(
    Rules,
    buffer=st.integers(0, 5),
    percent=st.integers(0, 100),
    minimum=st.integers(0, 5),
    maximum=st.none() | st.integers(0, 20),
    dead_band=st.integers(0, 5),
)
LISTINGS = st.lists(
    st.builds(
        Listing,
        channel=st.just(SHOP),
        sku=st.sampled_from("AB"),
        item_id=st.sampled_from(["new-1", "new-2", "new-3"]),
        location_id=st.sampled_from(["", "", "here"]),
        platform_sku=st.sampled_from(["", "", "other"]),
        variant_id=st.just(""),
        status=st.sampled_from([None, "active", "paused", "excluded", "retired"]),
        buffer=st.none() | st.integers(0, 5),
        percent=st.none() | st.integers(0, 50),
        minimum=st.none() | st.integers(0, 5),
        maximum=st.none() | st.integers(0, 20),
        dead_band=st.none() | st.integers(0, 5),
    ),
    min_size=1,
    max_size=4,
)


# What `joining.levels_for` leaves of a level for recomputing.
AS_MADE = {
    "pushable": False,
    "stopped_reason": "",
    "desired": 0,
    "desired_sequence": 0,
    "rules_revision": 0,
    "out_of_step_since": None,
    "uncertain": None,
    "uncertain_since": None,
}


def levels_of(stock: Stock) -> list[dict[str, Any]]:
    """All columns but `touched`, of which only changes count."""
    return [
        {name: value for name, value in row._mapping.items() if name != "touched"}
        for row in sorted(stock.rows(inventory_levels), key=lambda row: row.id)
    ]


@settings(max_examples=150)
@given(
    LISTINGS,
    RULES,
    st.sampled_from(["active", "paused"]),
    st.sampled_from(["active", "inactive"]),
    st.integers(0, 30),
    st.integers(0, 12),
)
@example([Listing(SHOP, "A", "new-1", percent=50)], Rules(buffer=1), "active", "active", 9, 2)
@example([Listing(SHOP, "A", "new-1", status="retired")], Rules(), "active", "active", 9, 0)
@pytest.mark.usefixtures("each_database")
def test_a_level_begins_as_one_that_is_made_stopped_and_recomputed(
    wanted: list[Listing], rules: Rules, channel: str, sku: Any, quantity: int, promised: int
) -> None:
    with closing(Stock({"A": quantity, "B": 3})) as stock:
        stock.now = at(1)
        stock.rules(SHOP, rules)
        if promised:
            stock.apply(order(item="other-A", ordered=promised), channel=OTHER)
        with write_transaction(stock.engine) as connection:
            set_skus(connection, [Sku("A", status=sku)], actor="ann", reason="season", now=stock.now)
            channels.set_status(connection, SHOP, channel, actor="ann", reason="because", now=stock.now)
        with write_transaction(stock.engine) as connection:
            levels.recompute(connection, {"A", "B"}, stock.now)
            listings.set_listings(connection, wanted, actor="ann", reason="because", now=stock.now)
        begun = levels_of(stock)
        stock.change_levels(inventory_levels.c.item_id.startswith("new"), **AS_MADE, due_at=stock.now)
        with write_transaction(stock.engine) as connection:
            levels.recompute(connection, {"A", "B"}, stock.now)
        assert levels_of(stock) == begun
        assert {(row["item_id"], row["location_id"]) for row in begun} >= {
            (one.item_id, one.location_id) for one in wanted
        }


@pytest.mark.usefixtures("each_database")
def test_a_level_begins_with_its_listings_own_rules_and_those_of_its_channel_for_the_rest() -> None:
    stock = Stock({"A": 20})
    stock.rules(SHOP, Rules(buffer=2, percent=50))
    stock.map(
        Listing(SHOP, "A", "plain"),
        Listing(SHOP, "A", "own", buffer=4, maximum=6),
        Listing(SHOP, "A", "all", percent=100),
    )
    shown = {row.item_id: row.desired for row in stock.rows(inventory_levels)}
    assert (shown["plain"], shown["own"], shown["all"]) == (9, 6, 18)


@pytest.mark.usefixtures("each_database")
@pytest.mark.parametrize(("status", "reason"), [("paused", "paused"), ("excluded", "excluded"), ("retired", "retired")])
def test_a_level_whose_listing_is_not_offered_begins_stopped_and_shows_nothing(status: Any, reason: str) -> None:
    stock = Stock({"A": 20})
    stock.map(Listing(SHOP, "A", "new", status=status))
    (level,) = (row for row in stock.rows(inventory_levels) if row.item_id == "new")
    assert (level.pushable, level.stopped_reason, level.desired, level.uncertain) == (False, reason, 0, None)
    (listing,) = (row for row in stock.rows(platform_mapping) if row.platform_item_id == "new")
    assert (listing.level_id, listing.status) == (level.id, status)
