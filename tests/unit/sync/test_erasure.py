"""Buyers' fields go after their time, from what is kept and from the quarantine, and a replay says the same as before."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from invsync_dagster.channels import Configuration
from invsync_dagster.inventory.tables import deliveries
from invsync_dagster.inventory.tables.columns import metadata
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sync.erasure import erase_buyers
from invsync_dagster.sync.prove import prove_orders
from invsync_dagster.webhooks import kept as kept_module
from invsync_dagster.webhooks.inbox import SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests.unit.platforms.test_needed import with_a_buyer
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.kept_stage import EVER, SKU, Kept

BUYER = b"Ann Buyer"
CHANNELS = ("shop_main", "shop_eu", "woo_main", "erp_main")


@pytest.fixture
def kept(world: LittleWorld, tmp_path: Path) -> Kept:
    """A day's webhooks of every channel, each with a buyer in it, applied."""
    kept = Kept(world, tmp_path)
    for channel in CHANNELS[:3]:
        world.sell(channel, SKU, 2)
    world.erp.restock(SKU, 3)
    for channel in CHANNELS:
        world.deliver(channel)
    written = [one._replace(body=json.dumps(with_a_buyer(json.loads(one.body))).encode()) for one in world.inbox]
    world.inbox.clear()
    SegmentWriter(kept.folder, world.clock, kept.ws.rng).write(written)
    kept.apply()
    return kept


def write(kept: Kept, channel: str, body: bytes, topic: str = "orders/create") -> None:
    headers = {"x-shopify-topic": topic, "x-wc-webhook-topic": "order.created"}
    delivery = Delivery(channel, topic, kept.world.clock.now(), headers, body)
    SegmentWriter(kept.folder, kept.world.clock, kept.ws.rng).write([delivery])
    kept.apply()


def raw(kept: Kept) -> list[Delivery]:
    now = kept.world.clock.now() + timedelta(days=1)
    items = kept_module.Kept(kept.folder, kept.seals).between(EVER, now)
    return [item for item in items if isinstance(item, Delivery)]


def test_no_buyer_reaches_the_database_the_log_or_a_reason(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for body in (
            b'{"note": "Ann Buyer", "id": 5}',
            b"Ann Buyer",
            b'{"id": "Ann Buyer", "line_items": "Ann Buyer"}',
        ):
            write(kept, "shop_main", body)
            write(kept, "woo_main", body, "order.created")
        report = kept.replay()
    assert report.quarantined == 6
    assert "Ann" not in " ".join(report.reasons) + caplog.text
    for table in metadata.sorted_tables:
        assert "Ann Buyer" not in str(kept.rows(table)), table.name
    assert all(one.reason and "Ann" not in one.reason for one in kept.inbox.quarantine.entries())


def test_nothing_goes_before_its_time(kept: Kept) -> None:
    before = raw(kept)
    assert all(BUYER in one.body for one in before)
    erased = erase_buyers(kept.ws, kept.world.clock.now())
    assert (erased.deliveries, erased.quarantined, erased.left_whole) == (0, 0, 0)
    assert raw(kept) == before


def test_after_its_time_nothing_of_the_buyer_is_left_and_a_replay_and_the_audit_say_the_same(kept: Kept) -> None:
    books, receipts = kept.books(), [one.receipt_id for one in raw(kept)]
    erased = erase_buyers(kept.ws, kept.world.clock.now() + timedelta(days=1))
    assert (erased.deliveries, erased.left_whole) == (len(receipts), 0)
    files = [path for path in kept.folder.rglob("*") if path.is_file()]
    assert files
    assert not any(BUYER in one.body for one in raw(kept))
    assert [one.receipt_id for one in raw(kept)] == receipts
    assert kept.replay().entries == 0
    assert kept.books() == books
    proof = prove_orders(kept.ws, EVER, kept.world.clock.now() + timedelta(days=1))
    assert (proof.proven.proven, proof.proven.contradicted, proof.unread) == (3, 0, 0)


def test_what_can_not_be_read_loses_all_that_it_said(kept: Kept) -> None:
    for body in (b'{"note": "Ann Buyer", "id": 5}', b"Ann Buyer", b'{"id": 5, "id": "Ann Buyer"'):
        write(kept, "shop_main", body)
    assert len(list(kept.inbox.quarantine.entries())) == 3
    erased = erase_buyers(kept.ws, kept.world.clock.now() + timedelta(days=1))
    assert erased.quarantined == 3
    quarantine = kept.inbox.quarantine
    assert {quarantine.delivery_in(path).body for path in quarantine.files()} <= {b'{"id":5}', b"{}"}
    assert not any(BUYER in one.body for one in raw(kept))


def test_a_quarantined_count_can_still_be_replayed_after_it(kept: Kept) -> None:
    body = {
        "event_id": "e1",
        "sku": "NOT-MAPPED",
        "change_type": "sale",
        "quantity": 3,
        "version": 1,
        "by": "Ann Buyer",
    }
    now = kept.world.clock.now()
    headers = {"x-invsync-timestamp": str(int(now.timestamp()))}
    body["occurred_at"] = now.isoformat()
    delivery = Delivery("erp_main", "stock/changed", now, headers, json.dumps(body).encode())
    SegmentWriter(kept.folder, kept.world.clock, kept.ws.rng).write([delivery])
    assert kept.apply().quarantined == 1
    (path,) = kept.inbox.quarantine.files()
    assert erase_buyers(kept.ws, now + timedelta(days=1)).quarantined == 1
    left = kept.inbox.quarantine.delivery_in(path)
    assert BUYER not in left.body
    door = kept.ws.door(kept.ws.channel("erp_main"))
    assert door.parse(left.headers, left.body) == door.parse(headers, delivery.body)


def test_what_would_say_something_else_without_its_other_fields_stays_and_is_told(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = raw(kept)
    shopify = replace(VENDORS["shopify"], needed=lambda payload: {"id": payload["id"]})
    monkeypatch.setitem(VENDORS, "shopify", shopify)
    erased = erase_buyers(kept.ws, kept.world.clock.now() + timedelta(days=1))
    of_shopify = [one for one in before if one.channel.startswith("shop_")]
    assert erased.left_whole == len(of_shopify) > 0
    assert [one for one in raw(kept) if one.channel.startswith("shop_")] == of_shopify
    # It isn't done with: the next night tells it again.
    assert erase_buyers(kept.ws, kept.world.clock.now() + timedelta(days=1)).left_whole == len(of_shopify)


def test_a_channel_that_has_left_the_file_is_known_by_the_database_and_one_that_nobody_knows_keeps_nothing(
    kept: Kept,
) -> None:
    write(kept, "shop_unknown", b'{"id": 5, "note": "Ann Buyer"}')
    left = [channel for channel in kept.ws.configuration.channels if channel.name != "woo_main"]
    kept.ws.configuration = Configuration(settings=kept.ws.configuration.settings, channels=tuple(left))
    erase_buyers(kept.ws, kept.world.clock.now() + timedelta(days=1))
    bodies = {one.channel: one.body for one in raw(kept)}
    assert bodies["shop_unknown"] == b"{}"
    assert b'"line_items"' in bodies["woo_main"]
    assert BUYER not in bodies["woo_main"]
    assert {row.state for row in kept.rows(deliveries) if row.channel == "woo_main"} == {"applied"}
