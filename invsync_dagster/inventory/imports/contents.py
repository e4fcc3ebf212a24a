"""Says what a file is that is no table, though its name says so: an archive, a web page, JSON, a text of 16-bit characters."""

from __future__ import annotations

import re
from pathlib import Path

from invsync_dagster.inventory.imports.refusals import FileError

# Bytes at a file's beginning that show what it is.
BEGINNING = 4096

_SAVE = "save it as 'CSV UTF-8' or as .xlsx"
_MARK = rb"(?:\xef\xbb\xbf)?\s*"
_OTHERS = (
    (
        re.compile(rb"PK(\x03\x04|\x05\x06)"),
        "it is an archive, as .zip and .xlsx are, under another name",
        "let a workbook's name end with .xlsx, and unpack any other",
    ),
    (re.compile(rb"\xff\xfe|\xfe\xff"), "the file is UTF-16", _SAVE),
    # Each plain letter has a zero beside it. One alone, or a row of them, is a fault of another kind.
    (re.compile(rb"(?:[^\n\x00]+\x00|\x00[^\n\x00]+){2}"), "the file is UTF-16, without the mark that says so", _SAVE),
    (
        re.compile(_MARK + rb"<[!?a-z]", re.IGNORECASE),
        "it is a web page, or XML, and no table",
        "export it again as CSV; a page comes instead where one is to log in",
    ),
    (
        # Not a column's name in brackets, as databases export it.
        re.compile(_MARK + rb'(\{\s*["}]|\[\s*[\[{"\]])'),
        "it is JSON, and no table",
        "export it as CSV",
    ),
)


def refuse_other_contents(path: Path, name: str) -> None:
    """Refuse a file that is to be read as CSV and can't be. Raises `FileError`, `OSError`."""
    with path.open("rb") as file:
        beginning = file.read(BEGINNING)
    for begins, reason, mend in _OTHERS:
        if begins.match(beginning):
            raise FileError(name, reason, mend)
