"""The kinds of inventory files that aren't ours: how a header is recognised, and what each kind's quantities mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape

from invsync_dagster import columns
from invsync_dagster.inventory.counts import Basis
from invsync_dagster.inventory.imports import woocommerce_names
from invsync_dagster.inventory.imports.locations import has_location_columns
from invsync_dagster.inventory.imports.refusals import CellError
from invsync_dagster.settings import ImportSource

Cells = Mapping[str, str]
Fields = dict[str, str]

HANDLE = re.compile(r"[a-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that rightly states nothing, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file.

    `columns`: for each of our fields the names that its column may have. A header is of the kind if it has a column for
    each of `required`, one of `marks` where there are any, and the `form` where one is asked for. `translate` makes of a
    row's fields those of an inventory file, given the declared basis, or says why it states nothing, or can't go in. Files
    with `parts` have a row for each `location` of a SKU.

    `basis`, `lag_seconds`, `decimal_mark`, `encodings`: what holds where the file's declaration says nothing else;
    `contains` None: the orders of the one channel of `platform`. `negative`: oversold units are written below 0.
    `unquoted`: quotes in its tab-separated text are inches, nothing else. `mend`: what to do about a header that lacks a
    column of the kind.
    """

    name: str
    title: str
    columns: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    marks: tuple[str, ...] = ()
    form: Callable[[Sequence[str]], bool] | None = None
    translate: Callable[[Cells, str], Fields | LeftOut | CellError] | None = None
    basis: Basis = "available"
    platform: str = ""
    contains: tuple[str, ...] | None = None
    lag_seconds: float = 0.0
    decimal_mark: str = ""
    encodings: tuple[str, ...] = ()
    negative: bool = False
    unquoted: bool = False
    parts: bool = False
    mend: str = "export it again with all its columns, or name those it has in channels.yaml, under settings.imports"

    def fields_of(self, header: list[str]) -> dict[str, int]:
        """The position of each field in a header of normalised names; a field without a column is left out."""
        return {field: places[0] for field, places in self._places(header).items()}

    def doubled(self, header: list[str]) -> tuple[str, str] | None:
        """Two columns of a header, by name, that both say what one field is; None where each has one column at most."""
        for places in self._places(header).values():
            if len(places) > 1:
                return header[places[0]], header[places[1]]
        return None

    def _places(self, header: list[str]) -> dict[str, list[int]]:
        places = {
            field: [position for position, name in enumerate(header) if name in names]
            for field, names in self.columns.items()
        }
        return {field: found for field, found in places.items() if found}

    def fits(self, header: list[str]) -> bool:
        found = self.fields_of(header)
        if any(one not in found for one in self.required) or (self.form and not self.form(header)):
            return False
        return not self.marks or any(one in found for one in self.marks)

    def looked_for(self) -> str:
        """The columns that the kind is known by, in words."""
        return f"{self.title} ({self.name}): {', '.join(self.missing([]))}"

    def missing(self, header: list[str]) -> list[str]:
        """The columns that the kind is known by and the header hasn't, in words."""
        found = self.fields_of(header)
        missing = [self._shown(one) for one in self.required if one not in found]
        if self.marks and not any(one in found for one in self.marks):
            missing.append(" or ".join(self._shown(one) for one in self.marks))
        return missing

    def _shown(self, field: str) -> str:
        return f"'{self.columns[field][0].replace('_', ' ')}'"


def _shopify_inventory(cells: Cells, basis: str) -> Fields | LeftOut | CellError:
    on_hand, available = cells.get("on_hand", ""), cells.get("available", "")
    quantity = on_hand if basis == "on_hand" else available
    typed = cells.get("typed", "").strip()
    # Shopify leaves this column empty, and takes from it what a person typed: until then the shop has another number.
    if cells["sku"] and typed and typed.lower() != on_hand.strip().lower():
        reason = f"'{typed}' is typed where the shop has '{on_hand.strip()}', and no count until the shop has taken it"
        mend = "import the file at Shopify, and give what it exports then; or empty the cell: what the shop has goes in"
        return CellError("typed", typed, reason, mend)
    if "not stocked" in (on_hand.strip().lower(), available.strip().lower()):
        return LeftOut("not stocked at the location")
    if not cells["sku"]:
        return LeftOut("without a SKU in the shop")
    return {"sku": cells["sku"], "product_name": cells.get("title", ""), "quantity": quantity}


def _shopify_products(cells: Cells, _basis: str) -> Fields | LeftOut:
    if not cells["sku"] and not cells["quantity"]:
        return LeftOut("further picture of a product, or a variant without SKU")
    tracker = cells["tracker"].strip().lower()
    if not tracker:
        return LeftOut("stock is not tracked by the shop")
    if tracker != "shopify":
        # Whoever else keeps the number is named by a handle, as `amazon_marketplace_web`; the units are with them.
        return LeftOut(
            f"stock is kept by {tracker if HANDLE.fullmatch(tracker) else 'another service'}, not by the shop"
        )
    return {
        "sku": cells["sku"].removeprefix("'"),
        "product_name": cells.get("title", ""),
        "quantity": cells["quantity"],
    }


