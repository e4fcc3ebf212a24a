"""Several listings without SKU and location on one level, told apart by their variant ids."""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = "platform_mapping"
KEY = ["platform_name", "platform_item_id", "platform_location_id", "platform_sku"]
APART = "(CASE WHEN platform_location_id = '' AND platform_sku = '' THEN platform_variant_id ELSE '' END)"
CONSTRAINT = f"uq_{TABLE}_{'_'.join(KEY)}"


def upgrade() -> None:
    """Replace the constraint by a unique index."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f(CONSTRAINT), TABLE, type_="unique")
    else:
        _make_anew()
    op.create_index("ix_platform_mapping_listing", TABLE, [*KEY, sa.text(APART)], unique=True)


def _make_anew() -> None:
    # SQLite drops a constraint with its table only. From its own words, which name what people have added to it.
    connection = op.get_bind()
    created = connection.execute(
        sa.text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": TABLE}
    ).scalar_one()
    without = re.sub(rf",\s*CONSTRAINT {CONSTRAINT} UNIQUE \([^)]*\)", "", created)
    beside = sa.text(
        "SELECT sql FROM sqlite_master WHERE tbl_name = :name AND type <> 'table' AND sql IS NOT NULL ORDER BY type, name"
    )
    kept = connection.execute(beside, {"name": TABLE}).scalars().all()
    op.execute("PRAGMA legacy_alter_table = ON")  # else it refuses the new name while a view waits for it
    connection.exec_driver_sql(without.replace(TABLE, f"new_{TABLE}", 1))
    op.execute(f"INSERT INTO new_{TABLE} SELECT * FROM {TABLE}")  # noqa: S608 - our own words
    op.execute(f"DROP TABLE {TABLE}")
    op.execute(f"ALTER TABLE new_{TABLE} RENAME TO {TABLE}")
    op.execute("PRAGMA legacy_alter_table = OFF")
    for statement in kept:
        connection.exec_driver_sql(statement)
