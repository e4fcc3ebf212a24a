"""Readings: which levels one asks for, and what of them is left out where it was seen not long ago."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine, Row, bindparam, exists, or_, select, update

from invsync_dagster.inventory.bulk import as_parameter, chunks, found_by
from invsync_dagster.inventory.tables import inventory_levels, walked_listings
from invsync_dagster.platforms.contract import LevelReference, Limits, Platform, QuickReader, ReadAnswer, Reading
from invsync_dagster.sync.articles import told_apart
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.claims import Claim
from invsync_dagster.sync.record import Attempted
from invsync_dagster.sync.workspace import Workspace

# The full run of each day sees it anew; where none runs, readings do.
KNOWN_FOR = timedelta(days=2)

# What a level may be in doubt for that says nothing against what is known of it: it was sold, or its number is wanted first.
_ORDINARY = ("own_sale", "never_read")

_LEVEL = inventory_levels.c
_KNOWN = select(_LEVEL.id).where(
    found_by(_LEVEL.id, "ids"), _LEVEL.read_whole_at >= bindparam("since"), _LEVEL.uncertain.in_(_ORDINARY)
)
_NOTE = (
    update(inventory_levels)
    .where(found_by(_LEVEL.id, "ids"))
    .values(read_whole_at=bindparam("at", type_=_LEVEL.read_whole_at.type))
)


_WALKED = (
    update(inventory_levels)
    .where(
        _LEVEL.channel == bindparam("of_channel"),
        _LEVEL.pushable.is_(True),
        or_(_LEVEL.read_whole_at.is_(None), _LEVEL.read_whole_at < bindparam("at")),
        exists().where(
            walked_listings.c.walk_id == bindparam("of_walk"),
            walked_listings.c.item_id == _LEVEL.item_id,
            walked_listings.c.location_id == _LEVEL.location_id,
            walked_listings.c.problem == "",
        ),
    )
    .values(read_whole_at=bindparam("at", type_=_LEVEL.read_whole_at.type))
)


PLACES = select(_LEVEL.id, _LEVEL.item_id, _LEVEL.location_id, _LEVEL.touched).where(found_by(_LEVEL.id, "ids"))
"""Where the levels `ids` are, and their `touched`: what `read_back` asks for."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The readings of one call by level id, with the levels' `touched` before the request began."""

    attempted: Attempted
    readings: dict[int, Reading]
    touched: dict[int, int]


class _Located(Protocol):
    @property
    def location_id(self) -> str: ...


L = TypeVar("L", bound=_Located)


def in_readings(levels: Iterable[L], limits: Limits) -> Iterator[list[L]]:
    """Yield levels in lists of what one reading may ask for, in their order where locations are all one."""
    if not limits.read_locations:
        yield from chunks(levels, limits.read_batch)
        return
    by_place: dict[str, list[L]] = {}
    for level in levels:
        by_place.setdefault(level.location_id, []).append(level)
    for places in chunks(by_place.values(), limits.read_locations):
        yield from chunks(chain.from_iterable(places), limits.read_batch)


def read_back(
    ws: Workspace, name: str, places: Sequence[Row[int, str, str, int]], calls: Calls, run_id: str
) -> ReadBack:
    """Read levels that nobody claims, by their `PLACES`, in one call. Raises `PlatformError`, `OutOfTimeError`."""
    began = ws.clock.now()

    def read() -> ReadAnswer:
        nonlocal began
        began = ws.clock.now()
        return calls.platform.read([LevelReference(row.item_id, row.location_id) for row in places])

    answer = calls.ask(calls.platform.limits.read_cost, read)
    readings = {row.id: reading for row, reading in zip(places, answer.readings, strict=True)}
    with ws.engine.connect() as connection:
        readings = told_apart(connection, name, readings)
    attempted = Attempted(name, "", "", run_id, began, ws.clock.now())
    return ReadBack(attempted, readings, {row.id: row.touched for row in places})


def read_claimed(
    engine: Engine, calls: Calls, claims: Sequence[Claim], now: datetime
) -> tuple[dict[int, Reading], dict[int, Reading]]:
    """Return the readings of claimed levels by level id, and those of them that saw all that a reading can see.

    The call's `read_cost` is reserved already. A quick reading counts only where it shows what was expected: a number that
    nobody expected is read again, as a whole. Raises `PlatformError`, `OutOfTimeError`.
    """
    quick = _read_quickly(engine, calls, claims, now)
    rest = [claim for claim in claims if claim.level_id not in quick]
    if not rest:
        return quick, {}
    if quick:
        calls.wait(calls.platform.limits.read_cost)
    with calls.within_deadline():
        answer = calls.platform.read([claim.reference for claim in rest])
    calls.learn(answer.budget, calls.platform.limits.read_cost)
    whole = {claim.level_id: reading for claim, reading in zip(rest, answer.readings, strict=True)}
    return quick | whole, whole


def _read_quickly(engine: Engine, calls: Calls, claims: Sequence[Claim], now: datetime) -> dict[int, Reading]:
    """Return what a quick reading shows of the levels that it is enough for."""
    platform = calls.platform
    if not isinstance(platform, QuickReader):
        return {}
    ids = as_parameter([claim.level_id for claim in claims])
    with engine.connect() as connection:
        known = set(connection.execute(_KNOWN, {"ids": ids, "since": now - KNOWN_FOR}).scalars())
    enough = [claim for claim in claims if claim.level_id in known]
    if not enough:
        return {}
    with calls.within_deadline():
        answer = platform.read_quickly([claim.reference for claim in enough])
    calls.learn(answer.budget, calls.platform.limits.read_cost)
    return {
        claim.level_id: reading
        for claim, reading in zip(enough, answer.readings, strict=True)
        if reading.problem is not None or claim.expected in (None, reading.quantity)
    }


def note_whole(connection: Connection, platform: Platform, readings: Mapping[int, Reading], began: datetime) -> None:
    """Note which levels were read as a whole, by a request that `began` then. One with a problem is known no more."""
    if not isinstance(platform, QuickReader) or not readings:
        return
    seen = {level_id for level_id, reading in readings.items() if reading.problem is None}
    for ids, at in ((seen, began), (readings.keys() - seen, None)):
        if ids:
            connection.execute(_NOTE, {"ids": as_parameter(ids), "at": at})


def note_walked(connection: Connection, platform: Platform, channel: str, walk: int, began: datetime) -> None:
    """Note that a walk through all listings, which `began` then, saw its levels as a whole."""
    if isinstance(platform, QuickReader):
        connection.execute(_WALKED, {"of_channel": channel, "of_walk": walk, "at": began})
