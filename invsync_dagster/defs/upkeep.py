"""What keeps the installation safe: the hourly backup of the stock's database."""

import dagster as dg

from invsync_dagster.defs.names import DATABASE_BACKUP, OWNERS, UPKEEP
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.backup import BackupError, back_up


@dg.asset(
    key=DATABASE_BACKUP,
    group_name=UPKEEP,
    owners=OWNERS,
    kinds={"file"},
    description=(
        "A checked copy of the stock's database under data/backups/, taken while it is in use; the latest 48 are "
        "kept. Of SQLite it is a database file, of PostgreSQL an archive for pg_restore.\n\n"
        "*Red* means that there is no new backup: the disk is full, the copy fails SQLite's own check, or pg_dump is "
        "missing or older than the server. Look at the database at once, and don't delete older backups."
    ),
)
def database_backup(invsync: Invsync) -> dg.MaterializeResult:
    """Back up the stock's database."""
    ws = invsync.workspace
    try:
        backup = back_up(ws.home.database_url, ws.home.data / "backups", ws.clock.now())
    except BackupError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(backup.path),
            "size_bytes": backup.size_bytes,
            "kept": backup.kept,
            "removed": backup.removed,
        }
    )
