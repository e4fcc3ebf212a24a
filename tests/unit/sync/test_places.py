"""Levels of one product, or location, that one call reads or writes together, though they stand far apart in the queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from invsync_dagster.platforms.contract import LevelReference, Limits
from invsync_dagster.sync import claims
from invsync_dagster.sync.claims import Due
from invsync_dagster.sync.readings import in_readings
from tests.simulation.processes import SimulatedWorker
from tests.unit.sync.alibaba_stage import NAME, AlibabaStage

pytestmark = pytest.mark.usefixtures("each_database")

# Seven products of six SKUs: of each number in stock there is one SKU of each product.
STOCK = {f"P{product}-{number}": 10 * number for number in range(6) for product in range(7)}
PRODUCTS = {sku: 100 + int(sku[1]) for sku in STOCK}


def test_a_product_is_read_by_one_call_and_written_by_one_whatever_its_skus_show(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, STOCK, products=PRODUCTS)
    assert (stage.products_read(), stage.writes()) == (14, 0)  # some levels of each to recognise the shop, then all
    stage.state({sku: quantity + 1 for sku, quantity in STOCK.items()})
    stage.push()
    assert (stage.products_read(), stage.writes()) == (14, 7)
    assert {sku: stage.shown(sku) for sku in STOCK} == {sku: quantity + 1 for sku, quantity in STOCK.items()}


def test_the_claim_takes_the_products_of_the_most_urgent_levels(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, STOCK, products=PRODUCTS)
    stage.state({sku: quantity + (sku[1] == "3") for sku, quantity in STOCK.items()} | {"P5-4": 39})
    due = Due(NAME, stage.clock.now())
    limits = stage.ws.platform(stage.ws.channel(NAME)).limits
    with stage.engine.begin() as connection:
        worker, until = SimulatedWorker("process-1", set()), stage.clock.now()
        first = claims.claim_writes(connection, worker, "one", due, limits, until)
        second = claims.claim_writes(connection, worker, "two", due, limits, until)
        assert claims.claim_writes(connection, worker, "three", due, limits, until) == []
    assert [claim.sku for claim in first] == [f"P3-{number}" for number in range(6)]
    assert [claim.sku for claim in second] == ["P5-4"]


def test_the_levels_of_a_product_are_found_by_their_index(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, STOCK, products=PRODUCTS)
    if stage.engine.dialect.name != "sqlite":
        return
    due = Due(NAME, stage.clock.now())
    statement = claims._CLAIM_WRITES[*due.kind, claims._Where.SOMEWHERE, False].compile(dialect=stage.engine.dialect)
    with stage.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (None,) * len(statement.positiontup)).all()
    assert "ix_work_queue_places (channel=? AND location_id=?)" in str(plan)


@pytest.mark.parametrize(
    ("batch", "locations", "sizes"), [(4, 0, [4, 4, 1]), (4, 2, [4, 2, 3]), (9, 1, [3, 3, 3]), (2, 9, [2] * 4 + [1])]
)
def test_a_reading_asks_for_as_many_levels_and_locations_as_it_may(
    batch: int, locations: int, sizes: list[int]
) -> None:
    limits = Limits(write_batch=1, read_batch=batch, rate=1.0, burst=1.0, read_locations=locations)
    levels = [LevelReference(str(number), str(number % 3)) for number in range(9)]
    parts = list(in_readings(levels, limits))
    assert [len(part) for part in parts] == sizes
    assert sorted(level.item_id for part in parts for level in part) == [str(number) for number in range(9)]
    assert not locations or max(len({level.location_id for level in part}) for part in parts) <= locations
