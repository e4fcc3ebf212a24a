"""`invsync webhooks` in the terminal, and what `invsync status` says of channels that fell silent."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from invsync_dagster.clock import SystemClock
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.tables import channels
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests.unit.commands import ERP_MAIN, invoke, migrated, own_root, stand_ins

CHANNELS = (
    """\
settings:
  receiver_url: https://sync.example.com
channels:
  - name: woo_main
    platform: woocommerce
    environment: sandbox
    settings:
      store_url: http://127.0.0.1:{port}/woo_main
      consumer_key_env: NET_KEY
      consumer_secret_env: NET_SECRET
      webhook_secret_env: NET_WEBHOOK
    limits:
      rate: 50
      burst: 50
"""
    + ERP_MAIN
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """An installation before a store and an ERP."""
    home = migrated(own_root(monkeypatch, tmp_path, "NET_KEY", "NET_SECRET", "NET_WEBHOOK"))
    home.channels_file.write_text(CHANNELS.format(port=9))
    assert invoke("channels", "sync").exit_code == 0
    with stand_ins(home, CHANNELS):
        yield home


def test_what_is_missing_is_listed_then_made_and_then_all_is_active(home: Home) -> None:
    listed = invoke("webhooks", "list", "--channel", "woo_main")
    assert listed.exit_code == 1
    assert "woo_main: 0 of 4 active at https://sync.example.com/webhooks/woo_main" in listed.stdout
    made = invoke("webhooks", "sync", "--json")
    assert made.exit_code == 0, made.output
    woo, erp = json.loads(made.stdout)
    assert [(one["topic"], one["found"], one["done"]) for one in woo["topics"]] == [
        (topic, "missing", "made") for topic in ("order.created", "order.updated", "order.deleted", "order.restored")
    ]
    assert (erp["channel"], erp["unwatched"]) == ("erp_main", "erp has nothing to subscribe to")
    again = invoke("webhooks", "sync")
    assert again.exit_code == 0
    assert "woo_main: 4 of 4 active" in again.stdout
    assert "erp_main: erp has nothing to subscribe to" in again.stdout
    assert "secret-of" not in listed.output + made.output + again.output


def test_an_unknown_channel_is_refused_with_the_known_ones(home: Home) -> None:
    result = invoke("webhooks", "sync", "--channel", "woo")
    assert result.exit_code == 2
    assert "woo_main" in result.stderr


def test_a_channel_that_does_not_answer_is_named_in_one_line(home: Home) -> None:
    home.channels_file.write_text(
        CHANNELS.format(port=9).replace("settings:\n  rec", "settings:\n  retries: 0\n  rec", 1)
    )
    result = invoke("webhooks", "list", "--channel", "woo_main")
    assert result.exit_code == 1
    assert "! woo_main: not_reached: " in result.stdout


def test_the_status_says_when_a_channel_was_heard_last_and_what_waits(home: Home) -> None:
    now = SystemClock().now()
    engine = open_database(home.database_url)
    heard = {"last_delivery_at": now - timedelta(hours=5), "silent_since": now - timedelta(hours=3)}
    with write_transaction(engine) as connection:
        connection.execute(update(channels).where(channels.c.name == "woo_main").values(heard))
    engine.dispose()
    words = invoke("status").stdout
    assert "5 h ago" in words
    assert "! woo_main: a change of 3 h ago and no delivery since" in words
    Inbox(home.inbox).prepare(now)
    delivery = Delivery("woo_main", "order.created", now, {}, b"{}")

    class Earlier:
        def now(self):
            return now - timedelta(minutes=10)

        def sleep(self, seconds):
            raise AssertionError

    SegmentWriter(home.inbox, Earlier(), random.Random(1)).write([delivery])
    assert "! a delivery has waited in the inbox for 10 min" in invoke("status").stdout
    document = json.loads(invoke("status", "--json").stdout)
    assert 590 < document["oldest_delivery_seconds"] < 700
    (woo,) = [one for one in document["channels"] if one["channel"] == "woo_main"]
    assert woo["last_delivery_at"] == heard["last_delivery_at"].isoformat()
