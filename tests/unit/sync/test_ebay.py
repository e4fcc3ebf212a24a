"""eBay between its notifications, its orders and the stock: what a sale, a shipment and a cancellation come to."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.imports import importing
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.listings import set_status
from invsync_dagster.inventory.tables import central_inventory, platform_mapping
from invsync_dagster.platforms.contract import ListingsPage
from invsync_dagster.platforms.transport import Response
from invsync_dagster.settings import Home, ImportLimits
from invsync_dagster.sync.discover import Discovery, discover
from invsync_dagster.sync.preview import preview_channel
from invsync_dagster.sync.reconcile import full_sync
from tests.unit.sync.ebay_stage import EbayStage

pytestmark = pytest.mark.usefixtures("each_database")


def balance(stage: EbayStage, sku: str) -> tuple[int, int]:
    table = central_inventory.c
    with stage.engine.connect() as connection:
        row = connection.execute(select(table.quantity, table.reserved_quantity).where(table.sku == sku)).one()
    return row.quantity, row.reserved_quantity


@pytest.mark.parametrize("own", [False, True])
def test_a_notification_completed_by_its_order_reserves_ships_and_releases_once(own: bool) -> None:
    stage = EbayStage({"A": 9, "B": 4}, own=own)
    stage.push()
    stage.clock.advance(60)
    order = stage.account.buy({stage.levels["A"]: 3, stage.levels["B"]: 1})
    stage.deliver()
    assert stage.unclear() == [order]
    stage.push()
    assert (stage.unclear(), balance(stage, "A"), balance(stage, "B")) == ([], (9, 3), (4, 1))
    stage.deliver()
    stage.clock.advance(60)
    line = next(each.line for each in stage.account.order(order).lines.values() if each.sku == "A")
    stage.account.ship(order, {line: 2})
    stage.deliver()
    stage.push()
    assert (balance(stage, "A"), balance(stage, "B")) == ((7, 1), (4, 1))
    stage.clock.advance(60)
    stage.account.cancel(order)
    stage.clock.advance(60)
    for _ in range(3):
        stage.push()
        stage.clock.advance(60)
    assert (balance(stage, "A"), balance(stage, "B")) == ((7, 0), (4, 0))
    assert (stage.shown("A"), stage.shown("B")) == (7, 4)


def test_a_sale_that_nothing_told_of_is_found_by_the_poll() -> None:
    stage = EbayStage({"A": 9})
    stage.push()
    stage.clock.advance(60)
    stage.account.buy({stage.levels["A"]: 2})
    stage.account.take_outgoing()
    stage.clock.advance(60)
    stage.push()
    assert balance(stage, "A") == (9, 2)
    assert stage.shown("A") == 7


def test_a_withdrawn_consent_stops_the_channel_and_a_new_one_lets_it_go_on() -> None:
    stage = EbayStage({"A": 9})
    stage.push()
    stage.account.access.change("another")
    stage.clock.advance(7200)
    report = stage.count("A", 5)
    assert report.stopped
    assert "let the seller consent again" in report.problem
    assert stage.shown("A") == 9
    stage.account.access.change("v^1.1#i^1#r^1#refresh-5d8c2e")
    stage.clock.advance(60)
    stage.push()
    assert stage.shown("A") == 5


def test_a_token_that_ran_out_early_costs_one_attempt_and_no_stop() -> None:
    stage = EbayStage({"A": 9})
    stage.push()
    stage.clock.advance(600)
    stage.account.access.expire()
    report = stage.count("A", 5)
    assert not report.stopped
    assert stage.shown("A") == 5


def test_calls_of_the_day_that_are_used_up_are_asked_for_once_and_waited_for_by_the_hour() -> None:
    stage = EbayStage({"A": 9})
    stage.settle()
    stage.account.quota.a_day = 0
    report = stage.count("A", 5)
    assert "the application's 0 calls of eBay's fulfillment API are used up until 20" in report.problem
    assert stage.asked.count("bulk_update_price_quantity") == 1
    assert (report.acknowledged, report.stopped, stage.level("A").failures) == (0, False, 0)
    stage.asked.clear()
    stage.clock.advance(3500)
    stage.push()
    assert stage.asked == []
    stage.account.quota.a_day = 2_000_000
    stage.clock.advance(120)
    stage.push()
    assert stage.shown("A") == 5


def overridden() -> EbayStage:
    """An account whose seller gave the offer of A a quantity of its own after A was mapped, with nothing of A left since."""
    stage = EbayStage({"A": 9, "B": 5})
    stage.settle()
    stage.clock.advance(60)
    stage.account.set_own_quantity("A", 9)
    stage.count_all({"A": 0, "B": 2})
    level = stage.level("A")
    assert (level.acknowledged_quantity, level.uncertain, stage.account.shown(stage.levels["A"])) == (0, None, 9)
    return stage


def mapped(stage: EbayStage) -> dict[tuple[str, str], tuple[str, str]]:
    """Status and reason of the listings by SKU and offer."""
    listing = platform_mapping.c
    with stage.engine.connect() as connection:
        rows = connection.execute(select(platform_mapping).order_by(listing.id)).all()
    return {(row.platform_item_id, row.platform_location_id): (row.status, row.status_reason) for row in rows}


def walked(stage: EbayStage, folder: Path) -> tuple[Discovery, list[dict[str, str]]]:
    home = replace(stage.ws.home, root=folder, data=folder)
    found = discover(replace(stage.ws, home=home), "ebay_main", run_id="walk")
    if found.mapping_file is None:
        return found, []
    with found.mapping_file.open(encoding="utf-8-sig", newline="") as file:
        return found, list(csv.DictReader(file))


# --- offers, which seldom change ---------------------------------------------------------------------------------------


def first_read() -> EbayStage:
    """An account whose offers were asked for by the first push's readings."""
    stage = EbayStage({"A": 9, "B": 5})
    stage.settle()
    assert stage.offers_asked() == 2
    return stage


