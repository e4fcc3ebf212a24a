"""What a channel lists, as the latest walk saw it: `listing_walks` and `walked_listings`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# As in the first schema: SQLite's rowid alias must be spelled INTEGER, and texts compare by their code points.
IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the two tables with their indexes."""
    op.create_table(
        "listing_walks",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("went_on_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("listings", sa.BigInteger(), nullable=False),
        sa.Column("cursor", TEXT, nullable=True),
        sa.Column("run_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listing_walks")),
    )
    op.create_index("ix_listing_walks_channel", "listing_walks", ["channel"], unique=False)
    op.create_table(
        "walked_listings",
        sa.Column("walk_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("item_id", TEXT, nullable=False),
        sa.Column("location_id", TEXT, nullable=False),
        sa.Column("listing_id", TEXT, nullable=False),
        sa.Column("variant_id", TEXT, nullable=False),
        sa.Column("platform_sku", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=True),
        sa.Column("problem", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["walk_id"], ["listing_walks.id"], name=op.f("fk_walked_listings_walk_id")),
        sa.PrimaryKeyConstraint("walk_id", "item_id", "location_id", "position", name=op.f("pk_walked_listings")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_walked_listings_position", "walked_listings", ["walk_id", "position"], unique=False)
    op.create_index("ix_walked_listings_listing", "walked_listings", ["walk_id", "listing_id"], unique=False)
    op.create_index("ix_walked_listings_platform_sku", "walked_listings", ["walk_id", "platform_sku"], unique=False)
