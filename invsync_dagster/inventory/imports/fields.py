"""What one cell may hold: each function takes a row's text apart or raises `CellError` with the reason and the mend."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import TypeVar

from invsync_dagster.inventory.imports.refusals import CellError

Word = TypeVar("Word", bound=str)

MAX_TEXT = 255

# The largest quantity that Shopify takes (`inventorySetQuantities`, input `quantity`); more is a mistake of the file.
MAX_UNITS = 1_000_000_000

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What nearly all texts are, and one look instead of six: letters, digits and signs of ASCII, spaces only between them.
ORDINARY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")
SCIENTIFIC = re.compile(r"[0-9]([.,][0-9]+)?E\+[0-9]+")
NEGATIVE = re.compile(r"[-\u2212][0-9][0-9., ]*")
DIGITS = re.compile(r"[0-9]+")
SPACED = re.compile(r"[0-9]{1,3}([ \u00a0\u2009\u202f'\u2019][0-9]{3})+([.,][0-9]+)?")
PARTING = re.compile(r"[ \u00a0\u2009\u202f'\u2019]")


def identity(cells: Mapping[str, str], column: str, *, required: bool = True) -> str:
    """An id or SKU as exact text: nothing stripped, folded or normalised, nothing invisible, at most 255 characters."""
    value = cells[column]
    if (not value and not required) or (ORDINARY.fullmatch(value) and "E+" not in value):
        return value
    if not value.strip():
        if required or value:
            raise CellError(column, value, "the cell is empty", "fill it in, or take the row out")
        return ""
    if value != value.strip():
        raise CellError(
            column, value, "there is a space at the beginning or end", "remove it: spaces count, texts compare exactly"
        )
    if has_invisible(value):
        mend = "remove it, best by typing the text anew: texts compare exactly"
        raise CellError(column, value, "there is an invisible character in it", mend)
    if SCIENTIFIC.fullmatch(value):
        mend = "format the column as text in the spreadsheet, enter the value anew and export again"
        raise CellError(column, value, "a spreadsheet has rounded the number and lost digits", mend)
    return _plain(column, value)


def has_invisible(text: str) -> bool:
    """Say whether a text holds a character of Unicode's category Cf, which nobody sees: a zero-width space, a mark of
    direction, a soft hyphen; copying from web pages brings them along."""
    return not text.isascii() and any(unicodedata.category(one) == "Cf" for one in text)


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


def quantity(cells: Mapping[str, str], column: str, *, decimal_mark: str = "", negative: bool = False) -> int:
    """A whole number of units that must be given; `negative` ones are taken where a shop counts what it has oversold."""
    value = units(cells, column, decimal_mark=decimal_mark, negative=negative)
    if value is None:
        raise CellError(
            column, "", "the quantity is absent", "write 0 if there is none, or take the row out: absent is not zero"
        )
    return value


def units(
    cells: Mapping[str, str],
    column: str,
    *,
    most: int = MAX_UNITS,
    decimal_mark: str = "",
    negative: bool = False,
) -> int | None:
    """A whole number from 0 to `most`; None for an empty cell.

    `decimal_mark` is the one that the file is declared to have ("." or ","); without it a number that could be read in
    two ways ("1.234") is refused, never guessed.
    """
    value = cells[column]
    if not value or not (value := value.strip()):
        return None
    if not negative and NEGATIVE.fullmatch(value):
        raise CellError(column, value, "the number is negative", "write 0 or more")
    plain = value if value.isascii() and value.isdigit() else _without_marks(column, value, decimal_mark)
    digits = plain.lstrip("-0") or "0"
    if len(digits) > len(str(most)) or int(digits) > most:
        raise CellError(column, value, f"the number is above {most}", "check the number")
    return -int(digits) if plain.startswith("-") else int(digits)


def _without_marks(column: str, value: str, decimal_mark: str) -> str:
    """The digits of a number written with thousands or decimal marks, with its sign."""
    sign, text = ("-", value[1:]) if value[0] in "-\u2212" else ("", value)
    if SPACED.fullmatch(text):  # a space or an apostrophe only ever parts thousands
        text = PARTING.sub("", text)
    if DIGITS.fullmatch(text):
        return sign + text
    marks = set(text) & {".", ","}
    if not re.fullmatch(r"[0-9]+([.,][0-9]+)+", text):
        raise CellError(column, value, "this is not a whole number", "write digits only, as 12")
    last = max(text.rfind("."), text.rfind(","))
    found = text[last]  # the decimal mark, if the last mark is one
    before, after = text[:last], text[last + 1 :]
    if len(marks) == 1 and text.count(found) > 1:
        found = "." if found == "," else ","  # a mark that is repeated parts thousands
        before, after = text, ""
    elif len(marks) == 1 and len(after) == 3 and len(before) <= 3 and not before.startswith("0"):
        if not decimal_mark:
            raise CellError(
                column,
                value,
                f"the '{found}' may be a thousands mark ({before}{after}) or a decimal mark ({before}{found}{after})",
                'declare the file\'s mark, as decimal_mark: "," in its sidecar or --decimal-mark, or write digits only',
            )
        if found != decimal_mark:
            return sign + before + after
    if decimal_mark and found != decimal_mark:
        raise CellError(
            column, value, f"the file is declared to have the decimal mark '{decimal_mark}'", "declare the right mark"
        )
    thousands = "," if found == "." else "."
    whole = before.replace(thousands, "")
    if thousands in before and not re.fullmatch(rf"[0-9]{{1,3}}([{thousands}][0-9]{{3}})+", before):
        raise CellError(column, value, "this is not a whole number", "write digits only, as 12")
    if after.strip("0"):
        raise CellError(column, value, "the number is fractional", "write whole units")
    return sign + whole


def choice(cells: Mapping[str, str], column: str, words: Collection[Word]) -> Word | None:
    """One of `words`, in any case; None for an empty cell."""
    value = cells[column].strip().lower()
    if not value:
        return None
    for word in words:
        if word == value:
            return word
    raise CellError(column, cells[column], f"unknown {column}", f"write one of: {', '.join(words)}")