def sell(stage: EbayStage, hours: float) -> None:
    """Sell one A some hours later, and let pushes hear of it."""
    stage.clock.advance(3600 * hours)
    stage.account.buy({stage.levels["A"]: 1})
    stage.settle()


def test_a_sale_is_settled_without_asking_for_offers_again() -> None:
    stage = first_read()
    sell(stage, 47)
    assert "bulk_get_inventory_item" in stage.asked
    assert (stage.offers_asked(), stage.shown("A"), stage.level("A").acknowledged_quantity) == (0, 8, 8)


def test_an_offer_that_is_named_is_asked_for_each_time() -> None:
    stage = EbayStage({"A": 9, "B": 5}, own=True)
    stage.settle()
    stage.offers_asked()
    sell(stage, 1)
    assert (stage.offers_asked(), stage.level("A").acknowledged_quantity) == (1, 8)


def test_what_was_seen_two_days_ago_is_asked_for_again() -> None:
    stage = first_read()
    stage.account.set_own_quantity("A", 9)
    sell(stage, 49)
    assert stage.offers_asked() == 1
    assert mapped(stage)["A", ""][1].startswith("own_quantity: ")


@pytest.mark.parametrize("look", ["full run", "preview", "discovery"])
def test_full_runs_previews_and_discoveries_see_the_offers_for_two_days(look: str, tmp_path: Path) -> None:
    stage = first_read()
    stage.clock.advance(49 * 3600)
    if look == "full run":
        for batch in range(stage.ws.configuration.settings.sku_batches):
            full_sync(stage.ws, "ebay_main", batch, run_id="full")
    elif look == "preview":
        preview_channel(stage.ws, "ebay_main")
    else:
        walked(stage, tmp_path)
    assert stage.offers_asked() == 2
    sell(stage, 1)
    assert (stage.offers_asked(), stage.level("A").acknowledged_quantity) == (0, 8)


def test_a_number_that_nobody_expected_is_read_again_with_its_offers() -> None:
    stage = first_read()
    stage.account.edit_stock(stage.levels["A"], 7)
    stage.account.set_own_quantity("A", 9)
    sell(stage, 1)
    assert stage.offers_asked() == 1
    assert mapped(stage)["A", ""][1].startswith("own_quantity: its offer 36445435002 has a quantity of its own (8)")
    assert mapped(stage)["B", ""][0] == "active"


def test_a_write_whose_answer_tells_of_an_offer_that_failed_is_followed_by_a_reading_with_its_offers() -> None:
    stage = first_read()
    stage.account.set_own_quantity("A", 9)
    failed = {"sku": "A", "offerId": "36445435002", "statusCode": 400, "errors": [{"errorId": 25002, "message": "No."}]}
    rows = [{"sku": "A", "statusCode": 200}, failed]
    stage.instead["bulk_update_price_quantity"] = Response(207, {}, json.dumps({"responses": rows}).encode())
    assert stage.count("A", 12).unknown == 1
    stage.settle()
    assert stage.offers_asked() == 1
    assert mapped(stage)["A", ""][0] == "needs_review"


