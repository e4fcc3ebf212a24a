"""The import asset: the files that wait in data/imports/, taken in one by one, and what became of each."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from invsync_dagster.defs import names
from invsync_dagster.defs.metadata import SHOWN, cause_of, report_file, worst_rows
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.database import DatabaseGoneError
from invsync_dagster.inventory.imports import results
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.folder import process_file, waiting_files
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.imports.results import ImportResult
from invsync_dagster.inventory.status import held_imports
from invsync_dagster.sync.workspace import Workspace

LOGGED_EVERY = 100_000  # rows of a file


class Progress:
    """Says how far a file is, each time that another `LOGGED_EVERY` rows of a step were passed."""

    def __init__(self, name: str, say: Callable[[str], object]) -> None:
        self._name, self._say = name, say
        self._said: dict[str, int] = {}

    def __call__(self, step: str, rows: int) -> None:
        passed = rows // LOGGED_EVERY
        if passed > self._said.get(step, 0):
            self._say(f"{self._name}: {rows} rows {step}")
        self._said[step] = passed


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file of the run, as the table shows it. `absent` are SKUs of the stock that it doesn't name, `left_out` rows that
    rightly state nothing."""

    file: str
    state: str
    rows: int
    added: int
    changed: int
    zeroed: int
    absent: int
    left_out: int
    rejected_rows: int
    reason: str
    rejects_file: str


@dg.asset(
    key=names.IMPORTS,
    deps=[names.IMPORT_FILES],
    group_name=names.STOCK,
    owners=names.OWNERS,
    kinds={"csv", "excel"},
    check_specs=[
        dg.AssetCheckSpec(
            "all_rows_taken",
            asset=names.IMPORTS,
            description="Every row of every file went in. Red: mend the rows that its `.rejects.csv` names (the table says where "
            "it is), what it declares, or what the reason says of a whole file, and put the file into data/imports/ again.",
        ),
    ],
    description=(
        "Inventory and mapping files from data/imports/. Good rows go in; bad ones are written to a rejects file with "
        "line, column, reason and mend. Rows that are absent change nothing.\n\n"
        "*A red check* `nothing_held`: a file would zero or move more than the limits, or brings far fewer SKUs than before; "
        "nothing of it went in, and it waits "
        "until it is decided. Look at it with `invsync imports list --held`, then `invsync imports approve ID --reason …` or "
        "`invsync imports drop ID --reason …`. `all_rows_taken`: mend the rejected rows (the table names their file) and put "
        "the file there again. "
        "*A red asset* means that a file could not be read at all, or that the disk is full; it stays "
        "in the folder, and nothing of it went in: mend or remove it."
    ),
)
def imports_asset(context: dg.AssetExecutionContext, invsync: Invsync) -> dg.MaterializeResult:
    """Import every file that waits."""
    cause_of(context)
    ws = invsync.workspace
    rows: list[FileRow] = []
    unreadable: list[str] = []
    for path in waiting_files(ws.home.imports, ws.clock.now(), ws.configuration.settings.imports):
        try:
            rows.append(_row(path, process_file(_basis(ws, context, path), path)))
        except (FileError, OSError) as error:
            # The other files go in all the same; what of this one went in already goes in once.
            said = (
                str(error)
                if isinstance(error, FileError)
                else f"{path.name}: {error} - mend that, and run the job again"
            )
            context.log.error(said)
            unreadable.append(said)
        except DatabaseGoneError:
            raise  # with it no file can go in
        except Exception as error:  # whatever broke this file, the others may do well without
            context.log.error(f"{path.name}: {''.join(traceback.format_exception(error))}")
            # By its name alone: a stranger's words may hold rows and statements, and what is said here is sent as an alert.
            unreadable.append(f"{path.name}: {type(error).__name__}, the run's log says how")
    if unreadable:
        raise dg.Failure(f"{len(unreadable)} files can't be taken in: {'; '.join(unreadable)}", allow_retries=False)
    held = [row.file for row in rows if row.state == results.HELD]
    rejected = sum(row.rejected_rows for row in rows)
    worst = sorted(rows, key=lambda row: (row.state == results.APPLIED, -row.rejected_rows))
    refused = [row.reason for row in rows if row.state == results.REJECTED]
    taken = (results.APPLIED, results.ALREADY)
    in_part = [f"{row.file}: {row.reason}" for row in rows if row.rejected_rows and row.state in taken]
    return dg.MaterializeResult(
        metadata={
            "files": len(rows),
            "rows": sum(row.rows for row in rows),
            "added": sum(row.added for row in rows),
            "changed": sum(row.changed for row in rows),
            "zeroed": sum(row.zeroed for row in rows),
            "absent": max((row.absent for row in rows), default=0),  # files that name other SKUs don't add up
            "left_out": sum(row.left_out for row in rows),
            "rejected_rows": rejected,
            "held_files": len(held),
            "rejected_files": len(refused),
            **worst_rows(worst),
            **report_file(ws.home, context.run.run_id, "imports", rows),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="all_rows_taken",
                passed=not rejected and not refused,
                severity=dg.AssetCheckSeverity.WARN,
                description="\n".join(
                    (f"{rejected} rows rejected, {len(refused)} files as a whole.", *(refused + in_part)[:SHOWN])
                ),
                metadata={"rejected_rows": rejected, "rejected_files": len(refused)},
            ),
        ],
    )


# Of its own, and in the audit too: what is held waits for a person, also when later files went in, until it is decided.
@dg.asset_check(
    asset=names.IMPORTS,
    name="nothing_held",
    description="No import and no batch of counts waits for a person. Red: look at it with `invsync imports list --held`, "
    "then `invsync imports approve ID` or `invsync imports drop ID`.",
)
def nothing_held(invsync: Invsync) -> dg.AssetCheckResult:
    """Count what is held, whenever it came."""
    ws = invsync.workspace
    with ws.engine.connect() as connection:
        held = held_imports(connection, ws.clock.now())
    return dg.AssetCheckResult(
        passed=not held,
        severity=dg.AssetCheckSeverity.ERROR,
        description="\n".join(one.words for one in held[:SHOWN]) or "Nothing is held.",
        metadata={"held_files": len(held), **worst_rows(held)},
    )


def _basis(ws: Workspace, context: dg.AssetExecutionContext, path: Path) -> Basis:
    return Basis(
        engine=ws.engine,
        folder=ws.home.imports,
        limits=ws.configuration.settings.import_limits,
        now=ws.clock.now(),
        actor="import folder",
        run_id=context.run.run_id,
        sources=ws.configuration.settings.imports,
        progress=Progress(path.name, context.log.info),
    )


def _row(path: Path, result: ImportResult) -> FileRow:
    found = result.preview
    return FileRow(
        file=path.name,
        state=result.state,
        rows=found.rows if found else 0,
        added=found.added if found else 0,
        changed=found.changed if found else 0,
        zeroed=found.zeroed if found else 0,
        absent=found.absent if found else 0,
        left_out=sum(rows for _, rows in found.left_out) if found else 0,
        rejected_rows=result.rejected,
        reason=result.reason,
        rejects_file=str(result.rejects_file or ""),
    )
