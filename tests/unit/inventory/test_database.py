"""The schema: migrations and tables agree, the logs are append-only, times have a zone, writers wait for each other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, delete, func, insert, make_url, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError, StatementError

from invsync_dagster.inventory import book, database
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.database import (
    NOT_STORABLE,
    DatabaseGoneError,
    committed_without_the_disk,
    migrate,
    open_database,
    side_transaction,
    write_transaction,
)
from invsync_dagster.inventory.tables import (
    central_inventory,
    daily_closings,
    deliveries,
    metadata,
    operator_actions,
    rate_limits,
    stock_ledger,
    sync_logs,
    work_queue,
)
from tests import databases
from tests.unit.inventory.stock import START, Stock, order

pytestmark = pytest.mark.usefixtures("each_database")


# Alembic can't compare an index of an expression; the next test does.
BY_EXPRESSION = "ix_platform_mapping_listing"


@pytest.mark.filterwarnings(f"ignore:.*expression-based index .?{BY_EXPRESSION}")
def test_the_migrated_schema_is_the_one_of_the_tables():
    engine = databases.fresh_engine()
    with engine.connect() as connection:
        opts = {"compare_type": True, "include_object": lambda _thing, name, *_: name != BY_EXPRESSION}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []


def index_definitions(engine: Engine) -> dict[str, str]:
    query = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return {str(name): "".join(str(sql).split()) for name, sql in connection.exec_driver_sql(query)}


def test_the_partial_indexes_of_the_migration_are_those_of_the_tables(tmp_path: Path):
    created = databases.opened(databases.fresh_url(tmp_path, migrated=False))
    metadata.create_all(created)
    wanted = index_definitions(created)
    stored = index_definitions(databases.fresh_engine())
    assert len(wanted) >= 14
    assert "WHERE" in wanted["ix_work_queue_changes"]
    assert {name: stored[name] for name in wanted} == wanted


def test_migrating_twice_keeps_what_is_there(tmp_path: Path):
    engine = databases.opened(databases.fresh_url(tmp_path, migrated=False))
    migrate(engine)
    with write_transaction(engine) as connection:
        record_action(connection, at=START, actor="a", action="b", subject="c", before=None, after=None, reason="")
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(operator_actions)).scalar_one() == 1


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
    key = next(iter(table.primary_key.columns))
    row = {column.name: value for column, value in zip(table.c, before[0], strict=True)} | {
        list(table.c)[-1].name: "forged"
    }
    others: list[Any] = (
        [sqlite_insert(table).values(row).prefix_with("OR REPLACE")]
        if stock.engine.dialect.name == "sqlite"
        else [
            postgresql_insert(table).values(row).on_conflict_do_update(index_elements=[key], set_=row),
            text(f"TRUNCATE {table.name}"),
        ]
    )
    for other in others:
        with pytest.raises(IntegrityError, match="append-only"), write_transaction(stock.engine) as connection:
            connection.execute(other)
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
    engine = databases.opened(databases.fresh_url(tmp_path, migrated=False))
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE counter (channel TEXT, n INTEGER)")
        connection.exec_driver_sql("INSERT INTO counter VALUES ('a', 0), ('b', 0)")
        connection.commit()

    def count(writer_of: str | None) -> None:
        for _ in range(20):
            with write_transaction(engine, writer_of) as connection:
                for channel, n in connection.exec_driver_sql("SELECT channel, n FROM counter").all():
                    if writer_of in (None, channel):
                        counted = text("UPDATE counter SET n = :n WHERE channel = :channel")
                        connection.execute(counted, {"n": n + 1, "channel": channel})

    threads = [threading.Thread(target=count, args=(of,)) for of in (None, None, "a", "a", "b", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        counted = connection.exec_driver_sql("SELECT channel, n FROM counter ORDER BY channel").all()
    assert [tuple(row) for row in counted] == [("a", 80), ("b", 80)]


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_a_writer_that_waits_too_long_for_one_of_its_process_is_told_and_gets_the_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of SQLite's file: on PostgreSQL it is the server that tells the lock's time-out."""
    monkeypatch.setattr(database, "WAIT_FOR_WRITER_SECONDS", 0.05)
    engine = databases.engine_of(tmp_path / "stock.db", make=True)
    migrate(engine)

    def empty(transaction: Any) -> int:
        with transaction(engine) as connection:
            return connection.execute(delete(rate_limits)).rowcount

    for first, second in product((write_transaction, side_transaction), repeat=2):
        with first(engine) as connection:
            connection.execute(insert(rate_limits).values(channel="shop"))
            with pytest.raises(DatabaseGoneError, match="database is locked"), second(engine):
                pass
            with ThreadPoolExecutor(1) as beside, pytest.raises(DatabaseGoneError, match="database is locked"):
                beside.submit(empty, second).result()
        with ThreadPoolExecutor(1) as beside:
            assert beside.submit(empty, second).result() == 1


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_a_writer_that_is_interrupted_as_its_turn_comes_leaves_it_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engine = databases.engine_of(tmp_path / "stock.db", make=True)
    migrate(engine)
    turn: Any = engine.dialect.turn  # type: ignore[attr-defined]

    class Interrupted:
        release = turn.release

        def acquire(self, timeout: float) -> None:
            turn.acquire(timeout=timeout)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine.dialect, "turn", Interrupted())
        with pytest.raises(KeyboardInterrupt), write_transaction(engine):
            pass
    with ThreadPoolExecutor(1) as beside:
        assert beside.submit(turn.acquire, blocking=False).result()


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_writers_use_one_connection_after_the_other(tmp_path: Path):
    """Of SQLite's file, where each connection has a cache that is lost when another one writes."""
    engine = databases.engine_of(tmp_path / "stock.db", make=True)
    migrate(engine)
    with engine.connect(), engine.connect(), engine.connect():
        pass
    used = set()
    for transaction in (write_transaction, side_transaction, write_transaction):
        with transaction(engine) as connection:
            used.add(connection.connection.driver_connection)
    assert (len(used), engine.pool.checkedin()) == (1, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_on_postgresql_channels_are_written_side_by_side_and_the_stock_alone(tmp_path: Path):
    url = make_url(databases.fresh_url(tmp_path)).update_query_dict({"options": "-c lock_timeout=20ms"})
    engine = databases.opened(url.render_as_string(hide_password=False))
    with write_transaction(engine, "a"), write_transaction(engine, "b"):
        for waiting in ("a", None):
            with pytest.raises(OperationalError, match="lock timeout"), write_transaction(engine, waiting):
                pass
    with write_transaction(engine):
        for waiting in ("a", None):
            with pytest.raises(OperationalError, match="lock timeout"), write_transaction(engine, waiting):
                pass
    with write_transaction(engine, "a"):
        pass


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


def waits_for_the_disk(connection: Connection) -> bool:
    """Of SQLite in its WAL mode: NORMAL (1) doesn't at a commit, FULL (2) does."""
    return {1: False, 2: True}[connection.exec_driver_sql("PRAGMA synchronous").scalar_one()]


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_only_what_is_not_the_stock_is_committed_without_the_disk(tmp_path: Path):
    """Of SQLite's files: the next test is PostgreSQL's."""
    engine = open_database(f"sqlite:///{tmp_path}/stock.db", make=True)
    migrate(engine)
    with side_transaction(engine) as connection:
        assert not waits_for_the_disk(connection)
        connection.execute(insert(rate_limits).values(channel="shop"))
    with pytest.raises(LookupError), side_transaction(engine) as connection:
        connection.execute(delete(rate_limits))
        raise LookupError
    with write_transaction(engine) as connection:
        assert waits_for_the_disk(connection)
        assert connection.execute(select(rate_limits.c.channel)).scalars().all() == ["shop"]
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # one connection has done it all
    engine.dispose()


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_on_postgresql_a_statement_of_what_is_not_the_stock_commits_by_itself_and_without_the_disk_if_it_says_so():
    engine = databases.fresh_engine()
    waits = text("SELECT current_setting('synchronous_commit')")
    with side_transaction(engine) as connection:
        said = insert(rate_limits).values(channel="shop").returning(committed_without_the_disk())
        assert connection.execute(said).scalar_one() == "off"
        with engine.connect() as other:
            assert other.execute(select(rate_limits.c.channel)).scalars().all() == ["shop"]
        assert connection.execute(waits).scalar_one() == "on"
    with engine.connect() as connection:
        assert connection.execute(waits).scalar_one() == "on"
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "repeatable read"


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_who_reads_on_a_connection_that_has_written_keeps_no_writer_waiting(tmp_path: Path):
    """Of SQLite's file, which has one writer: PostgreSQL's readers never wait."""
    engine = open_database(f"sqlite:///{tmp_path}/stock.db", make=True)
    migrate(engine)
    other = open_database(f"sqlite:///{tmp_path}/stock.db")
    for transaction in (write_transaction, side_transaction):
        with transaction(engine) as connection:
            connection.execute(delete(rate_limits))
        with engine.connect() as reader, other.connect() as writer:
            assert engine.pool.checkedout() == 1 and engine.pool.checkedin() == 0  # type: ignore[attr-defined]
            assert reader.execute(select(rate_limits.c.channel)).all() == []
            writer.exec_driver_sql("PRAGMA busy_timeout=0")
            writer.execute(insert(rate_limits).values(channel="shop"))
            writer.commit()
            assert reader.execute(select(rate_limits.c.channel)).all() == []
    engine.dispose()
    other.dispose()


def test_changes_are_found_through_the_partial_index():
    stock = Stock({"A": 5})
    queued = work_queue.c
    # Ordered, as the queue is asked: only this index needs no sorting.
    query = select(queued.level_id).where(queued.channel == "shop", queued.is_change.is_(True))
    query = query.order_by(queued.desired, queued.due_at)
    sql = str(query.compile(dialect=stock.engine.dialect, compile_kwargs={"literal_binds": True}))
    with stock.engine.connect() as connection:
        if stock.engine.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}").all()[0][-1]
        else:
            # On six rows reading them whole, and sorting them, costs as little as anything.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_sort = off")
            plan = "".join(connection.exec_driver_sql(f"EXPLAIN {sql}").scalars())
    assert "ix_work_queue_changes" in plan


