"""Imports a file as a whole: previews it, applies it, or holds it beyond the limits until a person decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import OperationalError

from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.database import is_full, write_transaction
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.held_counts import approve_held, drop_held
from invsync_dagster.inventory.imports import results
from invsync_dagster.inventory.imports.apply_inventory import apply_inventory
from invsync_dagster.inventory.imports.apply_mapping import apply_mapping
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration, sidecar_of
from invsync_dagster.inventory.imports.keeping import ID_TIME, copy, digest_of, move, name_of
from invsync_dagster.inventory.imports.mapping_spool import MappingSpool
from invsync_dagster.inventory.imports.parsing import Parsed, commonest, dated, in_part, take_apart, why_nothing
from invsync_dagster.inventory.imports.reading import INVENTORY
from invsync_dagster.inventory.imports.refusals import FileError, FullDiskError
from invsync_dagster.inventory.imports.repeated import answer, dated_as_before, earlier
from invsync_dagster.inventory.imports.results import ImportResult, Preview, write_rejects
from invsync_dagster.inventory.imports.shrunk import shrunk
from invsync_dagster.inventory.looks import DecisionError, Look, changed_since, decided_by
from invsync_dagster.inventory.sources import Window
from invsync_dagster.inventory.tables import imports, operator_actions

COUNTS = "counts"  # the kind of counts that a channel sent and the breaker holds; they have no file


class NotKeptError(Exception):
    """Rolls back what was tried: a preview, or what is beyond the limits."""


def preview(basis: Basis, path: Path, declaration: Declaration | None = None) -> Preview:
    """Say what `path` would change; nothing stays changed. `beyond` is filled where it would be held.

    It is the import itself, rolled back, so the two can't differ; other writers wait meanwhile. Raises `FileError`.
    """
    name = name_of(path)
    sha256 = digest_of(path)
    with take_apart(basis, path, name, _dated(basis, path, declaration or Declaration(), sha256)) as parsed:
        with suppress(NotKeptError), write_transaction(basis.engine) as connection:
            known = answer(connection, parsed, sha256)
            found = _judged(connection, basis, parsed, _apply(connection, basis, parsed, "preview", sha256), "preview")
            raise NotKeptError
        if not parsed.good:
            return replace(found, refused=why_nothing(parsed))
        if known is not None and known.state == results.REJECTED:
            return replace(found, refused=known.reason)
        return replace(found, known=known.reason) if known else found


def import_file(
    basis: Basis, path: Path, declaration: Declaration | None = None, rejects_file: Path | None = None
) -> ImportResult:
    """Import `path`: applied, held beyond the limits, rejected as a whole, or known already.

    One row in `imports` tells. What `declaration` leaves open comes from the file's kind, its `as_of` from the file's own
    time. Rows that can't go in are written to `rejects_file` (default: `<file>.rejects.csv` beside the file). A copy is
    kept under `folder`/done, held or rejected. An inventory file whose content is in force already is a new count
    only if a later `as_of` is declared; without, it is the same file again, and changes nothing, or the same count read anew
    where it is declared otherwise than then.

    It goes in as a whole, in one transaction, or not at all. Raises `FileError` if `path` can't be read at all, its name
    can't be kept, or the disk is full: then nothing is changed.
    """
    given, name = declaration or Declaration(), name_of(path)
    rejects = rejects_file or path.with_name(name + ".rejects.csv")
    with _full_disk_named(name), ExitStack() as stack:
        sha256 = digest_of(path)
        try:
            parsed = stack.enter_context(take_apart(basis, path, name, _dated(basis, path, given, sha256)))
        except FullDiskError:
            raise
        except FileError as error:
            return refuse(basis, path, str(error))
        if parsed.rejections:
            write_rejects(rejects, parsed.rejections)
        else:
            rejects.unlink(missing_ok=True)
        written = rejects if parsed.rejections else None
        if not parsed.good:
            return replace(refuse(basis, path, why_nothing(parsed), parsed), rejects_file=written)
        result = _apply_or_hold(basis, path, parsed, sha256)
        if result.state == results.REJECTED:
            result = refuse(basis, path, result.reason, parsed)
        return replace(result, rejections=parsed.rejections, rejects_file=written)


def _dated(basis: Basis, path: Path, given: Declaration, sha256: str) -> Declaration:
    with basis.engine.connect() as connection:
        given = dated_as_before(connection, given, sha256)
    return dated(path, given, basis.now)


def _apply_or_hold(basis: Basis, path: Path, parsed: Parsed, sha256: str) -> ImportResult:
    with suppress(NotKeptError), write_transaction(basis.engine) as connection:
        known = answer(connection, parsed, sha256)
        if known is not None:
            return known
        look = Look.at_present(connection)
        import_id = _new_id(connection, basis.now, sha256)
        found = _judged(connection, basis, parsed, _apply(connection, basis, parsed, import_id, sha256), import_id)
        if found.beyond:
            raise NotKeptError
        reason = in_part(parsed)
        kept = _record(connection, basis, path, sha256, import_id, results.APPLIED, reason, parsed, found)
        return ImportResult(import_id, results.APPLIED, reason, found, kept_file=kept)
    # Beyond the limits: all of it is rolled back, and only then is the file entered as held.
    with write_transaction(basis.engine) as connection:
        known = answer(connection, parsed, sha256)
        if known is not None:
            return known
        import_id, reason = _new_id(connection, basis.now, sha256), "; ".join(found.beyond)
        kept = _record(connection, basis, path, sha256, import_id, results.HELD, reason, parsed, found, look)
        return ImportResult(import_id, results.HELD, reason, found, kept_file=kept)


def approve(basis: Basis, import_id: str, reason: str, seen: str = "") -> ImportResult:
    """Apply a held import, or held counts, as declared; sales since are kept. Raises `DecisionError`, `FileError`.

    The approval covers what a look saw (`seen`, else that of the moment when it was held): where rules, mapping, statuses or
    other imports have changed the stock since, it is refused.
    """
    said = f"approved by {basis.actor}: {reason}"
    decided_by(basis.actor, reason)
    with basis.engine.connect() as connection:
        row = _held(connection, import_id)
    if row.kind == COUNTS:
        with write_transaction(basis.engine) as connection:
            _as_seen(connection, _held(connection, import_id), seen)
            approve_held(connection, import_id, actor=basis.actor, reason=reason, now=basis.now, run_id=basis.run_id)
        return ImportResult(import_id, results.APPLIED, said)
    path = basis.folder / row.path
    if not path.is_file() or digest_of(path) != row.sha256:
        raise DecisionError(
            f"the kept copy {row.path} is missing or was changed; drop the import and give the file again"
        )
    target = f"done/{path.name}"
    declared = Declaration.from_dict(row.summary["declaration"])
    with (
        take_apart(basis, path, row.file_name, declared) as parsed,
        _full_disk_named(row.file_name),
        write_transaction(basis.engine) as connection,
    ):
        _as_seen(connection, _held(connection, import_id), seen)
        found = _apply(connection, basis, parsed, import_id, row.sha256)
        _decide(connection, basis, row, results.APPLIED, target, reason, _summary(parsed, found), found)
    _move_kept(path, basis.folder / target)
    said = "; ".join(filter(None, (in_part(parsed), said)))
    return ImportResult(import_id, results.APPLIED, said, found, kept_file=basis.folder / target)


def drop(basis: Basis, import_id: str, reason: str) -> ImportResult:
    """Decide against a held import, or held counts: nothing of it goes in. Raises `DecisionError`."""
    said = f"dropped by {basis.actor}: {reason}"
    decided_by(basis.actor, reason)
    with write_transaction(basis.engine) as connection:
        row = _held(connection, import_id)
        if row.kind == COUNTS:
            drop_held(connection, import_id, actor=basis.actor, reason=reason, now=basis.now)
            return ImportResult(import_id, results.DROPPED, said)
        target = f"rejected/{Path(row.path).name}"
        _decide(connection, basis, row, results.DROPPED, target, reason, row.summary, None)
    _move_kept(basis.folder / row.path, basis.folder / target)
    return ImportResult(import_id, results.DROPPED, said, kept_file=basis.folder / target)


def _move_kept(path: Path, target: Path) -> None:
    move(sidecar_of(path), sidecar_of(target))
    move(path, target)


def look_again(basis: Basis, import_id: str) -> tuple[Preview | None, Look]:
    """Say what a held import would do now, and the look that an approval of it names. Raises `DecisionError`, `FileError`.

    None for held counts of a channel, which say themselves what they set.
    """
    with basis.engine.connect() as connection:
        row = _held(connection, import_id)
        look = Look.at_present(connection)
    if row.kind == COUNTS:
        return None, look
    declared = Declaration.from_dict(row.summary["declaration"])
    with take_apart(basis, basis.folder / row.path, row.file_name, declared) as parsed:
        with suppress(NotKeptError), write_transaction(basis.engine) as connection:
            look = Look.at_present(connection)
            found = _apply(connection, basis, parsed, import_id, row.sha256)
            found = _judged(connection, basis, parsed, found, import_id)
            raise NotKeptError
        return found, look


def refuse(basis: Basis, path: Path, reason: str, parsed: Parsed | None = None) -> ImportResult:
    """Keep a file that can't go in, with the reason. Raises `FileError` if `path` can't be read, or the disk is full."""
    sha256 = digest_of(path)
    reason = reason.replace("\0", "\u2400")  # it may quote a header, and PostgreSQL keeps no such character
    with _full_disk_named(path.name), write_transaction(basis.engine) as connection:
        import_id = _new_id(connection, basis.now, sha256)
        kept = _record(connection, basis, path, sha256, import_id, results.REJECTED, reason, parsed, None)
    rejections = parsed.rejections if parsed else ()
    return ImportResult(import_id, results.REJECTED, reason, rejections=rejections, kept_file=kept)


def _apply(connection: Connection, basis: Basis, parsed: Parsed, import_id: str, sha256: str) -> Preview:
    if isinstance(parsed.rows, MappingSpool):
        found = apply_mapping(connection, parsed.rows, basis, import_id)
    else:
        found = apply_inventory(
            connection, parsed.rows, parsed.declaration, basis, import_id, earlier(connection, sha256, import_id)
        )
        found = replace(found, counts=parsed.declaration.in_words())
    return replace(
        found, file=parsed.file, source=parsed.source, rejections=parsed.rejections, left_out=parsed.left_out
    )


def _judged(connection: Connection, basis: Basis, parsed: Parsed, found: Preview, import_id: str) -> Preview:
    """Judge a file beside the one of its name before it, and, where it is within the limits by itself, together with what
    sources moved before within the window."""
    if found.kind != INVENTORY:
        return found
    window = Window(connection, basis.limits, basis.now)
    moved = "" if found.beyond else window.beyond(import_id, found.zeroed, found.units_moved)
    short = shrunk(connection, found.file, found.rows, basis.now)
    if short and not shrunk(connection, found.file, found.rows + found.rejected, basis.now):
        # It is whole, only not as it was read: to export it again would be of no use.
        why = f"{found.rejected} rows were rejected ({commonest(parsed)})"
        short = f"{why}: drop it, mend that and give it again; without them {short}"
    return replace(found, beyond=(*found.beyond, *filter(None, (moved, short))))


@contextmanager
def _full_disk_named(name: str) -> Iterator[None]:
    """Say in one sentence that the disk, or the database's, is full: the transaction was rolled back."""
    try:
        yield
    except (OSError, OperationalError) as error:
        if not is_full(error):
            raise
        mend = "free space, and give the file again; nothing of it went in"
        raise FullDiskError(name, "the disk of the database or of the import folder is full", mend) from error


