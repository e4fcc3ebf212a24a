"""The work queue in a table of its own, which triggers of `inventory_levels` keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# As in the first schema: SQLite's rowid alias must be spelled INTEGER, and texts compare by their code points.
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

IS_CHANGE = "({0}pushable IS TRUE AND ({0}desired <> {0}effective_quantity OR {0}uncertain IS NOT NULL))"
IS_QUEUED = f"({IS_CHANGE} OR {{0}}claim IS NOT NULL OR {{0}}bulk_handle IS NOT NULL)"

# What of a queued level may change; the others are what it is.
CHANGING = (
    "is_change", "desired", "effective_quantity", "expected", "uncertain", "due_at", "claim", "bulk_handle"
)  # fmt: skip
COLUMNS = ("level_id", "channel", "location_id", *CHANGING)
WATCHED = ", ".join(("pushable", *(name for name in CHANGING if name != "is_change")))

# Room on each page that is written from now on for the next state of a quarter of its levels: their indexes aren't told of it.
FULL_TO = 75


def _values(row: str) -> str:
    own = {"level_id": f"{row}id", "is_change": IS_CHANGE.format(row)}
    return ", ".join(own.get(name, f"{row}{name}") for name in COLUMNS)


_QUEUED = IS_QUEUED.format("")
_INTO = f"INSERT INTO work_queue ({', '.join(COLUMNS)})"
_INSTEAD = f"ON CONFLICT (level_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in CHANGING)}"


def upgrade() -> None:
    """Create the table with its indexes, fill it, let triggers keep it, and drop the levels' indexes that it replaces."""
    op.create_table(
        "work_queue",
        sa.Column("level_id", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("location_id", TEXT, nullable=False),
        sa.Column("is_change", sa.Boolean(), nullable=False),
        sa.Column("desired", sa.BigInteger(), nullable=False),
        sa.Column("effective_quantity", sa.BigInteger(), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=True),
        sa.Column("uncertain", TEXT, nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claim", TEXT, nullable=True),
        sa.Column("bulk_handle", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("level_id", name=op.f("pk_work_queue")),
    )
    op.execute(f"{_INTO} SELECT {_values('')} FROM inventory_levels WHERE {_QUEUED}")  # noqa: S608 - our own words
    is_change = sa.literal_column("is_change").is_(sa.true())
    for name, columns, condition in (
        ("changes", ["channel", "desired", "due_at", "claim"], is_change),
        (
            "places",
            ["channel", "location_id"],
            is_change & (sa.literal_column("location_id") != sa.literal_column("''")),
        ),
        ("claims", ["channel", "claim"], sa.literal_column("claim").is_not(None)),
        ("bulk", ["channel", "bulk_handle"], sa.literal_column("bulk_handle").is_not(None)),
    ):
        op.create_index(
            f"ix_work_queue_{name}", "work_queue", columns, sqlite_where=condition, postgresql_where=condition
        )
        op.drop_index(f"ix_inventory_levels_{name}", "inventory_levels")
    if op.get_bind().dialect.name == "postgresql":
        _keep_by_statement()
    else:
        _keep_by_row()


def _keep_by_statement() -> None:
    # A call for each row takes twice as long as one for all rows of a statement.
    # Its statements are planned once a connection, maybe while the queue is empty, when to read it all looks like the least work.
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION keep_work_queue() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                DELETE FROM work_queue WHERE level_id = ANY (ARRAY(SELECT id FROM old_rows));
                RETURN NULL;
            END IF;
            {_INTO} SELECT {_values("")} FROM new_rows WHERE {_QUEUED}
            {_INSTEAD};
            IF TG_OP = 'UPDATE' THEN
                IF EXISTS (SELECT FROM old_rows WHERE {_QUEUED}) THEN
                    DELETE FROM work_queue
                    WHERE level_id = ANY (ARRAY(SELECT id FROM new_rows WHERE NOT {_QUEUED}));
                END IF;
            END IF;
            RETURN NULL;
        END
        $$
        """  # noqa: S608 - our own words
    )
    for event, tables in (
        ("insert", "NEW TABLE AS new_rows"),
        ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("delete", "OLD TABLE AS old_rows"),
    ):
        op.execute(
            f"CREATE TRIGGER work_queue_{event} AFTER {event.upper()} ON inventory_levels REFERENCING {tables}"
            " FOR EACH STATEMENT EXECUTE FUNCTION keep_work_queue()"
        )
    op.execute(f"ALTER TABLE inventory_levels SET (fillfactor = {FULL_TO})")
    op.execute("DROP STATISTICS st_inventory_levels_steps")  # of a condition that nothing asks any more


def _keep_by_row() -> None:
    queue = f"BEGIN {_INTO} VALUES ({_values('NEW.')}) {_INSTEAD}; END"
    remove = "BEGIN DELETE FROM work_queue WHERE level_id = OLD.id; END"
    of_level = f"UPDATE OF {WATCHED} ON inventory_levels"
    was, will_be = IS_QUEUED.format("OLD."), IS_QUEUED.format("NEW.")
    op.execute(f"CREATE TRIGGER work_queue_insert AFTER INSERT ON inventory_levels WHEN {will_be} {queue}")
    op.execute(f"CREATE TRIGGER work_queue_update AFTER {of_level} WHEN {will_be} {queue}")
    op.execute(f"CREATE TRIGGER work_queue_done AFTER {of_level} WHEN {was} AND NOT {will_be} {remove}")
    op.execute(f"CREATE TRIGGER work_queue_delete AFTER DELETE ON inventory_levels WHEN {was} {remove}")
