"""A stock that moves to another database is the same stock there, and goes on from where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.moving import MovingError, move_stock
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import metadata, platform_mapping
from tests import databases
from tests.unit.inventory.stock import SHOP, Stock, order


@pytest.mark.parametrize(("old", "new"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_every_row_comes_along_and_the_next_numbers_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setattr("invsync_dagster.inventory.moving.ROWS_AT_ONCE", 2)
    databases.use(old)
    stock = Stock({"A": 5, "B": 7})
    stock.apply(order(ordered=2), receipt="r1")
    databases.use(new)
    target = databases.opened(databases.fresh_url(tmp_path))
    databases.use("sqlite")
    told: dict[str, int] = {}
    rows = move_stock(stock.engine, target, told.__setitem__)
    assert rows == sum(told.values()) > 20
    for table in metadata.sorted_tables:
        ordered = select(table).order_by(*table.primary_key.columns)
        with stock.engine.connect() as before, target.connect() as after:
            assert after.execute(ordered).all() == before.execute(ordered).all()
    stock.engine, moved_from = target, stock.engine
    stock.prove()
    assert stock.apply(order(ordered=2), receipt="r1").entries == 0
    assert stock.apply(order("2", ordered=1), receipt="r2").entries == 1
    with write_transaction(target) as connection:
        set_skus(connection, [Sku("C")], actor="test", reason="", now=stock.now)
    stock.map(Listing(SHOP, "C", "shop-C"))
    ids = [row.id for row in stock.rows(platform_mapping)]
    assert len(ids) == len(set(ids)) == 7
    assert moved_from.dialect.name == old


def test_a_database_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    source, target = Stock({"A": 5}), Stock({"B": 1})
    before = target.balance("B")
    with pytest.raises(MovingError, match="not empty"):
        move_stock(source.engine, target.engine, lambda *_: None)
    assert target.balance("B") == before


def test_databases_of_different_revisions_are_refused(tmp_path: Path) -> None:
    source = Stock({"A": 5})
    target = databases.opened(databases.fresh_url(tmp_path))
    with write_transaction(target) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'older'")
    with pytest.raises(MovingError, match="different revisions"):
        move_stock(source.engine, target, lambda *_: None)
