"""Exports of several locations: Shopify's older one, with a column for each, read as the newer one, with a row for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from invsync_dagster.columns import column_name
from invsync_dagster.inventory.imports.excel import Record
from invsync_dagster.inventory.imports.refusals import CellError, FileError

# What stands before the locations, up to the country of origin, and what the newer form has after it.
LAST_OF_ARTICLE = "coo"
OF_ARTICLE = {
    "handle",
    "title",
    *(f"option{number}_{part}" for number in (1, 2, 3) for part in ("name", "value")),
    "sku",
    "hs_code",
    LAST_OF_ARTICLE,
}
OF_NEWER_FORM = ("location", "bin_name", "incoming", "unavailable", "committed", "available", "on_hand")
READ_AS = ["handle", "title", "sku", "location", "available"]


def has_location_columns(header: Sequence[str]) -> bool:
    """Tell whether a header of normalised names is of the older form: what it has after `COO` are locations."""
    if LAST_OF_ARTICLE not in header:
        return False
    end = header.index(LAST_OF_ARTICLE) + 1
    article, rest = header[:end], header[end:]
    newer = any(one.partition("_(")[0] in OF_NEWER_FORM for one in rest)
    return bool(rest) and not newer and OF_ARTICLE.issuperset(article)


def by_location(
    name: str, line: int, cells: Sequence[str | CellError], records: Iterator[Record]
) -> tuple[list[str], Iterator[Record]]:
    """The header `READ_AS`, and the rows under it: one for each location of each row of the file.

    `cells` are those of the file's header, on `line`. Raises `FileError` for a location without a name or there twice.
    """
    header = ["" if isinstance(cell, CellError) else cell.strip() for cell in cells]
    while not header[-1]:
        header.pop()
    names = [column_name(cell) for cell in header]
    first = names.index(LAST_OF_ARTICLE) + 1
    for place in range(first, len(header)):
        if not header[place]:
            reason = f"column {place + 1}, among the locations, has no name"
            raise FileError(name, reason, "name it as its location, or take it out", line=line)
        if header[place] in header[first:place]:
            raise FileError(
                name,
                "the location's column is there twice",
                "keep the right one of the two",
                line=line,
                column=header[place],
            )
    article = [names.index(one) for one in ("handle", "title", "sku")]
    return READ_AS, _rows(header, first, article, records)


def rows_of_skus(name: str, records: Iterator[Record], sku: int) -> Iterator[Record]:
    """Pass on the rows of an export with a row for each location, whose SKU is in the column `sku`.

    A row that doesn't tell its SKU may be one of several that are added up: the sum of the others would be too low, or too
    high where the shop has oversold there. Raises `FileError` for it.
    """
    for line, cells in records:
        broken = cells if isinstance(cells, CellError) else None
        if not isinstance(cells, CellError) and any(cells):
            if sku >= len(cells):
                mend = "give every row all cells; the file may be cut off"
                broken = CellError("sku", "", f"the row ends after {len(cells)} cells", mend)
            elif isinstance(cell := cells[sku], CellError):
                broken = cell
        if broken is not None:
            reason = f"{broken.reason}: it doesn't tell whose units it counts, and a SKU's locations are added up"
            raise FileError(name, reason, broken.mend, line=line)
        yield line, cells


def _rows(header: list[str], first: int, article: list[int], records: Iterator[Record]) -> Iterator[Record]:
    for line, cells in records:
        if isinstance(cells, CellError):
            yield line, cells
            continue
        if not any(isinstance(cell, CellError) or cell.strip() for cell in cells):
            continue
        unfit = _unfit(header, first, article, cells)
        if unfit:
            yield line, unfit
            continue
        for place in range(first, len(header)):
            yield line, [*(cells[one] for one in article), header[place], cells[place]]


def _unfit(header: list[str], first: int, article: list[int], cells: list[str | CellError]) -> CellError | None:
    """Why none of a row's locations can go in: the sum of the others would be too low."""
    if len(cells) != len(header) and (len(cells) < len(header) or any(cells[len(header) :])):
        reason = f"the row has {len(cells)} cells, the header {len(header)}"
        if len(cells) < len(header):
            return CellError(header[len(cells)], "", reason, "give every row all cells; the file may be cut off")
        return CellError("", str(cells[len(header)]), reason, "put text that contains the separator in quotes")
    for place in (*article, *range(first, len(header))):
        cell = cells[place]
        if isinstance(cell, CellError):
            return CellError(header[place], cell.value, cell.reason, cell.mend)
    return None
