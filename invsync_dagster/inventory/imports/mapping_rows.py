"""Reads all rows of a mapping file into its spool, each checked by itself, against the others, and against the stock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.imports.mapping_file import MappingRow, checked_rows, not_stocked, once_each
from invsync_dagster.inventory.imports.mapping_spool import ROWS_AT_ONCE, MappingSpool
from invsync_dagster.inventory.imports.reading import Source
from invsync_dagster.inventory.imports.refusals import Rejection


def read_mapping(
    file: str,
    source: Source,
    spool: MappingSpool,
    *,
    channels: Collection[str],
    known: Callable[[Collection[str]], Collection[str]],
    contradicted: Callable[[Sequence[MappingRow]], list[Rejection]],
    progress: Callable[[int], None] = lambda _rows: None,
) -> list[Rejection]:
    """Take all rows of `source` into `spool`; returns those that can't go in, by line.

    `channels` are those that exist, `known` finds those of some SKUs that are in the stock, `contradicted` says which rows of
    whole items the stock's listings speak against. `progress` is told the rows read so far. Raises `FileError` where the file
    breaks off.
    """
    rejections: list[Rejection] = []
    read = 0
    for some in chunks(checked_rows(file, source, channels), ROWS_AT_ONCE):
        read += len(some)
        stated = [one for one in some if isinstance(one, MappingRow)]
        there = known({one.central_sku for one in stated})
        spool.add(one for one in stated if one.central_sku in there)
        rejections += [one for one in some if isinstance(one, Rejection)]
        rejections += [not_stocked(file, one) for one in stated if one.central_sku not in there]
        progress(read)
    spool.sort()
    found: list[Rejection] = []
    for part in spool.by_item():
        good, bad = once_each(file, part)
        found += bad + contradicted(good)
    spool.take_out([one.line for one in found])
    return sorted(rejections + found, key=lambda one: one.line)