def test_a_reader_sees_one_state_of_the_stock_while_others_write(tmp_path: Path):
    engine = databases.opened(databases.fresh_url(tmp_path))
    count = select(func.count()).select_from(operator_actions)
    with engine.connect() as reader:
        assert reader.execute(count).scalar_one() == 0
        with write_transaction(engine) as connection:
            record_action(connection, at=START, actor="a", action="b", subject="c", before=None, after=None, reason="")
        assert reader.execute(count).scalar_one() == 0
    with engine.connect() as reader:
        assert reader.execute(count).scalar_one() == 1


def test_texts_are_ordered_by_their_code_points():
    skus = ["a-1", "B", "A-1", "ä", "_", "A1", "Z", "0071"]
    stock = Stock(skus=skus)
    with stock.engine.connect() as connection:
        query = select(central_inventory.c.sku).order_by(central_inventory.c.sku)
        assert list(connection.execute(query).scalars()) == sorted(skus)


def test_every_text_of_the_migrated_schema_has_the_plain_collation():
    engine = databases.fresh_engine()
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            schema = connection.exec_driver_sql("SELECT group_concat(sql) FROM sqlite_master").scalar_one()
        assert "COLLATE" not in schema  # BINARY is SQLite's own
        return
    query = (
        "SELECT table_name || '.' || column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text'"
    )
    with engine.connect() as connection:
        found: dict[str, str] = dict(connection.exec_driver_sql(query).all())
    assert len(found) > 50
    assert {name for name, collation in found.items() if collation != "C"} == set()


