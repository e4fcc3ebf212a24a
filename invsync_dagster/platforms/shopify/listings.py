"""What a shop lists, for mapping: each variant at each location that stocks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.contract import ChannelListing, LevelReference
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import mapping, text
from invsync_dagster.platforms.shopify.orders import nodes

UNTRACKED = "its quantity is not tracked (Track quantity)"
UNSTOCKED = "it is stocked at no location"


def listings_of(variant: Mapping[str, Any]) -> list[ChannelListing]:
    """Return the listings of a ProductVariant as the query `Listings` selects it. Raises `NotUnderstoodError`."""
    item = mapping(variant, "inventoryItem")
    problem = "" if item.get("tracked") is True else UNTRACKED
    levels: list[tuple[str, int | None]] = [
        (text(mapping(node, "location"), "id"), _quantity(node)) for node in nodes(item, "inventoryLevels")
    ]
    levels = levels or [("", None)]
    return [
        ChannelListing(
            level=LevelReference(text(item, "id"), location),
            listing_id=text(mapping(variant, "product"), "id"),
            variant_id=text(variant, "id"),
            platform_sku=variant.get("sku") or "",
            title=text(variant, "displayName"),
            quantity=None if problem else quantity,
            problem=problem or ("" if location else UNSTOCKED),
        )
        for location, quantity in levels
    ]


def _quantity(level: Mapping[str, Any]) -> int:
    quantities = level.get("quantities")
    if not isinstance(quantities, list) or len(quantities) != 1 or type(quantities[0].get("quantity")) is not int:
        raise NotUnderstoodError("an inventory level has not one whole available quantity")
    return int(quantities[0]["quantity"])
