"""The stock that every seed starts with, built once by our own doors and then copied."""

from __future__ import annotations

import random
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Engine

from invsync_dagster.inventory import channels as registry
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.platforms.contract import LevelReference
from tests import databases
from tests.simulation.books import ShopRules

LOCATION = "gid://shopify/Location/1"
WOO, EBAY, ALIBABA, AMAZON = "woo_main", "ebay_main", "alibaba_main", "amazon_main"
PLATFORMS = {
    "shop_main": "shopify",
    "shop_eu": "shopify",
    WOO: "woocommerce",
    EBAY: "ebay",
    ALIBABA: "alibaba",
    AMAZON: "amazon",
}


def item_of(shop: str, sku: str) -> str:
    """Return the gid of a SKU's inventory item at a shop; the number carries both."""
    return f"gid://shopify/InventoryItem/{1 + sum(map(ord, shop)) % 97}{int(sku[4:]):06d}"


def level_of(shop: str, sku: str) -> LevelReference:
    """Return the level of a SKU at a shop. Of ten at WooCommerce, three are variations of one product that keep their own
    stock, and one is a variation whose product keeps it; at Alibaba.com four SKUs share a product."""
    platform, number = PLATFORMS[shop], int(sku[4:])
    if platform == "shopify":
        return LevelReference(item_of(shop, sku), LOCATION)
    if platform in ("ebay", "amazon"):
        return LevelReference(sku)
    if platform == "alibaba":
        return LevelReference(str(10_561_301_815_800_001 + number), str(16_000_000_000_000_001 + number // 4))
    if number % 10 in (3, 4, 6):
        return LevelReference(str(100_000 + number), str(200_000 + number // 10))
    return LevelReference(str(300_000 + number)) if variant_of(shop, sku) else LevelReference(str(100_000 + number))


def variant_of(shop: str, sku: str) -> str:
    """Return the variation that is sold where its product is the level, "" elsewhere."""
    number = int(sku[4:])
    return str(100_000 + number) if shop == WOO and number % 10 == 7 else ""


def is_listed(shop: str, sku: str) -> bool:
    """Every shop has most of the goods, but not the same ones."""
    return (int(sku[4:]) + sum(map(ord, shop))) % 5 != 0


def opening_stock(skus: int) -> dict[str, int]:
    """Return on hand by SKU; the much wanted first tenth is scarce."""
    rng = random.Random(7)
    return {f"SKU-{n:04d}": rng.randint(3, 30) if n < skus // 10 else rng.randint(0, 30) for n in range(skus)}


def fresh_stock(skus: int, shops: dict[str, ShopRules], erp: str, now: datetime) -> Engine:
    """Return a database (on SQLite in memory) with the catalogue mapped and the first push of every channel approved."""
    rules = tuple(shops.items())
    if databases.current() == "postgresql":
        name = f"simulation of {skus} SKUs, {rules}, {erp}, {now}"
        return databases.filled_engine(name, lambda engine: _fill(engine, skus, rules, erp, now))
    engine = open_database("sqlite://")
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.deserialize(_template(skus, rules, erp, now))
    return engine


@cache
def _template(skus: int, shops: tuple[tuple[str, ShopRules], ...], erp: str, now: datetime) -> bytes:
    engine = open_database("sqlite://")
    _fill(engine, skus, shops, erp, now)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        return bytes(driver.serialize())


def _fill(engine: Engine, skus: int, shops: tuple[tuple[str, ShopRules], ...], erp: str, now: datetime) -> None:
    migrate(engine)
    stock = opening_stock(skus)
    by: dict[str, Any] = {"actor": "simulation", "reason": "opening stock", "now": now}
    with write_transaction(engine) as connection:
        for name, rules in shops:
            registry.register(connection, name, PLATFORMS[name], "sandbox", True, Rules(**vars(rules)), now, now)
        contained = (*(name for name, _ in shops), erp)
        registry.register(connection, erp, "erp", "sandbox", False, Rules(), now, now, contains_orders_of=contained)
        set_skus(connection, [Sku(sku) for sku in stock], **by)
        apply_counts(
            connection,
            [Count(sku, quantity, now) for sku, quantity in stock.items()],
            CountSource("opening", contained),
            now=now,
            run_id="",
        )
        listings = [
            Listing(name, sku, level.item_id, level.location_id, platform_sku=sku, variant_id=variant_of(name, sku))
            for name, _ in shops
            for sku in stock
            if is_listed(name, sku)
            for level in [level_of(name, sku)]
        ]
        set_listings(connection, [*listings, *(Listing(erp, sku, sku, platform_sku=sku) for sku in stock)], **by)
        for name in contained:
            registry.approve_first_push(connection, name, **by)