def test_numbers_of_64_bits_are_kept_and_larger_ones_are_not_storable():
    stock = Stock({"A": 5})
    stock.change_levels(desired=2**63 - 1)
    assert stock.level().desired == 2**63 - 1
    with pytest.raises(NOT_STORABLE):
        stock.change_levels(desired=2**63)
    with pytest.raises(NOT_STORABLE), write_transaction(stock.engine) as connection:
        connection.execute(select(central_inventory.c.sku).where(central_inventory.c.sku == "\ud800")).all()
    assert stock.level().desired == 2**63 - 1


def test_a_time_of_any_zone_comes_back_as_the_same_moment_in_utc():
    stock = Stock({"A": 5})
    summer = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    stock.change_levels(due_at=summer)
    assert stock.level().due_at == summer.astimezone(UTC)
    assert stock.level().due_at.tzinfo is UTC


def test_nothing_of_a_transaction_that_the_database_took_back_is_committed_after_all(
    tmp_path: Path, each_database: str
):
    """SQLite rolls back by itself when its disk is full; what the same transaction does then must not stand alone."""
    engine = databases.opened(databases.fresh_url(tmp_path))
    day = {"sequence": 1, "closed_at": START}
    too_much = "INSERT INTO daily_closings VALUES (hex(zeroblob(1000000)), 1, '2026-06-03 00:00:00')"
    if each_database == "postgresql":
        too_much = "SELECT 1 / 0"
    with pytest.raises((DBAPIError, PendingRollbackError)), write_transaction(engine) as connection:
        if each_database == "sqlite":
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # no more than there are
        connection.execute(insert(daily_closings), {"day": "2026-06-01", **day})
        with suppress(DBAPIError):
            connection.exec_driver_sql(too_much)
        connection.execute(insert(daily_closings), {"day": "2026-06-02", **day})
    with write_transaction(engine) as connection:
        assert connection.execute(select(daily_closings.c.day)).all() == []
