"""The inbox in a backup: packs of segments, a day's together; days that stand still are shared with the backup before.

A segment that waits and one that was applied are the same file in another place, and are packed alike: the receipts in the
database say which of them are applied.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import IO, TypeVar, cast

from invsync_dagster.backups.files import FileWriter, Stored, content_of, new_file, require
from invsync_dagster.backups.manifest import INBOX, QUARANTINE, KeptDay, Manifest
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.inventory.copies import BackupError
from invsync_dagster.webhooks.inbox import SUFFIX
from invsync_dagster.webhooks.segments import written_at

# The first member of a pack: size and time of change of each file that follows, by its name.
INDEX = "index.json"
SEGMENT = re.compile(r"[0-9]{16}-[0-9a-f]{12}\.segment")
QUARANTINED = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]*\.json")

# A folder that changed so short a time before it was listed may change again within the same tick of its clock.
YOUNG_NS = 2_000_000_000

T = TypeVar("T")
Index = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Before:
    """The backup before: what of it can be shared."""

    folder: Path
    manifest: Manifest
    is_proven: bool


@dataclass
class Packed:
    """What became of the inbox; `fresh` are the files that no backup before has."""

    days: dict[str, KeptDay] = field(default_factory=dict)
    quarantined: int = 0
    files: dict[str, Stored] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)


def pack_inbox(inbox: Path, folder: Path, before: Before | None, keys: BackupKeys, today: date) -> Packed:
    """Pack all segments and the quarantine of `inbox` into the backup's `folder`; everything is on disk on return.

    Of a day that is as it was, the packs of the backup `before` are linked. To a day that has grown comes a pack of what is
    new; one in which something was erased or forgotten is packed anew, as is one that is over and has several packs, or
    whose packs are no longer what was written. For that the first backup of a day, and one after a backup that isn't proven,
    reads all that it shares: its bytes are on the disk once, for all backups. Raises OSError.
    """
    packs = folder / INBOX
    packs.mkdir(mode=0o700)
    began = packs.stat().st_mtime_ns
    packed = Packed()
    doubts = before is not None and (before.manifest.taken_at.date() < today or not before.is_proven)
    # Those that wait first: a segment that is moved meanwhile is met twice, and never not at all.
    waiting: dict[str, dict[str, Path]] = {}
    for name, path in segments_in(inbox).items():
        waiting.setdefault(day_of(name), {})[name] = path
    days = {path.name for path in (inbox / "done").glob("????-??-??")} | set(waiting)
    for day in sorted(days):
        done = inbox / "done" / day
        try:
            stamp = done.stat().st_mtime_ns
        except FileNotFoundError:
            stamp = 0
        if day in waiting or stamp > began - YOUNG_NS:
            stamp = 0
        known = before.manifest.days.get(day) if before else None
        is_over = day < today.isoformat()
        if (
            known
            and known.stamp == stamp != 0
            and not (is_over and len(known.packs) > 1)
            and (not doubts or _is_whole(before, known))
            and _share(before, known, folder, packed)
        ):
            packed.days[day] = known
            continue
        whole = is_over and known is not None and len(known.packs) > 1
        _pack_day(day, done, waiting.get(day, {}), stamp, folder, None if whole else before, keys, packed)
    files = {path.name: path for path in (inbox / "quarantine").glob("*.json") if QUARANTINED.fullmatch(path.name)}
    packed.quarantined = len(_write_pack(QUARANTINE, files, folder, keys, packed))
    return packed


def segments_in(folder: Path) -> dict[str, Path]:
    """Return the segments in a folder by their names; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {one.name: folder / one.name for one in entries if SEGMENT.fullmatch(one.name) and one.is_file()}
    except FileNotFoundError:
        return {}


def day_of(segment: str) -> str:
    """Return the day whose folder a segment belongs to, from its name."""
    return f"{written_at(segment):%Y-%m-%d}"


def _pack_day(
    day: str,
    done: Path,
    waiting: Mapping[str, Path],
    stamp: int,
    folder: Path,
    before: Before | None,
    keys: BackupKeys,
    packed: Packed,
) -> None:
    files = {**waiting, **segments_in(done)}
    known = before.manifest.days.get(day) if before else None
    names: tuple[str, ...] = ()
    count = 0
    if before and known and _is_whole(before, known):
        index = Index()
        for name in known.packs:
            index |= _index_of(before.folder / name, keys)
        if index.items() <= _index(files).items() and _share(before, known, folder, packed):
            names, count = known.packs, len(index)
            files = {name: path for name, path in files.items() if name not in index}
    if files:
        name = f"{INBOX}/{day}.{_next_number(names)}.tar"
        count += len(_write_pack(name, files, folder, keys, packed))
        names = (*names, name)
    if names:
        packed.days[day] = KeptDay(stamp=stamp, segments=count, packs=names)


