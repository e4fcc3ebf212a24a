"""Walks through all that a channel lists: kept page by page, believed at the end, older ones forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, case, delete, exists, func, insert, select, text, update

from invsync_dagster.inventory.bulk import insert_rows
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.discovery import GONE, before_walk
from invsync_dagster.inventory.tables import listing_walks, platform_mapping, walked_listings

# Shopify's Standard plan tells about 12 variants a second: 130,000 until a run stops, and the next one goes on from there.
LONGEST_LEG = timedelta(hours=3)

# A walk that has not come to its end for so long begins anew: what it saw at first may be gone. A run a day brings 900,000 on
# Shopify's Standard plan.
LONGEST_WALK = timedelta(days=7)

# Rows that one transaction removes, so that other writers come in between.
REMOVED_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Walked:
    """One listing as a walk saw it; `quantity` None: the channel keeps none; `problem` "": its stock can be driven."""

    item_id: str
    location_id: str
    listing_id: str
    variant_id: str
    platform_sku: str
    title: str
    quantity: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class MappedLevel:
    """A level with a listing that isn't retired; `active`: one of them is kept in step, `waiting`: in review since an earlier
    walk found it gone."""

    id: int
    item_id: str
    location_id: str
    active: bool
    waiting: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a walk saw of a channel's mapping: `mapped` levels in all, those of them that it didn't see, and the active ones
    whose number it said can't be kept.

    `named` listings that it saw are mapped with a platform SKU; `renamed` of them have another one there.
    """

    mapped: int
    missing: tuple[MappedLevel, ...]
    undrivable: tuple[MappedLevel, ...]
    named: int
    renamed: int


_COLUMNS = (
    "walk_id",
    "position",
    "item_id",
    "location_id",
    "listing_id",
    "variant_id",
    "platform_sku",
    "title",
    "quantity",
    "problem",
)
_TABLE_COLUMNS = tuple(walked_listings.c[name] for name in _COLUMNS)


@dataclass(slots=True)
class Leg:
    """What one run does of a walk: it goes on before the page of `cursor` with `listings` kept, or (`complete`) behind the last
    page. `first`: the walk began with it, so all that it saw is of this run."""

    walk: int
    first: bool = True
    listings: int = 0
    cursor: str = ""
    complete: bool = False


def begin(connection: Connection, channel: str, address: str, now: datetime, run_id: str) -> Leg:
    """Begin a walk through what the channel lists at `address` (`sync.recognition.address_of`)."""
    row = {"channel": channel, "address": address, "began_at": now, "went_on_at": now, "run_id": run_id, "listings": 0}
    return Leg(connection.execute(insert(listing_walks).values(row).returning(listing_walks.c.id)).scalar_one())


def pause(connection: Connection, leg: Leg) -> None:
    """Keep where a walk stopped, for `take_up`."""
    where = "" if leg.complete else leg.cursor
    query = update(listing_walks).where(listing_walks.c.id == leg.walk)
    connection.execute(query.values(listings=leg.listings, cursor=where))


def take_up(connection: Connection, channel: str, address: str, now: datetime, run_id: str) -> Leg | None:
    """Go on with the latest walk that was paused at the channel's `address`, unless it is too old; nobody else does then."""
    walk = listing_walks.c
    paused = (walk.channel == channel) & (walk.address == address) & _PAUSED & (walk.began_at >= now - LONGEST_WALK)
    found = connection.execute(
        select(walk.id, walk.listings, walk.cursor).where(paused).order_by(walk.id.desc()).limit(1)
    ).one_or_none()
    if found is None:
        return None
    values = {"cursor": None, "went_on_at": now, "run_id": run_id}
    connection.execute(update(listing_walks).where(walk.id == found.id).values(values))
    return Leg(found.id, False, found.listings, found.cursor, complete=found.cursor == "")


_PAUSED = listing_walks.c.cursor.is_not(None)


def add(connection: Connection, walk: int, position: int, listings: Sequence[Walked]) -> None:
    """Keep what a walk saw; `position` is that of the first of `listings`."""
    rows = [
        (
            walk,
            place,
            one.item_id,
            one.location_id,
            one.listing_id,
            one.variant_id,
            one.platform_sku,
            one.title,
            one.quantity,
            one.problem,
        )
        for place, one in enumerate(listings, position)
    ]
    insert_rows(connection, walked_listings, _TABLE_COLUMNS, rows)


