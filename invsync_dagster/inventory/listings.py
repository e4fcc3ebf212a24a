"""Listings: mapped, remapped, paused, resumed, excluded, retired, sent to review; each change is a recorded action."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, or_, select, update

from invsync_dagster.events import LineReference
from invsync_dagster.inventory import breaker, holds, levels, shares
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.book import Book
from invsync_dagster.inventory.bulk import as_parameter, chunks, found_by, insert_rows
from invsync_dagster.inventory.elsewhere import ask_again
from invsync_dagster.inventory.first_levels import begin
from invsync_dagster.inventory.joining import join, levels_at, levels_for, listing_rows
from invsync_dagster.inventory.lines import apply_open_lines
from invsync_dagster.inventory.rules import RULES
from invsync_dagster.inventory.tables import (
    central_inventory,
    channels,
    inventory_levels,
    platform_mapping,
    stock_ledger,
)

Status = Literal["active", "paused", "excluded", "retired"]

# A change of the mapping that zeroes too many listings can't be held where the number belongs to another SKU.
EMPTIED = "one of too many listings that a mapping would set to 0"

# How many items are set by one set of statements.
_ITEMS_AT_ONCE = 5_000


ListingKey = tuple[str, str, str, str, str]

# Beside the channel, and in the order in which `listing_key` takes them.
KEY_COLUMNS = ("platform_item_id", "platform_location_id", "platform_sku", "platform_variant_id")


def listing_key(channel: str, item_id: str, location_id: str, platform_sku: str, variant_id: str) -> ListingKey:
    """Return what a listing is known by: its level and platform SKU, the variant id where both location and SKU are empty.

    Nothing else tells variations without SKU apart that sell their product's number (docs/decisions/0041); anywhere else the
    variant id is one of the listing's values, which may come later or be corrected.
    """
    return (channel, item_id, location_id, platform_sku, "" if location_id or platform_sku else variant_id)


class Listing(NamedTuple):
    """One channel's offer of one SKU. Rules that are None leave the channel's in force.

    `status` None: a new or retired listing becomes active, another one keeps its status.
    """

    channel: str
    sku: str
    item_id: str
    location_id: str = ""
    platform_sku: str = ""
    variant_id: str = ""
    status: Status | None = None
    buffer: int | None = None
    percent: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    dead_band: int | None = None

    @property
    def key(self) -> ListingKey:
        return listing_key(self.channel, self.item_id, self.location_id, self.platform_sku, self.variant_id)


@dataclass(slots=True)
class ListingsSet:
    """What `set_listings` did, in listings; `renumbered` of the changed ones lost the variant id that they had, `review` are
    those on levels with several SKUs, `lines` open order lines that could be booked now, `held` levels that the breaker holds.
    """

    created: int = 0
    changed: int = 0
    renumbered: int = 0
    unchanged: int = 0
    review: int = 0
    lines: int = 0
    held: int = 0


def set_listings(
    connection: Connection, listings: Sequence[Listing], *, actor: str, reason: str, now: datetime, run_id: str = ""
) -> ListingsSet:
    """Create or change listings in the caller's `write_transaction`, with their levels and desired quantities.

    Of several with one `listing_key` the last one holds. Order lines that waited for a mapping are booked; levels that the
    change moves beyond a channel's limits are held. Raises LookupError, and changes nothing, if a channel or SKU doesn't exist.
    """
    return set_listings_in_parts(connection, [listings], actor=actor, reason=reason, now=now, run_id=run_id)


def set_listings_in_parts(
    connection: Connection,
    parts: Iterable[Sequence[Listing]],
    *,
    actor: str,
    reason: str,
    now: datetime,
    run_id: str = "",
    progress: Callable[[int], None] = lambda _listings: None,
) -> ListingsSet:
    """Do what `set_listings` does, with one part in memory at a time; what the breaker judges is the whole.

    All listings of an item are in one part. `progress` is told the listings set so far. LookupError is raised where the
    part with the unknown name comes: the caller's transaction takes back the parts before it.
    """
    result = ListingsSet()
    book = Book(connection, now=now, run_id=run_id)
    before: dict[int, breaker.Shown] = {}
    done = 0
    for part in parts:
        _refuse_unknown(connection, part)
        by_channel: dict[str, dict[ListingKey, Listing]] = defaultdict(dict)
        for listing in part:
            by_channel[listing.channel][listing.key] = listing
        for channel, wanted in by_channel.items():
            of_item: dict[str, list[Listing]] = defaultdict(list)
            for one in wanted.values():
                of_item[one.item_id].append(one)
            # Items as a whole: their locations share the stock, and a level that goes to another SKU has two for as long as
            # only some of its listings are set.
            for together in chunks(of_item.items(), _ITEMS_AT_ONCE):
                some = [one for _, of_one in together for one in of_one]
                before |= _set(connection, channel, some, result, actor, reason, now)
                result.lines += apply_open_lines(book, channel, map(_called, some))
                ask_again(connection, channel, map(_called, some), now)
        done += len(part)
        progress(done)
    book.close()
    held = breaker.hold_excess(connection, before, reason, now)
    result.held = len(held)
    _review_emptied(connection, held, actor, now)
    return result


def _called(one: Listing) -> LineReference:
    return LineReference(one.platform_sku, one.item_id, one.variant_id)


def _review_emptied(connection: Connection, held: Collection[int], actor: str, now: datetime) -> None:
    """Stop the levels that can't be held: those mapped to a SKU with too little stock to show the number that they had.

    One that was held already shows less than it had as well, by what was sold since.
    """
    level = inventory_levels.c
    newest = select(func.coalesce(func.max(stock_ledger.c.sequence), 0)).scalar_subquery()
    too_little = and_(level.desired < level.held_quantity, level.held_sequence == newest)
    nothing = and_(level.held_quantity.is_(None), level.desired < holds.NUMBER)
    query = select(level.id).where(or_(nothing, too_little))
    for part in chunks(held):
        for level_id in connection.execute(query.where(level.id.in_(part))).scalars().all():
            send_to_review(connection, level_id, reason=EMPTIED, actor=actor, now=now)


def set_status(
    connection: Connection, listing_ids: Collection[int], status: Status, *, actor: str, reason: str, now: datetime
) -> int:
    """Pause, resume (`active`), exclude or retire listings; return how many changed.

    The number on the platform is left as it is, except for what an active listing then desires; a resumed one is read
    before it is written. Raises LookupError for an unknown id.
    """
    rows = listing_rows(connection, platform_mapping.c.id, listing_ids)
    missing = set(listing_ids) - {row["id"] for row in rows}
    if missing:
        raise LookupError(f"no listings with the ids {sorted(missing)}")
    changed = [row for row in rows if row["status"] != status]
    if changed:
        level_ids = {row["level_id"] for row in changed}
        before = breaker.shown(connection, inventory_levels.c.id, level_ids)
        revision = _change_status(connection, changed, status, actor, reason, now)
        breaker.hold_excess(connection, before, f"change {revision} of listings' status", now)
    return len(changed)


def send_to_review(connection: Connection, level_id: int, *, reason: str, actor: str, now: datetime) -> None:
    """Stop a level until a person has looked: its offered listings go to needs_review with the reason."""
    _stop(connection, level_id, "needs_review", reason, actor, now)


def exclude(connection: Connection, level_id: int, *, reason: str, actor: str, now: datetime) -> None:
    """Leave a level to the platform, which keeps its stock: its offered listings are excluded with the reason."""
    _stop(connection, level_id, "excluded", reason, actor, now)


def _stop(connection: Connection, level_id: int, status: str, reason: str, actor: str, now: datetime) -> None:
    rows = listing_rows(connection, platform_mapping.c.level_id, [level_id])
    changed = [row for row in rows if row["status"] == "active"]
    if changed:
        _change_status(connection, changed, status, actor, reason, now)


def _refuse_unknown(connection: Connection, listings: Sequence[Listing]) -> None:
    for what, column, wanted in (
        ("channel", channels.c.name, {listing.channel for listing in listings}),
        ("SKU", central_inventory.c.sku, {listing.sku for listing in listings}),
    ):
        query = select(column).where(found_by(column, "names"))
        unknown = wanted.difference(connection.execute(query, {"names": as_parameter(wanted)}).scalars().all())
        if unknown:
            raise LookupError(f"unknown {what}: {', '.join(sorted(unknown)[:10])}")


def _set(
    connection: Connection,
    channel: str,
    part: Sequence[Listing],
    result: ListingsSet,
    actor: str,
    reason: str,
    now: datetime,
) -> dict[int, breaker.Shown]:
    """Set listings of one channel; return what the levels showed before that show something else now."""
    listing = platform_mapping.c
    level = inventory_levels.c
    # By their levels, which have but one index that begins with the channel.
    query = select(platform_mapping).join(inventory_levels, level.id == listing.level_id)
    query = query.where(level.channel == channel, found_by(level.item_id, "items"))
    items = as_parameter([one.item_id for one in part])  # in order as they come, mostly: not a set, which has none
    known = {
        listing_key(channel, *(row[name] for name in KEY_COLUMNS)): dict(row)
        for row in connection.execute(query, {"items": items}).mappings().all()
    }
    new = [(one, _values(one, "retired")) for one in part if one.key not in known]
    changes = []
    for one in part:
        if one.key in known:
            row = known[one.key]
            changed = {column: value for column, value in _values(one, row["status"]).items() if row[column] != value}
            if changed:
                changes.append((row, changed))
    result.created += len(new)
    result.changed += len(changes)
    result.renumbered += sum(
        "platform_variant_id" in changed and row["platform_variant_id"] != "" for row, changed in changes
    )
    result.unchanged += len(part) - len(new) - len(changes)
    if not new and not changes:
        return {}
    known_items = {item_id for item_id, _ in levels_at(connection, channel, [one.item_id for one, _ in new])}
    listed = Counter(one.item_id for one, _ in new) + Counter(known_items)
    alone = {(one.item_id, one.location_id): values for one, values in new if listed[one.item_id] == 1}
    among_others = {(one.item_id, one.location_id): one.sku for one, _ in new if listed[one.item_id] > 1}
    touched_items = {item_id for item_id, _ in among_others} | {row["platform_item_id"] for row, _ in changes}
    before = breaker.shown(connection, level.item_id, touched_items, level.channel == channel)
    revision = record_action(
        connection,
        at=now,
        actor=actor,
        action="listings set",
        subject=f"channel {channel}",
        before=[{"id": row["id"]} | {column: row[column] for column in changed} for row, changed in changes],
        after=[[*one.key[:4], _stated(values)] for one, values in new]
        + [{"id": row["id"]} | changed for row, changed in changes],
        reason=reason,
    )
    others = levels_for(connection, channel, among_others, now)
    level_ids = others | begin(connection, channel, alone, revision, now)
    rows = [
        (*one.key[:4], level_ids[one.item_id, one.location_id], revision, now, now, *values.values())
        for one, values in new
    ]
    insert_rows(connection, platform_mapping, _NEW, rows)
    for row, changed in changes:
        connection.execute(
            update(platform_mapping)
            .where(listing.id == row["id"])
            .values(changed | {"rules_revision": revision, "updated_at": now})
        )
    touched = set(others.values()) | {row["level_id"] for row, _ in changes}
    skus, review = join(connection, touched, revision, now)
    result.review += review
    # After it: what goes to review has a share, though it was excluded.
    shares.part(connection, channel, touched_items)
    levels.recompute(connection, skus, now, channel=channel)
    after = breaker.shown(connection, level.id, before.keys())
    return {level_id: was for level_id, was in before.items() if after.get(level_id, was) != was}


def _values(one: Listing, status: str) -> dict[str, Any]:
    """Return the columns that a listing sets on a row of `status`."""
    status = one.status or ("active" if status == "retired" else status)
    reason = {} if status == "needs_review" else {"status_reason": ""}
    rules = {name: getattr(one, name) for name in RULES}
    return {"central_sku": one.sku, "platform_variant_id": one.variant_id, "status": status, **reason, **rules}


def _stated(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a record what a new listing doesn't state: two thirds of it."""
    return {name: value for name, value in values.items() if value not in (None, "")}


