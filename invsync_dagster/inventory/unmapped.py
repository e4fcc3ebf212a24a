"""Listings that a channel has and the mapping doesn't name: which SKU each may be, for a person to decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, distinct, exists, func, or_, select

from invsync_dagster.inventory.discovery import Finding, Kind
from invsync_dagster.inventory.matching import candidates, difference, normalised
from invsync_dagster.inventory.tables import central_inventory, platform_mapping, walked_listings

_M, _W, _S = platform_mapping.c, walked_listings.c, central_inventory.c


def unmapped_findings(connection: Connection, channel: str, walk: int) -> Iterator[Finding]:
    """Yield a case for each listing of a walk that isn't mapped, in the channel's order.

    Left out are listings whose stock can't be driven, those that somebody retired, and further locations of an item that
    is mapped, or that is stocked where the mapping's other items are. Not left out are variants that sell a mapped level's
    number and have no row of their own: their orders would name what nobody knows.
    """
    inexact = {normalised(one.platform_sku) for one in _offered_listings(connection, channel, walk) if not one.exact}
    similar = candidates(connection, inexact - {""})
    for one in _offered_listings(connection, channel, walk):
        yield _finding(one, similar.get(normalised(one.platform_sku), []))


@dataclass(frozen=True, slots=True)
class _Offered:
    """A listing that isn't mapped and could be; `exact` is the SKU with the same text, "" if there is none.

    `levels` of the channel have its platform SKU, `skus` are named by the listings on its level; `taken`: the exact SKU
    is mapped on another level of the channel already. `keeper`: the one SKU that its level is mapped to, or else that the
    listings on its level name, "" if there is none.
    """

    platform_sku: str
    item_id: str
    location_id: str
    variant_id: str
    title: str
    quantity: int | None
    exact: str
    levels: int
    skus: int
    taken: bool
    keeper: str


def _finding(one: _Offered, similar: list[str]) -> Finding:
    kind, central, proposed = Kind.UNMATCHED, "", ""
    if one.keeper and one.keeper != one.exact:
        kind, proposed = Kind.CONFLICT if one.exact else Kind.UNMATCHED, one.keeper
        note = f"it sells from the number of '{one.keeper}': map it to that, else its orders belong to nothing"
    elif one.exact:
        kind, proposed = Kind.CONFLICT, one.exact
        if one.taken:
            note = "its SKU is mapped on another level of the channel already"
        elif one.levels > 1:
            note = f"{one.levels} levels of the channel have this SKU: choose the one that is sold from"
        elif one.skus > 1:
            note = f"the listings on its level name {one.skus} SKUs, and a level holds one number"
        else:
            kind, central, proposed, note = Kind.MATCHED, one.exact, "", "the same text"
    elif similar:
        kind, proposed = Kind.SIMILAR, similar[0] if len(similar) == 1 else ""
        note = "; ".join(f"like '{sku}' but for {difference(one.platform_sku, sku)}" for sku in similar)
    elif one.platform_sku:
        note = "no SKU of the stock is like it"
    else:
        note = "it has no SKU at the channel"
    return Finding(
        kind,
        central_sku=central,
        proposed_sku=proposed,
        platform_sku=one.platform_sku,
        item_id=one.item_id,
        location_id=one.location_id,
        variant_id=one.variant_id,
        note=note,
        title=one.title,
        quantity=one.quantity,
    )


def _offered_listings(connection: Connection, channel: str, walk: int) -> Iterator[_Offered]:
    here = _offered(channel, walk)
    levels = select(here.c.platform_sku, here.c.item_id, here.c.location_id).distinct().subquery()
    by_sku = select(levels.c.platform_sku, func.count().label("levels")).group_by(levels.c.platform_sku).subquery()
    by_level = (
        select(
            here.c.item_id,
            here.c.location_id,
            func.count(distinct(_S.sku)).label("skus"),
            func.min(_S.sku).label("sku"),
        )
        .join(central_inventory, _S.sku == here.c.platform_sku)
        .group_by(here.c.item_id, here.c.location_id)
        .subquery()
    )
    taken = exists().where(_M.platform_name == channel, _M.central_sku == here.c.platform_sku, _M.status != "retired")
    keeper = select(func.min(_M.central_sku)).where(_live(channel, here.c)).scalar_subquery()
    query = (
        select(
            here.c.platform_sku,
            here.c.item_id,
            here.c.location_id,
            here.c.variant_id,
            here.c.title,
            here.c.quantity,
            func.coalesce(_S.sku, ""),
            by_sku.c.levels,
            func.coalesce(by_level.c.skus, 0),
            taken,
            func.coalesce(keeper, case((by_level.c.skus == 1, by_level.c.sku)), ""),
        )
        .join(by_sku, by_sku.c.platform_sku == here.c.platform_sku)
        .outerjoin(central_inventory, (_S.sku == here.c.platform_sku) & (here.c.platform_sku != ""))
        .outerjoin(by_level, and_(by_level.c.item_id == here.c.item_id, by_level.c.location_id == here.c.location_id))
        .order_by(here.c.position)
    )
    for row in connection.execution_options(yield_per=10_000).execute(query):
        yield _Offered(*row)


def _offered(channel: str, walk: int) -> Any:
    other, places = walked_listings.alias(), platform_mapping.alias()
    in_use = (
        select(places.c.platform_location_id)
        .where(places.c.platform_name == channel, places.c.status != "retired")
        .distinct()
    )
    same_item = (other.c.walk_id == walk) & (other.c.item_id == _W.item_id)
    mapped = exists().where(_M.platform_name == channel, _M.platform_item_id == _W.item_id)
    elsewhere = _W.location_id.not_in(in_use) & exists().where(same_item, other.c.location_id.in_(in_use))
    # A listing that moved to a later page while the walk went on was seen twice. It is the same one as `listing_key` says.
    again = exists().where(
        same_item,
        other.c.location_id == _W.location_id,
        other.c.platform_sku == _W.platform_sku,
        or_(_W.location_id != "", _W.platform_sku != "", other.c.variant_id == _W.variant_id),
        other.c.position < _W.position,
    )
    named = exists().where(
        _M.platform_name == channel,
        _M.platform_item_id == _W.item_id,
        (_M.platform_variant_id == _W.variant_id) | (_M.platform_sku == func.nullif(_W.platform_sku, "")),
    )
    shared = exists().where(same_item, other.c.location_id == _W.location_id, other.c.variant_id != _W.variant_id)
    nameless = and_(_W.variant_id != "", ~named, shared, exists().where(_live(channel, _W)))
    return (
        select(walked_listings)
        .where(_W.walk_id == walk, _W.problem == "", ~mapped | nameless, ~elsewhere, ~again)
        .subquery("offered")
    )


def _live(channel: str, seen: Any) -> Any:
    """The condition that a listing that isn't retired is on the level, in the columns `seen`."""
    return and_(
        _M.platform_name == channel,
        _M.platform_item_id == seen.item_id,
        _M.platform_location_id == seen.location_id,
        _M.status != "retired",
    )
