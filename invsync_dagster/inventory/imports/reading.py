"""Reads files row by row as exact text: of which kind a file is, and each row with its line number."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

from invsync_dagster.columns import DECODERS, column_name
from invsync_dagster.inventory.imports.contents import refuse_other_contents
from invsync_dagster.inventory.imports.csv_text import csv_records
from invsync_dagster.inventory.imports.encodings import encoding_of, refuse_utf8
from invsync_dagster.inventory.imports.excel import Record, excel_records
from invsync_dagster.inventory.imports.headers import TITLE_LINES, below_titles, kind_of, refuse_begun
from invsync_dagster.inventory.imports.kinds import EXPORTS, SHOPIFY_BY_LOCATION, SHOPIFY_INVENTORY, Kind, LeftOut
from invsync_dagster.inventory.imports.locations import by_location, rows_of_skus
from invsync_dagster.inventory.imports.refusals import CellError, FileError, Rejection
from invsync_dagster.inventory.imports.row_shapes import misshapen, unfit

INVENTORY = "inventory"
MAPPING = "mapping"

DELIMITERS = (",", ";", "\t")
EXCEL_SUFFIXES = (".xlsx", ".xlsm")


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one kind of file."""

    kind: str
    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.required + self.optional


LAYOUTS = (
    Layout(INVENTORY, ("sku", "quantity"), ("product_name", "reserved_quantity", "status")),
    Layout(
        MAPPING,
        ("central_sku", "channel", "platform_sku", "platform_item_id", "platform_location_id"),
        # The last two are for the person who corrects the file of `invsync discover`; an import doesn't look at them.
        (
            "platform_variant_id",
            "status",
            "buffer",
            "percent",
            "minimum",
            "maximum",
            "dead_band",
            "proposed_sku",
            "note",
        ),
    ),
)


class Row(NamedTuple):
    """One row: the text of each column of the layout ("" where the file has no such column or an empty cell).

    `part`: the place that the row is about, where a file has a row for each. `refused`: why a row can't be taken apart;
    of its cells only the SKU is known, if that.
    """

    line: int
    cells: dict[str, str]
    part: str = ""
    refused: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Hints:
    """What is declared of a file before it is read; "" is found out, or comes from the kind that the header shows."""

    kind: str = ""
    basis: str = ""
    encoding: str = ""
    decimal_mark: str = ""
    locations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """An opened file: what kind it is by its header, the columns it has, and its rows in order (to be read once).

    `export` is the kind of a file that isn't ours, `named` how it calls our columns. `left_out` counts, by reason, the rows
    read so far that rightly state nothing.
    """

    kind: str
    columns: frozenset[str]
    rows: Iterator[Row | Rejection]
    export: Kind | None = None
    named: Mapping[str, str] = field(default_factory=dict)
    decimal_mark: str = ""
    left_out: Counter[str] = field(default_factory=Counter)


@contextmanager
def open_source(
    path: Path, name: str = "", *, exports: Sequence[Kind] = EXPORTS, hints: Hints | None = None
) -> Iterator[Source]:
    """Open a `.csv`, `.txt`, `.tsv` or `.xlsx` file; rows stream, empty lines are left out. `name` stands in messages.

    Rows come as `Row`, or as `Rejection` where the text of a row can't be taken apart. Raises `FileError` here or while
    reading: unreadable, unknown encoding, no or wrong header, a header of two kinds, a quote that is never closed.
    """
    name, given = name or path.name, hints or Hints()
    with _records(path, name, exports, given) as records:
        try:
            source = _source(name, records, exports, given)
        except FileError:
            with _records(path, name, exports, given) as again:
                _refuse_titles(name, again, exports)
            raise
        yield source


@contextmanager
def _records(path: Path, name: str, exports: Sequence[Kind], given: Hints) -> Iterator[Iterator[Record]]:
    with ExitStack() as stack:
        # Only what is read here: an error of the caller, as a full disk, is none of this file.
        with _reading(name):
            if path.suffix.lower() in EXCEL_SUFFIXES:
                records = excel_records(name, stack.enter_context(path.open("rb")))
            elif path.suffix.lower() in (".xls", ".ods", ".numbers"):
                raise FileError(name, f"'{path.suffix}' files can't be read", "save it as .xlsx or as CSV UTF-8")
            else:
                refuse_other_contents(path, name)
                encoding = given.encoding or encoding_of(path, name, exports)
                if given.encoding and given.encoding != "utf-8":
                    refuse_utf8(path, name, given.encoding)
                text = stack.enter_context(path.open("r", encoding=DECODERS.get(encoding, encoding), newline=""))
                records = csv_records(name, text, exports, encoding, lambda header: _delimiter(header, exports))
        yield _read(name, records)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        mend = "check that it is there and readable"
        raise FileError(name, f"the file can't be read ({error.strerror})", mend) from error


