"""Acknowledgements are recorded together; what comes of it is what comes of recording each level by itself."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import inventory_levels, sync_logs
from invsync_dagster.platforms.contract import Limits, Outcome, Result
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.sync import levels
from invsync_dagster.sync.claims import Due, claim_writes
from invsync_dagster.sync.record import Attempted, record_writes
from invsync_dagster.sync.report import PushReport
from tests import databases

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIMITS = Limits(write_batch=100, read_batch=100, rate=1.0, burst=1.0)
WORKER: Any = SimpleNamespace(name="worker")
NO_JITTER: Any = SimpleNamespace(random=lambda: 0.5)

OUTCOMES = [Outcome(Result.ACKNOWLEDGED)] * 5 + [
    Outcome(Result.REJECTED, code="wrong", message="no", recovery=Recovery.REJECT),
    Outcome(Result.UNKNOWN, code="lost", message="cut", recovery=Recovery.SETTLE),
]

LEVEL = inventory_levels.c
MEANWHILE: list[dict[str, Any]] = [
    {"touched": LEVEL.touched + 1, "expected": LEVEL.expected - 1, "uncertain": "own_sale", "uncertain_since": NOW},
    {"desired": LEVEL.desired + 1, "desired_sequence": 99},
    {"rules_revision": 9, "desired": 0},
    {"claim": "of another", "attempt": LEVEL.attempt + 1, "sent_quantity": 1},
    {"claim": None},
    {"expected": None},
    {"pushable": False},
]


def a_level(rng: random.Random, number: int) -> dict[str, Any]:
    acknowledged, uncertain = rng.choice([None, 3, 5]), rng.choice([None, None, None, "own_sale"])
    return {
        "id": number,
        "channel": rng.choice(["shop", "shop", "other"]),
        "item_id": f"i{number}",
        "central_sku": f"S{number}",
        "desired": rng.randrange(6),
        "desired_sequence": rng.randrange(9),
        "rules_revision": rng.randrange(3),
        "touched": rng.randrange(4),
        "attempt": rng.randrange(4),
        "effective_quantity": -1 if acknowledged is None else acknowledged,
        "acknowledged_quantity": acknowledged,
        "expected": rng.choice([None, acknowledged, 7]),
        "uncertain": uncertain,
        "uncertain_since": uncertain and NOW - SECOND,
        "linger_until": rng.choice([None, None, NOW - SECOND, NOW + 60 * SECOND]),
        "out_of_step_since": rng.choice([None, NOW - 60 * SECOND]),
        "due_at": NOW - SECOND,
        "failures": rng.randrange(3),
        "accepted_quantity": rng.choice([None, 4]),
    }


def recorded(seed: int) -> tuple[Any, ...]:
    """Return all levels, the logs in no order, and the report, after one batch beside which other things happened."""
    rng, engine = random.Random(seed), databases.fresh_engine()
    with write_transaction(engine) as connection:
        connection.execute(insert(inventory_levels), [a_level(rng, number) for number in range(1, 31)])
        claims = claim_writes(connection, WORKER, "token", Due("shop", NOW), LIMITS, NOW + 60 * SECOND)
        for claim in claims:
            if rng.random() < 0.5:
                happened = update(inventory_levels).where(LEVEL.id == claim.level_id).values(rng.choice(MEANWHILE))
                connection.execute(happened)
    report, attempted = PushReport("shop"), Attempted("shop", "token", "key", "run", NOW, NOW + SECOND)
    outcomes = [rng.choice(OUTCOMES) for _ in claims]
    with write_transaction(engine) as connection:
        record_writes(connection, attempted, claims, outcomes, LIMITS, NO_JITTER, report)
    columns = [column for column in sync_logs.c if column.name != "id"]
    with engine.connect() as connection:
        after = connection.execute(select(inventory_levels).order_by(LEVEL.id)).all()
        logs = sorted(map(repr, connection.execute(select(*columns)).all()))
    databases.give_back(engine)
    return after, logs, (report.pushed, report.acknowledged, report.rejected, report.unknown, sorted(report.latencies))


@pytest.mark.usefixtures("each_database")
def test_recording_together_does_what_recording_one_by_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    together = [recorded(seed) for seed in range(25)]
    assert sum(counts[1] for _, _, counts in together) > 100
    monkeypatch.setattr(levels, "undisturbed", lambda *_: set())
    assert [recorded(seed) for seed in range(25)] == together