_COLUMNS = (
    "platform_name",
    "platform_item_id",
    "platform_location_id",
    "platform_sku",
    "level_id",
    "rules_revision",
    "created_at",
    "updated_at",
    "central_sku",
    "platform_variant_id",
    "status",
    "status_reason",
    *RULES,
)
_NEW = tuple(platform_mapping.c[name] for name in _COLUMNS)


def _change_status(
    connection: Connection, rows: Sequence[dict[str, Any]], status: str, actor: str, reason: str, now: datetime
) -> int:
    revision = record_action(
        connection,
        at=now,
        actor=actor,
        action=f"listings {status}",
        subject=", ".join(sorted({f"channel {row['platform_name']}" for row in rows})),
        before=[{"id": row["id"], "status": row["status"], "reason": row["status_reason"]} for row in rows],
        after=[{"id": row["id"], "status": status} for row in rows],
        reason=reason,
    )
    listing = platform_mapping.c
    connection.execute(
        update(platform_mapping)
        .where(listing.id == bindparam("key"))
        .values(
            status=status,
            status_reason="" if status == "active" else reason,
            rules_revision=revision,
            updated_at=now,
        ),
        [{"key": row["id"]} for row in rows],
    )
    by_channel: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_channel[row["platform_name"]].append(row)
    for channel, of_channel in by_channel.items():
        skus, _ = join(connection, {row["level_id"] for row in of_channel}, revision, now)
        shares.part(connection, channel, {row["platform_item_id"] for row in of_channel})
        if status == "active":
            ask_again(connection, channel, {_name(row) for row in of_channel}, now)
        # Not the SKUs' levels elsewhere: other channels' transactions may be at work on them (`write_transaction`).
        levels.recompute(connection, skus, now, channel=channel)
    return revision


def _name(row: dict[str, Any]) -> LineReference:
    return LineReference(row["platform_sku"], row["platform_item_id"], row["platform_variant_id"])