def _amazon(cells: Cells, _basis: str) -> Fields | LeftOut:
    if columns.kept_by_amazon(cells.get("fulfilment", "")):
        return LeftOut("stock is kept by Amazon (FBA)")
    return {"sku": cells["sku"], "product_name": cells.get("title", ""), "quantity": cells["quantity"]}


def _unescaped(text: str) -> str:
    """The text behind the apostrophe that WooCommerce's exporter puts before = + - @, against formulas."""
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@") else text


def _woocommerce(cells: Cells, _basis: str) -> Fields | LeftOut:
    stock = _unescaped(cells["quantity"]).strip()
    if stock == "parent":
        return LeftOut("variation whose stock is kept by its product")
    if not stock:
        return LeftOut("stock is not managed by the shop")
    # Names are stored as HTML; a SKU is stored as it was typed.
    name = unescape(_unescaped(cells.get("title", "")))
    return {"sku": _unescaped(cells["sku"]), "product_name": name, "quantity": stock}


# Column names: Shopify, "Exporting or importing inventory with a CSV file" and "Using CSV files to import and export
# products"; the names with "(current)" and "(not editable)" and those without "Variant" are the newer ones.
# What a shop can still sell is counted: an open order of that shop is already off it (DESIGN 3).
SHOPIFY_INVENTORY = Kind(
    name="shopify_inventory",
    title="Shopify's inventory export",
    columns={
        "handle": ("handle", "url_handle"),
        "sku": ("sku",),
        "location": ("location",),
        "title": ("title",),
        "available": ("available_(not_editable)", "available"),
        "on_hand": ("on_hand_(current)", "on_hand"),
        "typed": ("on_hand_(new)",),
    },
    required=("handle", "sku", "location"),
    marks=("available", "on_hand"),
    translate=_shopify_inventory,
    platform="shopify",
    negative=True,
    parts=True,
)
# The form of before: it is read by `locations.by_location` as the newer one, in which "Location" is a column.
SHOPIFY_BY_LOCATION = Kind(
    name=SHOPIFY_INVENTORY.name,
    title=SHOPIFY_INVENTORY.title,
    columns={"handle": ("handle",), "title": ("title",), "sku": ("sku",), "origin": ("coo",)},
    required=("handle", "title", "sku", "origin"),
    form=has_location_columns,
    platform="shopify",
    negative=True,
    parts=True,
)
SHOPIFY_PRODUCTS = Kind(
    name="shopify_products",
    title="Shopify's product export",
    columns={
        "handle": ("handle", "url_handle"),
        "sku": ("variant_sku", "sku"),
        "quantity": ("variant_inventory_qty", "inventory_quantity"),
        "tracker": ("variant_inventory_tracker", "inventory_tracker"),
        "title": ("title",),
    },
    required=("handle", "sku", "quantity", "tracker"),
    translate=_shopify_products,
    platform="shopify",
    negative=True,
    mend="use Shopify's inventory export (Products > Inventory > Export): the product export of a shop with several"
    " locations has no quantities",
)
AMAZON_LISTINGS = Kind(
    name="amazon_listings",
    title="Amazon's all-listings report",
    columns=columns.AMAZON_LISTINGS,
    required=("sku", "quantity"),
    marks=("fulfilment", "listing"),
    translate=_amazon,
    platform="amazon",
    encodings=columns.AMAZON_ENCODINGS,
    unquoted=True,
)
# WC_Product_CSV_Exporter: Stock is "parent" where a variation's product keeps it (empty in WooCommerce 10.5), and empty where
# it isn't managed.
WOOCOMMERCE_PRODUCTS = Kind(
    name="woocommerce_products",
    title="WooCommerce's product export",
    columns=woocommerce_names.COLUMNS,
    required=("id", "type", "sku", "quantity", "in_stock"),
    translate=_woocommerce,
    platform="woocommerce",
    negative=True,
    mend="export all columns in a language that is known (docs/imports.md), as English, or name those it has in"
    " channels.yaml, under settings.imports",
)
EXPORTS = (SHOPIFY_BY_LOCATION, SHOPIFY_INVENTORY, SHOPIFY_PRODUCTS, AMAZON_LISTINGS, WOOCOMMERCE_PRODUCTS)


def kinds(sources: Mapping[str, ImportSource]) -> tuple[Kind, ...]:
    """The exports of the platforms, and the files whose columns channels.yaml names."""
    return EXPORTS + tuple(_declared(name, source) for name, source in sources.items())


def _declared(name: str, source: ImportSource) -> Kind:
    return Kind(
        name=name,
        title=f"file '{name}' of channels.yaml",
        columns={field: (columns.column_name(column),) for field, column in source.columns.items()},
        required=tuple(source.columns),
        basis=source.basis,
        contains=source.contains,
        lag_seconds=source.lag_seconds,
        decimal_mark=source.decimal_mark,
        encodings=(source.encoding,) if source.encoding else (),
    )
