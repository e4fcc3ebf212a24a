"""What Alibaba.com shows of its products: the numbers of their SKUs by both generations of calls, and what is listed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invsync_dagster.platforms.alibaba.errors import layers
from invsync_dagster.platforms.contract import ChannelListing, LevelReference
from invsync_dagster.platforms.errors import NotUnderstoodError

_ID = re.compile(r"[1-9][0-9]{0,18}")
MOST_UNITS = 1e15


@dataclass(frozen=True, slots=True)
class ShownSku:
    """One SKU of a product, or (`sku_id` "") the product itself; `quantity` None where it keeps no number."""

    sku_id: str
    code: str
    quantity: int | None


@dataclass(frozen=True, slots=True)
class ShownProduct:
    """A product as a reading shows it."""

    product_id: str
    title: str
    status: str
    skus: tuple[ShownSku, ...]

    def level_of(self, sku: ShownSku) -> LevelReference:
        """Return the level of one of its SKUs; a product without SKUs is its own."""
        return LevelReference(sku.sku_id or self.product_id, self.product_id)


def products_of(answer: Mapping[str, Any]) -> list[ShownProduct]:
    """Return the products of a V2 answer: one under `product_info`, or a list of them. Raises `NotUnderstoodError`."""
    for layer in layers(answer):
        if "product_info" in layer:
            found = layer["product_info"]
            entries = [found] if isinstance(found, Mapping) else unwrapped_list(found)
            return [_product(entry) for entry in entries]
    raise NotUnderstoodError("product_info is missing")


def inventory_of(answer: Mapping[str, Any], product_id: str, warehouse: str) -> ShownProduct:
    """Return a product's numbers in one warehouse from the older call's answer. Raises `NotUnderstoodError`.

    A product without SKUs is told with the SKU id -1.
    """
    for layer in layers(answer):
        if "data_list" in layer:
            rows = [row for row in unwrapped_list(layer["data_list"]) if str(row.get("inventory_code")) == warehouse]
            return ShownProduct(product_id, "", "", tuple(_older(row) for row in rows))
    raise NotUnderstoodError("data_list is missing")


def listings_of(product: ShownProduct) -> Iterator[ChannelListing]:
    """Yield what a product lists: each of its SKUs, or itself."""
    for sku in product.skus:
        problem = "the product is deleted" if product.status == "deleted" else ""
        if not problem and sku.quantity is None:
            problem = "no inventory is kept for it"
        yield ChannelListing(
            level=product.level_of(sku),
            listing_id=product.product_id,
            variant_id=sku.sku_id,
            platform_sku=sku.code,
            title=product.title,
            quantity=None if problem else sku.quantity,
            problem=problem,
        )


def unwrapped_list(value: Any) -> Sequence[Mapping[str, Any]]:
    """Return a list of objects; TOP puts one into an object of its own. Raises `NotUnderstoodError`."""
    if isinstance(value, Mapping) and len(value) == 1:
        (value,) = value.values()
    if value in (None, {}):
        return []
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise NotUnderstoodError("a list of objects is none")
    return value


def identity(entry: Mapping[str, Any], name: str) -> str:
    """Return an id as text; a number is exact however long, one with a fraction is none. Raises `NotUnderstoodError`."""
    value = entry.get(name)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and is_id(text):
        return text
    raise NotUnderstoodError(f"{name} is not an id")


def is_id(text: str) -> bool:
    """Tell whether a text can be an id of Alibaba.com: a whole number of up to 19 digits."""
    return _ID.fullmatch(text) is not None


def units(value: Any) -> int | None:
    """Return a number of pieces, which comes as a number or as text (`"2.0000"`); None where there is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST_UNITS:
        return None
    return math.floor(value)


def _product(entry: Mapping[str, Any]) -> ShownProduct:
    basic, trade = entry.get("basic_info"), entry.get("trade_info")
    if not isinstance(basic, Mapping) or not isinstance(trade, Mapping):
        raise NotUnderstoodError("basic_info or trade_info is missing")
    own_code = _text(basic.get("model_number"))
    skus = tuple(
        ShownSku(identity(sku, "sku_id"), _text(sku.get("sku_code")), units(sku.get("inventory")))
        for sku in unwrapped_list(trade.get("sku_info"))
    )
    return ShownProduct(
        identity(basic, "product_id"),
        _text(basic.get("title")),
        _text(basic.get("status")),
        skus or (ShownSku("", own_code, units(trade.get("inventory"))),),
    )


def _older(row: Mapping[str, Any]) -> ShownSku:
    sku = "" if str(row.get("sku_id")) == "-1" else identity(row, "sku_id")
    return ShownSku(sku, _text(row.get("sku_outer_id")), units(row.get("inventory")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
