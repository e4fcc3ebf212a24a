"""What a store lists, for mapping: every product and variation with the level that holds its stock."""

from __future__ import annotations

from collections.abc import Mapping
from html import unescape
from typing import Any

from invsync_dagster.platforms.contract import MAX_QUANTITY, ChannelListing, LevelReference
from invsync_dagster.platforms.fields import identity
from invsync_dagster.platforms.woocommerce.orders import whole_units

_NO_STOCK_OF_ITS_OWN = {
    "variable": "its variations are what is sold: each keeps its own stock",
    "grouped": "a grouped product: the products in it keep the stock",
    "external": "an external product: it is sold elsewhere",
}


def listing_of(entry: Mapping[str, Any]) -> ChannelListing:
    """Return the listing of a product or variation as the REST API shows it. Raises `NotUnderstoodError`."""
    number = identity(entry, "id")
    parent = identity(entry, "parent_id") if entry.get("parent_id") else ""
    managed = entry.get("manage_stock")
    on_product = bool(parent) and managed == "parent"
    problem = ""
    if managed is not True and not on_product:
        problem = _NO_STOCK_OF_ITS_OWN.get(
            str(entry.get("type")), "stock management is switched off for it (Track stock quantity)"
        )
    quantity = whole_units(entry.get("stock_quantity"))
    if not problem and quantity is not None and abs(quantity) > MAX_QUANTITY:
        problem = "it shows more pieces than can be: set the right number there"
    return ChannelListing(
        level=LevelReference(parent) if on_product else LevelReference(number, parent),
        listing_id=parent or number,
        variant_id=number if parent else "",
        platform_sku=_text(entry.get("sku")),
        # Names are stored as HTML; a SKU is stored as it was typed.
        title=unescape(_text(entry.get("name"))),
        quantity=None if problem else quantity,
        problem=problem,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
