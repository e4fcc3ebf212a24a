"""The push of one channel against the stand-ins: what is sent when, what stays a change, who may claim."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import set_status
from invsync_dagster.inventory.tables import central_inventory, channels, inventory_levels, platform_mapping, sync_logs
from invsync_dagster.platforms.contract import LevelReference, ReadAnswer, Reading, WriteAnswer, WriteRow
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.reconcile import full_sync
from tests.simulation.processes import SimulatedDeathError, SimulatedWorker
from tests.simulation.stock import item_of
from tests.simulation.written import written_rows
from tests.unit.sync.conftest import LittleWorld

SKU = "SKU-0001"
LATE = "orders could not be listed in time"


def restock(world: LittleWorld, sku: str = SKU, units: int = 5) -> None:
    world.erp.restock(sku, units)
    world.deliver("erp_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.inbox.clear()


def logged(world: LittleWorld, channel: str, action: str = "push") -> list[Any]:
    query = (
        select(sync_logs).where(sync_logs.c.platform == channel, sync_logs.c.action == action).order_by(sync_logs.c.id)
    )
    with world.engine.connect() as connection:
        return list(connection.execute(query).all())


def test_a_sale_on_one_shop_lowers_the_others_and_is_only_read_on_its_own(world: LittleWorld) -> None:
    before = world.shown("shop_main", SKU)
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    reports = {name: world.push(name) for name in ("shop_main", "shop_eu", "erp_main")}
    assert world.shown("shop_main", SKU) == before - 1
    assert world.shown("erp_main", SKU) == before - 1
    assert (reports["shop_main"].pushed, reports["shop_main"].settled) == (0, 1)
    assert (reports["erp_main"].pushed, reports["erp_main"].acknowledged) == (1, 1)


def test_a_throttled_write_waits_uses_no_retry_and_sends_the_number_of_after_the_wait(world: LittleWorld) -> None:
    restock(world, units=5)
    sent: list[dict[str, int]] = []

    def meanwhile(when: str, request: Request) -> None:
        if when == "before" and b"inventorySetQuantities" in request.body:
            sent.append(written_rows(request))
            if len(sent) == 1:
                restock(world, units=2)  # while the first attempt is refused

    world.transports["shop_main"]._on_send = meanwhile
    world.faults["shop_main"].script([None, Fault(Kind.THROTTLE, 7.0)])
    began = world.clock.now()
    report = world.push("shop_main")
    item = item_of("shop_main", SKU)
    assert [rows[item] for rows in sent] == [world.shown("shop_main", SKU) - 2, world.shown("shop_main", SKU)]
    assert world.clock.now() - began >= timedelta(seconds=7)
    assert (report.not_sent, report.acknowledged, report.problem) == (1, 1, "")
    assert world.level("shop_main", SKU).failures == 0


def test_zeros_and_low_stock_go_first(world: LittleWorld) -> None:
    sent: list[int] = []

    def watch(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/stock"):
            sent.extend(written_rows(request).values())

    with write_transaction(world.engine) as connection:
        level = inventory_levels.c
        connection.execute(
            update(inventory_levels).where(level.channel == "erp_main").values(effective_quantity=99, expected=99)
        )
    for sku in world.skus:
        world.erp.edit_available(sku, 99)
    world.transports["erp_main"]._on_send = watch
    world.push("erp_main")
    assert len(sent) == 20
    assert sent == sorted(sent)


def test_a_lost_answer_is_settled_by_a_reading_after_the_write_can_no_longer_land(world: LittleWorld) -> None:
    restock(world)
    world.faults["shop_main"].script([None, Fault(Kind.TIMEOUT_AFTER)])
    report = world.push("shop_main", seconds=35)
    assert report.unknown == 1
    level = world.level("shop_main", SKU)
    assert level.uncertain == "answer_lost"
    assert level.linger_until > world.clock.now()
    assert world.push("shop_main").waiting == 1
    world.clock.advance(120)
    report = world.push("shop_main")
    assert (report.read, report.settled, report.pushed) == (1, 1, 0)
    assert world.changes("shop_main") == 0


def test_a_refused_connection_is_tried_again_within_bounds_and_then_stays_a_change(world: LittleWorld) -> None:
    restock(world)
    world.faults["erp_main"].script([None, *[Fault(Kind.REFUSE)] * 4])
    report = world.push("erp_main")
    assert "connection" in report.problem
    assert report.not_sent == 4
    assert (report.left, world.changes("erp_main")) == (1, 1)
    world.clock.advance(60)
    assert world.push("erp_main").acknowledged == 1


def test_dead_credentials_stop_the_channel_and_it_goes_on_once_they_work(world: LittleWorld) -> None:
    restock(world)
    token = world.shops["shop_main"].access_token
    world.shops["shop_main"].access_token = "revoked"
    report = world.push("shop_main")
    assert report.problem
    with world.engine.connect() as connection:
        reason = connection.execute(
            select(channels.c.stopped_reason).where(channels.c.name == "shop_main")
        ).scalar_one()
    assert reason == report.problem
    assert token not in reason
    assert world.push("shop_main").api_calls == 1  # only the credentials are checked
    world.shops["shop_main"].access_token = token
    report = world.push("shop_main")
    assert (report.problem, report.acknowledged) == ("", 1)


def test_a_listing_that_the_platform_does_not_know_goes_to_review_and_the_rest_goes_on(world: LittleWorld) -> None:
    del world.erp._articles["SKU-0003"]
    for sku in ("SKU-0003", "SKU-0004"):
        with write_transaction(world.engine) as connection:
            connection.execute(
                update(inventory_levels)
                .where(inventory_levels.c.channel == "erp_main", inventory_levels.c.item_id == sku)
                .values(effective_quantity=77, expected=77)
            )
    world.erp.edit_available("SKU-0004", 77)
    report = world.push("erp_main")
    assert (report.acknowledged, report.review) == (1, 1)
    assert [failure.sku for failure in report.failures] == ["SKU-0003"]
    with world.engine.connect() as connection:
        status = connection.execute(
            select(platform_mapping.c.status).where(
                platform_mapping.c.platform_name == "erp_main", platform_mapping.c.central_sku == "SKU-0003"
            )
        ).scalar_one()
    assert status == "needs_review"
    assert world.changes("erp_main") == 0


def reviewed(world: LittleWorld) -> int:
    query = select(func.count()).where(platform_mapping.c.status == "needs_review")
    with world.engine.connect() as connection:
        return connection.execute(query).scalar_one()


def stopped(world: LittleWorld, channel: str) -> str:
    with world.engine.connect() as connection:
        return connection.execute(select(channels.c.stopped_reason).where(channels.c.name == channel)).scalar_one()


@pytest.mark.parametrize(
    "state", [{"effective_quantity": 77, "expected": 77}, {"uncertain": "never_read", "expected": None}]
)
def test_a_channel_pointed_at_another_shop_is_stopped_in_one_sentence_and_no_listing_goes_to_review(
    world: LittleWorld, state: dict[str, object]
) -> None:
    shop = dict(world.erp._articles)
    world.erp._articles.clear()
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).where(inventory_levels.c.channel == "erp_main").values(state))
    report = world.push("erp_main")
    assert report.problem.startswith("another_shop: 20 of 20 listings are unknown at erp_main")
    assert stopped(world, "erp_main") == report.problem
    assert reviewed(world) == 0
    assert world.changes("erp_main") == 20

    world.erp._articles.update(shop)
    world.clock.advance(3600)
    assert not world.push("erp_main").problem
    assert (stopped(world, "erp_main"), world.changes("erp_main")) == ("", 0)


@pytest.mark.parametrize(
    "state", [{"effective_quantity": 77, "expected": 77}, {"uncertain": "never_read", "expected": None}]
)
def test_a_deleted_product_with_many_variants_is_no_other_shop_where_the_others_are_there(
    world: LittleWorld, state: dict[str, object]
) -> None:
    level = inventory_levels.c
    gone = sorted(world.erp._articles)[:10]
    for article in gone:
        del world.erp._articles[article]
    with write_transaction(world.engine) as connection:
        mine = (level.channel == "erp_main") & level.item_id.in_(gone)
        assert connection.execute(update(inventory_levels).where(mine).values(state)).rowcount == 10
    report = world.push("erp_main")
    assert (report.problem, stopped(world, "erp_main")) == ("", "")
    assert reviewed(world) == 10


def rename(world: LittleWorld, skus: Iterable[str]) -> None:
    """Let the WooCommerce store's articles of these SKUs be another one's: the same ids, other goods."""
    for article in world.shops["woo_main"]._books.articles.values():
        if article.sku in skus:
            article.sku = f"OTHER-{article.sku}"


def test_another_store_with_the_same_ids_is_known_by_its_skus_and_written_nothing_until_it_is_the_right_one(
    world: LittleWorld,
) -> None:
    of_woo = inventory_levels.c.channel == "woo_main"
    with write_transaction(world.engine) as connection:
        skus = connection.execute(select(inventory_levels.c.central_sku).where(of_woo)).scalars().all()
        doubt = update(inventory_levels).where(of_woo)
        connection.execute(doubt.values(uncertain="never_read", expected=None))
    before = {article.number: article.sku for article in world.shops["woo_main"]._books.articles.values()}
    rename(world, skus)
    report = world.push("woo_main")
    assert report.problem.startswith("another_shop: 14 of 16 listings are unknown at woo_main")
    assert (report.pushed, reviewed(world)) == (0, 0)
    with write_transaction(world.engine) as connection:
        connection.execute(doubt.values(uncertain=None, effective_quantity=77, expected=77))
    report = world.push("woo_main")
    assert (report.stopped, report.pushed, stopped(world, "woo_main")[:12]) == (True, 0, "another_shop")
    for number, sku in before.items():
        world.shops["woo_main"]._books.articles[number].sku = sku
    assert world.push("woo_main").pushed == len(skus)
    assert (stopped(world, "woo_main"), world.changes("woo_main")) == ("", 0)


def test_a_single_article_that_goes_by_another_name_goes_to_review(world: LittleWorld) -> None:
    rename(world, {SKU})
    with write_transaction(world.engine) as connection:
        connection.execute(
            update(inventory_levels)
            .where(inventory_levels.c.channel == "woo_main")
            .values(uncertain="never_read", expected=None)
        )
    report = world.push("woo_main")
    assert (report.problem, report.review, reviewed(world)) == ("", 1, 1)
    level = world.level("woo_main", SKU)
    assert (level.pushable, world.changes("woo_main")) == (False, 0)
    assert level.last_error.startswith(
        f"another_article: the channel calls it 'OTHER-{SKU}', and it is mapped as '{SKU}'"
    )


def test_a_compare_and_set_refusal_is_read_the_unheard_sale_is_polled_and_the_right_number_is_written(
    world: LittleWorld,
) -> None:
    before = world.shown("shop_main", SKU)
    restock(world, units=5)
    world.sell("shop_main", SKU)
    world.shops["shop_main"].take_outgoing()  # both webhooks are lost
    restock_time = world.clock.now()
    with write_transaction(world.engine) as connection:  # the poll before the write does not see it either
        connection.execute(
            update(channels).where(channels.c.name == "shop_main").values(orders_known_until=restock_time)
        )
    world.faults["shop_main"].script([Fault(Kind.ERROR_500)] * 4)  # the first poll fails altogether
    report = world.push("shop_main")
    assert report.rejected == 1
    assert world.shown("shop_main", SKU) == before + 5 - 1
    assert [row.code for row in logged(world, "shop_main")][-2:-1] == ["change_from_quantity_stale"]


def test_two_processes_never_claim_the_same_level(world: LittleWorld) -> None:
    for sku in world.skus[:6]:
        restock(world, sku, 3)
    seen: list[set[str]] = []

    def other_process(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/stock"):
            seen.append(set(written_rows(request)))
            if len(seen) == 1:
                restock(world, "SKU-0010", 3)
                world.push("erp_main", process=1)

    world.transports["erp_main"]._on_send = other_process
    world.push("erp_main")
    assert seen == [set(world.skus[:6]), {"SKU-0010"}]


def test_the_claims_of_a_dead_worker_are_taken_over_at_once_and_their_levels_doubted(world: LittleWorld) -> None:
    restock(world)

    def die(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/stock"):
            raise SimulatedDeathError

    world.transports["erp_main"]._on_send = die
    with pytest.raises(SimulatedDeathError):
        world.push("erp_main")
    world.transports["erp_main"]._on_send = None
    assert world.level("erp_main", SKU).claim is not None
    alive = world.push("erp_main", process=1)
    assert (alive.pushed, alive.read) == (0, 0)  # its owner lives: its claim is respected
    world.alive.discard(world.processes[0].worker.name)
    report = world.push("erp_main", process=1)
    assert report.acknowledged == 0
    assert world.level("erp_main", SKU).uncertain == "claim_taken_over"
    world.clock.advance(200)
    report = world.push("erp_main", process=1)
    assert (report.read, report.acknowledged) == (1, 1)
    assert world.changes("erp_main") == 0


def test_a_claim_that_ran_out_is_taken_over_and_its_late_answer_changes_nothing_but_the_doubt(
    world: LittleWorld,
) -> None:
    restock(world)
    level = world.level("erp_main", SKU)
    steps: list[str] = []

    def paused(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/stock") and not steps:
            steps.append("paused")
            world.clock.advance(200)
            world.push("erp_main", process=1)
            steps.append(str(world.level("erp_main", SKU).uncertain))

    world.transports["erp_main"]._on_send = paused
    world.push("erp_main", seconds=1000)
    assert steps == ["paused", "claim_taken_over"]
    assert any("taken over" in row.error_message for row in logged(world, "erp_main"))
    assert world.level("erp_main", SKU).attempt > level.attempt
    world.clock.advance(200)
    world.push("erp_main")
    assert world.changes("erp_main") == 0
    assert world.shown("erp_main", SKU) == world.level("erp_main", SKU).desired


def test_given_skus_go_now_though_they_wait_and_the_others_stay(world: LittleWorld) -> None:
    restock(world, "SKU-0001")
    restock(world, "SKU-0002")
    later = world.clock.now() + timedelta(hours=1)
    with write_transaction(world.engine) as connection:
        connection.execute(
            update(inventory_levels).where(inventory_levels.c.channel == "erp_main").values(due_at=later, failures=3)
        )
    assert world.push("erp_main").pushed == 0
    report = world.push("erp_main", skus=["SKU-0001"])
    assert (report.acknowledged, report.waiting) == (1, 1)


@pytest.mark.parametrize("closed", [{"push_approved_at": None}, {"status": "paused"}])
def test_a_channel_that_is_paused_or_not_approved_is_heard_and_not_written_to(
    world: LittleWorld, closed: dict[str, object]
) -> None:
    shown = world.shown("erp_main", SKU)
    restock(world)
    with write_transaction(world.engine) as connection:
        connection.execute(update(channels).where(channels.c.name == "erp_main").values(closed))
        connection.execute(update(channels).where(channels.c.name == "shop_main").values(closed))
    assert world.push("erp_main").approval_missing == ("push_approved_at" in closed)
    assert world.shown("erp_main", SKU) == shown
    world.sell("shop_main", SKU)
    world.shops["shop_main"].take_outgoing()
    assert world.push("shop_main").orders == 1
    with world.engine.connect() as connection:
        booked = select(central_inventory.c.reserved_quantity).where(central_inventory.c.sku == SKU)
        assert connection.execute(booked).scalar_one() == 1


def test_the_claims_of_a_reading_that_failed_are_given_back_at_once(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.faults["shop_main"].script([None, *[Fault(Kind.ERROR_500)] * 4])
    report = world.push("shop_main")
    assert report.problem
    assert world.level("shop_main", SKU).claim is None
    world.clock.advance(60)
    assert world.push("shop_main", process=1).settled == 1


def test_a_throttled_reading_waits_and_is_made_again_without_a_retry(world: LittleWorld) -> None:
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.faults["shop_main"].script([None, *[Fault(Kind.THROTTLE, 3.0)] * 6])
    report = world.push("shop_main")
    assert (report.settled, report.problem) == (1, "")


def test_the_deadline_stops_new_claims_and_what_is_left_stays_a_change(world: LittleWorld) -> None:
    restock(world)
    report = world.push("erp_main", seconds=0)
    assert (report.pushed, report.left, report.problem) == (0, 1, "")


def test_a_worker_of_the_same_name_as_a_dead_one_is_another(world: LittleWorld) -> None:
    worker = SimulatedWorker("process-x", world.alive)
    assert worker.is_alive("process-x")
    world.alive.discard("process-x")
    assert not worker.is_alive("process-x")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [(None, ""), (Fault(Kind.TIMEOUT_BEFORE), f"{LATE}: answer_lost: no answer within 15 s [retry]")],
)
def test_a_list_of_orders_slower_than_the_deadline_does_not_starve_the_writes(
    world: LittleWorld, fault: Fault | None, problem: str
) -> None:
    restock(world)

    def hang(when: str, request: Request) -> None:
        if when == "before" and b"updated_at" in request.body:
            world.clock.advance(30)

    world.faults["shop_main"].script([fault])
    world.transports["shop_main"]._on_send = hang
    report = world.push("shop_main", seconds=20)
    assert (report.acknowledged, report.problem) == (1, problem)


def test_a_sale_booked_while_our_write_is_answered_is_settled_by_reading_not_written_again(world: LittleWorld) -> None:
    restock(world)
    sold: list[str] = []

    def sale(when: str, request: Request) -> None:
        if when == "after" and b"inventorySetQuantities" in request.body and not sold:
            sold.append(world.sell("shop_main", SKU))
            world.deliver("shop_main")
            apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")

    world.transports["shop_main"]._on_send = sale
    report = world.push("shop_main")
    assert (report.pushed, report.acknowledged, report.settled) == (1, 1, 1)
    assert world.shown("shop_main", SKU) == world.level("shop_main", SKU).desired
    assert world.changes("shop_main") == 0


def test_a_listing_resumed_while_its_write_is_under_way_is_expected_to_show_what_was_acknowledged(
    world: LittleWorld,
) -> None:
    restock(world)
    done: list[int] = []

    def pause_and_resume(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/stock") and not done:
            query = select(platform_mapping.c.id).where(
                platform_mapping.c.platform_name == "erp_main", platform_mapping.c.central_sku == SKU
            )
            with write_transaction(world.engine) as connection:
                done.extend(connection.execute(query).scalars())
                for status in ("paused", "active"):
                    set_status(connection, done, status, actor="ann", reason="", now=world.clock.now())
            world.faults["erp_main"].script([Fault(Kind.REFUSE)] * 9)  # it can't be read yet

    world.transports["erp_main"]._on_send = pause_and_resume
    world.push("erp_main")
    level = world.level("erp_main", SKU)
    assert level.uncertain == "resumed"
    assert level.expected == level.acknowledged_quantity == world.shown("erp_main", SKU)


def test_a_late_answer_that_was_lost_is_not_settled_before_its_write_can_no_longer_land(world: LittleWorld) -> None:
    restock(world)
    linger = world.processes[0].platform(world.configuration.channels[-1]).limits.write_linger
    paused: list[str] = []

    def pause(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/stock") and not paused:
            paused.append("a long sleep of the machine")
            for _ in range(2):  # the claim runs out, is taken over, and all is settled
                world.clock.advance(400)
                world.push("erp_main", process=1)
            assert world.changes("erp_main") == 0

    world.faults["erp_main"].script([None, Fault(Kind.TIMEOUT_AFTER)])
    world.transports["erp_main"]._on_send = pause
    world.push("erp_main", seconds=2000)
    level = world.level("erp_main", SKU)
    assert level.uncertain == "late_answer"
    assert level.linger_until >= world.clock.now() + timedelta(seconds=linger - 1)
    world.clock.advance(linger + 1)
    world.push("erp_main")
    assert world.level("erp_main", SKU).uncertain is None


def test_a_rise_at_the_bound_says_so_in_the_log(world: LittleWorld) -> None:
    restock(world)
    long_ago = world.clock.now() - timedelta(hours=1)
    with write_transaction(world.engine) as connection:
        connection.execute(
            update(inventory_levels)
            .where(inventory_levels.c.item_id == item_of("shop_main", SKU))
            .values(uncertain="own_sale", uncertain_since=long_ago)
        )
    world.faults["shop_main"].script([*[Fault(Kind.ERROR_500)] * 4, None, None, *[Fault(Kind.ERROR_500)] * 4])
    assert world.push("shop_main").acknowledged == 1
    told = [row.error_message for row in logged(world, "shop_main", "read") if row.sku == SKU]
    assert told[-1].startswith("settled at the bound")


def test_a_decrease_goes_at_once_though_the_level_waits_after_failures_and_a_rise_waits_on(world: LittleWorld) -> None:
    later = world.clock.now() + timedelta(hours=1)
    with write_transaction(world.engine) as connection:
        connection.execute(
            update(inventory_levels).where(inventory_levels.c.channel == "erp_main").values(due_at=later, failures=3)
        )
    restock(world, "SKU-0002")
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    report = world.push("erp_main")
    assert (report.acknowledged, report.waiting) == (1, 1)
    assert world.shown("erp_main", SKU) == world.level("erp_main", SKU).desired
    assert world.level("erp_main", "SKU-0002").due_at == later


def test_one_write_takes_the_variations_of_one_product_the_lowest_first(world: LittleWorld) -> None:
    """SKU 3, 4 and 6 of ten are variations of one product, 7 is kept by its product, the others are products."""
    sent: list[tuple[str, list[int]]] = []

    def watch(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/batch"):
            path = request.url.partition("/wc/v3")[2]
            sent.append((path, [row["id"] for row in json.loads(request.body)["update"]]))

    listed = [sku for sku in world.skus if sku in world.shops["woo_main"].shows()]
    for sku in listed:
        restock(world, sku)
    world.transports["woo_main"]._on_send = watch
    report = world.push("woo_main")
    assert (report.acknowledged, report.rejected, world.changes("woo_main")) == (len(listed), 0, 0)
    assert sorted(path for path, _ in sent) == [
        "/products/200000/variations/batch",
        "/products/200001/variations/batch",
        "/products/batch",
    ]
    by_path = dict(sent)
    wanted = {sku: world.level("woo_main", sku) for sku in listed}
    for path, ids in by_path.items():
        assert ids == [
            int(level.item_id)
            for level in sorted(wanted.values(), key=lambda level: (level.desired, level.id))
            if path == (f"/products/{level.location_id}/variations/batch" if level.location_id else "/products/batch")
        ]
    first = [level.desired for level in wanted.values() if int(level.item_id) in sent[0][1]]
    assert min(first) == min(level.desired for level in wanted.values())


def test_a_sale_of_a_variation_moves_the_level_that_its_product_keeps(world: LittleWorld) -> None:
    sku = "SKU-0017"
    before = world.shown("woo_main", sku)
    world.sell("woo_main", sku)
    world.deliver("woo_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    reports = {name: world.push(name) for name in ("woo_main", "erp_main")}
    assert (world.shown("woo_main", sku), world.shown("erp_main", sku)) == (before - 1, before - 1)
    assert (reports["woo_main"].pushed, reports["woo_main"].settled) == (0, 1)
    assert reports["erp_main"].acknowledged == 1


def test_a_store_that_switched_its_stock_management_off_is_the_same_shop_and_its_listings_go_to_review(
    world: LittleWorld,
) -> None:
    for article in world.shops["woo_main"]._books.articles.values():
        article.managed = False
    for sku in world.skus:
        restock(world, sku)
    listed = len(world.shops["woo_main"].shows())
    report = world.push("woo_main")
    assert (report.problem, report.review, report.left) == ("", listed, 0)
    listing = platform_mapping.c
    with world.engine.connect() as connection:
        query = select(listing.status, listing.status_reason).where(listing.platform_name == "woo_main")
        states = connection.execute(query).all()
    assert {row.status for row in states} == {"needs_review"}
    assert {row.status_reason.partition(":")[0] for row in states} == {"unmanaged"}


@pytest.mark.parametrize("shown", [10**30, -(10**30)])
def test_a_number_that_no_shelf_holds_goes_to_review_and_the_rest_goes_on(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch, shown: int
) -> None:
    platform = world.processes[0].platform(world.processes[0].channel("erp_main"))
    read = platform.read

    def nonsense(references: Sequence[LevelReference]) -> ReadAnswer:
        true = read(references)
        return ReadAnswer(
            tuple(Reading(one.level, shown) if one.level.item_id == SKU else one for one in true.readings)
        )

    monkeypatch.setattr(platform, "read", nonsense)
    reports = [full_sync(world.processes[0], "erp_main", batch, run_id="full") for batch in range(16)]
    assert {report.problem for report in reports} == {""}
    assert sum(report.equal for report in reports) == len(world.skus) - 1
    listing = platform_mapping.c
    with world.engine.connect() as connection:
        query = select(listing.central_sku, listing.status_reason).where(listing.status == "needs_review")
        ((sku, reason),) = connection.execute(query).all()
    assert (sku, reason.partition(":")[0]) == (SKU, "implausible_quantity")


def test_writes_recorded_together_leave_what_writes_recorded_one_by_one_leave(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, Any]] = []

    def state() -> dict[str, Any]:
        level = world.level("erp_main", SKU)._mapping
        row = logged(world, "erp_main")[-1]._mapping
        passing = {"id", "idempotency_key", "timestamp", "started_at", "attempt", "ledger_sequence", "sku"}
        return dict(level) | {f"log_{name}": row[name] for name in row if name not in passing}

    platform = world.processes[0].platform(world.processes[0].channel("erp_main"))
    write = platform.write
    words = ["", "noted"]

    def answered(rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        answer = write(rows, key=key)
        # Words of the platform are logged with the row, so such a row is recorded by itself.
        said = words.pop(0)
        return WriteAnswer(tuple(replace(one, message=said) for one in answer.outcomes), answer.budget)

    monkeypatch.setattr(platform, "write", answered)
    while words:
        world.sell("shop_main", SKU)
        world.deliver("shop_main")
        apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
        assert world.push("erp_main").acknowledged == 1
        kept.append(state())
    together, alone = kept
    assert alone["log_error_message"] == "noted"
    assert together["log_error_message"] == ""
    assert together["acknowledged_quantity"] == together["log_new_quantity"] == alone["log_new_quantity"] + 1
    moved = {"desired", "effective_quantity", "expected", "sent_quantity", "acknowledged_quantity", "log_old_quantity"}
    moved |= {"log_new_quantity", "attempt", "acknowledged_attempt", "touched", "desired_sequence", "sent_sequence"}
    moved |= {"sent_at", "acknowledged_at", "due_at", "log_error_message"}
    assert {name: together[name] for name in together if name not in moved} == {
        name: alone[name] for name in alone if name not in moved
    }
    assert alone["acknowledged_attempt"] == alone["attempt"] == together["acknowledged_attempt"] + 1


def test_another_shop_is_known_by_calls_of_few_rows_as_well(world: LittleWorld) -> None:
    world.erp._articles.clear()
    ws = world.processes[0]
    platform = ws.platform(ws.channel("erp_main"))
    platform._limits = replace(platform.limits, read_batch=5)  # type: ignore[attr-defined]
    doubt = {"uncertain": "never_read", "expected": None}
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).where(inventory_levels.c.channel == "erp_main").values(doubt))
    report = world.push("erp_main")
    assert report.problem.startswith("another_shop: 20 of 20 listings are unknown at erp_main")
    assert reviewed(world) == 5
    assert stopped(world, "erp_main") == report.problem
    # Nor do the pushes after it send five more each.
    assert world.push("erp_main").stopped
    assert reviewed(world) == 5
