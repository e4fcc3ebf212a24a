"""Takes a backup of the database and the inbox while both are in use, and keeps the latest."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from invsync_dagster.backups.files import READ_BYTES, Stored, new_file, stored
from invsync_dagster.backups.manifest import (
    CHANNELS_FILE,
    DATABASE,
    FORM,
    INBOX,
    NAME,
    Manifest,
    read_manifest,
    write_manifest,
)
from invsync_dagster.backups.packs import Before, pack_inbox, segments_in
from invsync_dagster.backups.sealing import BackupKeyError, BackupKeys
from invsync_dagster.inventory.copies import LONGEST_SECONDS, BackupError, copy_database, to_disk
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.files import write_durably
from invsync_dagster.webhooks.inbox import LEFT_BEHIND
from invsync_dagster.webhooks.segments import written_at

KEPT = 48  # two days of hourly backups, of those that are proven
# Where the proof itself can't be made (no room for the scratch place), the latest may be good all the same; a week of them
# would fill the disk that was short.
KEPT_UNPROVEN = 12

PROVEN = "proven"  # beside the manifest of a backup that was restored, or read to its end, and whose books add up


@dataclass(frozen=True, slots=True)
class Taken:
    """A finished backup; `fresh` are those of its files that the backup before doesn't have, `to_prove` those that it hasn't
    proven."""

    path: Path
    manifest: Manifest
    fresh: tuple[str, ...]
    to_prove: tuple[str, ...]

    @property
    def fresh_bytes(self) -> int:
        """What it takes on the disk besides what it shares."""
        return sum(self.manifest.files[name].size_bytes for name in self.fresh)


def folder_of(home: Home) -> Path:
    """Return where the backups of a home are."""
    return home.data / "backups"


def take(home: Home, keys: BackupKeys, now: datetime) -> Taken:
    """Back up the database, then the inbox, then the channels file, as one folder `<database>-<time>` with a manifest.

    In this order nothing falls between: whatever the copy of the database has not applied was in the inbox before it, and is
    there still, waiting or applied meanwhile. The other way round a delivery could be in neither.

    The folder appears under its name when everything in it is on disk; all is readable by its owner only. What a killed
    backup left is removed by a later one. Raises `BackupError` if there is no good copy, `DatabaseUrlError`,
    `DatabaseGoneError`, and `OSError`.
    """
    folder, stem = folder_of(home), _stem(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_dead_parts(folder, stem, now)
    target = folder / f"{stem}-{now:%Y%m%dT%H%M%SZ}"
    partial = target.with_name(f"{target.name}.part")
    if target.exists():
        raise BackupError(f"there is a backup of this second: {target.name}")
    try:
        partial.mkdir(mode=0o700)
    except FileExistsError as error:
        raise BackupError(f"another backup is under way: {partial.name}") from error
    try:
        taken = _fill(partial, home, keys, now, _latest(folder, stem, keys))
        partial.rename(target)
        to_disk(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if taken.manifest.skus or taken.manifest.sequence or taken.manifest.levels:
        # Of a stock that holds nothing the home remembers nothing: a new machine's services may run before its restore.
        mark(home, taken.manifest.installation)
    return replace(taken, path=target)


def marker_of(home: Home) -> Path:
    """Return the file that says whose data a home's folder holds, also where its database is gone."""
    return home.data / "installation"


def mark(home: Home, installation: str) -> None:
    """Note whose data a home's folder holds. Raises OSError."""
    write_durably(marker_of(home), f"{installation}\n".encode())


def mark_proven(backup: Path) -> None:
    """Note that a backup proved itself: it is kept before those that didn't. Raises OSError."""
    write_durably(backup / PROVEN, b"")


