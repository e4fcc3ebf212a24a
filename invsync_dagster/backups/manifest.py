"""The manifest of a backup: what it holds, of whose stock and up to where, and the hashes of its files."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from invsync_dagster.backups.files import READ_BYTES, Stored, content_of, new_file
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.inventory.copies import BackupError, KnownChannel
from invsync_dagster.inventory.schema import known_revisions

NAME = "manifest"
DATABASE = "database"
CHANNELS_FILE = "channels.yaml"
INBOX = "inbox"
QUARANTINE = f"{INBOX}/quarantine.tar"
FORM = 1


class KeptDay(BaseModel):
    """A day of the inbox: its packs, how many segments are in them, and what the day's folder looked like.

    `stamp`: the folder's time of change in nanoseconds when it was packed, 0 where that may have been too young to tell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stamp: int
    segments: int
    packs: tuple[str, ...]


class Manifest(BaseModel):
    """What a backup holds. `files`: by their path in its folder; `key`: the name of the key that sealed them, "" for none.

    `replay_from`: every delivery written before is applied in the database; those since may be, and are put back to be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: int
    installation: str
    taken_at: datetime
    replay_from: datetime
    database: Literal["sqlite", "postgresql"]
    schema_revision: str
    sequence: int
    skus: int
    levels: int
    channels: tuple[KnownChannel, ...]
    key: str
    quarantined: int
    days: dict[str, KeptDay]
    files: dict[str, Stored]

    @property
    def segments(self) -> int:
        return sum(day.segments for day in self.days.values())

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())


def write_manifest(folder: Path, manifest: Manifest, keys: BackupKeys) -> None:
    """Write the manifest into a backup's folder: from then on it is one. Raises OSError."""
    text = manifest.model_dump_json().encode()
    with new_file(folder / NAME, keys) as file:
        file.write(text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")


def read_manifest(folder: Path, keys: BackupKeys) -> Manifest:
    """Return what a backup says of itself. Raises `BackupError` for what is none of ours, and `BackupKeyError`."""
    if not (folder / NAME).is_file():
        raise BackupError(f"{folder} is no whole backup of invsync: there is no file {NAME!r} in it")
    parts = []
    with content_of(folder / NAME, keys) as file:
        while part := file.read(READ_BYTES):
            parts.append(part)
    text, _, rest = b"".join(parts).partition(b"\n")
    if rest.strip() != hashlib.sha256(text).hexdigest().encode():
        raise BackupError(f"{folder.name}: its manifest is damaged")
    form = json.loads(text)["form"]
    try:
        if form != FORM:
            raise BackupError(f"{folder.name} was made by another version of invsync (form {form}): use that one")
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BackupError(f"{folder.name}: its manifest can't be read: {error.errors()[0]['msg']}") from None


def require_known_schema(manifest: Manifest) -> None:
    """Return if this version can bring the backup's schema up to its own. Raises `BackupError`."""
    if manifest.schema_revision not in known_revisions():
        raise BackupError(
            f"the backup's database is of revision {manifest.schema_revision}, which this version of invsync doesn't know: it "
            "was made by a newer one; check that one out, and restore with it"
        )