def _next_number(names: tuple[str, ...]) -> int:
    return 1 + max((int(name.split(".")[-2]) for name in names), default=0)


def _share(before: Before | None, day: KeptDay, folder: Path, packed: Packed) -> bool:
    """Link a day's packs of the backup before; False where they are gone or cut, or the file system has no links."""
    if before is None:
        return False
    try:
        if any((before.folder / name).stat().st_size != before.manifest.files[name].size_bytes for name in day.packs):
            return False
        for name in day.packs:
            os.link(before.folder / name, folder / name)
    except OSError:
        for name in day.packs:
            (folder / name).unlink(missing_ok=True)
        return False
    packed.files |= {name: before.manifest.files[name] for name in day.packs}
    return True


def _is_whole(before: Before | None, day: KeptDay) -> bool:
    """Say whether a day's packs of the backup before are what was written."""
    if before is None:
        return False
    try:
        for name in day.packs:
            require(before.folder / name, before.manifest.files[name])
    except BackupError:
        return False
    return True


def _index(files: Mapping[str, Path]) -> Index:
    index = Index()
    for name, path in files.items():
        try:
            stat = _wherever(path, Path.stat)
        except FileNotFoundError:  # forgotten meanwhile
            continue
        index[name] = (stat.st_size, stat.st_mtime_ns)
    return index


def _write_pack(name: str, files: Mapping[str, Path], folder: Path, keys: BackupKeys, packed: Packed) -> list[str]:
    """Write a pack of files, in the order of their names, and return their names."""
    index = _index(files)
    written = []
    with new_file(folder / name, keys) as file, _tar(file) as pack:
        _add(pack, INDEX, json.dumps(index).encode())
        for member in sorted(index):
            try:
                content = _wherever(files[member], Path.read_bytes)
            except FileNotFoundError:
                continue
            _add(pack, member, content)
            written.append(member)
    packed.files[name] = file.stored
    packed.fresh.append(name)
    return written


def _wherever(path: Path, look: Callable[[Path], T]) -> T:
    """Look at a file of the inbox, also where it was applied, and so moved, since it was listed."""
    try:
        return look(path)
    except FileNotFoundError:
        if not path.name.endswith(SUFFIX):
            raise
        return look(path.parent / "done" / day_of(path.name) / path.name)


@contextmanager
def _tar(file: FileWriter) -> Iterator[tarfile.TarFile]:
    with tarfile.open(mode="w|", fileobj=cast("IO[bytes]", file), format=tarfile.GNU_FORMAT) as pack:
        yield pack


def _add(pack: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o600
    pack.addfile(member, BytesIO(content))


def _index_of(path: Path, keys: BackupKeys) -> Index:
    """Read the index of a pack, which is what it begins with. Raises as `members_of`."""
    for name, content in _all_members(path, keys):
        if name == INDEX:
            return {member: (size, changed) for member, (size, changed) in json.loads(content).items()}
        break
    raise BackupError(f"{path.name} has no index")


def members_of(path: Path, keys: BackupKeys, form: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of a pack's files. Raises `BackupError` where it isn't what was written, or where a name
    isn't of `form`; `BackupKeyError`."""
    for name, content in _all_members(path, keys):
        if name == INDEX:
            continue
        if not form.fullmatch(name):
            raise BackupError(f"{path.name} holds a file that is none of the inbox: {name!r}")
        yield name, content


def _all_members(path: Path, keys: BackupKeys) -> Iterator[tuple[str, bytes]]:
    with content_of(path, keys) as file:
        try:
            with tarfile.open(mode="r|", fileobj=cast("IO[bytes]", file)) as pack:
                for member in pack:
                    content = pack.extractfile(member)
                    if content is None:
                        raise BackupError(f"it holds something that is no file: {member.name!r}")
                    yield member.name, content.read()
        except tarfile.TarError as error:
            raise BackupError(f"it is damaged: {error}") from error
