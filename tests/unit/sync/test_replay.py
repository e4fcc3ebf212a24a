"""Kept deliveries applied again: nothing is booked twice, and what was lost is booked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.moving import move_stock
from invsync_dagster.inventory.tables import deliveries, platform_mapping, stock_counts, unclear_orders
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.shopify.webhooks import ShopifyDoor
from invsync_dagster.sync import replay as replay_module
from invsync_dagster.webhooks.inbox import SegmentWriter
from invsync_dagster.webhooks.segments import written_at
from tests import databases
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.kept_stage import EVER, SKU, Kept


@pytest.fixture
def kept(world: LittleWorld, tmp_path: Path) -> Kept:
    return Kept(world, tmp_path)


def live(kept: Kept) -> None:
    """Orders made, shipped and refunded at three shops, and counts of the ERP, an hour apart, all applied."""
    world = kept.world
    for _ in range(2):
        for channel in ("shop_main", "shop_eu", "woo_main"):
            world.sell(channel, SKU, 2)
        world.erp.restock(SKU, 3)
        kept.receive("shop_main", "shop_eu", "woo_main", "erp_main")
        kept.apply()
        world.clock.advance(3600)
    shop = world.shops["shop_main"]
    order = world.sell("shop_main", SKU, 3)
    (line,) = shop.lines(order)
    shop.refund(order, {line: 1}, "cancel")
    kept.receive("shop_main")
    kept.apply()


def test_a_replay_of_all_that_is_kept_changes_nothing(kept: Kept) -> None:
    live(kept)
    before, receipts = kept.books(), kept.rows(deliveries)
    for _ in range(2):
        report = kept.replay()
        assert (report.entries, report.quarantined, report.duplicates) == (0, 0, 0)
        assert report.deliveries == len(receipts) >= 14
    assert kept.books() == before
    assert kept.rows(deliveries) == receipts
    assert kept.inbox.segments(10) == []


def test_a_replay_in_small_batches_and_out_of_step_with_the_orders_changes_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(kept)
    before = kept.books()
    monkeypatch.setattr("invsync_dagster.sync.intake.DELIVERIES_AT_ONCE", 1)
    assert kept.replay().entries == 0
    assert kept.books() == before


def test_a_restored_older_database_gets_back_what_its_deliveries_say(kept: Kept) -> None:
    world = kept.world
    live(kept)
    backup, backed_up = databases.fresh_engine(), world.clock.now()
    move_stock(world.engine, backup, lambda table, rows: None)
    for channel in ("shop_eu", "woo_main"):
        world.sell(channel, SKU)
    world.erp.restock(SKU, 2)
    world.clock.advance(60)
    kept.receive("shop_eu", "woo_main", "erp_main")
    kept.apply()
    before = kept.sums()

    world.engine = kept.ws.engine = backup
    assert kept.sums() != before
    report = replay_module.replay(kept.ws, backed_up, world.clock.now() + timedelta(days=1), run_id="replay")
    assert report.entries == 3
    assert kept.sums() == before
    assert kept.replay().entries == 0
    with backup.connect() as connection:
        assert audit(connection) == []


def test_a_count_whose_mapping_came_later_is_booked_and_leaves_the_quarantine(kept: Kept) -> None:
    world = kept.world
    with write_transaction(world.engine) as connection:
        connection.execute(
            update(platform_mapping)
            .where(platform_mapping.c.platform_name == "erp_main", platform_mapping.c.central_sku == SKU)
            .values(platform_item_id="elsewhere", platform_sku="elsewhere")
        )
    world.erp.restock(SKU, 5)
    kept.receive("erp_main")
    assert kept.apply().quarantined == 1
    (entry,) = kept.inbox.quarantine.entries()
    assert SKU in entry.reason
    assert kept.replay().quarantined == 1
    assert entry.path.exists()

    with write_transaction(world.engine) as connection:
        mapped = [Listing("erp_main", SKU, SKU, platform_sku=SKU)]
        set_listings(connection, mapped, actor="ann", reason="", now=world.clock.now())
    before = len(kept.rows(stock_counts))
    report = kept.replay()
    assert (report.quarantined, report.entries) == (0, 1)
    assert len(kept.rows(stock_counts)) == before + 1
    assert not entry.path.exists()
    assert {row.state for row in kept.rows(deliveries)} == {"applied"}


def test_what_a_mended_parser_understands_is_booked(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ShopifyDoor, headers: object, body: bytes) -> None:
        raise NotUnderstoodError("a field that we don't know")

    kept.world.sell("shop_main", SKU, 2)
    kept.receive("shop_main")
    with monkeypatch.context() as patched:
        patched.setattr(ShopifyDoor, "parse", broken)
        assert kept.apply().quarantined == 2
        assert kept.replay().reasons == ["a field that we don't know"] * 2
    assert len(list(kept.inbox.quarantine.entries())) == 2
    assert kept.reserved() == 0
    assert kept.replay().entries == 1
    assert kept.reserved() == 2
    assert list(kept.inbox.quarantine.entries()) == []


def test_one_channel_and_one_time_are_replayed_alone(kept: Kept) -> None:
    live(kept)
    assert kept.replay(channel="woo_main").deliveries == sum(row.channel == "woo_main" for row in kept.rows(deliveries))
    until = min(row.received_at for row in kept.rows(deliveries)) + timedelta(minutes=1)
    report = replay_module.replay(kept.ws, EVER, until, run_id="replay")
    assert report.deliveries == sum(row.received_at < until for row in kept.rows(deliveries))
    assert 0 < report.deliveries < len(kept.rows(deliveries))


def test_what_was_sealed_with_a_key_that_is_back_is_booked(kept: Kept) -> None:
    environ = dict(kept.ws.environ)
    kept.ws.environ = environ | {"INVSYNC_INBOX_KEY": "A" * 43 + "="}
    kept.world.sell("shop_main", SKU, 2)
    kept.receive("shop_main")
    (segment,) = kept.inbox.segments(10)
    kept.ws.environ = environ
    report = kept.apply()
    assert (report.segments, report.deliveries, report.quarantined) == (1, 0, 1)
    assert "which INVSYNC_INBOX_KEY doesn't hold" in report.reasons[0]
    assert kept.reserved() == 0
    (entry,) = kept.inbox.quarantine.entries()
    assert entry.receipt_id == f"{segment.stem}:sealed"
    (reason,) = kept.replay().reasons
    assert "INVSYNC_INBOX_KEY" in reason

    kept.ws.environ = environ | {"INVSYNC_INBOX_KEY": "A" * 43 + "="}
    assert kept.replay().entries == 1
    assert kept.reserved() == 2
    assert list(kept.inbox.quarantine.entries()) == []
    assert written_at(segment.name) == kept.rows(deliveries)[0].received_at


def test_a_sealed_segment_stays_in_quarantine_until_all_of_it_is_applied(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ShopifyDoor, headers: object, body: bytes) -> None:
        raise NotUnderstoodError("a field that we don't know")

    environ = dict(kept.ws.environ)
    kept.ws.environ = environ | {"INVSYNC_INBOX_KEY": "A" * 43 + "="}
    for channel in ("shop_main", "woo_main"):
        kept.world.sell(channel, SKU, 2)
        kept.world.deliver(channel)
    segment = SegmentWriter(kept.folder, kept.world.clock, kept.ws.rng, kept.seals).write(kept.world.inbox)
    kept.ws.environ = environ
    kept.apply()
    kept.ws.environ = environ | {"INVSYNC_INBOX_KEY": "A" * 43 + "="}

    kept.replay(channel="woo_main")
    with monkeypatch.context() as patched:
        patched.setattr(ShopifyDoor, "parse", broken)
        assert kept.replay().quarantined == 2
    assert kept.reserved() == 2
    (entry,) = kept.inbox.quarantine.entries()
    assert entry.receipt_id == f"{segment.stem}:sealed"
    kept.replay()
    assert kept.reserved() == 4
    assert list(kept.inbox.quarantine.entries()) == []


def test_a_file_that_cant_be_read_or_is_no_segment_stops_no_other(kept: Kept) -> None:
    (kept.folder / "0000000000000001-x.segment").mkdir()
    kept.world.sell("shop_main", SKU, 2)
    kept.receive("shop_main")
    (segment,) = kept.inbox.segments(10)[1:]
    (kept.folder / f"copy of {segment.name}").write_bytes(segment.read_bytes())
    for _ in range(2):
        report = kept.apply()
        assert (report.quarantined, len(report.reasons), kept.reserved()) == (2, 2, 2)
    assert [path.name for path in kept.inbox.segments(10)] == ["0000000000000001-x.segment"]
    assert (kept.folder / f"copy of {segment.name}").exists()
    assert not segment.exists()


def test_an_order_that_a_webhook_only_names_is_asked_for_again_and_nothing_else_happens(kept: Kept) -> None:
    live(kept)
    with write_transaction(kept.world.engine) as connection:
        connection.execute(delete(unclear_orders))
    before = kept.books()
    kept.replay()
    assert kept.books() == before
    assert {row.channel for row in kept.rows(unclear_orders)} >= {"shop_main"}
