"""What can't go in: a file as a whole, a row, a cell; each with where, why and the mend."""

from __future__ import annotations

from dataclasses import dataclass


def _where(file: str, line: int, column: str) -> str:
    return file + (f" line {line}" if line else "") + (f" column '{column}'" if column else "")


class FileError(Exception):
    """A file that can't be used as a whole; nothing of it goes in.

    `line` is 1 for the header, 0 where no line can be named. `str()` is one sentence with file, line and mend.
    """

    def __init__(self, file: str, reason: str, mend: str, *, line: int = 0, column: str = "") -> None:
        super().__init__(f"{_where(file, line, column)}: {reason} - {mend}")
        self.file = file
        self.line = line
        self.column = column
        self.reason = reason
        self.mend = mend


class FullDiskError(FileError):
    """A file that could not be taken in because a disk is full: nothing is wrong with it, and it stays where it is."""


# Characters of a refused cell that are told: some hold whole pictures.
SHOWN_TEXT = 200


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that doesn't go in; `line` is where it begins (Excel: the row), `value` how the cell begins, `column` "" where it
    is the row as a whole."""

    file: str
    line: int
    column: str
    value: str
    reason: str
    mend: str

    def __post_init__(self) -> None:
        if len(self.value) > SHOWN_TEXT:
            object.__setattr__(self, "value", self.value[:SHOWN_TEXT] + "…")

    def __str__(self) -> str:
        return f"{_where(self.file, self.line, self.column)}: {self.reason} - {self.mend}"


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
