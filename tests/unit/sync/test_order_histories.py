"""An order's history of documents ends in the stand-in's books, whatever of it came when and how often, on each platform."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from invsync_dagster.events import Content
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.tables import central_inventory, unclear_orders
from tests.simulation.books import ShopRules
from tests.simulation.built import ERP, START
from tests.simulation.day import Day, wrong_lines
from tests.simulation.shops import WooCommerceShop
from tests.simulation.stock import ALIBABA, AMAZON, EBAY, WOO, fresh_stock
from tests.simulation.world import SOLD_OUT

SKUS = 12


class Life:
    """The orders of one shop from the first step to the last, and all that was told of them meanwhile."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name, self.rng = name, rng
        self.world = Day(1, skus=SKUS, orders=0, shops={name: ShopRules()})
        ws = self.world.processes[0]
        self.platform, self.door = ws.platform(ws.channel(name)), ws.door(ws.channel(name))
        self.told: list[Content] = []

    def live(self, orders: int, steps: int) -> None:
        desk = self.world.desks[self.name]
        skus = [sku for sku, shown in self.world.shops[self.name].shows().items() if shown >= 4]
        for _ in range(orders):
            self.world.clock.advance(60)
            order = desk.buy({sku: self.rng.randint(1, 2) for sku in skus[:2]}, self.rng)
            self._listen(order)
            for _ in range(steps):
                # Platforms that tell whole seconds tell these steps apart.
                self.world.clock.advance(self.rng.choice([1.0, 90.0]))
                possible = desk.steps(order, self.rng)
                if not possible:
                    break
                try:
                    self.rng.choice(list(possible)).work()
                except SOLD_OUT:
                    continue
                self._listen(order)

    def balances(self) -> dict[str, tuple[int, int]]:
        """Return what is on hand and what is reserved of each SKU by the stand-in's books."""
        left, out = Counter[str](), Counter[str]()
        for line in self.world.books().values():
            left[line.sku] += line.left
            out[line.sku] += line.shipped - line.restocked
        return {sku: (units - out[sku], left[sku]) for sku, units in self.world.opening.items()}

    def _listen(self, order: str) -> None:
        """Keep what the webhooks say, and what the API says at this moment."""
        for webhook in self.world.shops[self.name].take_outgoing():
            headers = {name.lower(): value for name, value in webhook.headers.items()}
            self.told.append(self.door.parse(headers, webhook.body))
        self.told.append(self.platform.orders([order]).content)

    def applied(self, arrival: Sequence[Content], batch: int) -> Engine:
        """Return a database to which contents came in this order, so many at once, and that has asked what was unclear."""
        engine = fresh_stock(SKUS, self.world.rules, ERP, START)
        now = self.world.clock.now()
        for start in range(0, len(arrival), batch):
            some = [Inbound(self.name, content, now) for content in arrival[start : start + batch]]
            _apply(engine, some, now)
        with engine.connect() as connection:
            unclear = list(connection.execute(select(unclear_orders.c.order_id)).scalars())
        whole = Inbound(self.name, self.platform.orders(unclear).content, now, source="order")
        _apply(engine, [whole], now)
        with write_transaction(engine) as connection:
            connection.execute(unclear_orders.delete())
        return engine


def _apply(engine: Engine, batch: Sequence[Inbound], now: Any) -> None:
    with write_transaction(engine) as connection:
        ledger.apply(connection, batch, now=now, run_id="")


def _balances(engine: Engine) -> dict[str, tuple[int, int]]:
    with engine.connect() as connection:
        rows = connection.execute(select(central_inventory)).all()
    return {row.sku: (row.quantity, row.reserved_quantity) for row in rows}


@pytest.mark.parametrize("name", ["shop_main", WOO, AMAZON, EBAY, ALIBABA])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_arrival_of_a_history_ends_in_the_books_as_the_history_in_its_order_does(name: str, data: Any) -> None:
    life = Life(name, data.draw(st.randoms(use_true_random=False), label="what is done"))
    life.live(data.draw(st.integers(1, 2), label="orders"), data.draw(st.integers(0, 6), label="steps"))
    told = life.told
    twice = [*told, *data.draw(st.lists(st.sampled_from(told), max_size=4), label="doubles")]
    arrival = data.draw(st.permutations(twice), label="arrival")
    engines = life.applied(told, 1), life.applied(arrival, data.draw(st.integers(1, 4), label="at once"))

    for engine in engines:
        assert list(wrong_lines(engine, life.world.books())) == []
        assert _balances(engine) == life.balances()


@pytest.mark.parametrize(
    "states",
    [
        ("on-hold", "failed"),
        ("pending", "failed", "processing"),
        ("processing", "pending"),
        ("processing", "completed", "processing"),
        ("processing", "cancelled", "processing"),
        ("processing", "trash", "processing"),
        ("pending", "processing", "completed"),
        ("processing", "cancelled"),
    ],
)
def test_of_states_of_one_second_the_last_one_holds_whatever_came_first(states: tuple[str, ...]) -> None:
    life = Life(WOO, random.Random(1))
    shop = life.world.shops[WOO]
    assert isinstance(shop, WooCommerceShop)
    sku = next(sku for sku, shown in shop.shows().items() if shown >= 4)
    order = shop.buy({shop._offers[sku]: 3}, status=states[0])
    life._listen(order)
    for status in states[1:]:
        shop.set_status(order, status)
        life._listen(order)
    books = life.world.books()
    for arrival in permutations(dict.fromkeys(life.told)):
        life.world.clock.advance(60)
        assert list(wrong_lines(life.applied(arrival, 1), books)) == []


@pytest.mark.parametrize(("restock", "shelf"), [(True, 0), (False, -2)])
def test_an_order_completed_opened_again_and_refunded_in_whole_leaves_the_balances_as_if_it_had_come_back(
    restock: bool, shelf: int
) -> None:
    life = Life(WOO, random.Random(1))
    shop = life.world.shops[WOO]
    assert isinstance(shop, WooCommerceShop)
    sku = next(sku for sku, shown in shop.shows().items() if shown >= 4)
    order = shop.buy({shop._offers[sku]: 2})
    (line,) = shop.order(order).lines
    life._listen(order)
    for work in (
        lambda: shop.set_status(order, "completed"),
        lambda: shop.set_status(order, "processing"),
        lambda: shop.refund(order, {str(line): 2}, restock=restock),
    ):
        life.world.clock.advance(60)
        work()
        life._listen(order)
    engine = life.applied(life.told, 1)
    assert list(wrong_lines(engine, life.world.books())) == []
    assert _balances(engine) == life.balances()
    assert _balances(engine)[sku] == (life.world.opening[sku] + shelf, 0)
