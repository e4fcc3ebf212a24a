"""An asynchronous platform: what it accepted is on its way until a reading shows it, and stops no decrease."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.tables import platform_mapping
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.discover import Discovery, discover
from invsync_dagster.sync.levels import Doubt
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.amazon_stage import AmazonStage

pytestmark = pytest.mark.usefixtures("each_database")


def patches(stage: AmazonStage) -> list[int]:
    """The quantities that were sent, in order."""
    return [row.new_quantity for row in stage.logged() if row.status == "accepted"]


def in_step(stock: dict[str, int], **options: float) -> AmazonStage:
    """Return a stage whose listings show the stock and are acknowledged."""
    stage = AmazonStage(stock, stock, **options)
    stage.settle()
    stage.clock.advance(600)
    return stage


def test_a_new_listing_is_read_before_it_is_written_and_acknowledged_by_what_it_shows() -> None:
    stage = AmazonStage({"A": 5, "B": 9}, {"A": 5, "B": 12})
    report = stage.push()
    assert (report.read, report.pushed, report.accepted, report.acknowledged) == (2, 1, 1, 0)
    assert stage.level("A").acknowledged_quantity == 5
    level = stage.level("B")
    assert (level.accepted_quantity, level.acknowledged_quantity, level.uncertain) == (9, 12, Doubt.ACCEPTED)
    assert level.accepted_handle
    stage.settle()
    level = stage.level("B")
    assert (level.accepted_quantity, level.accepted_handle, level.acknowledged_quantity) == (None, None, 9)
    assert stage.shown("B") == 9
    assert patches(stage) == [9]


def test_nothing_is_acknowledged_before_the_grace_time_is_over() -> None:
    stage = in_step({"A": 20}, processing_seconds=0.0)
    stage.count("A", 12)
    stage.push()
    assert stage.shown("A") == 12
    for _ in range(3):
        stage.clock.advance(30)
        assert stage.push().read == 0
        assert stage.level("A").acknowledged_quantity == 20
    stage.clock.advance(31)
    assert stage.push().read == 1
    assert stage.level("A").acknowledged_quantity == 12


def test_a_patch_that_is_worked_on_late_is_waited_for_and_not_sent_again() -> None:
    stage = in_step({"A": 20}, processing_seconds=500.0)
    stage.count("A", 12)
    reports = stage.pushes(8)
    assert stage.shown("A") == 20
    assert sum(report.read for report in reports) >= 2
    stage.settle()
    assert stage.shown("A") == 12
    assert patches(stage) == [12]


def test_a_patch_that_never_shows_is_sent_again_when_it_can_no_longer_land() -> None:
    stage = in_step({"A": 20}, processing_seconds=1e9)
    stage.count("A", 12)
    stage.push()
    stage.account.processing_seconds = 0.0
    stage.pushes(14)
    assert patches(stage) == [12]
    stage.settle()
    assert patches(stage) == [12, 12]
    assert stage.shown("A") == 12


def test_a_decrease_goes_at_once_while_a_patch_is_open_and_an_increase_waits_for_the_reading() -> None:
    stage = in_step({"A": 20, "B": 20}, processing_seconds=60.0)
    stage.count("A", 12)
    stage.count("B", 12)
    stage.push()
    stage.clock.advance(5)
    stage.count("A", 7)
    stage.count("B", 15)
    stage.push()
    assert patches(stage) == [12, 12, 7]
    stage.settle()
    assert patches(stage) == [12, 12, 7, 15]
    assert (stage.shown("A"), stage.shown("B")) == (7, 15)


def test_an_own_sale_while_a_patch_is_open_is_sent_again_though_amazon_moves_its_own_number() -> None:
    stage = in_step({"A": 20}, processing_seconds=60.0)
    stage.count("A", 12)
    stage.push()
    stage.clock.advance(10)
    stage.account.buy({"A": 1})
    assert stage.shown("A") == 19
    stage.deliver()
    stage.push()
    assert patches(stage) == [12, 11]
    stage.settle()
    assert stage.shown("A") == 11
    assert stage.level("A").acknowledged_quantity == 11


def test_an_own_sale_without_an_open_patch_is_only_read() -> None:
    stage = in_step({"A": 20})
    stage.account.buy({"A": 1})
    stage.deliver()
    report = stage.push()
    assert (report.pushed, report.read, report.settled) == (0, 1, 1)
    assert stage.level("A").acknowledged_quantity == 19


def test_an_own_sale_during_the_call_is_sent_again() -> None:
    stage = in_step({"A": 20}, processing_seconds=60.0)
    stage.count("A", 12)

    def sell(when: str, request: Request) -> None:
        if when == "after" and request.method == "PATCH" and not stage.account.orders():
            stage.account.buy({"A": 1})
            stage.deliver()

    stage.transport._on_send = sell
    stage.push()
    assert patches(stage) == [12, 11]
    stage.settle()
    assert stage.shown("A") == 11


def test_an_own_cancel_while_a_patch_is_open_lets_no_unheard_sale_through() -> None:
    stage = in_step({"A": 20}, processing_seconds=60.0)
    order = stage.account.buy({"A": 1})
    stage.deliver()
    stage.settle()
    stage.clock.advance(600)
    stage.count("A", 13)
    stage.push()
    assert patches(stage) == [12]
    stage.clock.advance(90)
    stage.account.cancel(order)
    stage.account.take_outgoing()  # lost
    stage.account.buy({"A": 1})
    stage.account.take_outgoing()  # lost
    stage.clock.advance(60)
    stage.push()
    assert stage.shown("A") == 12
    stage.settle()
    stage.pushes(15)
    stage.settle()
    assert stage.shown("A") == 12


def test_a_lost_answer_is_settled_after_the_linger_time() -> None:
    stage = in_step({"A": 20}, processing_seconds=30.0)
    stage.count("A", 12)
    stage.faults.script([None, Fault(Kind.TIMEOUT_AFTER)])  # the list of orders first
    report = stage.push()
    assert report.unknown == 1
    assert stage.level("A").uncertain == Doubt.ANSWER_LOST
    stage.settle()
    assert stage.shown("A") == 12
    assert stage.level("A").acknowledged_quantity == 12


FBA = {"AMAZON_EU": {"fulfillment_channel_code": "AMAZON_EU"}}


def status_of(stage: AmazonStage, sku: str) -> tuple[str, str]:
    listing = platform_mapping.c
    query = select(listing.status, listing.status_reason).where(listing.central_sku == sku)
    with stage.engine.connect() as connection:
        row = connection.execute(query).one()
    return row.status, row.status_reason


def walked(stage: AmazonStage, folder: Path) -> Discovery:
    return discover(replace(stage.ws, home=replace(stage.ws.home, data=folder)), "amazon_eu", run_id="walk")


def test_a_listing_that_amazon_fulfils_is_excluded_with_the_reason_and_is_never_written() -> None:
    stage = AmazonStage({"A": 5, "F": 5}, {"A": 5})
    stage.account.add_item("F", None, fulfilled_by_amazon=True)
    report = stage.push()
    assert report.review == 0
    assert stage.level("F").pushable is False
    status, reason = status_of(stage, "F")
    assert (status, reason[:49]) == ("excluded", "kept by the platform: Amazon fulfils it and keeps")
    assert stage.account.item("F").availability == FBA


def test_a_listing_converted_to_fba_is_excluded_by_the_reading_of_the_next_patch_and_the_leftover_is_named() -> None:
    stage = in_step({"A": 9})
    stage.account.item("A").availability = dict(FBA)
    stage.clock.advance(60)
    stage.count("A", 3)
    stage.settle()
    assert stage.account.item("A").availability["DEFAULT"]["quantity"] == 3
    status, reason = status_of(stage, "A")
    assert (status, reason.rpartition("; ")[2]) == (
        "excluded",
        "3 of the seller's own are shown beside it: take them off there",
    )
    stage.count("A", 2)
    stage.settle()
    assert stage.account.item("A").availability["DEFAULT"]["quantity"] == 3


def test_a_listing_converted_to_fba_is_excluded_by_the_full_run_before_anything_is_patched() -> None:
    stage = in_step({"A": 9, "B": 4})
    stage.account.item("A").availability = dict(FBA)
    batches = range(stage.ws.configuration.settings.sku_batches)
    reports = [full_sync(stage.ws, "amazon_eu", batch, run_id="full") for batch in batches]
    assert [one.done for report in reports for one in report.differences] == ["excluded"]
    assert (status_of(stage, "A")[0], status_of(stage, "B")[0]) == ("excluded", "active")
    stage.count("A", 3)
    stage.settle()
    assert stage.account.item("A").availability == FBA


def test_discovery_excludes_what_amazon_fulfils_and_offers_it_again_once_it_does_not(tmp_path: Path) -> None:
    stage = in_step({"A": 9, "B": 4})
    before = dict(stage.account.item("A").availability)
    stage.account.item("A").availability = dict(FBA)
    found = walked(stage, tmp_path)
    assert (found.problem, found.excluded, found.reviewed, found.found) == ("", 1, 0, {})
    assert status_of(stage, "A")[0] == "excluded"
    assert walked(stage, tmp_path).excluded == 0
    stage.account.item("A").availability = before
    assert walked(stage, tmp_path).found == {"returned": 1}
    assert status_of(stage, "A")[0] == "excluded"


def test_a_token_that_was_ended_early_is_renewed_and_the_push_goes_on() -> None:
    stage = in_step({"A": 20})
    stage.account.expire_tokens()
    stage.count("A", 12)
    report = stage.push()
    assert (report.problem, report.accepted) == ("", 1)


def test_a_revoked_grant_stops_the_channel_with_what_to_do() -> None:
    stage = in_step({"A": 20})
    stage.account.revoke()
    stage.count("A", 12)
    report = stage.push()
    assert report.stopped
    assert "authorize the app again" in report.problem
    assert stage.shown("A") == 20
    assert stage.changes() == ["A"]


def test_orders_are_listed_at_the_rate_that_amazon_allows_and_known_until_where_its_list_ends() -> None:
    stage = in_step({"A": 20})
    asked = []

    def watch(when: str, request: Request) -> None:
        if when == "before" and "/orders/2026-01-01/orders" in request.url:
            asked.append(stage.clock.now())

    stage.transport._on_send = watch
    reports = stage.pushes(30)
    assert not [report.problem for report in reports if report.problem]
    assert 5 <= len(asked) <= 10
    assert all((later - earlier).total_seconds() >= 180 for earlier, later in pairwise(asked))


def test_a_sale_whose_notification_was_lost_is_found_by_the_poll() -> None:
    stage = in_step({"A": 20})
    stage.account.buy({"A": 3})
    stage.account.take_outgoing()  # lost
    reports = stage.pushes(10)
    stage.settle()
    assert sum(report.orders for report in reports) >= 1
    assert (stage.level("A").desired, stage.shown("A")) == (17, 17)


def test_the_order_of_a_notification_and_of_the_poll_is_booked_once() -> None:
    stage = in_step({"A": 20})
    order = stage.account.buy({"A": 2}, status="PENDING")
    stage.deliver()
    stage.clock.advance(5)
    stage.account.confirm(order)
    stage.account.ship(order)
    stage.deliver()
    stage.pushes(10)
    stage.settle()
    level = stage.level("A")
    assert (level.desired, stage.shown("A")) == (18, 18)