def _read(name: str, records: Iterator[Record]) -> Iterator[Record]:
    with _reading(name):
        yield from records


def _refuse_titles(name: str, records: Iterator[Record], exports: Sequence[Kind]) -> None:
    """Say where the header of a file is that begins with lines of other text. Raises `FileError`."""
    first = below = 0
    with suppress(FileError):
        for line, cells in islice(records, TITLE_LINES):
            first = first or (0 if not isinstance(cells, CellError) and _blank(cells) else line)
            if _is_header(cells, exports):
                below = line
                break
    if below > first:
        raise below_titles(name, below, first)


def _is_header(cells: Sequence[str | CellError] | CellError, exports: Sequence[Kind]) -> bool:
    texts = () if isinstance(cells, CellError) else map(str, cells)
    text = DELIMITERS[0].join(texts)  # the line above doesn't tell by what the rest is separated
    headers = [[column_name(cell) for cell in text.split(mark)] for mark in DELIMITERS]
    return any(
        any(set(layout.required) <= set(header) for layout in LAYOUTS) or any(kind.fits(header) for kind in exports)
        for header in headers
    )


def _source(name: str, records: Iterator[Record], exports: Sequence[Kind], hints: Hints) -> Source:
    for line, cells in records:
        if isinstance(cells, CellError):
            raise FileError(name, cells.reason, cells.mend, line=line)
        if not _blank(cells):
            break
    else:
        raise FileError(name, "the file is empty", "export it again, with its header line")
    header = [_column_name(cell) for cell in cells]
    while header and not header[-1]:
        header.pop()
    ours = INVENTORY if any(set(header) <= set(layout.columns) for layout in LAYOUTS) else ""
    export = kind_of(name, header, exports, hints.kind, ours, line)
    if export is None:
        layout = _layout(name, header, line, exports, records)
        return Source(
            layout.kind, frozenset(header), _rows(name, layout, header, records), decimal_mark=hints.decimal_mark
        )
    own = [str(cell).strip() for cell in cells]
    if export is SHOPIFY_BY_LOCATION:
        header, records = by_location(name, line, cells, records)
        export, own = SHOPIFY_INVENTORY, []
    elif export.parts:
        records = rows_of_skus(name, records, export.fields_of(header)["sku"])
    left_out: Counter[str] = Counter()
    basis = hints.basis or export.basis
    places = export.fields_of(header)
    rows = _export_rows(name, export, places, own[: len(header)] or header, records, basis, hints.locations, left_out)
    mark = hints.decimal_mark or export.decimal_mark
    named = {field: own[place] for field, place in places.items()} if own else {}
    named |= {
        ours: named[theirs] for ours, theirs in (("quantity", basis), ("product_name", "title")) if theirs in named
    }
    return Source(INVENTORY, frozenset(header), rows, export, named, mark, left_out)


def _export_rows(
    name: str,
    export: Kind,
    places: Mapping[str, int],
    header: list[str],
    records: Iterator[Record],
    basis: str,
    locations: tuple[str, ...],
    left_out: Counter[str],
) -> Iterator[Row | Rejection]:
    """The rows of a file that isn't ours, as rows of an inventory file; `header` are its columns' names as it has them."""
    blank = dict.fromkeys(LAYOUTS[0].columns, "")
    if export is SHOPIFY_INVENTORY and basis not in places:
        shown = {"on_hand": "On hand", "available": "Available"}[basis]
        other = "available" if basis == "on_hand" else "on_hand"
        mend = f"export all quantity types, or declare basis: {other} in {name}.yaml or --basis {other}"
        raise FileError(name, f"it has no column '{shown}', which a count of basis {basis} needs", mend, line=1)
    seen: set[str] = set()
    title = handle = ""
    for line, cells in records:
        if isinstance(cells, CellError):
            yield cells.rejection(name, line)
            continue
        if _blank(cells):
            continue
        refused = unfit(name, line, header, cells, places)
        if refused:
            yield Row(line, _known_of(cells, places), refused=refused)
            continue
        stated = {field: str(cells[place]) for field, place in places.items()}
        if "handle" in stated:  # Shopify writes a product's title on its first row only
            if stated.get("title") or stated["handle"] != handle:
                title, handle = stated.get("title", ""), stated["handle"]
            stated["title"] = title
        found = export.translate(stated, basis) if export.translate else stated
        if isinstance(found, LeftOut):
            left_out[found.why] += 1
            continue
        part = stated["location"] if export.parts else ""
        if export.parts:
            seen.add(part)
            if locations and locations != ("all",) and part not in locations:
                left_out["at another location"] += 1
                continue
        if isinstance(found, CellError):
            found.column = header[places[found.column]]
            yield Row(line, _known_of(cells, places), refused=found.rejection(name, line))
        else:
            yield Row(line, blank | found, part)
    if export.parts:
        _check_locations(name, seen, locations)


