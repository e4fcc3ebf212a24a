"""Takes a file apart before any transaction: its rows checked and kept, what it declares settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from invsync_dagster.inventory.bulk import collector_paused
from invsync_dagster.inventory.imports.apply_mapping import contradicted, known_channels, known_skus
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration, settle
from invsync_dagster.inventory.imports.inventory_rows import read_inventory
from invsync_dagster.inventory.imports.kinds import kinds
from invsync_dagster.inventory.imports.mapping_file import MappingRow
from invsync_dagster.inventory.imports.mapping_rows import read_mapping
from invsync_dagster.inventory.imports.mapping_spool import MappingSpool
from invsync_dagster.inventory.imports.reading import INVENTORY, Hints, Source, open_source
from invsync_dagster.inventory.imports.refusals import FileError, Rejection
from invsync_dagster.inventory.imports.spool import Spool


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file taken apart: the rows that can go in, and the others. `declaration` has its kind's defaults filled in.

    `read_as` is all, as JSON, on which it depends what was made of the text of an inventory file, apart from its as-of time.
    """

    kind: str
    file: str
    declaration: Declaration
    rejections: tuple[Rejection, ...]
    rows: Spool | MappingSpool
    source: str = ""
    left_out: tuple[tuple[str, int], ...] = ()
    read_as: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """How many rows can go in."""
        return self.rows.count


@contextmanager
def take_apart(basis: Basis, path: Path, name: str, declaration: Declaration) -> Iterator[Parsed]:
    """Take a file apart before any transaction, so that nobody waits for its reading. Raises `FileError`."""
    hints = Hints(
        kind=declaration.kind,
        basis=declaration.basis,
        encoding=declaration.encoding,
        decimal_mark=declaration.decimal_mark,
        locations=declaration.locations,
    )
    with open_source(path, name, exports=kinds(basis.sources), hints=hints) as source:
        # Looked up piece by piece: reading a long file must not keep the database from tidying up.
        with basis.engine.connect() as connection:
            channels = known_channels(connection)
            settled = settle(connection, name, declaration, source.export)
        for channel in settled.contains or ():
            if channel not in channels:
                known_are = ", ".join(sorted(channels)) or "none"
                mend = f"known are: {known_are}; those new in channels.yaml after `invsync channels sync`"
                raise FileError(name, f"it is declared to contain the orders of an unknown channel '{channel}'", mend)
        if source.kind == INVENTORY:
            with Spool(name) as spool:
                with collector_paused():
                    rejections = read_inventory(name, source, spool, lambda rows: basis.progress("read", rows))
                title = source.export.title if source.export else ""
                left_out = tuple(source.left_out.most_common())
                yield Parsed(
                    source.kind,
                    name,
                    settled,
                    tuple(rejections),
                    spool,
                    source=title,
                    left_out=left_out,
                    read_as=_read_as(basis, source, settled),
                )
            return

        def known(skus: Collection[str]) -> set[str]:
            with basis.engine.connect() as connection:
                return known_skus(connection, skus)

        def refused(rows: Sequence[MappingRow]) -> list[Rejection]:
            with basis.engine.connect() as connection:
                return contradicted(connection, name, rows)

        with MappingSpool(name) as listings:
            with collector_paused():
                rejections = read_mapping(
                    name,
                    source,
                    listings,
                    channels=channels,
                    known=known,
                    contradicted=refused,
                    progress=lambda rows: basis.progress("read", rows),
                )
            yield Parsed(source.kind, name, settled, tuple(rejections), listings)


def _read_as(basis: Basis, source: Source, settled: Declaration) -> dict[str, Any]:
    export = source.export
    own = basis.sources.get(export.name) if export else None
    return {
        "kind": export.name if export else "",
        "columns": dict(own.columns) if own else {},
        "encoding": settled.encoding or (", ".join(export.encodings) if export else ""),
        "decimal_mark": source.decimal_mark,
        "locations": sorted(settled.locations),
        "basis": settled.basis,
        "contains": sorted(settled.contains or ()),
        "lag_seconds": settled.lag_seconds,
    }


def commonest(parsed: Parsed) -> str:
    """Say what is wrong with most of the rejected rows, and the mend; there must be one."""
    # Reasons quote the cell, the mend of a mistake is always the same.
    alike = Counter((one.column, one.mend) for one in parsed.rejections)
    (mistake, rows), *_ = alike.most_common(1)
    first = next(one for one in parsed.rejections if (one.column, one.mend) == mistake)
    where = f"line {first.line}" + (f" column '{first.column}'" if first.column else "")
    return f"{rows} of {len(parsed.rejections)} rows are like {where}: {first.reason} - {first.mend}"


def in_part(parsed: Parsed) -> str:
    """Say how many rows of a file went in, and why the others didn't; "" where all did."""
    rows = parsed.good + len(parsed.rejections)
    return f"{parsed.good} of {rows} rows; of the others {commonest(parsed)}" if parsed.rejections else ""


def why_nothing(parsed: Parsed) -> str:
    """Say why nothing of a file can go in: what is wrong with most of its rows, and the mend."""
    said = f"{parsed.file}: no row of the file can go in"
    if parsed.rejections:
        return f"{said}; {commonest(parsed)}"
    if parsed.left_out:
        return f"{said}; " + ", ".join(f"{rows} rows left out: {why}" for why, rows in parsed.left_out)
    return f"{said}: it has a header and no rows - export it again"


def dated(path: Path, declaration: Declaration, now: datetime) -> Declaration:
    """Fill in the file's own time. Raises `FileError` for a count from the future: nobody can have made it."""
    if declaration.as_of is None:
        return replace(declaration, as_of=min(datetime.fromtimestamp(path.stat().st_mtime, UTC), now))
    if declaration.as_of > now:
        reason = f"it is declared as of {declaration.as_of.isoformat()}, which is in the future"
        raise FileError(path.name, reason, "give the time when it was counted, with its time zone")
    return declaration