def _new_id(connection: Connection, now: datetime, sha256: str) -> str:
    """An id that sorts by time, and that names the content."""
    stem = f"{now.astimezone(UTC):{ID_TIME}}-{sha256[:8]}"
    taken = set(connection.execute(select(imports.c.id).where(imports.c.id.startswith(stem))).scalars())
    number = next(number for number in range(1, len(taken) + 2) if _numbered(stem, number) not in taken)
    return _numbered(stem, number)


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"


def _record(
    connection: Connection,
    basis: Basis,
    path: Path,
    sha256: str,
    import_id: str,
    state: str,
    reason: str,
    parsed: Parsed | None,
    found: Preview | None,
    look: Look | None = None,
) -> Path:
    """Keep a copy of the file, then enter the import (so no row names a file that isn't there); returns the copy.

    `look`: what the preview of a held one saw."""
    folder = {results.APPLIED: "done", results.HELD: "held", results.REJECTED: "rejected"}[state]
    kept = f"{folder}/{import_id}-{path.name}"
    copy(path, basis.folder / kept, sha256)
    values: dict[str, Any] = {
        "id": import_id,
        "kind": parsed.kind if parsed else "unknown",
        "file_name": path.name,
        "sha256": sha256,
        "path": kept,
        "state": state,
        "rows": parsed.good + len(parsed.rejections) if parsed else 0,
        "applied_rows": _applied_rows(found) if state == results.APPLIED else 0,
        "rejected_rows": len(parsed.rejections) if parsed else 0,
        "summary": _summary(parsed, found) | ({"look": str(look)} if look else {}),
        "created_at": basis.now,
        "reason": reason,
        "run_id": basis.run_id,
    }
    connection.execute(insert(imports), values)
    return basis.folder / kept


