"""The inbox brought back: what a backup has of it and what survived elsewhere, put where it is applied or kept."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from invsync_dagster.backups.manifest import QUARANTINE, Manifest
from invsync_dagster.backups.packs import QUARANTINED, SEGMENT, day_of, members_of
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.webhooks.files import PART_SUFFIX
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.segments import written_at


@dataclass
class BroughtBack:
    """Segments that wait to be applied since the backup, and those that are kept as applied before it."""

    waiting: int = 0
    kept: int = 0


def bring_back(
    folder: Path, manifest: Manifest, keys: BackupKeys, home_inbox: Path, survived: Path | None, now: datetime
) -> BroughtBack:
    """Unite a home's inbox with what a backup has and with an inbox that `survived` elsewhere; nothing is overwritten.

    Segments written since `manifest.replay_from` wait afterwards, applied before or not: the receipts in the database know.
    Whatever breaks it off, it can be done again; on disk on return. Raises `BackupError`, `BackupKeyError`, and OSError.
    """
    Inbox(home_inbox).prepare(now)
    back = BroughtBack()
    for path in _kept_in(home_inbox):
        if written_at(path.name) >= manifest.replay_from:
            path.replace(home_inbox / path.name)
    if survived is not None and survived.resolve() != home_inbox.resolve():
        for path in _named_in(survived, SEGMENT):
            _put(home_inbox / path.name, home_inbox, path.read_bytes())
        for path in _kept_in(survived):
            _put(_place(home_inbox, path.name, manifest), home_inbox, path.read_bytes())
        for path in _named_in(survived / "quarantine", QUARANTINED):
            _write(home_inbox / "quarantine" / path.name, path.read_bytes())
    for day in manifest.days.values():
        for pack in day.packs:
            for name, content in members_of(folder / pack, keys, SEGMENT):
                _put(_place(home_inbox, name, manifest), home_inbox, content)
    for name, content in members_of(folder / QUARANTINE, keys, QUARANTINED):
        _write(home_inbox / "quarantine" / name, content)
    back.waiting = Inbox(home_inbox).waiting()
    back.kept = sum(1 for _ in _kept_in(home_inbox))
    os.sync()  # once for all of them: a sync each would take minutes for the segments of a quarter
    return back


def _place(inbox: Path, segment: str, manifest: Manifest) -> Path:
    if written_at(segment) >= manifest.replay_from:
        return inbox / segment
    return inbox / "done" / day_of(segment) / segment


def _put(path: Path, inbox: Path, content: bytes) -> None:
    """Write a segment that isn't there yet, waiting or kept."""
    if not (inbox / path.name).exists() and not (inbox / "done" / day_of(path.name) / path.name).exists():
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    """Write a file for its owner only, whole or not at all; one that is there stays."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}{PART_SUFFIX}")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
    part.replace(path)


def _kept_in(inbox: Path) -> Iterator[Path]:
    for day in sorted((inbox / "done").glob("????-??-??")):
        yield from _named_in(day, SEGMENT)


def _named_in(folder: Path, form: re.Pattern[str]) -> list[Path]:
    return sorted(path for path in folder.glob("*") if form.fullmatch(path.name) and path.is_file())
