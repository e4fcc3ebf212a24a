"""The watched folder: which dropped files are whole, and what becomes of one (done, held, rejected)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import read_sidecar, sidecar_of
from invsync_dagster.inventory.imports.importing import import_file, refuse
from invsync_dagster.inventory.imports.keeping import copy, move, name_of
from invsync_dagster.inventory.imports.kinds import Kind, kinds
from invsync_dagster.inventory.imports.reading import INVENTORY, open_source
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.imports.results import ALREADY, ImportResult
from invsync_dagster.settings import ImportSource

# A file still being copied changes at least this often.
SETTLED_AFTER = timedelta(seconds=2)

UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart", ".swp", ".lock")
OURS = (".yaml", ".rejects.csv")
# What Windows' Explorer puts into a folder that it shows.
EXPLORERS = ("thumbs.db", "desktop.ini")


def waiting_files(folder: Path, now: datetime, sources: Mapping[str, ImportSource] | None = None) -> list[Path]:
    """Files in `folder` to be imported, inventories first (mappings name their SKUs), then the older first.

    `sources`: the kinds of files that channels.yaml names.

    Left out: sidecars and rejects files, hidden and unfinished ones, the Explorer's own, and those that changed in the last 2
    seconds.
    """
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        name = path.name.lower()
        passed_over = name.startswith((".", "~$")) or name.endswith(UNFINISHED + OURS) or name in EXPLORERS
        if passed_over or not path.is_file():
            continue
        status, settled = path.stat(), (now - SETTLED_AFTER).timestamp()
        # The inode's time as well: copies that keep the original's modification time are new all the same. A modification time
        # in the future is the word of another clock, not of a writer at work.
        if status.st_ctime <= settled and not settled < status.st_mtime <= now.timestamp():
            found.append((_is_mapping(path, kinds(sources or {})), status.st_mtime, path.name, path))
    return [entry[-1] for entry in sorted(found)]


def _is_mapping(path: Path, exports: Sequence[Kind]) -> bool:
    try:
        with open_source(path, exports=exports) as source:
            return source.kind != INVENTORY
    except Exception:  # whatever is wrong with this one, its import says so, and the other files go in
        return True


def process_file(basis: Basis, path: Path) -> ImportResult:
    """Import one waiting file as its sidecar declares; it leaves the folder, its kept copy tells what became of it.

    Killed at any moment, a second call ends the same: the copy and the entry in `imports` come before the file goes. What was
    put in the place of the file, or of its sidecar, meanwhile is the next one's and stays.
    Raises `FileError` if the file can't be read at all; it then stays.
    """
    name_of(path)  # names that are made of it must be possible
    sidecar = sidecar_of(path)
    taken, declared = _stamp(path), _stamp(sidecar)
    try:
        result = import_file(basis, path, read_sidecar(path))
    except FileError as error:
        if error.file != sidecar.name:
            raise
        result = refuse(basis, path, str(error))
    kept = result.kept_file or _kept_again(basis, result, path)
    rejects = result.rejects_file
    if rejects is not None:
        rejects = rejects.replace(kept.with_name(kept.name + ".rejects.csv"))
    result = replace(result, kept_file=kept, rejects_file=rejects)
    if _stamp(path) in (taken, None):
        path.unlink(missing_ok=True)  # a second run may have taken the same file
        if _stamp(sidecar) == declared is not None:
            move(sidecar, sidecar_of(kept))
    return result


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs between a file and another, or a newer writing, of its name; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _kept_again(basis: Basis, result: ImportResult, path: Path) -> Path:
    """Keep a file whose content is kept already, under its own name; one of the same name is the same file."""
    folder = "done" if result.state == ALREADY else "rejected"
    kept = basis.folder / folder / f"{result.import_id}-again-{path.name}"
    with suppress(FileNotFoundError):  # as above
        copy(path, kept)
    return kept
