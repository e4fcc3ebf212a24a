"""The full run: what the shops really show, compared, named, and repaired by the settling rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.batches import batch_of, batches_in_force, set_batches
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels, platform_mapping, sync_logs
from invsync_dagster.platforms.contract import LevelReference, ReadAnswer
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync import reconcile
from invsync_dagster.sync.differences import Cause, Difference, FullSyncReport, Policy
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.workspace import Workspace
from tests.simulation.stock import is_listed, item_of
from tests.unit.sync.conftest import LittleWorld

SKU = "SKU-0001"


def run_all(world: LittleWorld, channel: str) -> list[FullSyncReport]:
    batches = world.configuration.settings.sku_batches
    return [full_sync(world.processes[0], channel, batch, run_id="full") for batch in range(batches)]


def differences(reports: list[FullSyncReport]) -> list[Difference]:
    return [difference for report in reports for difference in report.differences]


def test_a_channel_in_step_shows_every_level_equal_once_over_all_batches(world: LittleWorld) -> None:
    reports = run_all(world, "erp_main")
    assert sum(report.levels for report in reports) == 20
    assert sum(report.equal for report in reports) == 20
    assert differences(reports) == []


def test_a_foreign_edit_is_found_named_and_repaired(world: LittleWorld) -> None:
    right = world.shown("shop_main", SKU)
    world.shops["shop_main"].edit_stock(world.reference("shop_main", SKU), right + 4)
    reports = run_all(world, "shop_main")
    (found,) = differences(reports)
    assert (found.sku, found.acknowledged, found.observed, found.desired) == (SKU, right, right + 4, right)
    assert (found.cause, "foreign edit" in found.words, found.done) == (
        Cause.FOREIGN_EDIT,
        True,
        "to be settled by a push",
    )
    assert sum(report.repaired for report in reports) == 1
    assert world.shown("shop_main", SKU) == right
    with world.engine.connect() as connection:
        rows = connection.execute(select(sync_logs).where(sync_logs.c.action == "drift")).all()
    assert [(row.sku, row.old_quantity, row.new_quantity) for row in rows] == [(SKU, right, right + 4)]


def test_a_sale_that_nobody_told_is_booked_not_overwritten(world: LittleWorld) -> None:
    right = world.shown("shop_main", SKU)
    world.sell("shop_main", SKU, 2)
    world.shops["shop_main"].take_outgoing()
    (found,) = differences(run_all(world, "shop_main"))
    assert (found.observed, found.acknowledged) == (right - 2, right)
    assert world.shown("shop_main", SKU) == right - 2
    assert world.level("shop_main", SKU).desired == right - 2


def test_an_item_that_is_gone_goes_to_review_with_the_platforms_words(world: LittleWorld) -> None:
    del world.erp._articles[SKU]
    (found,) = differences(run_all(world, "erp_main"))
    assert (found.sku, found.observed) == (SKU, None)
    with world.engine.connect() as connection:
        row = connection.execute(
            select(platform_mapping).where(
                platform_mapping.c.platform_name == "erp_main", platform_mapping.c.central_sku == SKU
            )
        ).one()
    assert row.status == "needs_review"
    assert row.status_reason == found.words


def test_one_that_was_missing_and_has_been_written_since_is_not_sent_to_review(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    article = world.erp._articles.pop(SKU)
    review_missing = reconcile._review_missing

    def later(ws: Workspace, report: FullSyncReport) -> None:
        if report.gone:
            world.erp._articles[SKU] = article
            world.sell("shop_main", SKU)
            world.deliver("shop_main")
            apply_deliveries(ws, world.inbox, IntakeReport(), run_id="in")
            assert world.push("erp_main", process=1).acknowledged == 1
        review_missing(ws, report)

    monkeypatch.setattr(reconcile, "_review_missing", later)
    (found,) = differences(run_all(world, "erp_main"))
    assert found.done.startswith("looked at again by the next full run")
    assert world.level("erp_main", SKU).pushable


def test_a_full_run_at_another_shop_stops_the_channel_and_reviews_nothing(world: LittleWorld) -> None:
    for sku in list(world.erp._articles)[:11]:
        del world.erp._articles[sku]
    ws = world.processes[0]
    ws.configuration = replace(
        ws.configuration, settings=ws.configuration.settings.model_copy(update={"sku_batches": 1})
    )
    report = full_sync(ws, "erp_main", 0, run_id="run")
    assert report.problem.startswith("another_shop: 11 of 20 listings are unknown at erp_main")
    with world.engine.connect() as connection:
        statuses = set(connection.execute(select(platform_mapping.c.status)).scalars())
        reason = connection.execute(select(channels.c.stopped_reason).where(channels.c.name == "erp_main")).scalar_one()
    assert statuses == {"active"}
    assert reason == report.problem


@pytest.mark.parametrize(("others", "problem"), [(1, ""), (20, "another_shop: ")])
def test_articles_that_go_by_other_names_are_another_shops_if_most_do_and_else_go_to_review(
    world: LittleWorld, others: int, problem: str
) -> None:
    ws = world.processes[0]
    settings = ws.configuration.settings.model_copy(update={"sku_batches": 1})
    ws.configuration = replace(ws.configuration, settings=settings)
    for article in [one for one in world.shops["woo_main"]._books.articles.values() if one.sku][-others:]:
        article.sku = f"OTHER-{article.sku}"
    report = full_sync(ws, "woo_main", 0, run_id="run")
    assert report.problem.startswith(problem)
    with world.engine.connect() as connection:
        query = select(platform_mapping.c.status_reason).where(platform_mapping.c.status == "needs_review")
        reasons = connection.execute(query).scalars().all()
    assert [reason.partition(":")[0] for reason in reasons] == ([] if problem else ["another_article"])


def test_another_number_of_batches_is_refused_until_it_is_changed_on_purpose(world: LittleWorld) -> None:
    ws = world.processes[0]
    assert not full_sync(ws, "erp_main", 0, run_id="run").problem
    with ws.engine.connect() as connection:
        assert batches_in_force(connection) == (before := ws.configuration.settings.sku_batches)
    ws.configuration = replace(
        ws.configuration, settings=ws.configuration.settings.model_copy(update={"sku_batches": 7})
    )
    report = full_sync(ws, "erp_main", 0, run_id="run")
    assert report.problem.startswith(f"configuration: sku_batches is 7 in channels.yaml, and {before} in force")
    assert (report.levels, report.api_calls) == (0, 0)
    with write_transaction(ws.engine) as connection:
        set_batches(connection, 7, actor="ann", reason="more of them", now=world.clock.now())
    assert not full_sync(ws, "erp_main", 0, run_id="run").problem


def with_policy(world: LittleWorld, channel: str, policy: Policy) -> None:
    ws = world.processes[0]
    channels = tuple(
        replace(one, differences=policy) if one.name == channel else one for one in ws.configuration.channels
    )
    ws.configuration = replace(ws.configuration, channels=channels)


def test_a_channel_that_is_only_to_report_is_written_nothing(world: LittleWorld) -> None:
    with_policy(world, "erp_main", "report")
    right = world.shown("erp_main", SKU)
    world.erp.edit_available(SKU, right + 4)
    reports = run_all(world, "erp_main")
    (found,) = differences(reports)
    assert (found.cause, found.done) == (Cause.FOREIGN_EDIT, "reported")
    assert world.shown("erp_main", SKU) == right + 4
    assert world.changes("erp_main") == 0
    assert sum(report.causes()["foreign_edit"] for report in reports) == 1
    assert len(differences(run_all(world, "erp_main"))) == 1  # it is told until somebody acts


def test_a_channel_that_is_right_is_taken_into_the_stock_and_shown_everywhere(world: LittleWorld) -> None:
    with_policy(world, "shop_main", "adopt")
    world.clock.advance(3600)  # a count is taken only if it is newer than the one in force
    shown, elsewhere = world.shown("shop_main", SKU), world.shown("erp_main", SKU)
    world.shops["shop_main"].edit_stock(world.reference("shop_main", SKU), shown + 3)
    (found,) = differences(run_all(world, "shop_main"))
    assert (found.done, world.shown("shop_main", SKU)) == ("adopted", shown + 3)
    assert world.changes("shop_main") == 0
    world.push("erp_main")
    assert world.shown("erp_main", SKU) == elsewhere + 3
    assert differences(run_all(world, "shop_main")) == []


def test_a_number_that_rules_leave_open_is_told_and_not_taken(world: LittleWorld) -> None:
    with_policy(world, "shop_eu", "adopt")  # it shows 80 percent
    sku = next(sku for sku in (f"SKU-{number:04}" for number in range(20)) if is_listed("shop_eu", sku))
    shown, elsewhere = world.shown("shop_eu", sku), world.shown("erp_main", sku)
    world.shops["shop_eu"].edit_stock(world.reference("shop_eu", sku), shown + 3)
    (found,) = differences(run_all(world, "shop_eu"))
    assert found.done == "reported: its rules leave open how many are on hand"
    assert (world.shown("shop_eu", sku), world.push("erp_main").pushed) == (shown + 3, 0)
    assert world.shown("erp_main", sku) == elsewhere


def test_a_channel_that_would_move_the_stock_too_far_is_reported_and_not_written(world: LittleWorld) -> None:
    with_policy(world, "shop_main", "adopt")
    world.clock.advance(3600)  # a count is taken only if it is newer than the one in force
    shown = world.shown("shop_main", SKU)
    world.shops["shop_main"].edit_stock(world.reference("shop_main", SKU), shown + 90_000)
    (found,) = differences(run_all(world, "shop_main"))
    assert found.done == "reported: 1 listings, 90000 units in one run are too many to adopt unseen"
    assert world.shown("shop_main", SKU) == shown + 90_000
    assert world.changes("shop_main") == 0


def test_a_sale_while_a_level_is_read_back_is_no_drift(world: LittleWorld) -> None:
    def sell_meanwhile(when: str, request: Request) -> None:
        if when == "before" and b"nodes" in request.body:
            world.transports["shop_main"]._on_send = None
            world.sell("shop_main", SKU)
            world.deliver("shop_main")
            apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")

    level = world.level("shop_main", SKU)
    world.transports["shop_main"]._on_send = sell_meanwhile
    batch = batch_of(level.id, world.configuration.settings.sku_batches)
    report = full_sync(world.processes[0], "shop_main", batch, run_id="full")
    assert (report.drift, report.uncertain) == (0, 1)
    assert world.level("shop_main", SKU).uncertain is None  # the push that follows has settled it


def test_a_batch_that_fails_says_so_alone_and_can_be_run_again(world: LittleWorld) -> None:
    level = world.level("shop_main", SKU)
    batch = batch_of(level.id, world.configuration.settings.sku_batches)
    world.faults["shop_main"].script([Fault(Kind.ERROR_500)] * 4)
    failed = full_sync(world.processes[0], "shop_main", batch, run_id="full")
    assert failed.problem
    assert failed.levels == 0
    again = full_sync(world.processes[0], "shop_main", batch, run_id="full")
    assert (again.problem, again.equal) == ("", again.levels)
    assert again.levels >= 1


def test_an_uncertain_level_that_the_full_run_settles_leaves_its_reading_in_the_log(world: LittleWorld) -> None:
    with write_transaction(world.engine) as connection:
        connection.execute(
            update(inventory_levels)
            .where(inventory_levels.c.item_id == item_of("shop_main", SKU))
            .values(uncertain="own_sale", uncertain_since=world.clock.now())
        )
    reports = run_all(world, "shop_main")
    assert sum(report.uncertain for report in reports) == 1
    assert world.level("shop_main", SKU).uncertain is None
    query = select(sync_logs).where(sync_logs.c.platform == "shop_main", sync_logs.c.run_id == "full")
    with world.engine.connect() as connection:
        rows = connection.execute(query).all()
    assert [(row.action, row.sku, row.new_quantity, row.error_message) for row in rows] == [
        ("read", SKU, world.shown("shop_main", SKU), "settled")
    ]


def test_a_batch_that_did_not_finish_goes_on_with_what_was_read_longest_ago(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.configuration.settings.model_copy(update={"sku_batches": 1})
    world.processes[0].configuration = replace(world.configuration, settings=settings)
    platform = world.processes[0].platform(world.processes[0].channel("erp_main"))
    few = replace(platform.limits, read_batch=5)
    monkeypatch.setattr(platform, "_limits", few)
    asked: list[list[str]] = []
    read = platform.read

    def slow(references: Sequence[LevelReference]) -> ReadAnswer:
        asked.append([reference.item_id for reference in references])
        world.clock.advance(1000)
        return read(references)

    monkeypatch.setattr(platform, "read", slow)
    for _ in range(2):
        report = full_sync(world.processes[0], "erp_main", 0, run_id="full")
        assert "did not finish" in report.problem
        assert report.api_calls == 2
    assert sorted(item for batch in asked for item in batch) == sorted(world.skus)
