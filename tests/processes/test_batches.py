"""Two processes in one channel's full run, and pushes beside them: each batch is done, the rate is kept, no push waits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.tables import inventory_levels
from invsync_dagster.sync.push import push_channel
from tests import databases
from tests.processes import member
from tests.processes.batches import ASKS, IN_STOCK, LIMITS, WORKERS, Told
from tests.processes.member import CHANNEL, SKUS
from tests.processes.test_processes import fill, run_together


@pytest.mark.usefixtures("each_database")
def test_two_processes_share_a_full_run_and_its_budget_and_no_push_waits_for_them(tmp_path: Path) -> None:
    url = databases.fresh_url(tmp_path)
    engine = databases.opened(url)
    fill(engine)
    ws = member.workspace(tmp_path, url, 0, member.Shop(member.Told()))
    assert push_channel(ws, CHANNEL, run_id="", deadline=ws.clock.now() + timedelta(seconds=60)).acknowledged == SKUS
    ws.close()

    *workers, pushes = (Told(**answer) for answer in run_together("batches", tmp_path, url, WORKERS + 1))

    assert [worker.problems for worker in workers] == [[]] * WORKERS
    assert all(worker.levels for worker in workers), "only one process had batches: nothing was tested"
    assert sum(worker.levels for worker in workers) == SKUS
    assert sum(worker.drift for worker in workers) == sum(worker.repaired for worker in workers) == SKUS // 10
    mended = sorted(tuple(row) for worker in workers for row in worker.written)
    assert mended == [(f"SKU-{n:03d}", IN_STOCK) for n in range(5, SKUS, 10)]
    with engine.connect() as connection:
        levels = connection.execute(select(inventory_levels)).all()
    assert {(level.acknowledged_quantity, level.uncertain, level.claim) for level in levels} == {(IN_STOCK, None, None)}
    assert pushes.waits == [0.0] * ASKS
    starts = sorted(start for told in (*workers, pushes) for start in told.starts)
    assert len(starts) >= SKUS + ASKS
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= LIMITS.burst + (starts[last] - begin) * LIMITS.rate
