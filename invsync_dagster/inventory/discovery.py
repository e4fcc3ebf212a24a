"""What a walk through a channel's listings found for its mapping: cases for a person, each with a proposal, none applied."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, and_, distinct, exists, func, select

from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.rules import RULES
from invsync_dagster.inventory.tables import central_inventory, listing_walks, platform_mapping, walked_listings

# How the reason of a review begins that a walk has opened.
GONE = "no longer listed"

# How the reason of a listing begins that was excluded since the platform keeps its stock in a warehouse of its own.
KEPT_THERE = "kept by the platform"


class Kind(StrEnum):
    """What a case is, in the order in which a person should look."""

    VANISHED = "vanished"  # mapped, and the channel doesn't have it any more
    DOUBLY_MAPPED = "doubly_mapped"  # one level with two SKUs, or one SKU on two levels
    RENAMED = "renamed"  # mapped, and its platform SKU is another one now
    MOVED = "moved"  # mapped, and its number isn't kept on that level any more
    UNDRIVABLE = "undrivable"  # mapped, but the channel keeps no number for it
    RETURNED = "returned"  # in review since it vanished, and listed again
    CONFLICT = "conflict"  # not mapped, and its SKU fits several listings
    MATCHED = "matched"  # not mapped, and exactly one SKU has the same text
    SIMILAR = "similar"  # not mapped, and a SKU differs in case, spaces, dashes or leading zeros
    UNMATCHED = "unmatched"  # not mapped, and no SKU is like it


UNMAPPED = (Kind.CONFLICT, Kind.MATCHED, Kind.SIMILAR, Kind.UNMATCHED)


@dataclass(frozen=True, slots=True)
class Finding:
    """One case. `central_sku` is only given where texts are exactly equal; anything else is `proposed_sku`.

    `status` is the one that a mapping file should give it ("": none), `rules` those that its listing has.
    """

    kind: Kind
    central_sku: str
    proposed_sku: str
    platform_sku: str
    item_id: str
    location_id: str
    variant_id: str
    note: str
    title: str = ""
    quantity: int | None = None
    status: str = ""
    rules: tuple[int | None, ...] = (None,) * len(RULES)


_M, _W, _S = platform_mapping.c, walked_listings.c, central_inventory.c
_MAPPED = (
    _M.central_sku,
    _M.platform_sku,
    _M.platform_item_id,
    _M.platform_location_id,
    _M.platform_variant_id,
    _M.status,
    _M.status_reason,
    _M.level_id,
    *(_M[name] for name in RULES),
)


def before_walk(at: Column[datetime], walk: int) -> ColumnElement[bool]:
    """The condition that a time of a listing's isn't after the walk's begin: what came to it since, the walk may not have
    seen, and the next one tells."""
    return at <= select(listing_walks.c.began_at).where(listing_walks.c.id == walk).scalar_subquery()


def mapped_findings(
    connection: Connection, channel: str, walk: int, gone: Collection[int], moved: Mapping[int, str]
) -> Iterator[Finding]:
    """Yield the cases of listings that are mapped; `gone` are the levels that the channel was seen not to have, `moved` those
    that it doesn't list and keeps no number for, with its words."""
    offered = (_M.platform_name == channel) & (_M.status != "retired")
    at_level = _at_level(_W, walk)
    for part in chunks(sorted(gone)):
        for row in connection.execute(_listings(offered & _M.level_id.in_(part))):
            note = "the channel doesn't have it any more; retire it, or map what took its place"
            yield _of_listing(Kind.VANISHED, row, note, "retired")
    yield from _moved(connection, offered, walk, moved)
    yield from _doubly_mapped(connection, offered)
    yield from _renamed(connection, offered, walk)
    drivable = exists().where(at_level, _W.problem == "")
    problem = select(func.min(_W.problem)).where(at_level).scalar_subquery()
    # Those in review too: a push may have been there before.
    kept = offered & _M.status.in_(("active", "needs_review"))
    stuck = _listings(kept & exists().where(at_level) & ~drivable).add_columns(problem.label("problem"))
    for row in connection.execute(stuck):
        yield _of_listing(Kind.UNDRIVABLE, row, row.problem)
    for status, reason, note in _RETURNED:
        left = (
            offered
            & (_M.status == status)
            & _M.status_reason.startswith(reason)
            & drivable
            & before_walk(_M.updated_at, walk)
        )
        for row in connection.execute(_listings(left)):
            yield _of_listing(Kind.RETURNED, row, note, "active")


_RETURNED = (
    ("needs_review", GONE, "in review because it was gone; it is listed again"),
    ("excluded", KEPT_THERE, "excluded because the platform kept its stock; it shows a number of yours again"),
)


def _moved(
    connection: Connection, offered: ColumnElement[bool], walk: int, moved: Mapping[int, str]
) -> Iterator[Finding]:
    """Yield listings whose number is kept on another level of their item now: one row with that level, if there is just one,
    and one to retire. Both are ready to be imported where the level has the mapping's SKU."""
    for part in chunks(sorted(moved)):
        for row in connection.execute(_listings(offered & _M.level_id.in_(part))).all():
            note = moved[row.level_id]
            beside = (_W.item_id == row.platform_item_id) & (_W.location_id != row.platform_location_id)
            places = connection.execute(
                select(walked_listings).where(_W.walk_id == walk, beside, _W.problem == "")
            ).all()
            old = _of_listing(Kind.MOVED, row, f"{note} (its old level, to be retired)", "retired")
            if len(places) == 1:
                (place,) = places
                if place.platform_sku == row.platform_sku:
                    old = replace(old, central_sku=row.central_sku)
                yield replace(
                    old,
                    platform_sku=place.platform_sku,
                    location_id=place.location_id,
                    variant_id=place.variant_id,
                    note=note,
                    title=place.title,
                    quantity=place.quantity,
                    status="active",
                )
            yield old


