"""Rows that don't fit the header of their file: the refusal that each gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from invsync_dagster.inventory.imports.refusals import CellError, Rejection


def unfit(
    name: str, line: int, header: list[str], cells: list[str | CellError], places: Mapping[str, int]
) -> Rejection | None:
    """Refuse a row of a file that isn't ours for a cell, or the lack of one, among those at `places`; None if it fits."""
    for place in places.values():
        if place < len(cells):
            cell = cells[place]
            if isinstance(cell, CellError):
                return Rejection(name, line, header[place], cell.value, cell.reason, cell.mend)
    if len(cells) < len(header) and any(place >= len(cells) for place in places.values()):
        return _cut_off(name, line, header, cells)
    return _surplus(name, line, header, cells) if any(cells[len(header) :]) else None


def misshapen(name: str, line: int, header: Sequence[str], cells: list[str | CellError]) -> Rejection:
    """Refuse a row of ours, of which a cell can't be read, or that has more or fewer cells than the header."""
    for place, cell in enumerate(cells):
        if isinstance(cell, CellError):
            column = header[place] if place < len(header) else ""
            return Rejection(name, line, column, cell.value, cell.reason, cell.mend)
    if len(cells) < len(header):
        return _cut_off(name, line, header, cells)
    return _surplus(name, line, header, cells)


def _cut_off(name: str, line: int, header: Sequence[str], cells: Sequence[object]) -> Rejection:
    reason = f"the row has {len(cells)} cells, the header {len(header)}"
    return Rejection(name, line, header[len(cells)], "", reason, "give every row all cells; the file may be cut off")


def _surplus(name: str, line: int, header: Sequence[str], cells: Sequence[object]) -> Rejection:
    """Refuse a row with more filled cells than columns: nobody can say which of them is the quantity."""
    reason = f"the row has {len(cells)} cells, the header {len(header)}"
    return Rejection(name, line, "", str(cells[len(header)]), reason, "put text that contains the separator in quotes")
