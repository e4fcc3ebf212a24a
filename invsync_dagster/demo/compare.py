"""Holds every stand-in's own books against the stock, row by row, with arithmetic of its own.

What is on the shelf is what the ERP's books say, what is promised is what the shops' own open orders say, and the rules
are those of the files: nothing here comes from the code under test, except the balances that are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine, select

from invsync_dagster.demo.catalogue import Listing, ShownBy
from invsync_dagster.demo.shops import Shops
from invsync_dagster.demo.stage import Stage
from invsync_dagster.inventory.tables import central_inventory

ON_HAND = "stock: on hand"
RESERVED = "stock: reserved"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that isn't what it should be."""

    where: str
    sku: str
    shows: int | None
    should: int


@dataclass
class Compared:
    """One book compared: `rows` in all, `within_band` of them off by no more than their dead band allows."""

    where: str
    rows: int = 0
    within_band: int = 0
    left_alone: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, sku: str, shows: int | None, should: int, band: int = 0) -> None:
        """Compare one row."""
        self.rows += 1
        if shows == should:
            return
        if shows is not None and should > 0 and 0 < abs(shows - should) <= band:
            self.within_band += 1
            return
        self.differences.append(Difference(self.where, sku, shows, should))


def compare(stage: Stage, shops: Shops, engine: Engine) -> list[Compared]:
    """Compare all books; paused listings are left alone, as their number is nobody's promise."""
    on_hand = _shelf(stage, shops)
    reserved = _promised(stage, shops)
    with engine.connect() as connection:
        stock = {row.sku: row for row in connection.execute(select(central_inventory))}
    shelf, promised = Compared(ON_HAND), Compared(RESERVED)
    for sku in stage.catalogue.articles:
        row = stock.get(sku)
        shelf.add(sku, row.quantity if row else None, on_hand.get(sku, 0))
        promised.add(sku, row.reserved_quantity if row else None, reserved[sku])
    result = [shelf, promised]
    for channel in stage.channels:
        shown = {(book.item_id, book.location_id): book.quantity for book in shops.books(channel)}
        rules = stage.rules.get(channel, ShownBy())
        result.append(_channel(stage, channel, stage.catalogue.of_shop(channel), shown, on_hand, reserved, rules))
    return result


def _channel(
    stage: Stage,
    channel: str,
    listings: Iterable[Listing],
    shown: Mapping[tuple[str, str], int],
    on_hand: Mapping[str, int],
    reserved: Mapping[str, int],
    rules: ShownBy,
) -> Compared:
    compared = Compared(channel)
    for listing in listings:
        if not listing.active:
            compared.left_alone += 1
            continue
        own = listing.rules.over(rules)
        active = stage.catalogue.articles[listing.sku].active
        available = on_hand.get(listing.sku, 0) - reserved[listing.sku] if active else 0
        shows = shown.get((listing.item_id, listing.location_id))
        compared.add(listing.sku, shows, own.of(available), own.dead_band or 0)
    return compared


def _shelf(stage: Stage, shops: Shops) -> dict[str, int]:
    """Return units on the shelf by SKU, as the ERP's own books have them."""
    books = {book.item_id: book.on_hand or 0 for book in shops.books(stage.erp)}
    return {one.sku: books.get(one.item_id, 0) for one in stage.catalogue.of_shop(stage.erp)}


def _promised(stage: Stage, shops: Shops) -> dict[str, int]:
    """Return promised units by SKU: what inventory.csv states, and the open orders in the shops' own books."""
    promised: dict[str, int] = defaultdict(int)
    for article in stage.catalogue.articles.values():
        promised[article.sku] = article.reserved
    for shop in stage.shops:
        central = {one.shop_sku: one.sku for one in stage.catalogue.of_shop(shop)}
        for sku, quantity in shops.promised(shop).items():
            promised[central[sku]] += quantity
    return promised
