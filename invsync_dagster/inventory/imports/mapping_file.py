"""The rows of a mapping file (`central_sku, channel, …, rules`), checked one by one and against each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from invsync_dagster.inventory.imports import fields
from invsync_dagster.inventory.imports.reading import Row, Source
from invsync_dagster.inventory.imports.refusals import CellError, Rejection
from invsync_dagster.inventory.listings import ListingKey, Status, listing_key

STATUSES: tuple[Status, ...] = ("active", "paused", "excluded", "retired")

Level = tuple[str, str, str]  # channel, item id, location id
Item = tuple[str, str, str]  # channel, item id, central SKU: what may be at several locations


class MappingRow(NamedTuple):
    """What one row states of a listing; rules of None: the channel's hold. `status` None: what is known stays."""

    line: int
    central_sku: str
    channel: str
    platform_sku: str
    item_id: str
    location_id: str
    variant_id: str
    status: Status | None
    buffer: int | None
    percent: int | None
    minimum: int | None
    maximum: int | None
    dead_band: int | None

    @property
    def level(self) -> Level:
        return (self.channel, self.item_id, self.location_id)

    @property
    def item(self) -> Item:
        return (self.channel, self.item_id, self.central_sku)

    @property
    def key(self) -> ListingKey:
        return listing_key(*self.level, self.platform_sku, self.variant_id)


def checked_rows(file: str, source: Source, channels: Collection[str]) -> Iterator[MappingRow | Rejection]:
    """Yield each row of `source` as it is stated, or why it can't go in; `channels` are those that exist.

    Raises `FileError` where the file breaks off.
    """
    for row in source.rows:
        if isinstance(row, Rejection):
            yield row
            continue
        try:
            yield _mapping_row(row, channels)
        except CellError as error:
            yield error.rejection(file, row.line)


def not_stocked(file: str, row: MappingRow) -> Rejection:
    """The rejection of a row whose SKU the stock doesn't have."""
    reason, mend = "the SKU isn't in the stock", "import its inventory first; SKUs compare exactly"
    return Rejection(file, row.line, "central_sku", row.central_sku, reason, mend)


def once_each(file: str, rows: list[MappingRow]) -> tuple[list[MappingRow], list[Rejection]]:
    """Part off what contradicts itself among the rows of whole levels: two rows for one listing go in once where they say the
    same, and two SKUs on one level don't go in at all."""
    if len({one.level for one in rows}) == len(rows):  # nearly always
        return rows, []
    by_level: dict[Level, list[MappingRow]] = {}
    for one in rows:
        by_level.setdefault(one.level, []).append(one)
    good: list[MappingRow] = []
    bad: list[Rejection] = []
    for together in by_level.values():
        if len(together) == 1:
            good += together
            continue
        some, others = _of_one_level(file, together)
        good += some
        bad += others
    return good, bad


def _mapping_row(row: Row, channels: Collection[str]) -> MappingRow:
    cells = row.cells
    sku = fields.identity(cells, "central_sku")
    channel = fields.identity(cells, "channel")
    if channel not in channels:
        there = f"use {', '.join(sorted(channels))}, or " if channels else ""
        mend = f"{there}bring it in from channels.yaml: `invsync channels sync`"
        raise CellError("channel", channel, f"unknown channel '{channel}'", mend)
    return MappingRow(
        line=row.line,
        central_sku=sku,
        channel=channel,
        platform_sku=fields.identity(cells, "platform_sku", required=False),
        item_id=fields.identity(cells, "platform_item_id"),
        location_id=fields.identity(cells, "platform_location_id", required=False),
        variant_id=fields.identity(cells, "platform_variant_id", required=False),
        status=fields.choice(cells, "status", STATUSES),
        buffer=fields.units(cells, "buffer"),
        percent=fields.units(cells, "percent", most=100),
        minimum=fields.units(cells, "minimum"),
        maximum=fields.units(cells, "maximum"),
        dead_band=fields.units(cells, "dead_band"),
    )


def _of_one_level(file: str, rows: list[MappingRow]) -> tuple[list[MappingRow], list[Rejection]]:
    if len({row.central_sku for row in rows if row.status != "retired"}) > 1:
        lines = ", ".join(str(row.line) for row in rows)
        return [], [two_skus(file, row, f"lines {lines}: none goes in") for row in rows]
    good: list[MappingRow] = []
    bad: list[Rejection] = []
    by_key: dict[ListingKey, list[MappingRow]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    for same in by_key.values():
        first = same[0]
        if all(row._replace(line=first.line) == first for row in same):
            good.append(first)
            bad += [
                _twice(file, row, f"the listing is already on line {first.line}, the same", "take the row out")
                for row in same[1:]
            ]
        else:
            lines = ", ".join(str(row.line) for row in same)
            reason = f"the listing is there with different values (lines {lines}): none goes in"
            bad += [_twice(file, row, reason, "keep the right one of them") for row in same]
    return good, bad


def two_skus(file: str, row: MappingRow, where: str) -> Rejection:
    """The rejection of a row whose level has another SKU elsewhere."""
    mend = "a level holds one number, so give it one SKU"
    return Rejection(file, row.line, "central_sku", row.central_sku, f"one level is mapped to two SKUs ({where})", mend)


def shown_twice(file: str, row: MappingRow, shares: Mapping[Level, int]) -> Rejection:
    """The rejection of a row whose item would show more than its stock at `shares` (percent of it) of its locations."""
    parts = " and ".join(f"{share} % at {location}" for (_, _, location), share in sorted(shares.items()))
    reason = f"the channel adds its locations up, and this item would show {parts}: more than there is"
    mend = "give each of its locations a percent, together at most 100, or retire all but one"
    return Rejection(file, row.line, "platform_location_id", row.location_id, reason, mend)


def _twice(file: str, row: MappingRow, reason: str, mend: str) -> Rejection:
    return Rejection(file, row.line, "platform_item_id", row.item_id, reason, mend)
