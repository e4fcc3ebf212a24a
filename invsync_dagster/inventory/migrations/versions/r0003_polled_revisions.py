"""Whether an edit may leave the revision of what a poll told: `polled_lines.revision_may_stay`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; WooCommerce was the only platform of that kind."""
    op.add_column(
        "polled_lines", sa.Column("revision_may_stay", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.execute(
        "UPDATE polled_lines SET revision_may_stay = TRUE"
        " WHERE channel IN (SELECT name FROM channels WHERE platform = 'woocommerce')"
    )
