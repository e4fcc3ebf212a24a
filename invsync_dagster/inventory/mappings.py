"""Mappings that need a person: listings in review with the reason, order lines and SKUs that no listing names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select, exists, func, select

from invsync_dagster.inventory.tables import central_inventory, order_lines, platform_mapping

ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class MappingCase:
    """One SKU, listing or order line that needs a person; `channel` is "" for a SKU that no channel lists, `sku` for a line."""

    sku: str
    channel: str
    platform_sku: str
    platform_item_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class MappingCases:
    """How many cases there are, and the first of them."""

    unmapped: int
    in_review: int
    unresolved_lines: int
    first: tuple[MappingCase, ...]


_LISTING, _STOCK, _LINE = platform_mapping.c, central_inventory.c, order_lines.c
_LISTED = exists().where(_LISTING.central_sku == _STOCK.sku, _LISTING.status != "retired")
_UNLISTED = (_STOCK.status == "active") & ~_LISTED
_REVIEW = _LISTING.status == "needs_review"
_OPEN_LINE = _LINE.sku.is_(None) & (_LINE.ignored_reason == "")


def mapping_cases(connection: Connection, limit: int) -> MappingCases:
    """Count active SKUs without any listing, listings in review, and order lines that no listing claims."""

    def count(query: Select[int]) -> int:
        return int(connection.execute(query).scalar_one())

    return MappingCases(
        unmapped=count(select(func.count()).select_from(central_inventory).where(_UNLISTED)),
        in_review=count(select(func.count()).select_from(platform_mapping).where(_REVIEW)),
        unresolved_lines=count(select(func.count()).select_from(order_lines).where(_OPEN_LINE)),
        first=tuple(islice(each_mapping_case(connection, limit), limit)),
    )


def each_mapping_case(connection: Connection, limit: int | None = None) -> Iterator[MappingCase]:
    """Yield the cases: listings in review, order lines without a listing, SKUs without one; of each kind at most `limit`."""
    in_review = (
        select(
            _LISTING.central_sku,
            _LISTING.platform_name,
            _LISTING.platform_sku,
            _LISTING.platform_item_id,
            _LISTING.status_reason,
        )
        .where(_REVIEW)
        .order_by(_LISTING.platform_name, _LISTING.central_sku)
    )
    lines = (
        select(_LINE.channel, _LINE.platform_sku, _LINE.item_id, _LINE.order_id, _LINE.line_id)
        .where(_OPEN_LINE)
        .order_by(_LINE.channel, _LINE.platform_sku, _LINE.order_id, _LINE.line_id)
    )
    skus = select(_STOCK.sku).where(_UNLISTED).order_by(_STOCK.sku)
    for row in _rows(connection, in_review, limit):
        yield MappingCase(*row)
    for channel, platform_sku, item_id, order_id, line_id in _rows(connection, lines, limit):
        yield MappingCase("", channel, platform_sku, item_id, f"order {order_id} line {line_id} belongs to no listing")
    for (sku,) in _rows(connection, skus, limit):
        yield MappingCase(sku, "", "", "", "active, but no channel lists it")


def _rows(connection: Connection, query: Select[Any], limit: int | None) -> Iterable[Any]:
    return connection.execute(query.limit(limit).execution_options(yield_per=ROWS_AT_ONCE))
