"""A few seeds of the small world: no stale write, no final difference. `python -m tests.simulation` runs as many as asked."""

from __future__ import annotations

import pytest

from tests.simulation.seeds import live


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_world_with_a_bad_network_and_deaths_ends_in_step_without_a_stale_write(seed: int) -> None:
    verdict = live(seed)
    assert not verdict.faults, verdict.render()
    tally = verdict.tally
    assert tally.orders >= 300
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
    assert live(3).tally == live(3).tally
