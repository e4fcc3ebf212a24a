"""What is one row to Amazon: the SKU that it may name, and the patch that sets its quantity and keeps the rest."""

from __future__ import annotations

import re
from typing import Any

from invsync_dagster.platforms.amazon.listings import SELLER
from invsync_dagster.platforms.contract import LevelReference, Outcome, Reading, WriteRow
from invsync_dagster.platforms.rows import refused_unsent, review

# What a SKU may be: up to 40 characters (Amazon's listing templates), none of them a control character.
_SKU = re.compile(r"[^\x00-\x1f\x7f]{1,40}")
# A URL's path takes these for "here" and "above", however they are encoded.
DOTS = frozenset({".", ".."})
_NO_SKU = "the level's id is not a seller SKU of up to 40 characters"


def patch_of(product_type: str, quantity: int) -> dict[str, Any]:
    """Return the patch that sets the quantity of the seller's own channel.

    `replace` would wipe lead time, restock date and other fulfilment channels; `merge` keeps them.
    """
    value = {"fulfillment_channel_code": SELLER, "quantity": quantity}
    patch = {"op": "merge", "path": "/attributes/fulfillment_availability", "value": [value]}
    return {"productType": product_type, "patches": [patch]}


def is_sku(level: LevelReference) -> bool:
    """Tell whether a level's id can be a seller SKU."""
    sku = level.item_id
    return not level.location_id and _SKU.fullmatch(sku) is not None and sku not in DOTS and sku == sku.strip()


def refusal_of(row: WriteRow) -> Outcome | None:
    """Return why a row can't be sent, None if it can."""
    return refused_unsent(row, 1, "" if is_sku(row.level) else _NO_SKU)


def not_found(level: LevelReference) -> Reading:
    """Return the reading of a SKU that the seller doesn't have."""
    if not is_sku(level):
        return Reading(level, None, review("invalid_id", _NO_SKU))
    return Reading(level, None, review("not_found", "the seller has no such SKU in these marketplaces"))
