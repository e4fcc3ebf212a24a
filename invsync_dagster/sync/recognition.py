"""Recognises a shop: before a channel is worked with for the first time, or under another address, some listings are read.

What we know of a level is of the shop where it was read. In another one a certain number would be written unread.
"""

from __future__ import annotations

import hashlib
import json

from sqlalchemy import Connection, bindparam, select, update

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels
from invsync_dagster.platforms.contract import LevelReference, QuickReader, Reading
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync.another_shop import ANOTHER_SHOP, AT_LEAST, SHARE, another_shop, is_unknown
from invsync_dagster.sync.articles import told_apart
from invsync_dagster.sync.calls import Calls
from invsync_dagster.sync.readings import in_readings
from invsync_dagster.sync.workspace import Workspace


def require_our_shop(ws: Workspace, channel: Channel, recognised: str, calls: Calls) -> None:
    """Return if the channel's address is the one where its shop was `recognised`, else once it is recognised there.

    Raises as `recognise`.
    """
    if recognised != address_of(channel):
        # At the first contact each level is read before it is written anyway.
        recognise(ws, channel, calls, least=1 if recognised else AT_LEAST)


def is_elsewhere(connection: Connection, channel: Channel) -> bool:
    """Say whether the channel's address is another one than where its shop was recognised, and no push has been there yet."""
    was = connection.execute(select(channels.c.recognised).where(channels.c.name == channel.name)).scalar_one_or_none()
    return bool(was) and was != address_of(channel)


def recognise(ws: Workspace, channel: Channel, calls: Calls, *, least: int = AT_LEAST) -> None:
    """Read some levels, and note that the shop is ours if it knows most of them by the names that they are mapped with.

    Of less than `least` listings none need be there, and where nothing is mapped there is nothing to recognise it by.
    Raises `PlatformError`, `OutOfTimeError`; then nothing may be written.
    """
    platform, name = calls.platform, channel.name
    limits = platform.limits
    # A location may be a call of its own.
    most = max(limits.read_locations or limits.read_batch, AT_LEAST)
    with ws.engine.connect() as connection:
        some = connection.execute(_SAMPLE, {"of_channel": name, "most": most}).all()
    if not some:
        return
    read = platform.read_quickly if isinstance(platform, QuickReader) else platform.read
    by_level: dict[int, Reading] = {}
    for part in in_readings(some, limits):
        references = [LevelReference(row.item_id, row.location_id) for row in part]
        answer = calls.ask(limits.read_cost, lambda asked=references: read(asked))  # type: ignore[misc]
        by_level |= {row.id: reading for row, reading in zip(part, answer.readings, strict=True)}
    with ws.engine.connect() as connection:
        readings = told_apart(connection, name, by_level).values()
    missing = sum(is_unknown(reading.problem) for reading in readings)
    if len(some) >= least and missing > len(some) * SHARE:
        raise PlatformError(Recovery.REVIEW, ANOTHER_SHOP, another_shop(name, missing, len(some)))
    with write_transaction(ws.engine, name) as connection:
        connection.execute(update(channels).where(channels.c.name == name).values(recognised=address_of(channel)))


def address_of(channel: Channel) -> str:
    """Return what stands for where a channel's settings lead; the names of its secrets are among them, their values are not.

    16 hexadecimal digits.
    """
    values = {**channel.settings.model_dump(mode="json"), "": [channel.platform, channel.environment]}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


_SAMPLE = (
    select(inventory_levels.c.id, inventory_levels.c.item_id, inventory_levels.c.location_id)
    .where(inventory_levels.c.channel == bindparam("of_channel"), inventory_levels.c.pushable.is_(True))
    .order_by(inventory_levels.c.id)
    .limit(bindparam("most"))
)
