"""From a platform's names of an article to the listing that offers it, many at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Column, Connection, Row, Select, bindparam, select

from invsync_dagster.events import LineReference
from invsync_dagster.inventory.bulk import among, as_parameter
from invsync_dagster.inventory.tables import platform_mapping

# Of several listings that fit, those that are offered count first; a retired one still explains a late order.
_RANKS = {"active": 0, "paused": 0, "needs_review": 0, "excluded": 1, "retired": 2}


class Target(NamedTuple):
    """What a reference means: the SKU, the levels that it may have moved, and whether the platform keeps the stock itself.

    `elsewhere`: its units are taken from locations of which none is kept in step for the item, while another one is."""

    sku: str
    level_ids: tuple[int, ...]
    excluded: bool
    elsewhere: bool = False

    @property
    def level_id(self) -> int | None:
        """The one level, None where it could be several (one item at several locations)."""
        return self.level_ids[0] if len(self.level_ids) == 1 else None


# (the name that was looked up, SKU, level id, status, platform SKU, location)
_Offer = Row[str, str, int, str, str, str]


def _offers(column: Column[str]) -> Select[str, str, int, str, str, str]:
    listing = platform_mapping.c
    return select(
        column,
        listing.central_sku,
        listing.level_id,
        listing.status,
        listing.platform_sku,
        listing.platform_location_id,
    ).where(listing.platform_name == bindparam("of_channel"), among(column, "names"))


_OFFERS = {
    "item_id": _offers(platform_mapping.c.platform_item_id),
    "variant_id": _offers(platform_mapping.c.platform_variant_id),
    "platform_sku": _offers(platform_mapping.c.platform_sku),
}


def resolve(connection: Connection, channel: str, references: Collection[LineReference]) -> dict[LineReference, Target]:
    """Return the targets of a channel's references; those that fit no listing, or two SKUs, are left out.

    The first of item id, variant id and platform SKU that is given and known decides. Of the two ids, one that only retired
    listings have comes after one of a listing that is offered: a variation that sells its product's number now had its own.
    """
    offers: dict[str, dict[str, list[_Offer]]] = {}
    for name, statement in _OFFERS.items():
        found: dict[str, list[_Offer]] = defaultdict(list)
        wanted = {value for reference in references if (value := getattr(reference, name))}
        if wanted:
            parameters = {"of_channel": channel, "names": as_parameter(wanted)}
            for offer in connection.execute(statement, parameters).all():
                found[offer[0]].append(offer)
        offers[name] = found
    items, variants, platform_skus = offers.values()
    targets = {}
    for reference in references:
        by_ids = [items.get(reference.item_id, []), variants.get(reference.variant_id, [])]
        offered = [found for found in by_ids if any(offer.status != "retired" for offer in found)]
        candidates = next(filter(None, offered + by_ids), None) or platform_skus.get(reference.platform_sku)
        if not candidates:
            continue
        here = _at(candidates, reference.locations)
        target = _choose(here or candidates, reference.platform_sku)
        if target is not None:
            targets[reference] = target if here else target._replace(elsewhere=True)
    return targets


def _at(candidates: list[_Offer], locations: tuple[str, ...]) -> list[_Offer]:
    """Return the listings at `locations` that are kept in step, all listings where it isn't told or none is kept anywhere."""
    if not locations:
        return candidates
    kept = [offer for offer in candidates if _RANKS[offer.status] == 0]
    return [offer for offer in kept if offer.platform_location_id in locations] if kept else candidates


def _choose(candidates: list[_Offer], platform_sku: str) -> Target | None:
    if len(candidates) == 1:
        _, sku, level_id, status, _, _ = candidates[0]
        return Target(sku, (level_id,), status == "excluded")
    best = min(_RANKS[offer.status] for offer in candidates)
    chosen = [offer for offer in candidates if _RANKS[offer.status] == best]
    if len({offer.central_sku for offer in chosen}) > 1:
        chosen = [offer for offer in chosen if offer.platform_sku == platform_sku]
    skus = {offer.central_sku for offer in chosen}
    if len(skus) != 1:
        return None
    return Target(skus.pop(), tuple(sorted({offer.level_id for offer in chosen})), chosen[0].status == "excluded")
