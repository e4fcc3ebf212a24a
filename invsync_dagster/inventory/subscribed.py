"""What was subscribed to at the channels: since when deliveries are expected, and what had to be mended again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from invsync_dagster.inventory.bulk import upsert_rows
from invsync_dagster.inventory.tables import channels, subscription_mends

# What is mended twice within this time is dropped by the platform on purpose: a single failure mends for good.
AGAIN_WITHIN = timedelta(days=1)

_COLUMNS = tuple(subscription_mends.c[name] for name in ("channel", "topic", "mended_at", "mended_before_at"))
_OF_CHANNEL = select(subscription_mends).where(subscription_mends.c.channel == bindparam("of_channel"))


def note_mends(connection: Connection, channel: str, made: Mapping[str, bool], now: datetime) -> None:
    """Note the kinds of notifications that were made (True) or switched on again (False) at `now`, in the caller's
    `write_transaction`. One that is made for the first time is set up, and no mend."""
    known = {row.topic: row.mended_at for row in connection.execute(_OF_CHANNEL, {"of_channel": channel})}
    rows = [
        (channel, topic, None if is_made and topic not in known else now, known.get(topic))
        for topic, is_made in sorted(made.items())
    ]
    upsert_rows(connection, subscription_mends, ("channel", "topic"), _COLUMNS, rows)


def mended_again(connection: Connection, channel: str, now: datetime) -> dict[str, datetime]:
    """Return what was mended for the second time within a day, by kind of notification with the last time, for a day."""
    rows = connection.execute(_OF_CHANNEL, {"of_channel": channel})
    return {
        row.topic: row.mended_at
        for row in rows
        if row.mended_at is not None
        and row.mended_before_at is not None
        and row.mended_at - row.mended_before_at < AGAIN_WITHIN
        and now - row.mended_at < AGAIN_WITHIN
    }


def expect_deliveries(connection: Connection, channel: str, since: datetime | None) -> None:
    """Note that all is subscribed to, if that is new (`since`), or that nothing is (None)."""
    at = channels.c.subscribed_at
    changes = at.is_(None) if since is not None else at.is_not(None)
    connection.execute(update(channels).where(channels.c.name == channel, changes).values(subscribed_at=since))
