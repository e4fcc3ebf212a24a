"""Order lines that a location ships which isn't kept in step: told by their documents, and asked for anew once it is mapped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select

from invsync_dagster.events import LineReference
from invsync_dagster.inventory.bulk import among, as_parameter, chunks, upsert_rows
from invsync_dagster.inventory.orders import Document, Line
from invsync_dagster.inventory.references import resolve
from invsync_dagster.inventory.tables import OPEN_ELSEWHERE, inventory_levels, order_lines, unclear_orders

_MAPPED = "a location that may ship it is mapped now"


def sold_elsewhere(
    connection: Connection,
    documents: Mapping[tuple[str, str, str], Document],
    stored: Mapping[tuple[str, str, str], Line],
) -> set[tuple[str, str, str]]:
    """Return the lines whose documents say that their units are taken from where nothing is kept in step.

    What was booked of a location stays booked though another one is kept in step now: its sales were ours.
    """
    told: dict[str, dict[tuple[str, str, str], LineReference]] = defaultdict(dict)
    for key, document in documents.items():
        if document.line.reference.locations:
            told[key[0]][key] = document.line.reference
    found = set()
    for channel, references in told.items():
        targets = resolve(connection, channel, set(references.values()))
        found |= {key for key, reference in references.items() if reference in targets and targets[reference].elsewhere}
    booked = {
        key: level_id
        for key in found
        if key in stored and not stored[key].ignored_reason and (level_id := stored[key].level_id) is not None
    }
    if booked:
        rows = connection.execute(_LOCATIONS, {"ids": as_parameter(set(booked.values()))})
        places = {row.id: row.location_id for row in rows}
        found -= {
            key for key, level_id in booked.items() if places[level_id] in documents[key].line.reference.locations
        }
    return found


_LOCATIONS = select(inventory_levels.c.id, inventory_levels.c.location_id).where(among(inventory_levels.c.id, "ids"))


_ANY_ELSEWHERE = (
    select(order_lines.c.order_id)
    .where(OPEN_ELSEWHERE, order_lines.c.channel.concat("") == bindparam("of_channel"))
    .limit(1)
)


def ask_again(connection: Connection, channel: str, names: Iterable[LineReference], now: datetime) -> None:
    """Have the orders asked for that were left out and aren't shipped yet, of listings called `names` that are kept in step
    now: which location ships a line isn't stored, and its units are promised if it is this one."""
    line = order_lines.c
    if connection.execute(_ANY_ELSEWHERE, {"of_channel": channel}).first() is None:
        return
    for part in chunks(names):
        query = select(line.order_id).where(
            OPEN_ELSEWHERE,
            # As it stands, SQLite would rather walk through all of the channel's lines than take the index.
            line.channel.concat("") == channel,
            line.ordered - line.cancelled > line.shipped,
            or_(
                line.platform_sku.in_({name.platform_sku for name in part} - {""}),
                line.item_id.in_({name.item_id for name in part} - {""}),
                line.variant_id.in_({name.variant_id for name in part} - {""}),
            ),
        )
        rows = [(channel, order_id, _MAPPED, now) for order_id in set(connection.execute(query).scalars())]
        upsert_rows(connection, unclear_orders, ("channel", "order_id"), tuple(unclear_orders.c), rows)
