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
    """What a reference means: the SKU, the levels that it may have moved, and whether the platform keeps the stock itself."""

    sku: str
    level_ids: tuple[int, ...]
    excluded: bool

    @property
    def level_id(self) -> int | None:
        """The one level, None where it could be several (one item at several locations)."""
        return self.level_ids[0] if len(self.level_ids) == 1 else None


# (the name that was looked up, SKU, level id, status, platform SKU)
_Offer = Row[str, str, int, str, str]


def _offers(column: Column[str]) -> Select[str, str, int, str, str]:
    listing = platform_mapping.c
    return select(column, listing.central_sku, listing.level_id, listing.status, listing.platform_sku).where(
        listing.platform_name == bindparam("of_channel"), among(column, "names")
    )


_OFFERS = {
    "item_id": _offers(platform_mapping.c.platform_item_id),
    "variant_id": _offers(platform_mapping.c.platform_variant_id),
    "platform_sku": _offers(platform_mapping.c.platform_sku),
}


def resolve(connection: Connection, channel: str, references: Collection[LineReference]) -> dict[LineReference, Target]:
    """Return the targets of a channel's references; those that fit no listing, or two SKUs, are left out.

    The first of item id, variant id and platform SKU that is given and known decides.
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
        candidates = (
            items.get(reference.item_id)
            or variants.get(reference.variant_id)
            or platform_skus.get(reference.platform_sku)
        )
        target = _choose(candidates, reference.platform_sku) if candidates else None
        if target is not None:
            targets[reference] = target
    return targets


def _choose(candidates: list[_Offer], platform_sku: str) -> Target | None:
    if len(candidates) == 1:
        _, sku, level_id, status, _ = candidates[0]
        return Target(sku, (level_id,), status == "excluded")
    best = min(_RANKS[offer.status] for offer in candidates)
    chosen = [offer for offer in candidates if _RANKS[offer.status] == best]
    if len({offer.central_sku for offer in chosen}) > 1:
        chosen = [offer for offer in chosen if offer.platform_sku == platform_sku]
    skus = {offer.central_sku for offer in chosen}
    if len(skus) != 1:
        return None
    return Target(skus.pop(), tuple(sorted({offer.level_id for offer in chosen})), chosen[0].status == "excluded")
