"""The revisions of the schema: they stay as they are, a stock goes through the next one whole, and what is none is refused."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.command import upgrade
from alembic.config import Config
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, event, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from invsync_dagster.inventory import channels, schema
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import migrate, write_transaction
from invsync_dagster.inventory.moving import move_stock
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.schema import SchemaError, is_older, require_schema
from invsync_dagster.inventory.tables import central_inventory, metadata, polled_lines
from tests import databases
from tests.unit.inventory.stock import START, Stock, order

pytestmark = pytest.mark.usefixtures("each_database")

# The first digits of the SHA-256 of all that a revision says to the database. People's databases were made by it.
WRITTEN = {
    ("0001", "sqlite"): "fab4824482d4ed37",
    ("0001", "postgresql"): "327637e62ca95f58",
    ("0002", "sqlite"): "15e8bc4e75d13e2f",
    ("0002", "postgresql"): "51c98d3a424d8573",
    ("0003", "sqlite"): "52a8a7cf0c07cd3b",
    ("0003", "postgresql"): "69368e61c91295bb",
    ("0004", "sqlite"): "917a8e8eb2aaa502",
    ("0004", "postgresql"): "645203954bfbbb9a",
    ("0005", "sqlite"): "9f4888d1322d34ff",
    ("0005", "postgresql"): "c0d1ee1e1a34cfb6",
    ("0006", "sqlite"): "0fc9255524b68402",
    ("0006", "postgresql"): "0fc9255524b68402",
}

NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "0006", None, None


def upgrade():
    op.add_column("central_inventory", sa.Column("shelf", sa.Integer(), nullable=False, server_default="3"))
    op.create_index("ix_central_inventory_shelf", "central_inventory", ["shelf"])
    op.execute("UPDATE central_inventory SET shelf = 4 WHERE sku = 'B'")
    %s
"""


def to_revision(engine: Engine, revision: str) -> None:
    """Bring a database to one revision, as `migrate` does to the latest."""
    with write_transaction(engine) as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        upgrade(config, revision)


def bare(folder: Path) -> Engine:
    return databases.opened(databases.fresh_url(folder, migrated=False))


