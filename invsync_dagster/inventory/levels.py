"""What every level should show: desired quantities, recomputed set-wise in SQL by SKU."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    Update,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)

from invsync_dagster.inventory.bulk import as_parameter, chunks, texts
from invsync_dagster.inventory.rules import RuleColumns, dead_band_sql, greatest, least, result_sql
from invsync_dagster.inventory.tables import (
    central_inventory,
    channels,
    inventory_levels,
    platform_mapping,
    stock_ledger,
)

# SKUs that one statement recomputes: with five listings each about 0.1 s, in which no other writer gets its turn.
SKUS_AT_ONCE = 20_000

# Statuses of a listing that stop its level; of several, the highest gives the reason.
_RANKS = {"paused": 1, "excluded": 2, "needs_review": 3}

NEVER_READ: Final = "never_read"  # the doubt of a level whose number on its channel nobody has seen


def why_stopped(channel_status: str, listing_status: str) -> str:
    """Return what stops a level of one listing, "" for nothing: as `recompute` says it of several."""
    if channel_status != "active":
        return f"channel {channel_status}"
    return "" if listing_status == "active" else listing_status


def waits_for_nothing(now: Any) -> ColumnElement[bool]:
    """The condition of a level whose due time is not a wait that the platform caused: no failures in a row, and no write
    of ours that may still land."""
    level = inventory_levels.c
    return and_(level.failures == 0, or_(level.linger_until.is_(None), level.linger_until <= now))


def recompute(connection: Connection, skus: Collection[str], now: datetime, *, channel: str | None = None) -> None:
    """Bring the levels of `skus` up to date with stock, rules, status and mapping, in the caller's write transaction;
    those of `channel` alone where nothing else has changed, as a transaction of that channel must.

    - desired: the least of the rules' results over the level's listings; a held level shows the number that it had when
      held, less what was sold since, and never more than is available (at several locations: less all that the stock has
      lost since), until what held it is gone: its rules want something again, or no more than before the change. A level
      whose channel or listing is paused, in review, excluded or retired is stopped, and its desired left as it is.
    - A level that becomes pushable is uncertain (`never_read`, `resumed`) with nothing expected, so that it is read first,
      as a whole.
    - A changed desired is due at once, unless the platform makes the level wait (`waits_for_nothing`); a decrease below
      what is expected doesn't wait for that either.
    """
    # In their order: levels that were made by a file lie as its SKUs do, those of neighbours on the same pages. With a tenth of
    # 100,000 SKUs moved, a file goes in in 4.2 s instead of 4.5 (benchmarks/imports.py, inventory of a listed stock, SQLite).
    for part in chunks(sorted(skus), SKUS_AT_ONCE):
        parameters = {"now": now, "skus": as_parameter(part)}
        if channel is not None:
            parameters["of_channel"] = channel
        for statement in _RECOMPUTE[channel is not None]:
            connection.execute(statement, parameters)


def _recompute(*, shared: bool, of_channel: bool) -> Update:
    """Build the statement for levels with several listings (`shared`), or for those with one: no sorting, a third faster."""
    level, listing, channel = inventory_levels.c, platform_mapping.c, channels.c
    central, entry = central_inventory.c, stock_ledger.c
    now = bindparam("now", type_=level.due_at.type)
    skus = texts("skus")
    # Not the column itself: SQLite would walk through all of the channel's levels by its index.
    chosen = (level.channel.concat("") == bindparam("of_channel"),) if of_channel else ()

    # One row a listing: what its rules make of the stock. Made once, as the targets below: SQLite would work each
    # expression out wherever it is used.
    shelf = greatest(central.quantity - central.reserved_quantity, 0)
    rules = RuleColumns.of(listing, channel)
    offers = (
        select(
            level.id,
            level.acknowledged_quantity,
            level.desired,
            level.desired_sequence,
            level.held_quantity,
            level.held_sequence,
            # The locations of an item part its stock, and each falls by all that is lost: none knows what the others show.
            case((rules.percent_before.is_not(None), level.held_sequence)).label("parted_since"),
            central.sku,
            central.version,
            shelf.label("shelf"),
            channel.status.label("channel_status"),
            case((listing.status != "retired", result_sql(shelf, rules, central.status == "active"))).label("result"),
            rules.dead_band.label("dead_band"),
            rules.percent_before.is_(None).label("only_location"),
            channel.low_stock,
            case(_RANKS, value=listing.status, else_=0).label("rank"),
            greatest(listing.rules_revision, channel.rules_revision).label("revision"),
        )
        .select_from(skus)
        .join(inventory_levels, level.central_sku == skus.c.value)
        .join(central_inventory, central.sku == level.central_sku)
        .join(channels, channel.name == level.channel)
        .join(platform_mapping, listing.level_id == level.id)
        .where(level.shared.is_(shared), *chosen)
        .cte("offers")
        .prefix_with("MATERIALIZED")
    )
    offer: Any = offers.c
    source: Any = offers
    most = case((offer.only_location, offer.shelf), else_=offer.result)
    banded = dead_band_sql(offer.result, most, offer.dead_band, offer.acknowledged_quantity, offer.low_stock)
    if shared:
        merging = [func.min(banded).label("result")]
        kept = (
            "desired",
            "desired_sequence",
            "held_quantity",
            "held_sequence",
            "parted_since",
            "sku",
            "version",
            "shelf",
        )
        merging += [func.max(offer[name]).label(name) for name in (*kept, "channel_status", "rank", "revision")]
        source = select(offer.id, *merging).group_by(offer.id).subquery("merged")
        offer = source.c
        banded = offer.result

    # One row a level.
    sold = (
        select(func.coalesce(func.sum(entry.reserved_delta - entry.moved_delta), 0))
        .where(entry.sku == offer.sku, entry.sequence > offer.held_sequence, entry.order_id != "")
        .scalar_subquery()
    )
    lost = (
        select(func.coalesce(func.sum(entry.reserved_delta - entry.quantity_delta), 0))
        .where(entry.sku == offer.sku, entry.sequence > offer.parted_since)
        .scalar_subquery()
    )
    stops = or_(offer.channel_status != "active", offer.rank > 0, offer.result.is_(None))
    reason = case(
        (offer.channel_status != "active", literal("channel ", Text) + offer.channel_status),
        *((offer.rank == rank, status) for status, rank in _RANKS.items()),
        (offer.result.is_(None), "retired"),
        else_="",
    )
    target = (
        select(
            offer.id,
            reason.label("stopped_reason"),
            offer.desired.label("before"),
            offer.shelf,
            case((offer.held_quantity.is_not(None), greatest(greatest(sold, lost), 0))).label("fallen"),
            banded.label("wanted"),
            case((stops, offer.desired_sequence), else_=offer.version).label("sequence"),
            offer.revision,
        )
        .select_from(source)
        .cte("targets")
        .prefix_with("MATERIALIZED")
        .c
    )
    pushable = target.stopped_reason == ""
    is_held = target.fallen.is_not(None)
    held = least(target.shelf, greatest(level.held_quantity - target.fallen, 0))
    # What is wanted neither zeroes nor raises any more: the change was taken back, or sales have caught up with it.
    gone = case(
        (level.held_zeroes.is_(True), or_(target.wanted > 0, held == 0)),
        (level.held_zeroes.is_(False), target.wanted <= greatest(level.held_limit - target.fallen, 0)),
        else_=false(),
    )
    holds = and_(pushable, is_held, not_(gone))
    desired = case((not_(pushable), target.before), (holds, held), else_=target.wanted)
    freed = and_(pushable, is_held, gone)
    resumes = and_(level.pushable.is_(False), pushable)
    nothing_known = and_(level.acknowledged_quantity.is_(None), level.observed_quantity.is_(None))
    doubt = case((nothing_known, NEVER_READ), else_="resumed")
    is_change = and_(pushable, or_(desired != level.effective_quantity, level.uncertain.is_not(None), resumes))
    news = or_(desired != level.desired, resumes)
    may_go = or_(func.coalesce(desired < level.expected, false()), waits_for_nothing(now))
    return (
        update(inventory_levels)
        .where(level.id == target.id)
        .values(
            pushable=pushable,
            stopped_reason=target.stopped_reason,
            desired=desired,
            held_quantity=case((freed, None), else_=level.held_quantity),
            held_limit=case((freed, None), else_=level.held_limit),
            held_zeroes=case((freed, None), else_=level.held_zeroes),
            held_sequence=case((freed, None), else_=level.held_sequence),
            held_reason=case((freed, ""), else_=level.held_reason),
            held_desired=case((holds, target.wanted), (freed, None), else_=level.held_desired),
            # That it stays as it is was decided about other rules.
            held_dropped_at=case((level.rules_revision < target.revision, None), else_=level.held_dropped_at),
            desired_sequence=target.sequence,
            rules_revision=target.revision,
            uncertain=case((resumes, func.coalesce(level.uncertain, doubt)), else_=level.uncertain),
            uncertain_since=case((resumes, func.coalesce(level.uncertain_since, now)), else_=level.uncertain_since),
            expected=case((resumes, None), else_=level.expected),
            touched=case((resumes, level.touched + 1), else_=level.touched),
            read_whole_at=case((resumes, None), else_=level.read_whole_at),
            out_of_step_since=case((is_change, func.coalesce(level.out_of_step_since, now)), else_=None),
            due_at=case((and_(level.due_at > now, news, may_go), now), else_=level.due_at),
        )
    )


_RECOMPUTE = {
    one: (_recompute(shared=False, of_channel=one), _recompute(shared=True, of_channel=one)) for one in (False, True)
}
