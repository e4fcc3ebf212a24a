"""The sample catalogue as the demo reads it: articles and listings, and what the shops show of them at the start.

Read here with nothing of the import code, because the comparison at the end must not lean on the code that it judges.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Of a hundred listings, so many show another number than the rules ask for when the demo begins: its preview has them.
DIFFERENT_PERCENT = 6


@dataclass(frozen=True, slots=True)
class Article:
    """One SKU as inventory.csv has it."""

    sku: str
    name: str
    quantity: int
    reserved: int
    active: bool


@dataclass(frozen=True, slots=True)
class ShownBy:
    """The rules of a channel or listing, as the files state them; None: none is stated."""

    buffer: int | None = None
    percent: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    dead_band: int | None = None

    def over(self, other: ShownBy) -> ShownBy:
        """Return these rules, those of `other` where none is stated."""
        return ShownBy(
            other.buffer if self.buffer is None else self.buffer,
            other.percent if self.percent is None else self.percent,
            other.minimum if self.minimum is None else self.minimum,
            other.maximum if self.maximum is None else self.maximum,
            other.dead_band if self.dead_band is None else self.dead_band,
        )

    def of(self, available: int) -> int:
        """Return what is to be shown of `available` units: buffer, then percent, then the maximum, then the minimum."""
        shown = max(0, available)
        shown = max(0, shown - (self.buffer or 0))
        if self.percent is not None:
            shown = shown * self.percent // 100
        if self.maximum is not None:
            shown = min(shown, self.maximum)
        return shown if shown >= (self.minimum or 0) else 0


@dataclass(frozen=True, slots=True)
class Listing:
    """One row of mapping.csv."""

    shop: str
    sku: str
    shop_sku: str
    item_id: str
    location_id: str
    variant_id: str
    active: bool
    rules: ShownBy


@dataclass(frozen=True)
class Catalogue:
    """The articles by SKU, and all listings."""

    articles: Mapping[str, Article]
    listings: tuple[Listing, ...]

    def of_shop(self, shop: str) -> Iterator[Listing]:
        """Return the listings of one shop."""
        return (listing for listing in self.listings if listing.shop == shop)


def read_catalogue(folder: Path) -> Catalogue:
    """Read inventory.csv and mapping.csv of `folder`. Raises `OSError`."""
    articles = {
        row["sku"]: Article(
            row["sku"],
            row["product_name"],
            int(row["quantity"]),
            int(row["reserved_quantity"] or 0),
            row["status"] != "inactive",
        )
        for row in _rows(folder / "inventory.csv")
    }
    listings = tuple(
        Listing(
            shop=row["channel"],
            sku=row["central_sku"],
            shop_sku=row["platform_sku"],
            item_id=row["platform_item_id"],
            location_id=row["platform_location_id"],
            variant_id=row["platform_variant_id"],
            active=row["status"] in ("", "active"),
            rules=ShownBy(*(_number(row[name]) for name in ("buffer", "percent", "minimum", "maximum", "dead_band"))),
        )
        for row in _rows(folder / "mapping.csv")
    )
    return Catalogue(articles, listings)


def write_shops(catalogue: Catalogue, sample: Path, target: Path, rules: Mapping[str, ShownBy]) -> None:
    """Write the catalogue that the stand-ins start with: the sample's, and in `shown` what each listing shows at first.

    A shop that was kept by hand until today shows nearly what it should, and of some articles something else.
    """
    target.mkdir(parents=True, exist_ok=True)
    (target / "inventory.csv").write_bytes((sample / "inventory.csv").read_bytes())
    shown = {(one.shop, one.item_id, one.location_id): _at_first(catalogue, one, rules) for one in catalogue.listings}
    rows = list(_rows(sample / "mapping.csv"))
    with (target / "mapping.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "shown"])
        writer.writeheader()
        for row in rows:
            key = (row["channel"], row["platform_item_id"], row["platform_location_id"])
            writer.writerow({**row, "shown": shown[key]})


def _at_first(catalogue: Catalogue, listing: Listing, rules: Mapping[str, ShownBy]) -> int:
    article = catalogue.articles[listing.sku]
    available = article.quantity - article.reserved if article.active else 0
    should = listing.rules.over(rules.get(listing.shop, ShownBy())).of(available)
    digest = hashlib.sha256(f"{listing.shop}/{listing.item_id}".encode()).digest()
    if digest[0] % 100 >= DIFFERENT_PERCENT:
        return should
    return max(0, should + digest[1] % 9 - 4) if digest[2] % 4 else article.quantity + digest[3] % 20


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream)


def _number(text: str) -> int | None:
    return int(text) if text else None
