"""The job after a change of channels' rules or status: judged by the breaker, then made, in short transactions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Engine, select, update

from invsync_dagster.inventory import breaker, levels
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels

# Levels that one transaction recomputes, so that sales wait for it no longer than about 50 ms.
LEVELS_A_CHUNK = 2_000


def catch_up(engine: Engine, now: datetime) -> int:
    """Recompute the levels of channels whose rules or status changed; return how many levels.

    The change of a channel is tried first and taken back, and judged as a whole: what it would zero or raise beyond the
    channel's limits is then held level by level (`breaker`). Until the job has come by, a level goes on with what it had.
    It may die anywhere and be called again: what is recomputed carries the revision, and the channel is marked done last.
    """
    channel = channels.c
    with engine.connect() as connection:
        query = select(channel.name, channel.rules_revision).where(channel.rules_revision > channel.recomputed_revision)
        changed = {row.name: row.rules_revision for row in connection.execute(query)}
    verdicts = {name: _judge(engine, name, revision, now) for name, revision in changed.items()}

    def make(connection: Connection, skus: set[str]) -> None:
        # Other channels' levels of these SKUs are recomputed too: their rules may be new as well.
        for name, moves in _recompute(connection, skus, list(changed), now).items():
            breaker.hold_moves(connection, moves, verdicts[name], now)

    total = 0
    for name, revision in changed.items():
        total += _in_chunks(engine, name, revision, make)
        with write_transaction(engine) as connection:
            connection.execute(update(channels).where(channel.name == name).values(recomputed_revision=revision))
    return total


def _judge(engine: Engine, name: str, revision: int, now: datetime) -> breaker.Verdict:
    """Try the change of a channel, take it back, and say whether it may pass."""
    count: Counter[str] = Counter()

    def attempt(connection: Connection, skus: set[str]) -> None:
        trial = connection.begin_nested()
        moves = _recompute(connection, skus, [name], now).get(name, breaker.Moves())
        trial.rollback()
        count.update(zeroed=len(moves.zeroed), raised=len(moves.raised))

    _in_chunks(engine, name, revision, attempt)
    with engine.connect() as connection:
        return breaker.judge(connection, name, count["zeroed"], count["raised"], f"change {revision} of the rules")


def _recompute(connection: Connection, skus: set[str], changed: list[str], now: datetime) -> dict[str, breaker.Moves]:
    level = inventory_levels.c
    before = breaker.shown(connection, level.central_sku, skus, level.channel.in_(changed))
    levels.recompute(connection, skus, now)
    return breaker.moves(before, breaker.shown(connection, level.id, before.keys()))


def _in_chunks(engine: Engine, name: str, revision: int, work: Callable[[Connection, set[str]], None]) -> int:
    """Call `work` with the SKUs of each chunk of levels behind the revision, in a transaction each; return how many levels."""
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
                return total
            work(connection, {row.central_sku for row in rows})
        after = rows[-1].id
        total += len(rows)
