"""What a push passes over: why nothing is written of a SKU at a channel that takes writes, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection
from shlex import quote
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, select

from invsync_dagster.inventory.tables import inventory_levels, platform_mapping


class Unpushed(NamedTuple):
    """SKUs of which a push of a channel writes nothing, or not what their rules want, with a sentence each.

    `stopped` are listed there; `unlisted` aren't, or are left to the channel, by SKU.
    """

    stopped: list[str]
    unlisted: dict[str, str]


def unpushed(connection: Connection, channel: str, skus: Collection[str]) -> Unpushed:
    """Look at the listings that `skus` have on `channel`, paused or not itself."""
    listing, level = platform_mapping.c, inventory_levels.c
    query: Select[Any] = (
        select(
            listing.central_sku,
            listing.status,
            listing.status_reason,
            level.pushable,
            level.stopped_reason,
            level.held_quantity,
            level.held_reason,
            level.held_dropped_at,
        )
        .join(inventory_levels, level.id == listing.level_id)
        .where(listing.platform_name == channel, listing.central_sku.in_(skus))
        .order_by(listing.id)
    )
    listings: dict[str, list[Row[Any]]] = {sku: [] for sku in skus}
    for row in connection.execute(query):
        listings[row.central_sku].append(row)
    stopped: list[str] = []
    unlisted: dict[str, str] = {}
    for sku, rows in listings.items():
        offered = [row for row in rows if row.status not in ("excluded", "retired")]
        if offered:
            stopped += [f"{sku} {why}" for row in offered if (why := _why_stopped(row, channel))]
        else:
            unlisted[sku] = f"{sku} {_why_unlisted(rows, channel)}"
    return Unpushed(list(dict.fromkeys(stopped)), unlisted)


def _why_stopped(row: Row[Any], channel: str) -> str:
    because = f" ({row.status_reason})" if row.status_reason else ""
    if row.status == "paused":
        mend = f"`invsync listings resume --channel {channel} --reason … {_typed(row.central_sku)}`"
        return f"is paused{because}: {mend}"
    if row.status == "needs_review":
        return f"is in review{because}: mend it there or in the mapping, as `invsync discover {channel}` proposes"
    if not row.pushable and not row.stopped_reason.startswith("channel "):
        stands = row.stopped_reason.replace("_", " ")
        explain = f"`invsync explain {_typed(row.central_sku)}`"
        return f"is stopped with another listing of the same number, which is {stands}: {explain}"
    if row.held_quantity is not None and row.held_dropped_at is None:
        return f"is held at {row.held_quantity} ({row.held_reason}): `invsync held list --channel {channel}`"
    return ""


def _typed(sku: str) -> str:
    """Say a SKU as a shell takes it, as a command's last word: `A B`, `x&y` and `-5` are SKUs too."""
    return f"-- {quote(sku)}" if sku.startswith("-") else quote(sku)


def _why_unlisted(rows: Collection[Row[Any]], channel: str) -> str:
    last = max(rows, key=lambda row: row.status == "excluded", default=None)
    if last is None:
        return f"is not listed on {channel}: import its mapping, as `invsync discover {channel}` proposes"
    because = f" ({last.status_reason})" if last.status_reason else ""
    if last.status == "excluded":
        return f"is left to {channel}{because}: nothing is written there"
    return f"is retired on {channel}{because}: import its mapping with the status active to sell it there again"
