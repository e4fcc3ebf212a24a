"""Runs the revisions on the connection, and in the transaction, that `database.migrate` opened."""

from __future__ import annotations

from alembic import context

from invsync_dagster.inventory.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
