"""What keeps the installation safe: the hourly backup of the embedded database."""

from pathlib import Path

import dagster as dg
from sqlalchemy import make_url

from invsync_dagster.defs.names import DATABASE_BACKUP, OWNERS, UPKEEP
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.backup import back_up
from invsync_dagster.settings import Home


def embedded_database(home: Home) -> Path | None:
    """Return the file of the embedded database, None where a server keeps the stock (its own tools back it up)."""
    url = make_url(home.database_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def build_upkeep(home: Home) -> list[dg.AssetsDefinition]:
    """Return the backup of the embedded database, nothing where a server keeps the stock."""
    return [database_backup] if embedded_database(home) else []


@dg.asset(
    key=DATABASE_BACKUP,
    group_name=UPKEEP,
    owners=OWNERS,
    kinds={"sqlite", "file"},
    description=(
        "A checked copy of the stock's database under data/backups/, taken while it is in use; the latest 48 are "
        "kept.\n\n"
        "*Red* means that there is no new backup: the disk is full, or the copy fails SQLite's own check. Then look "
        "at the database at once, and don't delete older backups."
    ),
)
def database_backup(invsync: Invsync) -> dg.MaterializeResult:
    """Back up the embedded database."""
    ws = invsync.workspace
    database = embedded_database(ws.home)
    if database is None:
        raise dg.Failure(
            "The stock is kept by a database server: back it up with the server's own tools.", allow_retries=False
        )
    backup = back_up(database, ws.home.data / "backups", ws.clock.now())
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(backup.path),
            "size_bytes": backup.size_bytes,
            "kept": backup.kept,
            "removed": backup.removed,
        }
    )
