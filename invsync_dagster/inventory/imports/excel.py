"""Reads Excel workbooks as the text that their author sees, where that is exact."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from invsync_dagster.inventory.imports.refusals import CellError, FileError

# A formula and no value: what a program writes that can't calculate. A formula has at most 8,192 characters.
# Source: Microsoft, "Excel specifications and limits", length of formula contents.
NO_VALUE = re.compile(
    rb"<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
LONGEST_FORMULA = 1 << 16
BLOCK = 1 << 20

Record = tuple[int, "list[str | CellError] | CellError"]

# A spreadsheet keeps 15 significant digits of a number; what was typed beyond them is lost, not only hidden.
# Source: Microsoft, "Excel specifications and limits", number precision.
EXCEL_DIGITS = 15


def excel_records(name: str, file: Any) -> Iterator[Record]:
    """The rows of the one filled sheet, with their numbers. Raises `FileError` for what is no such workbook."""
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
            formulas = openpyxl.load_workbook(file, read_only=True)[sheet.title] if _lacks_values(file) else None
            width = 0
            for line, row in enumerate(_rows(sheet, formulas), start=1):
                cells = [_excel_text(cell) for cell in row]
                if not width and any(cells):
                    width = len(cells)
                # A row ends at its last filled cell, so that empty cells at its end aren't missing ones.
                yield line, cells + [""] * (width - len(cells))
    finally:
        book.close()


def _lacks_values(file: Any) -> bool:
    """Say whether any formula has no value: rarely so, and quickly seen; it takes a second reader to know which."""
    with zipfile.ZipFile(file) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        for name in sheets:
            with archive.open(name) as sheet:
                kept = b""
                while block := sheet.read(BLOCK):
                    if NO_VALUE.search(kept + block):
                        return True
                    kept = block[-LONGEST_FORMULA:]
    return False


def _rows(sheet: Any, formulas: Any) -> Iterator[list[Any]]:
    """The rows of a sheet of values; in the place of a value that a formula lacks, the cell with the formula."""
    if formulas is None:
        yield from sheet.iter_rows()
        return
    formulas.reset_dimensions()
    for row, written in zip(sheet.iter_rows(), formulas.iter_rows(), strict=True):
        yield [
            formula if cell.value is None and cell.data_type != "str" and formula.data_type == "f" else cell
            for cell, formula in zip(row, written, strict=True)
        ]


def _has_cells(sheet: Any) -> bool:
    sheet.reset_dimensions()
    return any(cell.value is not None for row in sheet.iter_rows(max_row=100) for cell in row)


def _excel_text(cell: Any) -> str | CellError:
    """The cell as its author sees it, where that is exact; numbers and dates made of ids by the program are refused."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "f":
        mend = "open the file in Excel and save it, which calculates it"
        return CellError("", str(value), "a formula without its value", mend)
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
        reason = f"the program keeps the number {value!r}, which is not whole"
        return CellError("", repr(value), reason, f"write whole units; of an id or a name, {as_text}")
    digits = str(int(value))
    padding = re.fullmatch(r"0+", cell.number_format or "")
    return digits.zfill(len(padding.group())) if padding and value >= 0 else digits
