"""Listings that a platform doesn't know any more: few of a channel's go to review, most of them are another shop's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.batches import batch_of
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.full_runs import full_runs
from invsync_dagster.inventory.tables import channels, inventory_levels, platform_mapping
from invsync_dagster.platforms.contract import LevelReference, Limits, ReadAnswer, Reading, WriteAnswer, WriteRow
from invsync_dagster.platforms.rows import review
from invsync_dagster.sync.differences import Cause, FullSyncReport
from invsync_dagster.sync.full_run import full_run
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.workspace import Workspace
from tests import databases
from tests.processes import member
from tests.processes.member import CHANNEL, SKUS, sku_of
from tests.processes.test_processes import IN_STOCK, fill
from tests.unit.sync.conftest import LittleWorld

BATCHES = list(range(16))
ALL = [sku_of(number) for number in range(SKUS)]


class Shop(member.Shop):
    """Shows what was acknowledged, but of what is gone; 10 levels a call."""

    def __init__(self) -> None:
        super().__init__(member.Told(), Limits(write_batch=50, read_batch=10, rate=1e6, burst=1e6))
        self.gone: set[str] = set()
        self.read_levels: list[str] = []
        self.written: list[str] = []

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        self.read_levels += [level.item_id for level in levels]
        return ReadAnswer(tuple(self._reading(level) for level in levels))

    def _reading(self, level: LevelReference) -> Reading:
        if level.item_id in self.gone:
            return Reading(level, None, review("not_found", "there is no such item"))
        return Reading(level, IN_STOCK)

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        self.written += [row.level.item_id for row in rows]
        return super().write(rows, key=key)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def ws(each_database: str, tmp_path: Path, shop: Shop) -> Iterator[Workspace]:
    """60 levels, all in step, in batches of 15, 16, 16 and 13; the other 12 batches are empty."""
    url = databases.fresh_url(tmp_path)
    fill(databases.opened(url))
    ws = one_at_a_time(member.workspace(tmp_path, url, 0, shop))
    level = inventory_levels.c
    now = ws.clock.now()
    in_step = dict.fromkeys(("effective_quantity", "acknowledged_quantity", "expected"), IN_STOCK)
    with write_transaction(ws.engine) as connection:
        connection.execute(update(inventory_levels).values(uncertain=None, acknowledged_at=now, **in_step))
        assert connection.execute(select(level.desired).distinct()).scalars().all() == [IN_STOCK]
    yield ws
    ws.close()


def one_at_a_time(ws: Workspace) -> Workspace:
    settings = ws.configuration.settings.model_copy(update={"full_sync_at_once": 1})
    return replace(ws, configuration=replace(ws.configuration, settings=settings))


def in_batch(ws: Workspace, batch: int) -> list[str]:
    with ws.engine.connect() as connection:
        rows = connection.execute(select(inventory_levels.c.id, inventory_levels.c.item_id)).all()
    return [row.item_id for row in rows if batch_of(row.id, 16) == batch]


def run(ws: Workspace) -> dict[int, FullSyncReport]:
    return {report.batch: report for report in full_run(ws, CHANNEL, BATCHES, run_id="full")}


def reviewed(ws: Workspace) -> set[str]:
    query = select(platform_mapping.c.central_sku).where(platform_mapping.c.status == "needs_review")
    with ws.engine.connect() as connection:
        return set(connection.execute(query).scalars())


def stopped(ws: Workspace) -> str:
    with ws.engine.connect() as connection:
        return str(connection.execute(select(channels.c.stopped_reason)).scalar_one())


@pytest.mark.parametrize("variants", [12, 16])
def test_a_product_that_is_gone_with_all_its_variants_goes_to_review_and_the_channel_goes_on(
    ws: Workspace, shop: Shop, variants: int
) -> None:
    product = in_batch(ws, 1)
    assert len(product) == 16
    shop.gone = set(product[:variants])
    reports = run(ws)
    assert {report.problem for report in reports.values()} == {""}
    assert (reports[1].missing, reports[1].unknown) == (variants, variants)
    assert {(one.cause, one.done) for one in reports[1].differences} == {(Cause.GONE, "in review")}
    assert sum(report.equal for report in reports.values()) == SKUS - variants
    assert (reviewed(ws), stopped(ws)) == (shop.gone, "")
    again = run(ws)
    assert sum(report.levels for report in again.values()) == SKUS - variants
    assert {report.problem for report in again.values()} == {""}


def test_so_do_the_first_ones_of_the_channel_though_a_channel_is_recognised_by_these(ws: Workspace, shop: Shop) -> None:
    shop.gone = set(in_batch(ws, 0))
    reports = run(ws)
    assert {report.problem for report in reports.values()} == {""}
    assert (reviewed(ws), stopped(ws)) == (shop.gone, "")


def test_another_shop_is_known_by_listings_of_other_batches_and_nothing_is_written_or_reviewed(
    ws: Workspace, shop: Shop
) -> None:
    with write_transaction(ws.engine) as connection:
        connection.execute(update(inventory_levels).values(desired=IN_STOCK - 1))
        drifted = inventory_levels.c.item_id == in_batch(ws, 0)[0]
        connection.execute(update(inventory_levels).where(drifted).values(acknowledged_quantity=1))
    shop.gone = set(ALL) - {in_batch(ws, 0)[0]}
    reports = run(ws)
    told = "another_shop: 24 of 25 listings are unknown at erp: "
    assert reports[0].problem.startswith(told)
    assert {reports[batch].problem for batch in BATCHES[1:]} == {
        f"not begun, it would fare no better: {reports[0].problem}"
    }
    assert (shop.written, reviewed(ws)) == ([], set())
    assert len(shop.read_levels) == 25
    assert stopped(ws) == reports[0].problem
    with ws.engine.connect() as connection:
        assert full_runs(connection)[CHANNEL].failed == tuple(BATCHES)


@pytest.mark.parametrize(("gone", "is_another"), [(29, False), (37, True)])
def test_it_is_the_channel_of_which_more_than_half_must_be_unknown(
    ws: Workspace, shop: Shop, gone: int, is_another: bool
) -> None:
    first = in_batch(ws, 0)
    others = [sku for sku in ALL if sku not in first]
    # Evenly among the others, as a sample of them is.
    shop.gone = {*first, *(sku for at, sku in enumerate(others) if at * (gone - 15) % 45 < gone - 15)}
    assert len(shop.gone) == gone
    report = full_sync(ws, CHANNEL, 0, run_id="full")
    assert report.problem.startswith("another_shop: ") == is_another
    assert reviewed(ws) == (set() if is_another else set(first))


def test_a_look_at_other_batches_that_fails_sends_nothing_to_review(ws: Workspace, shop: Shop) -> None:
    product = in_batch(ws, 1)
    shop.gone = set(product)
    read = shop.read

    def others_fail(levels: Sequence[LevelReference]) -> ReadAnswer:
        if levels[0].item_id not in product:
            raise KeyError("quantity")
        return read(levels)

    shop.read = others_fail  # type: ignore[method-assign]
    report = full_sync(ws, CHANNEL, 1, run_id="full")
    assert (report.problem, reviewed(ws), stopped(ws)) == ("KeyError: 'quantity'", set(), "")
    assert {one.done for one in report.differences} == {"not done: the batch did not come to its end"}


def test_another_shop_is_known_in_batches_of_a_few_levels_too(world: LittleWorld) -> None:
    world.erp._articles.clear()
    reports = list(full_run(one_at_a_time(world.processes[0]), "erp_main", BATCHES, run_id="full"))
    problems = [report.problem for report in reports if report.problem]
    assert any(problem.startswith("another_shop: 20 of 20 listings are unknown at erp_main") for problem in problems)
    with world.engine.connect() as connection:
        assert set(connection.execute(select(platform_mapping.c.status)).scalars()) == {"active"}
