"""The job after a change of channels' rules or status: held beyond the limits at once, then made in short transactions."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import Connection, Engine, select, update

from invsync_dagster.inventory import breaker, levels
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.rule_changes import rule_change
from invsync_dagster.inventory.tables import channels, inventory_levels

# Levels that one transaction recomputes, so that sales wait for it no longer than about 50 ms.
LEVELS_A_CHUNK = 2_000


def hold_beyond_limits(connection: Connection, now: datetime) -> int:
    """Judge the channels whose rules or status are new, in the transaction that made them so; return how many levels are held.

    The change is tried and taken back, and judged as a whole, before anything else can recompute a level by the new rules:
    a count, an import, a sale. Of a million levels that takes a second or two, in which nobody else writes.
    """
    changed = _changed(connection)
    if not changed:
        return 0
    level = inventory_levels.c
    found: dict[str, breaker.Moves] = defaultdict(dict)
    trial = connection.begin_nested()
    for name, revision in changed:
        query = select(level.central_sku).where(level.channel == name, level.rules_revision < revision).distinct()
        for skus in chunks(connection.execute(query).scalars().all(), levels.SKUS_AT_ONCE):
            before = breaker.shown(connection, level.central_sku, skus, level.channel == name)
            # This channel's alone: another one with new rules must still be found as it was.
            levels.recompute(connection, skus, now, channel=name)
            found[name] |= breaker.moves(before, breaker.shown(connection, level.id, before.keys())).get(name, {})
    trial.rollback()
    held = 0
    for name, revision in changed:
        # Only rules are undone by their number.
        what = "the channel" if rule_change(connection, revision) else "the channel's status"
        held += len(breaker.hold_moves(connection, name, found[name], f"change {revision} of {what}", now))
    return held


def catch_up(engine: Engine, now: datetime) -> int:
    """Recompute the levels of channels whose rules or status changed, in short transactions; return how many levels.

    Until it has come by, a level goes on with what it had. It may die anywhere and be called again: what is recomputed
    carries the revision, and the channel is marked done at the end.
    """
    with engine.connect() as connection:
        changed = _changed(connection)
    return sum(_catch_up_channel(engine, name, revision, now) for name, revision in changed)


def _changed(connection: Connection) -> list[tuple[str, int]]:
    channel = channels.c
    query = select(channel.name, channel.rules_revision).where(channel.rules_revision > channel.recomputed_revision)
    return [(row.name, row.rules_revision) for row in connection.execute(query.order_by(channel.name))]


def _catch_up_channel(engine: Engine, name: str, revision: int, now: datetime) -> int:
    level = inventory_levels.c
    after, total = 0, 0
    while True:
        with write_transaction(engine) as connection:
            rows = connection.execute(
                select(level.id, level.central_sku)
                .where(level.channel == name, level.id > after, level.rules_revision < revision)
                .order_by(level.id)
                .limit(LEVELS_A_CHUNK)
            ).all()
            if not rows:
                connection.execute(update(channels).where(channels.c.name == name).values(recomputed_revision=revision))
                return total
            levels.recompute(connection, {row.central_sku for row in rows}, now)
        after = rows[-1].id
        total += len(rows)
