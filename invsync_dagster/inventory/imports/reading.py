"""Reads CSV and Excel files row by row as exact text: which columns a file has, and each row with its line number."""

from __future__ import annotations

import csv
import difflib
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

INVENTORY = "inventory"
MAPPING = "mapping"

DELIMITERS = (",", ";", "\t")
EXCEL_SUFFIXES = (".xlsx", ".xlsm")

# A spreadsheet keeps 15 significant digits of a number; what was typed beyond them is lost, not only hidden.
# Source: Microsoft, "Excel specifications and limits", number precision.
EXCEL_DIGITS = 15


class FileError(Exception):
    """A file that can't be used as a whole; nothing of it goes in.

    `line` is 1 for the header, 0 where no line can be named. `str()` is one sentence with file, line and mend.
    """

    def __init__(self, file: str, reason: str, mend: str, *, line: int = 0, column: str = "") -> None:
        where = file + (f" line {line}" if line else "") + (f" column '{column}'" if column else "")
        super().__init__(f"{where}: {reason} - {mend}")
        self.file = file
        self.line = line
        self.column = column
        self.reason = reason
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that doesn't go in; `line` is where it begins (Excel: the row), `value` the cell as it was read."""

    file: str
    line: int
    column: str
    value: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line} column '{self.column}': {self.reason} - {self.mend}"