def bring_back(stage: EbayStage) -> None:
    """Take A back from review, as who has looked at it does."""
    with write_transaction(stage.engine) as connection:
        listing_id = connection.execute(
            select(platform_mapping.c.id).where(platform_mapping.c.central_sku == "A")
        ).scalar_one()
        set_status(connection, [listing_id], "active", actor="ann", reason="looked at", now=stage.clock.now())


def test_a_level_that_comes_back_from_review_is_read_with_its_offers() -> None:
    stage = overridden()
    stage.clock.advance(49 * 3600)
    sell(stage, 0)
    assert mapped(stage)["A", ""][0] == "needs_review"
    stage.offers_asked()
    bring_back(stage)
    stage.settle()
    assert stage.offers_asked() == 1
    assert mapped(stage)["A", ""][0] == "needs_review"


def test_what_a_write_sent_to_review_after_a_sale_comes_back_to_a_reading_with_its_offers() -> None:
    stage = first_read()
    stage.account.set_own_quantity("A", 9)
    stage.account.buy({stage.levels["A"]: 1})
    failed = {"sku": "A", "statusCode": 404, "errors": [{"errorId": 25710, "message": "No."}]}
    stage.instead["bulk_update_price_quantity"] = Response(207, {}, json.dumps({"responses": [failed]}).encode())
    stage.clock.advance(60)
    stage.count("A", 4)
    assert mapped(stage)["A", ""] == ("needs_review", "ebay_25710: No. [review]")
    assert stage.level("A").uncertain == "own_sale"
    stage.offers_asked()
    bring_back(stage)
    stage.settle()
    assert stage.offers_asked() == 1
    assert mapped(stage)["A", ""][1].startswith("own_quantity: ")


def test_a_walk_of_several_runs_does_not_say_that_it_saw_the_offers_of_the_first_one_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = first_read()
    stage.clock.advance(49 * 3600)
    platform = stage.ws.platform(stage.ws.channel("ebay_main"))
    listings = platform.listings

    def slowly(cursor: str = "") -> ListingsPage:
        page = listings()
        if cursor:
            return replace(page, listings=page.listings[1:])
        stage.clock.advance(3 * 3600 + 1)
        return replace(page, listings=page.listings[:1], cursor="1")

    monkeypatch.setattr(platform, "listings", slowly)
    assert walked(stage, tmp_path)[0].listings == 1
    stage.clock.advance(47 * 3600)
    assert walked(stage, tmp_path)[0].listings == 2
    stage.offers_asked()
    stage.account.set_own_quantity("A", 9)
    sell(stage, 1)
    assert stage.offers_asked() == 1
    assert mapped(stage)["A", ""][1].startswith("own_quantity: ")


def test_the_full_run_finds_an_offer_that_shows_a_number_of_its_own() -> None:
    stage = overridden()
    batches = stage.ws.configuration.settings.sku_batches
    reports = [full_sync(stage.ws, "ebay_main", batch, run_id="full") for batch in range(batches)]
    assert (sum(one.equal for one in reports), sum(one.missing for one in reports)) == (1, 1)
    (difference,) = [difference for one in reports for difference in one.differences]
    assert difference.done == "in review"
    status, reason = mapped(stage)["A", ""]
    assert status == "needs_review"
    assert reason.startswith("own_quantity: its offer 36445435002 has a quantity of its own (9)")
    assert mapped(stage)["B", ""][0] == "active"


def test_discovery_stops_the_level_and_its_file_maps_the_offer_instead(tmp_path: Path) -> None:
    stage = overridden()
    found, rows = walked(stage, tmp_path)
    assert (found.problem, found.reviewed, found.found) == ("", 1, {"moved": 2})
    assert mapped(stage)["A", ""][0] == "needs_review"
    assert [(row["central_sku"], row["platform_location_id"], row["status"]) for row in rows] == [
        ("A", "36445435002", "active"),
        ("A", "", "retired"),
    ]
    assert found.mapping_file is not None
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    home.imports.mkdir(parents=True)
    basis = Basis(stage.engine, home.imports, ImportLimits(), stage.clock.now(), "ann", "import")
    assert importing.import_file(basis, found.mapping_file).state == "applied"
    stage.settle()
    assert (stage.shown("A"), stage.shown("B")) == (0, 2)
    assert walked(stage, tmp_path)[0].found == {}
