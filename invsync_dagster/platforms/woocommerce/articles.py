"""One article in a write or a reading: whether it can be asked for, and what its answer says of its number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.contract import LevelReference, Outcome, Reading, Result
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.platforms.fields import identity
from invsync_dagster.platforms.rows import review
from invsync_dagster.platforms.woocommerce.orders import whole_units

ID = re.compile(r"[1-9][0-9]{0,18}")
# The code of an article without stock management.
UNMANAGED = "unmanaged"


def well_formed(level: LevelReference) -> bool:
    """Tell whether the ids can be those of a product, or of a variation and its product."""
    return bool(ID.fullmatch(level.item_id)) and (not level.location_id or bool(ID.fullmatch(level.location_id)))


def ill_formed(level: LevelReference) -> str:
    """Return what is wrong with the ids, "" if nothing is."""
    return "" if well_formed(level) else "the level's ids are not those of a WooCommerce product or variation"


def unmanaged(entry: Mapping[str, Any]) -> Outcome | None:
    """Return why an article keeps no number of its own, None if it does."""
    managed = entry.get("manage_stock")
    if managed is True:
        return None
    if managed == "parent":
        return review(
            "stock_on_product", "the stock of this variation is kept on its product: map it to the product's id"
        )
    if managed is False:
        return review(UNMANAGED, "stock management is switched off for this article (Track stock quantity)")
    return Outcome(Result.UNKNOWN, Recovery.SETTLE, "not_confirmed", "the answer doesn't say whether stock is managed")


def reading_of(entry: Mapping[str, Any]) -> Reading:
    """Return the reading of a product or variation; its number may be negative (back-orders, a shop that oversold)."""
    parent = identity(entry, "parent_id") if entry.get("parent_id") else ""
    level = LevelReference(identity(entry, "id"), parent)
    sku = entry.get("sku")
    # What is sold by a variable product's number are its variations, which have names of their own.
    platform_sku = sku if isinstance(sku, str) and entry.get("type") != "variable" else ""
    if (problem := unmanaged(entry)) is not None:
        return Reading(level, None, problem, "", platform_sku)
    value = entry.get("stock_quantity")
    # Managed without a number is out of stock to WooCommerce, as 0 is.
    quantity = 0 if value is None else whole_units(value)
    if quantity is None:
        # For a person: it stands alone, so that what was read beside it counts.
        words = f"the store shows no number for it, but {str(value)[:40]!r}: set the right one there"
        return Reading(level, None, review("no_number", words), "", platform_sku)
    return Reading(level, quantity, None, "", platform_sku)


def is_unmanaged(reading: Reading) -> bool:
    """Tell whether a reading says that the article has no stock management."""
    return reading.problem is not None and reading.problem.code == UNMANAGED


def not_found(level: LevelReference) -> Reading:
    """Return the reading of a level that the store does not list."""
    if not well_formed(level):
        words = "the level's ids are not those of a WooCommerce product or variation"
        return Reading(level, None, review("invalid_id", words))
    what = (
        f"variation under product {level.location_id}"
        if level.location_id
        else "product (a variation needs its product)"
    )
    return Reading(level, None, review("not_found", f"the store has no such {what}"))
