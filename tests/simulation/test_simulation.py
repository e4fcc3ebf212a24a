"""A few seeds of the small world: no stale write, no final difference. `python -m tests.simulation` runs as many as asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests import databases
from tests.simulation.seeds import Verdict, live


@pytest.mark.parametrize(("seed", "marketplaces"), [(1, False), (2, False), (3, True)])
def test_a_world_with_a_bad_network_and_deaths_ends_in_step_without_a_stale_write(
    seed: int, marketplaces: bool
) -> None:
    verdict = live(seed, marketplaces=marketplaces)
    assert verdict.tally.orders >= 300
    judge(verdict)


# A statement costs a server's round trip: the large world takes half a minute there.
SMALL: dict[str, Any] = {"skus": 40, "orders": 100}


def test_so_it_does_on_postgresql_and_the_same_happens_there() -> None:
    databases.use("postgresql")
    try:
        verdict = live(1, **SMALL)
    finally:
        databases.use("sqlite")
    judge(verdict)
    assert verdict.tally == live(1, **SMALL).tally


def judge(verdict: Verdict) -> None:
    assert not verdict.faults, verdict.render()
    tally = verdict.tally
    happened = {
        "cancels": tally.cancels,
        "shipments": tally.shipments,
        "refunds": tally.refunds,
        "foreign edits": tally.edits,
        "webhooks lost": tally.webhooks_lost,
        "webhooks doubled": tally.webhooks_doubled,
        "webhooks late": tally.webhooks_late,
        "deaths": tally.deaths,
        "two processes at once": tally.side_by_side,
    }
    assert all(happened.values()), happened


def test_a_seed_replays_exactly() -> None:
    assert live(3, **SMALL, marketplaces=True).tally == live(3, **SMALL, marketplaces=True).tally