def _applied_rows(found: Preview | None) -> int:
    return found.added + found.changed + found.unchanged if found else 0


def _summary(parsed: Parsed | None, found: Preview | None) -> dict[str, Any]:
    return {
        "declaration": parsed.declaration.to_dict() if parsed else None,
        "read_as": parsed.read_as if parsed else None,
        "preview": found.to_dict() if found else None,
    }


def _held(connection: Connection, import_id: str) -> Row[Any]:
    row = connection.execute(select(imports).where(imports.c.id == import_id)).one_or_none()
    if row is None:
        raise DecisionError(f"there is no import '{import_id}'")
    if row.state != results.HELD:
        by = _decided_in_words(connection, row)
        raise DecisionError(f"import '{import_id}' is {row.state}, not held: there is nothing to decide{by}")
    return row


def _decided_in_words(connection: Connection, row: Row[Any]) -> str:
    """Say who decided about an import that was held, and why, for who comes second."""
    action = operator_actions.c
    query = select(operator_actions).where(
        action.subject.in_((f"import {row.id}", row.id)),
        action.action.in_(("import approved", "import dropped", "counts applied", "counts dropped")),
    )
    done = connection.execute(query.order_by(action.id.desc()).limit(1)).one_or_none()
    return "" if done is None else f" ({done.action} by {done.actor} at {in_utc(done.at)}: {done.reason})"


def _as_seen(connection: Connection, row: Row[Any], seen: str) -> None:
    """Refuse to approve a held import that isn't what was seen any more. Raises `DecisionError`."""
    look = Look.parse(connection, seen or row.summary["look"])
    changed = changed_since(connection, look)
    if changed:
        raise DecisionError(
            f"import '{row.id}' was not approved, since the stock isn't what was seen any more: {changed}. Look again: "
            f"`invsync imports show {row.id}` says what it would do now, and how to approve that"
        )


def _decide(
    connection: Connection,
    basis: Basis,
    row: Row[Any],
    state: str,
    path: str,
    reason: str,
    summary: dict[str, Any],
    found: Preview | None,
) -> None:
    decided = {
        "state": state,
        "path": path,
        "summary": summary,
        "applied_rows": _applied_rows(found),
        "decided_at": basis.now,
        "decided_by": basis.actor,
    }
    connection.execute(update(imports).where(imports.c.id == row.id).values(decided))
    record_action(
        connection,
        at=basis.now,
        actor=basis.actor,
        action="import approved" if state == results.APPLIED else "import dropped",
        subject=f"import {row.id}",
        before={"state": row.state, "reason": row.reason},
        after={"state": state},
        reason=reason,
    )
