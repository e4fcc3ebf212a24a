"""`sync_logs` without its index of SKUs: all that looks there does so by level, and a fifth of a push's writing was for it."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the index; nobody need wait for it: a stock that still has it only pushes slower."""
    op.drop_index("ix_sync_logs_sku", table_name="sync_logs", if_exists=True)
