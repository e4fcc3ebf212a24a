"""A stock that moves to another database is the same stock there, and goes on from where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.moving import MovingError, move_stock
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, metadata, platform_mapping
from tests import databases
from tests.unit.inventory.stock import SHOP, START, Stock, order


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


def test_a_stock_is_not_moved_onto_itself(tmp_path: Path) -> None:
    url = databases.fresh_url(tmp_path)
    source, target = databases.opened(url), databases.opened(url)
    with write_transaction(source) as connection:
        set_skus(connection, [Sku("A")], actor="test", reason="", now=START)
    with pytest.raises(MovingError, match="not empty: central_inventory has rows"):
        move_stock(source, target, lambda *_: None)


def test_a_value_that_the_new_database_can_not_hold_is_named_and_nothing_is_moved(tmp_path: Path) -> None:
    stock = Stock({"A": 5, "B": 7})
    with write_transaction(stock.engine) as connection:
        named = update(central_inventory).where(central_inventory.c.sku == "B")
        connection.execute(named.values(product_name="half\x00word"))
    databases.use("postgresql")
    target = databases.opened(databases.fresh_url(tmp_path))
    databases.use("sqlite")
    with pytest.raises(MovingError, match=r"central_inventory: .*NUL") as caught:
        move_stock(stock.engine, target, lambda *_: None)
    assert "half" not in str(caught.value)
    with target.connect() as connection:
        assert connection.execute(select(central_inventory)).all() == []