def prune(home: Home) -> int:
    """Keep the latest `KEPT` of the proven backups and, since the first of these, the latest `KEPT_UNPROVEN` of the others;
    return how many went.

    So however long the proofs fail, the last good ones stay, and what can't be relied on neither piles up nor outlives them:
    a backup holds what buyers wrote.
    """
    backups = list(_whole(folder_of(home), _stem(home)))
    proven = [backup for backup in backups if _is_proven(backup)]
    gone = [backup for backup in backups if len(proven) >= KEPT and backup < proven[-KEPT]]
    gone += [backup for backup in backups if backup not in proven and backup not in gone][:-KEPT_UNPROVEN]
    for old in gone:
        (old / NAME).unlink()  # whatever ends it now, half a backup is none
        shutil.rmtree(old)
    return len(gone)


def _fill(partial: Path, home: Home, keys: BackupKeys, now: datetime, before: Before | None) -> Taken:
    waiting = segments_in(home.inbox)
    # What is being written just now appears under the time at which its writing began.
    replay_from = min([now, *map(written_at, waiting)]) - LEFT_BEHIND
    copy = partial / "copy"
    facts = copy_database(home.database_url, copy)
    files: dict[str, Stored] = {}
    fresh = [DATABASE]
    if keys.name:
        with new_file(partial / DATABASE, keys) as file, copy.open("rb") as content:
            shutil.copyfileobj(content, file, READ_BYTES)
        copy.unlink()
        files[DATABASE] = file.stored
    else:
        files[DATABASE] = stored(copy.rename(partial / DATABASE))
    packed = pack_inbox(home.inbox, partial, before, keys, now.date())
    if home.channels_file.is_file():
        with new_file(partial / CHANNELS_FILE, keys) as file:
            file.write(home.channels_file.read_bytes())
        files[CHANNELS_FILE] = file.stored
        fresh.append(CHANNELS_FILE)
    manifest = Manifest(
        form=FORM,
        installation=facts.installation,
        taken_at=now,
        replay_from=replay_from,
        database="sqlite" if parse_url(home.database_url).get_backend_name() == "sqlite" else "postgresql",
        schema_revision=facts.schema,
        sequence=facts.sequence,
        skus=facts.skus,
        levels=facts.levels,
        channels=facts.channels,
        key=keys.name,
        quarantined=packed.quarantined,
        days=packed.days,
        files={**files, **packed.files},
    )
    to_disk(partial / INBOX)
    write_manifest(partial, manifest, keys)
    to_disk(partial)
    fresh += packed.fresh
    is_proven = before is not None and before.is_proven
    return Taken(partial, manifest, tuple(fresh), tuple(fresh if is_proven else manifest.files))


def _latest(folder: Path, stem: str, keys: BackupKeys) -> Before | None:
    """Return the backup before, if its files may be shared: it can be read, and is sealed with the key in force."""
    for path in reversed(list(_whole(folder, stem))):
        try:
            manifest = read_manifest(path, keys)
        except (BackupError, BackupKeyError):
            return None
        return Before(path, manifest, _is_proven(path)) if manifest.key == keys.name else None
    return None


def _is_proven(backup: Path) -> bool:
    return (backup / PROVEN).is_file()


def _stem(home: Home) -> str:
    return Path(str(parse_url(home.database_url).database)).stem


def _named(folder: Path, stem: str, suffix: str = "") -> list[Path]:
    """Return what is named after this database alone, by time: `stock-eu` begins like `stock` too."""
    form = re.compile(rf"{re.escape(stem)}-[0-9]{{8}}T[0-9]{{6}}Z{suffix}")
    return sorted(path for path in folder.iterdir() if form.fullmatch(path.name))


def _whole(folder: Path, stem: str) -> Iterator[Path]:
    yield from (path for path in _named(folder, stem) if (path / NAME).is_file())


def _remove_dead_parts(folder: Path, stem: str, now: datetime) -> None:
    for part in _named(folder, stem, r"\.(part|scratch)"):
        if now.timestamp() - part.stat().st_mtime > LONGEST_SECONDS:
            shutil.rmtree(part)
    for half in set(_named(folder, stem)) - set(_whole(folder, stem)):
        if half.is_dir():
            shutil.rmtree(half)
