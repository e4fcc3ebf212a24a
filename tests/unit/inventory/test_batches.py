"""The levels of a full run's batch: each is in one batch, the one that its id says, however they lie between other channels'."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select

from invsync_dagster.inventory.batches import batch_of, in_batch
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import inventory_levels
from tests import databases
from tests.unit.inventory.stock import START

LEVEL = inventory_levels.c


@pytest.mark.usefixtures("each_database")
@pytest.mark.parametrize("batches", [1, 3, 16])
def test_every_level_is_in_the_one_batch_that_its_id_says(batches: int) -> None:
    engine = databases.fresh_engine()
    ids = [number for number in range(1, 700) if number % 7 and not 200 < number < 330]
    rows = [
        {"id": one, "channel": "ab"[one % 2], "item_id": str(one), "central_sku": "A", "due_at": START} for one in ids
    ]
    with write_transaction(engine) as connection:
        connection.execute(insert(inventory_levels), rows)
    seen: list[int] = []
    with engine.connect() as connection:
        for batch in range(batches):
            query = select(LEVEL.id).where(in_batch(batch, batches), LEVEL.channel == "a")
            found = list(connection.execute(query).scalars())
            assert {batch_of(one, batches) for one in found} <= {batch}
            seen += found
    assert sorted(seen) == [one for one in ids if one % 2 == 0]


@pytest.mark.usefixtures("each_database")
def test_without_a_level_every_batch_is_empty() -> None:
    with databases.fresh_engine().connect() as connection:
        query = select(func.count()).select_from(inventory_levels).where(in_batch(3, 16))
        assert connection.execute(query).scalar_one() == 0
