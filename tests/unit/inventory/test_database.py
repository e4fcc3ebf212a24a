"""The schema: migrations and tables agree, the logs are append-only, times have a zone, writers wait for each other."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.schema import CreateIndex

from invsync_dagster.inventory import book, levels
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.tables import (
    deliveries,
    inventory_levels,
    metadata,
    operator_actions,
    stock_ledger,
    sync_logs,
)
from tests import databases
from tests.unit.inventory.stock import START, Stock, order

pytestmark = pytest.mark.usefixtures("each_database")


def test_the_migrated_schema_is_the_one_of_the_tables():
    engine = databases.fresh_engine()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_partial_indexes_of_the_migration_are_those_of_the_tables():
    engine = databases.fresh_engine()
    indexes = [index for table in metadata.sorted_tables for index in table.indexes]
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index'")
        stored = {str(name): str(sql) for name, sql in rows}
    assert len(indexes) >= 14
    for index in indexes:
        wanted = str(CreateIndex(index).compile(dialect=engine.dialect))
        assert stored[str(index.name)].replace(" ", "") == wanted.replace(" ", "").replace("\n", "")


def test_migrating_twice_keeps_what_is_there(tmp_path: Path):
    engine = open_database(f"sqlite:///{tmp_path / 'stock.db'}")
    migrate(engine)
    with write_transaction(engine) as connection:
        record_action(connection, at=START, actor="a", action="b", subject="c", before=None, after=None, reason="")
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(operator_actions)).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize("table", [stock_ledger, sync_logs, operator_actions], ids=lambda table: table.name)
def test_the_logs_can_be_appended_to_but_not_changed(table):
    stock = Stock({"A": 5})
    with write_transaction(stock.engine) as connection:
        connection.execute(
            insert(sync_logs).values(
                timestamp=START, platform="shop", sku="A", action="push", status="unknown", level_id=1
            )
        )
    before = stock.rows(table)
    assert before
    for statement in (update(table).values({list(table.c)[-1].name: "forged"}), delete(table)):
        with pytest.raises(IntegrityError, match="append-only"), write_transaction(stock.engine) as connection:
            connection.execute(statement)
    assert stock.rows(table) == before


def test_a_time_without_a_zone_is_refused():
    stock = Stock()
    row = {
        "receipt_id": "1",
        "channel": "shop",
        "received_at": datetime(2026, 1, 1),  # noqa: DTZ001 - what is tested
        "applied_at": START,
        "state": "applied",
    }
    with pytest.raises(StatementError, match="without a time zone"), write_transaction(stock.engine) as connection:
        connection.execute(insert(deliveries), row)
    assert stock.rows(deliveries) == []


def test_writers_wait_for_each_other_and_lose_nothing(tmp_path: Path):
    engine = open_database(f"sqlite:///{tmp_path / 'stock.db'}")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE counter (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO counter VALUES (0)")
        connection.commit()

    def count() -> None:
        for _ in range(20):
            with write_transaction(engine) as connection:
                (n,) = connection.exec_driver_sql("SELECT n FROM counter").one()
                connection.exec_driver_sql("UPDATE counter SET n = ?", (n + 1,))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT n FROM counter").scalar_one() == 80
    engine.dispose()


def test_a_transaction_that_fails_leaves_nothing_behind():
    stock = Stock({"A": 5})
    with pytest.raises(RuntimeError, match="killed"), write_transaction(stock.engine) as connection:
        ledger_book = book.Book(connection, now=START, run_id="")
        ledger_book.load(["A"])
        ledger_book.add("A", "adjustment", -1, 0, event_id="x", occurred_at=START, received_at=START)
        ledger_book.close()
        raise RuntimeError("killed")
    assert stock.balance() == (5, 0)
    assert stock.apply(order(ordered=1)).entries == 1
    assert stock.balance() == (5, 1)


def test_changes_are_found_through_the_partial_index():
    stock = Stock({"A": 5})
    from invsync_dagster.inventory.tables import is_change

    query = select(inventory_levels.c.id).where(inventory_levels.c.channel == "shop", is_change())
    text = str(query.compile(dialect=stock.engine.dialect, compile_kwargs={"literal_binds": True}))
    with stock.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
    assert "ix_inventory_levels_changes" in plan[0][-1]


def test_the_statements_have_a_postgresql_form():
    for statement in levels._RECOMPUTE:
        text = str(statement.compile(dialect=postgresql.dialect()))
        assert "json_array_elements_text" in text
        assert "greatest(" in text
        assert "least(" in text
        assert " IS 1" not in text