class CellError(Exception):
    """A cell that can't be used: its column, what it held, why not, and what to do about it."""

    def __init__(self, column: str, value: str, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.column = column
        self.value = value
        self.reason = reason
        self.mend = mend

    def rejection(self, file: str, line: int) -> Rejection:
        return Rejection(file, line, self.column, self.value, self.reason, self.mend)


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
        ("platform_variant_id", "status", "buffer", "percent", "minimum", "maximum", "dead_band"),
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the text of each column of the layout ("" where the file has no such column or an empty cell)."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Source:
    """An opened file: what kind it is by its header, the columns it has, and its rows in order (to be read once)."""

    kind: str
    columns: frozenset[str]
    rows: Iterator[Row | Rejection]


@contextmanager
def open_source(path: Path, name: str = "") -> Iterator[Source]:
    """Open a `.csv` or `.xlsx` file; rows stream, empty lines are left out. `name` stands in messages.

    Rows come as `Row`, or as `Rejection` where the text of a row can't be taken apart. Raises `FileError` here or while
    reading: unreadable, not UTF-8, no or wrong header, a quote that is never closed.
    """
    name = name or path.name
    try:
        if path.suffix.lower() in EXCEL_SUFFIXES:
            with path.open("rb") as file:
                yield _source(name, _excel_records(name, file))
        elif path.suffix.lower() in (".xls", ".ods", ".numbers"):
            raise FileError(name, f"'{path.suffix}' files can't be read", "save it as .xlsx or as CSV UTF-8")
        else:
            with path.open("r", encoding="utf-8-sig", newline="") as text:
                yield _source(name, _csv_records(name, text))
    except OSError as error:
        raise FileError(
            name, f"the file can't be read ({error.strerror})", "check that it is there and readable"
        ) from error


Record = tuple[int, "list[str | CellError] | CellError"]


def _source(name: str, records: Iterator[Record]) -> Source:
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
    layout = _layout(name, header, line)
    return Source(layout.kind, frozenset(header), _rows(name, layout, header, records))


def _blank(cells: Sequence[str | CellError]) -> bool:
    return not any(isinstance(cell, CellError) or cell.strip() for cell in cells)


def _column_name(cell: str | CellError) -> str:
    return "" if isinstance(cell, CellError) else re.sub(r"[\s-]+", "_", cell.strip().lower())


def _layout(name: str, header: Sequence[str], line: int) -> Layout:
    layout = max(LAYOUTS, key=lambda one: len(set(one.columns) & set(header)))
    expected = ", ".join(layout.columns)
    if not set(layout.columns) & set(header):
        raise FileError(
            name,
            "the header names none of the known columns",
            f"inventory files have {', '.join(LAYOUTS[0].columns)}; mapping files have {', '.join(LAYOUTS[1].columns)}",
            line=line,
        )
    for column in header:
        if column not in layout.columns:
            near = difflib.get_close_matches(column, layout.columns, n=1)
            mend = f"did you mean '{near[0]}'?" if near else f"leave it out; known columns: {expected}"
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
        broken = next((cell for cell in cells if isinstance(cell, CellError)), None)
        if broken is not None:
            column = header[cells.index(broken)] if cells.index(broken) < len(header) else ""
            yield Rejection(name, line, column, broken.value, broken.reason, broken.mend)
        elif len(cells) < len(header):
            missing = header[len(cells)]
            reason = f"the row has {len(cells)} cells, the header {len(header)}"
            yield Rejection(name, line, missing, "", reason, "give every row all cells; the file may be cut off")
        elif any(cells[len(header) :]):
            reason = f"the row has {len(cells)} cells, the header {len(header)}"
            yield Rejection(
                name, line, "", str(cells[len(header)]), reason, "put text that contains the separator in quotes"
            )
        else:
            yield Row(line, blank | dict(zip(header, [str(cell) for cell in cells], strict=False)))


def _csv_records(name: str, text: io.TextIOWrapper) -> Iterator[Record]:
    try:
        first = text.readline()
        while first and not first.strip():
            first = text.readline()
        text.seek(0)
    except UnicodeDecodeError as error:
        raise _not_utf8(name, 1, error) from error
    reader = csv.reader(text, delimiter=_delimiter(first), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise _not_utf8(name, line, error) from error
        except csv.Error as error:
            if "end of data" in str(error):
                raise FileError(
                    name, "a quote is opened and never closed", 'write a quote inside a text twice ("")', line=line
                ) from error
            mend = 'write a quote inside a text twice (""), and put text with line breaks in quotes'
            yield line, CellError("", "", f"the line is no valid CSV ({error})", mend)
        else:
            yield line, list(cells)


def _not_utf8(name: str, line: int, error: UnicodeDecodeError) -> FileError:
    mend = "save it as 'CSV UTF-8' or as .xlsx"
    if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return FileError(name, "the file is UTF-16", mend)
    # The decoder works in blocks ahead of the reader, so the line is the block's: at or after the one named.
    return FileError(name, f"the file is not UTF-8 (from line {line} on)", mend)


def _delimiter(header: str) -> str:
    """The separator under which the header has the most known columns; it decides, since texts may hold all three."""
    known = {column for layout in LAYOUTS for column in layout.columns}

    def hits(delimiter: str) -> int:
        return len(known & {_column_name(cell) for cell in next(csv.reader([header], delimiter=delimiter), [])})

    return max(DELIMITERS, key=hits)


def _excel_records(name: str, file: Any) -> Iterator[Record]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles and extensions that openpyxl leaves out hold none of our cells
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, SyntaxError) as error:
        raise FileError(
            name, "the file is no readable Excel workbook", "save it again as .xlsx without a password"
        ) from error
    try:
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        filled = [sheet for sheet in sheets if _has_cells(sheet)]
        if len(filled) > 1:
            titles = ", ".join(f"'{sheet.title}'" for sheet in filled)
            raise FileError(name, f"the workbook has several filled sheets ({titles})", "keep one of them per file")
        for sheet in filled:
            sheet.reset_dimensions()  # some programs write a wrong range, and rows beyond it would be lost
            width = 0
            for line, row in enumerate(sheet.iter_rows(), start=1):
                cells = [_excel_text(cell) for cell in row]
                if not width and any(cells):
                    width = len(cells)
                # A row ends at its last filled cell, so that empty cells at its end aren't missing ones.
                yield line, cells + [""] * (width - len(cells))
    finally:
        book.close()


def _has_cells(sheet: Any) -> bool:
    sheet.reset_dimensions()
    return any(cell.value is not None for row in sheet.iter_rows(max_row=100) for cell in row)


def _excel_text(cell: Any) -> str | CellError:
    """The cell as its author sees it, where that is exact; numbers and dates made of ids by the program are refused."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        if cell.data_type == "e":
            return CellError("", value, f"the cell shows the error {value}", "mend the formula")
        return value
    as_text = "format the column as text, and enter the value anew"
    if isinstance(value, bool):
        return CellError("", str(value).upper(), "the program made a truth value of it", as_text)
    if isinstance(value, (datetime, date, time, timedelta)):
        return CellError("", str(value), "the program made a date or time of it", as_text)
    if abs(value) >= 10**EXCEL_DIGITS:
        shown = str(value)
        return CellError("", shown, f"a number of more than {EXCEL_DIGITS} digits, whose last digits are lost", as_text)
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    digits = str(int(value))
    padding = re.fullmatch(r"0+", cell.number_format or "")
    return digits.zfill(len(padding.group())) if padding and value >= 0 else digits
