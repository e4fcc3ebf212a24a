"""Mappings that need a person: SKUs that no channel lists, and listings in review with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Select, exists, func, select

from invsync_dagster.inventory.tables import central_inventory, order_lines, platform_mapping


@dataclass(frozen=True, slots=True)
class MappingCase:
    """One SKU or listing that needs a person; `channel` is "" for a SKU that no channel lists."""

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


def mapping_cases(connection: Connection, limit: int) -> MappingCases:
    """Count active SKUs without any listing, listings in review, and order lines that no listing claims."""
    listing, stock = platform_mapping.c, central_inventory.c
    listed = exists().where(listing.central_sku == stock.sku, listing.status != "retired")
    unlisted = (stock.status == "active") & ~listed
    review = listing.status == "needs_review"
    open_line = order_lines.c.sku.is_(None) & (order_lines.c.ignored_reason == "")
    in_review = (
        select(
            listing.central_sku,
            listing.platform_name,
            listing.platform_sku,
            listing.platform_item_id,
            listing.status_reason,
        )
        .where(review)
        .order_by(listing.platform_name, listing.central_sku)
        .limit(limit)
    )
    first = [MappingCase(*row) for row in connection.execute(in_review)]
    skus = connection.execute(select(stock.sku).where(unlisted).order_by(stock.sku).limit(limit - len(first))).scalars()
    first += [MappingCase(sku, "", "", "", "active, but no channel lists it") for sku in skus]

    def count(query: Select[int]) -> int:
        return int(connection.execute(query).scalar_one())

    return MappingCases(
        unmapped=count(select(func.count()).select_from(central_inventory).where(unlisted)),
        in_review=count(select(func.count()).select_from(platform_mapping).where(review)),
        unresolved_lines=count(select(func.count()).select_from(order_lines).where(open_line)),
        first=tuple(first),
    )
