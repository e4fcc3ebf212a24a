"""What a walk saw, compared with the mapping: as much work a listing in a large shop as in a small one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import event

from invsync_dagster.inventory import channels, walks
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.discovery import mapped_findings
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.unmapped import unmapped_findings
from invsync_dagster.inventory.walks import Walked
from tests import databases
from tests.unit.inventory.stock import START


def steps_of(folder: Path, size: int) -> int:
    """What SQLite does, in thousands of its steps, to compare `size` listings, half of them mapped and half of those renamed."""
    folder.mkdir()
    engine = open_database(databases.fresh_url(folder))
    names = [f"S{number:05d}" for number in range(size)]
    with write_transaction(engine) as connection:
        channels.register(connection, "shop", "shopify", "sandbox", True, Rules(), START, START)
        set_skus(connection, [Sku(name) for name in names], actor="test", reason="", now=START)
        mapped = [Listing("shop", name, f"item-{name}", "here", platform_sku=name) for name in names[::2]]
        set_listings(connection, mapped, actor="test", reason="", now=START)
        walk = walks.begin(connection, "shop", "address", START, "run").walk
        seen = [
            Walked(f"item-{name}", "here", "", "", name if number % 4 else f"{name}-b", "", 1, "")
            for number, name in enumerate(names)
        ]
        walks.add(connection, walk, 0, seen)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def count(driver: sqlite3.Connection, *_: object) -> None:
        driver.set_progress_handler(step, 1_000)

    event.listen(engine, "checkout", count)
    with engine.connect() as connection:
        coverage = walks.coverage(connection, "shop", walk)
        renamed = sum(1 for _ in mapped_findings(connection, "shop", walk, (), {}))
        offered = sum(1 for _ in unmapped_findings(connection, "shop", walk))
    engine.dispose()
    assert (coverage.mapped, coverage.missing, coverage.renamed) == (size // 2, (), size // 4)
    assert (renamed, offered) == (size // 2, size // 2)
    return steps


def test_a_shop_with_four_times_the_listings_is_compared_in_four_times_the_steps(tmp_path: Path) -> None:
    small, large = steps_of(tmp_path / "small", 500), steps_of(tmp_path / "large", 2_000)
    assert large < 5 * small, (small, large)
