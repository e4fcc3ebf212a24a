"""What a listings item says of its stock: the seller's own number, or that Amazon keeps it (FBA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.contract import KEPT_BY_PLATFORM, ChannelListing, LevelReference, Reading
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import objects, text
from invsync_dagster.platforms.rows import review

# `fulfillment_channel_code` of stock that the seller ships; Amazon's own are AMAZON_NA, AMAZON_EU and so on.
SELLER = "DEFAULT"
_AMAZON = "AMAZON_"
_WORDS = {
    KEPT_BY_PLATFORM: "Amazon fulfils it and keeps its stock (FBA): a quantity of ours would make it the seller's to ship",
    "unmanaged": "it has no stock of the seller's own (fulfilment channel DEFAULT)",
    "elsewhere": "it isn't offered in the channel's first marketplace, through which quantities are written",
}


def stock_of(item: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return the number that an item shows, or why there is none: `KEPT_BY_PLATFORM` or "unmanaged".

    Raises `NotUnderstoodError`.
    """
    quantity, managed = None, False
    for entry in objects(item, "fulfillmentAvailability", optional=True):
        code = text(entry, "fulfillmentChannelCode")
        if code.startswith(_AMAZON):
            return None, KEPT_BY_PLATFORM
        if code == SELLER:
            managed = True
            quantity = entry.get("quantity", 0)
    if not managed:
        return None, "unmanaged"
    if type(quantity) is not int or quantity < 0:
        raise NotUnderstoodError("quantity is not a whole number from 0 up")
    return quantity, ""


def reading_of(item: Mapping[str, Any], marketplace: str) -> Reading:
    """Return the reading of an item whose stock is written through `marketplace`. Raises `NotUnderstoodError`."""
    sku = text(item, "sku")
    quantity, problem = _stock_through(item, marketplace)
    outcome = review(problem, _WORDS[problem] + _left_over(item, problem)) if problem else None
    return Reading(LevelReference(sku), quantity, outcome, platform_sku=sku)


def _left_over(item: Mapping[str, Any], problem: str) -> str:
    """Name the seller's number beside stock that Amazon keeps: a patch set it after the SKU was converted to FBA."""
    if problem != KEPT_BY_PLATFORM:
        return ""
    entries = objects(item, "fulfillmentAvailability", optional=True)
    units = [entry.get("quantity") for entry in entries if entry.get("fulfillmentChannelCode") == SELLER]
    return "".join(
        f"; {count} of the seller's own are shown beside it: take them off there" for count in units if count
    )


def listing_of(item: Mapping[str, Any], marketplace: str) -> ChannelListing:
    """Return the listing of an item whose stock is written through `marketplace`. Raises `NotUnderstoodError`."""
    sku = text(item, "sku")
    quantity, problem = _stock_through(item, marketplace)
    summaries = objects(item, "summaries", optional=True)
    asin = next((each["asin"] for each in summaries if isinstance(each.get("asin"), str)), sku)
    title = next((each["itemName"] for each in summaries if isinstance(each.get("itemName"), str)), "")
    return ChannelListing(LevelReference(sku), asin, "", sku, title, quantity, _WORDS[problem] if problem else "")


def _stock_through(item: Mapping[str, Any], marketplace: str) -> tuple[int | None, str]:
    quantity, problem = stock_of(item)
    offered = [summary.get("marketplaceId") for summary in objects(item, "summaries", optional=True)]
    if not problem and offered and marketplace not in offered:
        return None, "elsewhere"
    return quantity, problem
