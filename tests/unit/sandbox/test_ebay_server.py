"""The eBay stand-in over real loopback sockets: tokens, the client's calls, what people do there, its notifications."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests

from invsync_dagster.channels import Channel
from invsync_dagster.clock import SystemClock
from invsync_dagster.platforms import ebay
from invsync_dagster.platforms.contract import LevelReference, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.platforms.transport import RequestsTransport
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World
from tests.contract.ebay_harness import SECRETS, SETTINGS
from tests.unit.sandbox.stage import Receiver

ENVIRON = {SETTINGS[field]: secret for field, secret in SECRETS.items()}
HAT = LevelReference("HAT/ä 1", "36445435465")
ARTICLES = {"ebay": [Article("HAT", 9, HAT.item_id, HAT.location_id), Article("MUG", 4, shown=3)]}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def settings(port: int) -> ebay.EbaySettings:
    return ebay.EbaySettings.model_validate({**SETTINGS, "api_url": f"http://127.0.0.1:{port}/ebay"})


def a_world(folder: Path, receiver: Receiver) -> World:
    channels = [Channel("ebay", "ebay", "sandbox", settings(1))]
    return World(channels, ENVIRON, ARTICLES, SystemClock(), Random(5), receiver.url, folder / "state.json")


def client(server: SandboxServer) -> ebay.EbayPlatform:
    return ebay.connect(settings(server.port), SECRETS, {}, RequestsTransport(), SystemClock())


def act(server: SandboxServer, action: str, given: Any = None) -> Any:
    answer = requests.post(f"http://127.0.0.1:{server.port}/_sandbox/ebay/{action}", json=given, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_account_is_written_sells_ships_cancels_and_outlives_its_server(tmp_path: Path, receiver: Receiver) -> None:
    mug = LevelReference("MUG")
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        platform = client(server)
        platform.check_credentials()
        assert [reading.quantity for reading in platform.read([mug, HAT]).readings] == [3, 9]
        answer = platform.write([WriteRow(HAT, 7), WriteRow(mug, 4)], key="key")
        assert [outcome.result for outcome in answer.outcomes] == [Result.ACKNOWLEDGED] * 2
        first = act(server, "buy", {"lines": [{"sku": "MUG", "quantity": 2}]})["order"]
        second = act(server, "buy", {"lines": [{"sku": "HAT", "quantity": 1}]})["order"]
        assert {first, second} <= set(act(server, "open_orders"))
        assert act(server, "unshipped", {"order": first}) == [{"sku": "MUG", "quantity": 2}]
        act(server, "cancel", {"order": first})
        act(server, "fulfil", {"order": second})
        assert act(server, "promised") == []
        assert act(server, "buy")["lines"]
        act(server, "edit", {"sku": "MUG", "quantity": 6})
        assert platform.read([mug]).readings[0].quantity == 6
        door, now = ebay.door(settings(server.port), SECRETS), datetime.now(UTC)
        told: list[str] = []
        for path, headers, body in receiver.wait_for(3)[:3]:
            assert path == "/webhooks/ebay"
            if key := door.wanted_key(headers, now):
                door.fetch_key(key, RequestsTransport(), now)
            door.verify(headers, body, now)
            told += door.parse(headers, body).unclear_orders
        assert {first, second} <= set(told)
        act(server, "expire")
        with pytest.raises(PlatformError, match="ebay_1001"):
            platform.read([HAT])
        assert platform.read([HAT]).readings[0].quantity is not None
        act(server, "credentials", {"key": "another"})
        with pytest.raises(PlatformError, match="invalid_grant"):
            client(server).check_credentials()
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        platform = client(server)
        (cancelled,) = platform.orders([first]).content.documents
        assert [line.cancelled for line in cancelled.lines] == [2]
        begin = datetime.now(UTC) - timedelta(hours=1)
        content = platform.orders_changed(begin, datetime.now(UTC)).content
        assert first in [document.order_id for document in content.documents]
        assert second in content.unclear_orders
