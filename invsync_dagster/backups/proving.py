"""Proves a backup: its files are what was written, its database is restored into a scratch place and audited there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from invsync_dagster.backups.files import require, unpack
from invsync_dagster.backups.manifest import (
    DATABASE,
    QUARANTINE,
    Manifest,
    read_manifest,
    require_known_schema,
)
from invsync_dagster.backups.packs import QUARANTINED, SEGMENT, members_of
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.backups.taking import Taken, mark_proven
from invsync_dagster.inventory.audit import Difference, audit
from invsync_dagster.inventory.copies import BackupError, load_dump, read_dump_through, scratch_database
from invsync_dagster.inventory.database import migrate, open_database
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.inventory.schema import SchemaError


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof found: `differences` of the books in the restored copy. `is_restored`: False where PostgreSQL's role may
    create no database, and the archive was only read to its end."""

    is_restored: bool
    differences: tuple[Difference, ...]


def prove(taken: Taken, database_url: str, keys: BackupKeys) -> Proof:
    """Restore a backup just taken into a scratch place beside it, bring its schema to this version, and audit its books.

    One that was, and whose books add up, is marked as proven (`prune` goes by that). Of the inbox it looks at the packs that the
    backup before hasn't proven. Raises `BackupError` for one that couldn't be restored, `BackupKeyError`, `DatabaseGoneError`,
    and `OSError`.
    """
    manifest = read_manifest(taken.path, keys)
    require_known_schema(manifest)
    for name in taken.to_prove:
        require(taken.path / name, manifest.files[name])
    _read_packs(taken, manifest, keys)
    scratch = taken.path.with_name(f"{taken.path.name}.scratch")
    scratch.mkdir(mode=0o700)
    try:
        copy = scratch / "copy"
        unpack(taken.path / DATABASE, keys, copy)
        with _restored(copy, database_url) as url:
            proof = Proof(False, ()) if url is None else Proof(True, _audited(url))
    finally:
        shutil.rmtree(scratch)
    if not proof.differences:
        mark_proven(taken.path)
    return proof


def _read_packs(taken: Taken, manifest: Manifest, keys: BackupKeys) -> None:
    """Read the packs that are to be proven to their ends, and count what is in a day's where it is all of them."""
    for day, kept in manifest.days.items():
        found = {
            pack: sum(1 for _ in members_of(taken.path / pack, keys, SEGMENT))
            for pack in kept.packs
            if pack in taken.to_prove
        }
        if len(found) == len(kept.packs) and sum(found.values()) != kept.segments:
            raise BackupError(f"{day}: {kept.segments} segments were packed, and {sum(found.values())} are there")
    quarantined = sum(1 for _ in members_of(taken.path / QUARANTINE, keys, QUARANTINED))
    if quarantined != manifest.quarantined:
        raise BackupError(f"{manifest.quarantined} files of the quarantine were packed, and {quarantined} are there")


@contextmanager
def _restored(copy: Path, database_url: str) -> Iterator[str | None]:
    url = parse_url(database_url)
    if url.get_backend_name() == "sqlite":
        yield f"sqlite:///{copy}"
        return
    with scratch_database(url, f"{url.database}_backup_proof") as scratch:
        if scratch is None:
            read_dump_through(copy)
        else:
            load_dump(parse_url(scratch), copy)
        yield scratch


def _audited(url: str) -> tuple[Difference, ...]:
    engine = open_database(url)
    try:
        migrate(engine)
        with engine.connect() as connection:
            return tuple(audit(connection))
    except SchemaError as error:
        raise BackupError(str(error)) from error
    finally:
        engine.dispose()
