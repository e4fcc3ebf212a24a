"""What an eBay account lists, for mapping: each item of the Inventory API with the offer that sells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from invsync_dagster.platforms.contract import ChannelListing, LevelReference
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import text


def listing_of(item: Mapping[str, Any], offers: Sequence[Mapping[str, Any]]) -> ChannelListing:
    """Return the listing of an item with its offers. Raises `NotUnderstoodError`.

    One SKU has at most an auction and a fixed-price offer (getOffers). The level names the fixed-price offer only where it
    keeps a quantity of its own: that overrides the item's, so both are written.
    """
    sku = text(item, "sku")
    fixed = fixed_price(offers)
    product = item.get("product")
    title = product.get("title") if isinstance(product, Mapping) else ""
    problem = ""
    if fixed is None:
        published = any(is_published(offer) for offer in offers)
        problem = "it is only auctioned, one piece at a time" if published else "it has no published offer"
    own = fixed is not None and offered(fixed) is not None
    quantity = item_quantity(item)
    return ChannelListing(
        level=LevelReference(sku, text(fixed, "offerId") if fixed is not None and own else ""),
        listing_id=_listing_id(fixed) or sku,
        platform_sku=sku,
        title=title if isinstance(title, str) else "",
        quantity=None if problem else offered(fixed) if fixed is not None and own else quantity,
        problem=problem,
    )


def fixed_price(offers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the offer of a SKU that sells at a fixed price and that buyers see, None if there is none."""
    return next((offer for offer in offers if offer.get("format") == "FIXED_PRICE" and is_published(offer)), None)


def is_published(offer: Mapping[str, Any]) -> bool:
    """Tell whether buyers see an offer."""
    return offer.get("status") == "PUBLISHED"


def offered(offer: Mapping[str, Any]) -> int | None:
    """Return the quantity that an offer keeps for itself, None if it shows its item's. Raises `NotUnderstoodError`."""
    value = offer.get("availableQuantity")
    if value is not None and type(value) is not int:
        raise NotUnderstoodError("availableQuantity is not a number")
    return value


def item_quantity(item: Mapping[str, Any]) -> int:
    """Return an item's quantity; one that was never given any has none in stock. Raises `NotUnderstoodError`."""
    availability = item.get("availability") or {}
    place = availability.get("shipToLocationAvailability") or {} if isinstance(availability, Mapping) else None
    value = place.get("quantity", 0) if isinstance(place, Mapping) else None
    if type(value) is not int:
        raise NotUnderstoodError("quantity is not a number")
    return value


def _listing_id(offer: Mapping[str, Any] | None) -> str:
    listing = offer.get("listing") if offer is not None else None
    value = listing.get("listingId") if isinstance(listing, Mapping) else None
    return value if isinstance(value, str) else ""