def _known_of(cells: list[str | CellError], places: Mapping[str, int]) -> dict[str, str]:
    sku = cells[places["sku"]] if places["sku"] < len(cells) else ""
    return {"sku": "" if isinstance(sku, CellError) else sku}


def _check_locations(name: str, seen: set[str], declared: tuple[str, ...]) -> None:
    there = ", ".join(f"'{one}'" for one in sorted(seen))
    if len(seen) > 1 and not declared:
        first = min(seen)
        raise FileError(
            name,
            f"it counts at {len(seen)} locations: {there}",
            f'declare which are sold from, as locations: all or locations: ["{first}"] in {name}.yaml, or as '
            f'--location all or --location "{first}"',
        )
    missing = [one for one in declared if one not in seen and one != "all"]
    if missing and seen:
        raise FileError(name, f"it has no row of the declared location '{missing[0]}'", f"its locations: {there}")


def _blank(cells: Sequence[str | CellError]) -> bool:
    if cells and cells[0]:  # nearly always, and a fifth of the time of the other way
        first = cells[0]
        if isinstance(first, CellError) or not first.isspace():
            return False
    return not any(isinstance(cell, CellError) or cell.strip() for cell in cells)


def _column_name(cell: str | CellError) -> str:
    return "" if isinstance(cell, CellError) else column_name(cell)


def _layout(name: str, header: list[str], line: int, exports: Sequence[Kind], records: Iterator[Record]) -> Layout:
    if not any(set(one.required) <= set(header) for one in LAYOUTS):
        ours = {column for layout in LAYOUTS for column in layout.columns}
        first = next((cells for _, cells in records if not isinstance(cells, CellError)), [])
        refuse_begun(name, header, exports, ours, [str(cell) for cell in first], line)
    layout = max(LAYOUTS, key=lambda one: len(set(one.columns) & set(header)))
    expected = ", ".join(layout.columns)
    if not set(layout.columns) & set(header):
        raise FileError(
            name,
            "the header names none of the known columns",
            f"inventory files have {', '.join(LAYOUTS[0].columns)}; mapping files have {', '.join(LAYOUTS[1].columns)};"
            f" looked for besides: {'; '.join(kind.looked_for() for kind in exports)}",
            line=line,
        )
    for column in header:
        if column not in layout.columns:
            near = difflib.get_close_matches(column, layout.columns, n=1)
            mend = (
                f"did you mean '{near[0]}'?"
                if near
                else (
                    f"leave it out, or name the file's columns in channels.yaml, under settings.imports; known: {expected}"
                )
            )
            raise FileError(name, f"unknown column in a file of kind {layout.kind}", mend, line=line, column=column)
        if header.count(column) > 1:
            raise FileError(name, "the column is there twice", "keep one of the two", line=line, column=column)
    for column in layout.required:
        if column not in header:
            raise FileError(
                name,
                f"the column is missing in a file of kind {layout.kind}",
                f"add it; columns: {expected}",
                line=line,
                column=column,
            )
    return layout


def _rows(name: str, layout: Layout, header: Sequence[str], records: Iterator[Record]) -> Iterator[Row | Rejection]:
    blank = dict.fromkeys(layout.columns, "")
    for line, cells in records:
        if isinstance(cells, CellError):
            yield cells.rejection(name, line)
            continue
        if _blank(cells):
            continue
        if CellError in map(type, cells) or len(cells) < len(header) or any(cells[len(header) :]):
            refused = misshapen(name, line, header, cells)
            # Another row of the SKU may be wrong beside it; a listing's is judged by its own.
            known = _known_of(cells, {"sku": header.index("sku")}) if layout.kind == INVENTORY else None
            yield Row(line, known, refused=refused) if known else refused
        else:
            yield Row(line, blank | dict(zip(header, cast(list[str], cells), strict=False)))


def _delimiter(header: str, exports: Sequence[Kind]) -> str:
    """The separator under which the header has the most known columns; it decides, since texts may hold all three. Of one
    that has none, as a title, the most frequent."""
    known = {column for layout in LAYOUTS for column in layout.columns}
    known |= {name for kind in exports for names in kind.columns.values() for name in names}

    def hits(delimiter: str) -> int:
        return len(known & {_column_name(cell) for cell in next(csv.reader([header], delimiter=delimiter), [])})

    return max(DELIMITERS, key=lambda mark: (hits(mark), header.count(mark)))