def unlisted_skus(connection: Connection, channel: str) -> int:
    """Count the active SKUs that the channel's mapping doesn't name; a channel needn't list everything."""
    listed = exists().where(_M.central_sku == _S.sku, _M.platform_name == channel, _M.status != "retired")
    query = select(func.count()).select_from(central_inventory).where(_S.status == "active", ~listed)
    return int(connection.execute(query).scalar_one())


def _listings(condition: ColumnElement[bool]) -> Select[Any]:
    return select(*_MAPPED).where(condition).order_by(_M.central_sku, _M.id)


def _of_listing(kind: Kind, row: Any, note: str, status: str = "") -> Finding:
    return Finding(
        kind,
        central_sku="",
        proposed_sku=row.central_sku,
        platform_sku=row.platform_sku,
        item_id=row.platform_item_id,
        location_id=row.platform_location_id,
        variant_id=row.platform_variant_id,
        note=note,
        status=status,
        rules=_rules(row),
    )


def _rules(row: Any) -> tuple[int | None, ...]:
    return tuple(getattr(row, name) for name in RULES)


def _doubly_mapped(connection: Connection, offered: ColumnElement[bool]) -> Iterator[Finding]:
    """Yield the listings of levels with several SKUs, then those of SKUs with several levels, unless each has a share of its
    own: somebody has parted the stock among them."""
    several = select(_M.level_id).where(offered).group_by(_M.level_id).having(func.count(distinct(_M.central_sku)) > 1)
    for row in connection.execute(
        _listings(offered & _M.level_id.in_(several)).order_by(None).order_by(_M.level_id, _M.id)
    ):
        note = "one level is mapped to several SKUs: retire all but the right one"
        yield _of_listing(Kind.DOUBLY_MAPPED, row, note)
    own = offered & (_M.status != "excluded")
    whole = func.count().filter(_M.percent.is_(None) & _M.maximum.is_(None))
    twice = (
        select(_M.central_sku)
        .where(own)
        .group_by(_M.central_sku)
        .having((func.count(distinct(_M.level_id)) > 1) & (whole > 0))
    )
    for row in connection.execute(_listings(own & _M.central_sku.in_(twice) & _M.level_id.not_in(several))):
        note = (
            f"the channel shows the stock of '{row.central_sku}' on several levels: retire all but one, or give each its own "
            "percent or maximum"
        )
        yield _of_listing(Kind.DOUBLY_MAPPED, row, note)


def _at_level(seen: Any, walk: int) -> ColumnElement[bool]:
    """The condition that a walk saw, in the columns `seen` of its table, the level of a listing."""
    return and_(seen.walk_id == walk, seen.item_id == _M.platform_item_id, seen.location_id == _M.platform_location_id)


def _renamed(connection: Connection, offered: ColumnElement[bool], walk: int) -> Iterator[Finding]:
    """Yield listings whose platform SKU is no longer on their level: one row to retire, and one with the SKU of now.

    A row is ready to be imported only where the SKU of now is exactly the one that the level is mapped to. Where all that
    is on the level now is mapped too (the other variations of a product), there is only the row to retire. No case is what is on
    a level that holds no number any more: it may have gone to the variations, and the level's own name says nothing of them.
    """
    other, beside = walked_listings.alias().c, platform_mapping.alias().c
    mapped = exists().where(
        beside.level_id == _M.level_id, beside.platform_sku == _W.platform_sku, beside.status != "retired"
    )
    same = exists().where(_at_level(other, walk), other.platform_sku == _M.platform_sku)
    drivable = exists().where(_at_level(other, walk), other.problem == "")
    query = (
        select(
            *_MAPPED,
            _W.platform_sku.label("now"),
            _W.variant_id.label("variant"),
            _W.title,
            mapped.label("mapped"),
        )
        .join(walked_listings, _at_level(_W, walk))
        .where(offered, _M.platform_sku != "", before_walk(_M.created_at, walk), ~same, drivable)
        .order_by(_M.central_sku, _M.id, _W.position)
    )
    rows_by_listing: dict[tuple[Any, ...], list[Any]] = {}
    for row in connection.execute(query):
        rows_by_listing.setdefault(tuple(row[: len(_MAPPED)]), []).append(row)
    for rows in rows_by_listing.values():
        first = rows[0]
        rows = [row for row in rows if row.platform_variant_id and row.variant == row.platform_variant_id] or rows
        new = [row for row in rows if not row.mapped]
        rows = new or rows
        now = sorted({row.now for row in rows})
        names = ", ".join(f"'{name}'" for name in now[:3])
        right = bool(new) and now == [first.central_sku]
        if not new:
            note = f"its SKU '{first.platform_sku}' is gone from its level, which goes on with {names}"
        elif right:
            note = f"its SKU at the channel was '{first.platform_sku}' and is {names} now"
        else:
            note = f"its SKU at the channel was '{first.platform_sku}' and is {names} now: is it still the same goods?"
        shared = {
            "kind": Kind.RENAMED,
            "central_sku": first.central_sku if right else "",
            "proposed_sku": first.central_sku,
            "item_id": first.platform_item_id,
            "location_id": first.platform_location_id,
            "rules": _rules(first),
            "title": rows[0].title,
        }
        if new and len(now) == 1:
            variant = rows[0].variant or first.platform_variant_id
            kept = first.status if first.status in ("active", "paused", "excluded") else ""
            yield Finding(platform_sku=now[0], variant_id=variant, note=note, status=kept, **shared)
        yield Finding(
            platform_sku=first.platform_sku,
            variant_id=first.platform_variant_id,
            note=f"{note} (its old name, to be retired)" if new else note,
            status="retired",
            **shared,
        )