def count_kept(connection: Connection) -> None:
    """Let PostgreSQL look at what was kept, once a walk is complete, and at what it is compared with: it takes rows of this
    minute for a few, and would compare each listing with all (4.5 s for one query of 10,000 listings, instead of 0.2)."""
    if connection.dialect.name == "postgresql":
        connection.execute(_ANALYZE)


_ANALYZE = text("ANALYZE walked_listings, platform_mapping, central_inventory")


def believe(connection: Connection, walk: int, listings: int, now: datetime) -> None:
    """Make a walk the latest one of its channel."""
    connection.execute(update(listing_walks).where(listing_walks.c.id == walk).values(ended_at=now, listings=listings))


def forget(engine: Engine, walks: Sequence[int]) -> None:
    """Remove walks with what they saw, in transactions of a bounded size."""
    seen = walked_listings.c
    for walk in walks:
        with engine.connect() as connection:
            last = connection.execute(select(func.max(seen.position)).where(seen.walk_id == walk)).scalar_one()
        for position in range(0, (-1 if last is None else last) + 1, REMOVED_AT_ONCE):
            with write_transaction(engine) as connection:
                connection.execute(
                    delete(walked_listings).where(seen.walk_id == walk, seen.position < position + REMOVED_AT_ONCE)
                )
        with write_transaction(engine) as connection:
            connection.execute(delete(walked_listings).where(seen.walk_id == walk))
            connection.execute(delete(listing_walks).where(listing_walks.c.id == walk))


def outdated(connection: Connection, channel: str, latest: int, now: datetime) -> list[int]:
    """Return the channel's walks beside `latest`, which is believed, but those that are under way; nobody takes them up any
    more."""
    walk = listing_walks.c
    done = walk.ended_at.is_not(None) | _PAUSED | _dead(now)
    query = select(walk.id).where(walk.channel == channel, walk.id != latest, done)
    found = list(connection.execute(query).scalars())
    connection.execute(update(listing_walks).where(walk.id.in_(found)).values(cursor=None))
    return found


def forget_given_up(engine: Engine, now: datetime) -> None:
    """Remove the walks of all channels that won't come to their end: too old to go on, or of a run that is no more."""
    walk = listing_walks.c
    too_old = _PAUSED & (walk.began_at < now - LONGEST_WALK)
    with engine.connect() as connection:
        query = select(walk.id).where(walk.ended_at.is_(None), too_old | _dead(now))
        given_up = list(connection.execute(query).scalars())
    forget(engine, given_up)


def _dead(now: datetime) -> ColumnElement[bool]:
    # A run ends its leg within the time of the leg; the hour is for what it does behind it.
    return ~_PAUSED & (listing_walks.c.went_on_at < now - LONGEST_LEG - timedelta(hours=1))


def _any(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return func.max(case((condition, 1), else_=0)) == 1


def coverage(connection: Connection, channel: str, walk: int) -> Coverage:
    """Compare the channel's mapping with what a walk saw; the names of listings that were mapped before it began."""
    listing, seen = platform_mapping.c, walked_listings.c
    offered = (listing.platform_name == channel) & (listing.status != "retired")
    at_level = (
        (seen.walk_id == walk)
        & (seen.item_id == listing.platform_item_id)
        & (seen.location_id == listing.platform_location_id)
    )
    there = exists().where(at_level)
    same = exists().where(at_level, seen.platform_sku == listing.platform_sku)
    named = offered & (listing.platform_sku != "") & before_walk(listing.created_at, walk) & there

    levels = (
        select(
            listing.level_id,
            listing.platform_item_id,
            listing.platform_location_id,
            _any(listing.status == "active"),
            _any((listing.status == "needs_review") & listing.status_reason.startswith(GONE)),
        )
        .group_by(listing.level_id, listing.platform_item_id, listing.platform_location_id)
        .order_by(listing.level_id)
    )
    missing = connection.execute(levels.where(offered, ~there)).all()
    drivable = exists().where(at_level, seen.problem == "")
    undrivable = connection.execute(levels.where(offered, listing.status == "active", there, ~drivable)).all()
    return Coverage(
        mapped=connection.execute(select(func.count(listing.level_id.distinct())).where(offered)).scalar_one(),
        missing=tuple(MappedLevel(*row) for row in missing),
        undrivable=tuple(MappedLevel(*row) for row in undrivable),
        named=connection.execute(select(func.count()).select_from(platform_mapping).where(named)).scalar_one(),
        renamed=connection.execute(select(func.count()).select_from(platform_mapping).where(named, ~same)).scalar_one(),
    )
