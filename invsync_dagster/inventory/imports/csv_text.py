"""Reads CSV as records: the separator that a file names or shows, quotes, and texts of any length."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from invsync_dagster.columns import column_name
from invsync_dagster.inventory.imports.encodings import SEPARATED_BY
from invsync_dagster.inventory.imports.excel import Record
from invsync_dagster.inventory.imports.kinds import Kind
from invsync_dagster.inventory.imports.refusals import CellError, FileError

# Characters of one cell: descriptions in shops' exports hold whole pictures, and the library's own limit is 131,072.
LONGEST_TEXT = 1 << 23


def csv_records(
    name: str, text: TextIO, exports: Sequence[Kind], encoding: str, delimiter_of: Callable[[str], str]
) -> Iterator[Record]:
    """The rows of a text with the numbers of their first lines, `delimiter_of` telling a header's separator where the file
    doesn't name it. Raises `FileError` while reading."""
    csv.field_size_limit(LONGEST_TEXT)  # before the header is split, too
    try:
        first = text.readline(LONGEST_TEXT)
        named = SEPARATED_BY.fullmatch(first)
        if named:
            first = text.readline(LONGEST_TEXT)
        while first and not first.strip():
            first = text.readline(LONGEST_TEXT)
        if len(first) == LONGEST_TEXT:
            mend = "export it as CSV: this is no table, whose lines are rows"
            raise FileError(name, f"its first line has over {LONGEST_TEXT} characters", mend, line=1)
        text.seek(0)
        if named:
            text.readline()
    except UnicodeDecodeError as error:
        raise _not_decoded(name, 1, encoding) from error
    delimiter = named[1] if named else delimiter_of(first)
    header = [column_name(cell) for cell in first.split(delimiter)]
    unquoted = delimiter == "\t" and any(kind.unquoted and kind.fits(header) for kind in exports)
    quoting: Any = csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL
    reader: Any = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        line = reader.line_num + (2 if named else 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise _not_decoded(name, line, encoding) from error
        except csv.Error as error:
            mend = 'write a quote inside a text twice ("")'
            if "end of data" in str(error):
                raise FileError(name, "a quote is opened and never closed", mend, line=line) from error
            if "field limit" in str(error):  # what it has swallowed can't be told
                reason = f"a quote is opened and not closed within {LONGEST_TEXT} characters"
                raise FileError(name, reason, mend, line=line) from error
            mend += ", and put text with line breaks in quotes"
            yield line, CellError("", "", f"the line is no valid CSV ({error})", mend)
        else:
            yield line, cells


def _not_decoded(name: str, line: int, encoding: str) -> FileError:
    # The decoder works in blocks ahead of the reader, so the line is the block's: at or after the one named.
    mend = "declare the right encoding, or save it as 'CSV UTF-8'"
    return FileError(name, f"the file is not in the encoding {encoding} (from line {line} on)", mend)
