"""What keeps the installation safe: the hourly backup of database and inbox, each proven by a restore into a scratch place."""

import dagster as dg
from sqlalchemy.exc import DBAPIError

from invsync_dagster.backups.proving import Proof, prove
from invsync_dagster.backups.sealing import BackupKeyError, BackupKeys
from invsync_dagster.backups.taking import prune, take
from invsync_dagster.defs.metadata import worst_rows
from invsync_dagster.defs.names import DATABASE_BACKUP, OWNERS, UPKEEP
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.copies import BackupError
from invsync_dagster.inventory.database import DatabaseGoneError

CHECK = "restores"


@dg.asset(
    key=DATABASE_BACKUP,
    group_name=UPKEEP,
    owners=OWNERS,
    kinds={"file"},
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=DATABASE_BACKUP,
            description="The backup just taken was restored into a scratch place, and its books add up there. Red: it can't be "
            "relied on; the latest 48 that can are kept. Differences are in the live books too: see the check adds_up.",
        )
    ],
    description=(
        "The stock's database and the inbox under data/backups/, taken while both are in use; the latest 48 that proved "
        "themselves are kept, and 12 of those that didn't. Each is a folder that can be copied elsewhere as it is, and that "
        "`invsync restore` brings back (docs/backup.md). With INVSYNC_BACKUP_KEY it is sealed.\n\n"
        "*Red* means that there is no new backup: the disk is full, the copy fails SQLite's own check, or pg_dump is "
        "missing or older than the server. Look at the database at once, and don't delete older backups."
    ),
)
def database_backup(invsync: Invsync) -> dg.MaterializeResult:
    """Back up the database and the inbox."""
    ws = invsync.workspace
    try:
        keys = BackupKeys.from_environment(ws.environ)
        taken = take(ws.home, keys, ws.clock.now())
    except (BackupError, BackupKeyError, DatabaseGoneError, OSError) as error:
        raise dg.Failure(f"there is no new backup: {error}", allow_retries=False) from error
    began = ws.clock.now()
    proof: Proof | str
    try:
        proof = prove(taken, ws.home.database_url, keys)
    except (BackupError, DBAPIError, OSError) as error:
        proof = f"The backup {taken.path.name} can't be restored: {error}"
    seconds = (ws.clock.now() - began).total_seconds()
    manifest = taken.manifest
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(taken.path),
            "size_bytes": manifest.size_bytes,
            "new_bytes": taken.fresh_bytes,
            "segments": manifest.segments,
            "quarantined": manifest.quarantined,
            "ledger_sequence": manifest.sequence,
            "sealed": bool(manifest.key),
            "removed": prune(ws.home),
            "proof_s": round(seconds, 2),
        },
        check_results=[_check(proof)],
    )


def _check(proof: Proof | str) -> dg.AssetCheckResult:
    if isinstance(proof, str):
        return dg.AssetCheckResult(check_name=CHECK, passed=False, description=proof)
    if not proof.is_restored:
        words = "Read to its end by pg_restore, and not restored: the database's role may create no scratch database."
    elif proof.differences:
        words = f"Restored; its books have {len(proof.differences)} differences."
    else:
        words = "Restored; its books add up."
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not proof.differences,
        description=words,
        metadata={"differences": len(proof.differences), **worst_rows(proof.differences)},
    )