def address(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def execute(engine: Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
        }


def revision_of(engine: Engine) -> str:
    with engine.connect() as connection:
        return schema.revision_of(connection)


def test_a_revision_that_is_there_is_never_changed(tmp_path: Path, each_database: str):
    engine = bare(tmp_path)
    said: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def hear(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        words = statement.split()
        if words[0] in ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE") and "alembic_version" not in words:
            said.append(" ".join(words))

    found = {}
    for revision in sorted(schema.known_revisions()):
        said.clear()
        to_revision(engine, revision)
        found[revision, each_database] = hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
    wanted = {key: digest for key, digest in WRITTEN.items() if key[1] == each_database}
    assert found == wanted, "databases were made by this revision as it was: leave it, and add a new revision"


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this version the next one: a revision more, and its column among the tables'. Return the revision's file."""
    scripts = shutil.copytree(schema.MIGRATIONS, tmp_path / "migrations")
    tables = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(tables)
    tables.tables["central_inventory"].append_column(Column("shelf", Integer, nullable=False, index=True))
    monkeypatch.setattr(schema, "MIGRATIONS", scripts)
    monkeypatch.setattr(schema, "metadata", tables)
    # Of a file that is written anew within a second, and is as long as before, Python takes the bytecode of the old one.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    revision = scripts / "versions" / "r9999_next.py"
    revision.write_text(NEXT % "")
    return revision


@pytest.fixture
def sold(tmp_path: Path) -> Engine:
    """A stock of this version in which something was sold, in a database of its own."""
    stock = Stock({"A": 5, "B": 7})
    stock.apply(order(ordered=2, shipped=[(1, 3)]))
    own = databases.opened(databases.fresh_url(tmp_path))
    move_stock(stock.engine, own, lambda *_: None)
    return own


def test_a_stock_of_this_version_goes_through_the_next_revision_whole(sold: Engine, next_version: Path):
    before = contents(sold)
    assert len(before["stock_ledger"]) == 4
    with pytest.raises(
        SchemaError, match=r"older version \(revision 0006\): stop all services and run `invsync upgrade`"
    ):
        require_schema(address(sold))
    assert is_older(address(sold))
    migrate(sold)
    require_schema(address(sold))
    assert not is_older(address(sold))
    assert revision_of(sold) == "9999"
    assert contents(sold) == before
    with sold.connect() as connection:
        shelves = connection.exec_driver_sql("SELECT sku, shelf FROM central_inventory ORDER BY sku").all()
        assert list(audit(connection)) == []
    assert [tuple(row) for row in shelves] == [("A", 3), ("B", 4)]
    with pytest.raises(IntegrityError, match="append-only"):
        execute(sold, "DELETE FROM stock_ledger")


TOLD = text(
    "INSERT INTO polled_lines VALUES ('2026-03-01 12:00:00+00:00', :channel, '1', '1', 'poll', 5, 3, 1, 0, 0, 0)"
)


def test_of_what_polls_told_the_third_revision_knows_whose_revision_may_stay(tmp_path: Path):
    engine = bare(tmp_path)
    to_revision(engine, "0002")
    with write_transaction(engine) as connection:
        for name, platform in (("store", "woocommerce"), ("shop", "shopify")):
            channels.register(connection, name, platform, "sandbox", True, Rules(), START, START)
            connection.execute(TOLD, {"channel": name})
    migrate(engine)
    require_schema(address(engine))
    with engine.connect() as connection:
        found = connection.execute(select(polled_lines.c.channel, polled_lines.c.revision_may_stay)).all()
    assert sorted(map(tuple, found)) == [("shop", False), ("store", True)]


LISTED = text(
    "INSERT INTO platform_mapping (id, central_sku, platform_name, platform_sku, platform_item_id, platform_location_id,"
    " platform_variant_id, status, status_reason, rules_revision, level_id, created_at, updated_at)"
    " VALUES (:id, 'A', 'store', :sku, '300', '', :variant, 'active', '', 1, 1, '2026-03-01', '2026-03-01')"
)


def test_the_fifth_revision_keeps_the_listings_with_what_people_added_and_takes_several_without_sku(
    tmp_path: Path, each_database: str
):
    engine = bare(tmp_path)
    to_revision(engine, "0004")
    execute(
        engine,
        "ALTER TABLE platform_mapping ADD COLUMN shelf TEXT DEFAULT '7:a'",
        "CREATE INDEX their_index ON platform_mapping (shelf)",
        "CREATE VIEW their_view AS SELECT id, central_sku, shelf FROM platform_mapping",
        "INSERT INTO inventory_levels (id, channel, item_id, location_id, central_sku, shared, pushable, stopped_reason, desired,"
        " desired_sequence, rules_revision, effective_quantity, attempt, touched, due_at, failures, last_error, held_reason)"
        " VALUES (1, 'store', '300', '', 'A', TRUE, TRUE, '', 5, 1, 1, 5, 1, 1, '2026-03-01', 0, '', '')",
    )
    if each_database == "sqlite":
        execute(
            engine,
            "CREATE TRIGGER their_trigger BEFORE DELETE ON platform_mapping BEGIN SELECT RAISE(ABORT, 'theirs'); END",
        )
    with write_transaction(engine) as connection:
        connection.execute(LISTED, {"id": 1, "sku": "", "variant": "301"})
        connection.execute(LISTED, {"id": 2, "sku": "RED", "variant": "302"})
    with pytest.raises(IntegrityError), write_transaction(engine) as connection:
        connection.execute(LISTED, {"id": 3, "sku": "", "variant": "303"})
    migrate(engine)
    require_schema(address(engine))
    with write_transaction(engine) as connection:
        connection.execute(LISTED, {"id": 3, "sku": "", "variant": "303"})
    for sku, variant in (("", "301"), ("RED", "304")):
        with pytest.raises(IntegrityError), write_transaction(engine) as connection:
            connection.execute(LISTED, {"id": 4, "sku": sku, "variant": variant})
    with pytest.raises(IntegrityError), write_transaction(engine) as connection:
        connection.exec_driver_sql("UPDATE platform_mapping SET level_id = 2")
    with engine.connect() as connection:
        seen = connection.exec_driver_sql("SELECT id, central_sku, shelf FROM their_view ORDER BY id").all()
        assert list(audit(connection)) == []
    assert [tuple(row) for row in seen] == [(1, "A", "7:a"), (2, "A", "7:a"), (3, "A", "7:a")]
    execute(engine, "DROP INDEX their_index")
    if each_database == "sqlite":
        with pytest.raises(IntegrityError, match="theirs"):
            execute(engine, "DELETE FROM platform_mapping")


def test_a_revision_that_fails_leaves_the_stock_as_it_was(sold: Engine, next_version: Path):
    before = contents(sold)
    next_version.write_text(NEXT % "op.execute('UPDATE nothing SET a = 1')")
    with pytest.raises(DBAPIError, match="nothing"):
        migrate(sold)
    next_version.write_text(NEXT % "op.drop_index('ix_work_queue_changes')")
    with pytest.raises(SchemaError, match="there is no index ix_work_queue_changes"):
        migrate(sold)
    assert (revision_of(sold), contents(sold)) == ("0006", before)
    next_version.write_text(NEXT % "")
    migrate(sold)
    assert (revision_of(sold), contents(sold)) == ("9999", before)


def test_a_database_of_the_next_version_is_refused_by_this_one(
    sold: Engine, next_version: Path, monkeypatch: pytest.MonkeyPatch
):
    migrate(sold)
    monkeypatch.undo()
    for refusing in (
        lambda: require_schema(address(sold)),
        lambda: is_older(address(sold)),
        lambda: migrate(sold),
    ):
        with pytest.raises(SchemaError, match=r"of a newer version of invsync \(revision 9999"):
            refusing()
    assert revision_of(sold) == "9999"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE channels DROP COLUMN recognised", "there is no column channels.recognised"),
        ("ALTER TABLE channels ADD COLUMN old TEXT NOT NULL DEFAULT ''", "channels.old is no column of ours"),
        ("DROP TABLE walked_listings", "there is no table walked_listings"),
        ("DROP INDEX ix_work_queue_places", "there is no index ix_work_queue_places"),
    ],
)
def test_a_schema_that_says_a_revision_and_is_another_one_is_refused_and_left_as_it_is(
    sold: Engine, change: str, told: str
):
    execute(sold, change)
    with sold.connect() as connection:
        skus = connection.execute(select(central_inventory)).all()
    for refusing in (
        lambda: require_schema(address(sold)),
        lambda: is_older(address(sold)),
        lambda: migrate(sold),
    ):
        with pytest.raises(SchemaError) as caught:
            refusing()
        assert str(caught.value).startswith(
            f"the stock's database says that it is of revision 0006, and is another one: {told}"
        )
        assert "docs/upgrading.md" in str(caught.value)
    with sold.connect() as connection:
        assert connection.execute(select(central_inventory)).all() == skus


def test_peoples_own_tables_and_columns_are_in_nobodys_way(sold: Engine):
    execute(sold, "CREATE TABLE report (day TEXT)")
    execute(sold, "ALTER TABLE central_inventory ADD COLUMN shelf TEXT")
    require_schema(address(sold))
    migrate(sold)
    assert "shelf" in {column["name"] for column in inspect(sold).get_columns("central_inventory")}


def test_an_index_of_another_condition_is_found_when_the_schema_is_migrated(sold: Engine):
    execute(
        sold,
        "DROP INDEX ix_work_queue_claims",
        "CREATE INDEX ix_work_queue_claims ON work_queue (channel) WHERE claim IS NULL",
    )
    require_schema(address(sold))  # slower, and not wrong
    with pytest.raises(SchemaError, match="another one: the index ix_work_queue_claims is another one"):
        migrate(sold)


def test_what_people_add_beside_our_tables_is_theirs(sold: Engine):
    execute(
        sold,
        "CREATE TABLE their_own (a INTEGER)",
        "CREATE INDEX their_index ON central_inventory (product_name)",
        "CREATE VIEW their_view AS SELECT sku FROM central_inventory",
    )
    if sold.dialect.name == "postgresql":
        execute(sold, "ALTER INDEX ix_work_queue_changes SET (fillfactor = 70)")
    migrate(sold)
    require_schema(address(sold))


def test_a_database_without_our_tables_is_none_to_refuse(tmp_path: Path):
    engine = bare(tmp_path)
    engine.connect().close()
    require_schema(address(engine))
    assert not is_older(address(engine))
    migrate(engine)
    require_schema(address(engine))
