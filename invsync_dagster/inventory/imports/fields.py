"""What one cell may hold: each function takes a row's text apart or raises `CellError` with the reason and the mend."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from invsync_dagster.inventory.imports.reading import CellError

Word = TypeVar("Word", bound=str)

MAX_TEXT = 255

# The largest quantity that Shopify takes (`inventorySetQuantities`, input `quantity`); more is a mistake of the file.
MAX_UNITS = 1_000_000_000

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SCIENTIFIC = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+")
DIGITS = re.compile(r"[0-9]+")


def identity(cells: Mapping[str, str], column: str, *, required: bool = True) -> str:
    """An id or SKU as exact text: nothing stripped, folded or normalised, at most 255 characters."""
    value = cells[column]
    if not value.strip():
        if required or value:
            raise CellError(column, value, "the cell is empty", "fill it in, or take the row out")
        return ""
    if value != value.strip():
        raise CellError(
            column, value, "there is a space at the beginning or end", "remove it: spaces count, texts compare exactly"
        )
    if SCIENTIFIC.fullmatch(value):
        mend = "format the column as text in the spreadsheet, enter the value anew and export again"
        raise CellError(column, value, "a spreadsheet has rounded the number and lost digits", mend)
    return _plain(column, value)


def label(cells: Mapping[str, str], column: str) -> str:
    """A text for people in one line: runs of spaces and line breaks become one space; at most 255 characters."""
    return _plain(column, " ".join(cells[column].split()))


def _plain(column: str, value: str) -> str:
    if len(value) > MAX_TEXT:
        raise CellError(
            column, value, f"the text has {len(value)} characters, at most {MAX_TEXT} are taken", "shorten it"
        )
    found = CONTROL.search(value)
    if found:
        reason = f"there is a line break or control character (U+{ord(found.group()):04X}) in it"
        raise CellError(column, value, reason, "remove it")
    return value


def quantity(cells: Mapping[str, str], column: str) -> int:
    """A whole number of units that must be given."""
    value = units(cells, column)
    if value is None:
        raise CellError(
            column, "", "the quantity is absent", "write 0 if there is none, or take the row out: absent is not zero"
        )
    return value


def units(cells: Mapping[str, str], column: str, *, most: int = MAX_UNITS) -> int | None:
    """A whole number from 0 to `most`; None for an empty cell."""
    value = cells[column].strip()
    if not value:
        return None
    if not DIGITS.fullmatch(value):
        if re.fullmatch(r"-[0-9]+([.,][0-9]+)?", value):
            raise CellError(column, value, "the number is negative", "write 0 or more")
        if re.fullmatch(r"[0-9]+[.,][0-9]+", value):
            raise CellError(
                column,
                value,
                "the number is fractional, or has a thousands separator",
                "write whole units, digits only",
            )
        raise CellError(column, value, "this is not a whole number", "write digits only, as 12")
    if len(value.lstrip("0")) > len(str(most)) or int(value) > most:
        raise CellError(column, value, f"the number is above {most}", "check the number")
    return int(value)


def choice(cells: Mapping[str, str], column: str, words: Collection[Word]) -> Word | None:
    """One of `words`, in any case; None for an empty cell."""
    value = cells[column].strip().lower()
    if not value:
        return None
    for word in words:
        if word == value:
            return word
    raise CellError(column, cells[column], f"unknown {column}", f"write one of: {', '.join(words)}")
