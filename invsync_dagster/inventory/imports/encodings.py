"""Finds out in which encoding a text file is: UTF-8 if it can be, else only what its header proves; never a guess."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from invsync_dagster.columns import DECODERS, column_name
from invsync_dagster.inventory.imports.headers import TITLE_LINES, below_titles
from invsync_dagster.inventory.imports.kinds import Kind
from invsync_dagster.inventory.imports.refusals import FileError

BLOCK = 1 << 20

# How a file tells Excel its separator: in a first line of its own.
SEPARATED_BY = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)

# Nearly any bytes can be read in each of them, so only who knows where the file was made can tell.
WHOSE = (
    "windows-1252 (Western Europe, the Americas), gbk or gb18030 (China), shift_jis (Japan); the wrong one makes other names "
    "and SKUs of it"
)


def encoding_of(path: Path, name: str, exports: Sequence[Kind]) -> str:
    """Return the encoding of a file for which none is declared. Raises `FileError`, `OSError`.

    A file that is no UTF-8 is in another encoding only if that makes of its first line the header of a kind of files that
    comes in it. Nearly any bytes can be read as Windows-1252 or GBK, so that they can be read proves nothing.
    """
    line, _ = _first_line_that_is_no_utf8(path)
    if not line:
        return "utf-8"
    with path.open("rb") as file:
        lines = [
            (number, one)
            for number, one in enumerate(islice(file, TITLE_LINES), start=1)
            if one.strip() and not SEPARATED_BY.fullmatch(one.decode("latin-1"))
        ]
    for number, header in lines:
        encoding = _shown_by(header, exports)
        if encoding and number > lines[0][0]:
            raise below_titles(name, number, lines[0][0])
        if encoding:
            return encoding
    mend = "save it as 'CSV UTF-8' or as .xlsx"
    declared = f"{mend}, or declare what it is, as encoding: … in {name}.yaml or --encoding …, and look at the preview: {WHOSE}"
    raise FileError(name, f"the file is not UTF-8 (from line {line} on)", declared)


def _shown_by(header: bytes, exports: Sequence[Kind]) -> str:
    """The encoding that makes of a line the header of a kind that comes in it, "" if none does."""
    for kind in exports:
        for encoding in kind.encodings:
            try:
                text = header.decode(DECODERS.get(encoding, encoding))
            except UnicodeDecodeError:
                continue
            fits = any(kind.fits([column_name(cell) for cell in text.split(mark)]) for mark in "\t;,")
            # A header in plain letters is the same in all encodings: the last of the kind, that of the West, is meant.
            if fits and (not header.isascii() or encoding == kind.encodings[-1]):
                return encoding
    return ""


def refuse_utf8(path: Path, name: str, encoding: str) -> None:
    """Refuse a file that is declared to be in another encoding and is UTF-8: each of its letters would be read as two others,
    and a SKU with one be a new SKU. No text of that length in another encoding is UTF-8 by chance. Raises `FileError`."""
    line, ascii_only = _first_line_that_is_no_utf8(path)
    if not line and not ascii_only:
        mend = "take the declaration of its encoding out"
        raise FileError(name, f"its encoding is declared as {encoding}, but it is UTF-8", mend)


def _first_line_that_is_no_utf8(path: Path) -> tuple[int, bool]:
    """The number of the line, 0 if there is none; and whether all up to there is ASCII."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, ascii_only = 1, True
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return lines + block[: error.start].count(b"\n"), False
            if not block:
                return 0, ascii_only
            ascii_only = ascii_only and block.isascii()
            lines += block.count(b"\n")
