"""The comparison at the end: its own arithmetic, what it finds, and what it lets pass."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.demo.catalogue import ShownBy
from invsync_dagster.demo.compare import Compared, Difference, compare
from invsync_dagster.demo.shops import Shops
from invsync_dagster.demo.stage import Stage, fill_stock
from invsync_dagster.demo.street import Street
from invsync_dagster.inventory.rules import Rules, desired
from invsync_dagster.sync.workspace import Workspace

UNITS = st.integers(0, 50)


@given(st.integers(-20, 200), UNITS, st.integers(0, 100), UNITS, st.none() | UNITS)
def test_its_rules_agree_with_those_of_the_stock(
    available: int, buffer: int, percent: int, minimum: int, maximum: int | None
) -> None:
    rules = Rules(buffer=buffer, percent=percent, minimum=minimum, maximum=maximum)
    result, _ = desired(available, rules, active=True, acknowledged=None, low_stock=5)
    assert ShownBy(buffer, percent, minimum, maximum).of(available) == result


def test_a_listing_keeps_its_own_rules_and_takes_the_others_of_its_channel() -> None:
    own = ShownBy(buffer=0, maximum=10)
    assert own.over(ShownBy(buffer=5, percent=50)) == ShownBy(buffer=0, percent=50, maximum=10)


def test_a_difference_within_the_dead_band_is_let_pass_but_never_at_zero() -> None:
    compared = Compared("shop")
    compared.add("a", 12, 10, band=2)
    compared.add("b", 13, 10, band=2)
    compared.add("c", 2, 0, band=2)
    assert compared.within_band == 1
    assert compared.differences == [Difference("shop", "b", 13, 10), Difference("shop", "c", 2, 0)]


def test_the_stock_equals_the_books_after_the_weeks_behind_it(ws: Workspace, stage: Stage, shops: Shops) -> None:
    fill_stock(ws, stage, Random(3), lambda words: None)
    shelf, reserved, *_ = compare(stage, shops, ws.engine)
    assert (shelf.rows, shelf.differences) == (12, [])
    assert (reserved.rows, reserved.differences) == (12, [])


def test_a_sale_that_the_stock_has_not_heard_of_is_found_in_every_book_it_concerns(
    ws: Workspace, stage: Stage, shops: Shops
) -> None:
    fill_stock(ws, stage, Random(3), lambda words: None)
    sale = shops.buy("shop")
    sku = next(iter(sale.units)).removeprefix("S-")
    found = {one.where: [difference.sku for difference in one.differences] for one in compare(stage, shops, ws.engine)}
    assert sku in found["stock: reserved"]
    assert sku in found["erp"]
    assert found["stock: on hand"] == []


def test_a_paused_listing_is_left_alone(ws: Workspace, stage: Stage, shops: Shops) -> None:
    fill_stock(ws, stage, Random(3), lambda words: None)
    shop = next(one for one in compare(stage, shops, ws.engine) if one.where == "shop")
    assert (shop.left_alone, shop.rows) == (1, 11)


def test_what_people_do_leaves_the_shelf_and_the_shops_in_agreement(stage: Stage, shops: Shops) -> None:
    """Whatever happens, what was sold is promised, shipped off the shelf, or back in stock."""
    before = sum(book.on_hand or 0 for book in shops.books("erp"))
    street = Street(stage, shops, Random(5))
    words = [event for event in (street.step() for _ in range(60)) if event is not None]
    assert street.counts["sale"] > 0 and street.counts["shipped"] > 0
    assert sum(street.counts.values()) == len(words)
    moved = 0
    for event in words:
        units = sum(int(part.split(" × ")[0]) for part in event.words.split(", "))
        if event.what == "shipped" or (event.what == "sale" and event.shop == "erp"):
            moved -= units
        elif event.what in ("sent back", "goods in"):
            moved += units
    assert sum(book.on_hand or 0 for book in shops.books("erp")) == before + moved
    assert sum(shops.promised("shop").values()) == sum(
        sum(shops.unshipped("shop", order).values()) for order in shops.open_orders("shop")
    )
