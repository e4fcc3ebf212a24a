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
from invsync_dagster.inventory.imports.keeping import copy
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
        status = path.stat()
        # The inode's time as well: copies that keep the original's modification time are new all the same.
        changed = max(status.st_mtime, status.st_ctime)
        if changed <= (now - SETTLED_AFTER).timestamp():
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

    Killed at any moment, a second call ends the same: the copy and the entry in `imports` come before the file goes.
    Raises `FileError` if the file can't be read at all; it then stays.
    """
    try:
        result = import_file(basis, path, read_sidecar(path))
    except FileError as error:
        if error.file != sidecar_of(path).name:
            raise
        result = refuse(basis, path, str(error))
    kept = result.kept_file or _kept_again(basis, result, path)
    rejects = result.rejects_file
    if rejects is not None:
        rejects = rejects.replace(kept.with_name(kept.name + ".rejects.csv"))
    result = replace(result, kept_file=kept, rejects_file=rejects)
    path.unlink(missing_ok=True)  # a second run may have taken the same file
    sidecar_of(path).unlink(missing_ok=True)
    return result


def _kept_again(basis: Basis, result: ImportResult, path: Path) -> Path:
    """Keep a file whose content is kept already, under its own name; one of the same name is the same file."""
    folder = "done" if result.state == ALREADY else "rejected"
    kept = basis.folder / folder / f"{result.import_id}-again-{path.name}"
    with suppress(FileNotFoundError):  # as above
        copy(path, kept)
    return kept
