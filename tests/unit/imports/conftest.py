"""The stock that the tests of imports start from: two channels, nothing in it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from invsync_dagster.inventory import channels as stock_channels
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.rules import Rules
from tests import databases
from tests.unit.imports.stock import NOW, Stock


@pytest.fixture
def engine(tmp_path: Path, each_database: str) -> Engine:
    # A file, which can be full and closed; on PostgreSQL one that is emptied, since a new one takes 20 times as long.
    is_file = each_database == "sqlite"
    engine = databases.opened(databases.fresh_url(tmp_path)) if is_file else databases.fresh_engine()
    with write_transaction(engine) as connection:
        for name in ("shop", "erp"):
            long_ago = NOW - timedelta(days=30)
            stock_channels.register(connection, name, "shopify", "sandbox", name == "shop", Rules(), long_ago, NOW)
    return engine


@pytest.fixture
def stock(engine: Engine, tmp_path: Path) -> Stock:
    return Stock(engine, tmp_path)
