"""The Amazon stand-in over real loopback sockets: tokens, the client's calls, what people do there, its notifications."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests

from invsync_dagster.channels import Channel
from invsync_dagster.clock import SystemClock
from invsync_dagster.platforms import amazon
from invsync_dagster.platforms.contract import LevelReference, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.platforms.transport import RequestsTransport
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World
from tests.contract.amazon_harness import KEY, SECRETS, settings_with
from tests.unit.sandbox.stage import Receiver

ENVIRON = {
    "I": SECRETS["client_id_env"],
    "C": SECRETS["client_secret_env"],
    "R": SECRETS["refresh_token_env"],
    "W": KEY,
}
HAT = LevelReference("HAT/ä 1")
ARTICLES = {"amazon": [Article("HAT", 9, HAT.item_id), Article("MUG", 4, shown=3)]}


def settings(port: int) -> amazon.AmazonSettings:
    return amazon.AmazonSettings.model_validate(
        settings_with(api_url=f"http://127.0.0.1:{port}/amazon", webhook_previous_secret_env=...)
    )


def a_world(folder: Path, receiver: Receiver) -> World:
    channels = [Channel("amazon", "amazon", "sandbox", settings(0))]
    state_file = folder / "state.json"
    return World(channels, ENVIRON, ARTICLES, SystemClock(), Random(5), receiver.url, state_file)


def client(server: SandboxServer) -> amazon.AmazonPlatform:
    return amazon.connect(settings(server.port), SECRETS, {}, RequestsTransport(), SystemClock())


def act(server: SandboxServer, action: str, given: Any = None) -> Any:
    answer = requests.post(f"http://127.0.0.1:{server.port}/_sandbox/amazon/{action}", json=given, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def books(server: SandboxServer) -> dict[str, int]:
    rows = requests.get(f"http://127.0.0.1:{server.port}/_sandbox/amazon/books", timeout=10).json()
    return {row["sku"]: row["quantity"] for row in rows}


def test_the_account_is_written_sells_ships_cancels_and_outlives_its_server(tmp_path: Path, receiver: Receiver) -> None:
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        platform = client(server)
        platform.check_credentials()
        assert [reading.quantity for reading in platform.read([LevelReference("MUG"), HAT]).readings] == [3, 9]
        answer = platform.write([WriteRow(HAT, 7)], key="key")
        assert [outcome.result for outcome in answer.outcomes] == [Result.ACCEPTED]
        first = act(server, "buy", {"lines": [{"sku": "MUG", "quantity": 2}]})["order"]
        second = act(server, "buy", {"lines": [{"sku": "HAT", "quantity": 1}]})["order"]
        assert act(server, "buy")["lines"]
        assert {first, second} <= set(act(server, "open_orders"))
        assert act(server, "unshipped", {"order": first}) == [{"sku": "MUG", "quantity": 2}]
        act(server, "cancel", {"order": first})
        act(server, "fulfil", {"order": second})
        assert act(server, "refund", {"order": second}) == second
        assert act(server, "promised")
        act(server, "edit", {"sku": "MUG", "quantity": 6})
        assert books(server)["MUG"] == 6
        documents = 0
        for path, headers, body in receiver.wait_for(5):
            assert path == "/webhooks/amazon"
            door = amazon.door(settings(0), SECRETS)
            door.verify(headers, body, datetime.now(UTC))
            assert door.topic(headers, body) == "ORDER_CHANGE"
            documents += len(door.parse(headers, body).documents)
        assert documents == 4  # all but that of the shipment, which the list of orders tells
        act(server, "expire")
        with pytest.raises(PlatformError, match="has expired"):
            platform.read([HAT])
        assert platform.read([HAT]).readings[0].quantity is not None
        act(server, "revoke")
        platform = client(server)
        with pytest.raises(PlatformError, match="invalid_grant"):
            platform.check_credentials()
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        platform = client(server)
        assert books(server)["MUG"] == 6
        (cancelled,) = platform.orders([first]).content.documents
        assert [line.cancelled for line in cancelled.lines] == [2]
        page = platform.orders_changed(datetime.now(UTC) - timedelta(hours=1), began := datetime.now(UTC))
        # This account lists its orders at once, and as often as it is asked.
        assert {first, second} <= {document.order_id for document in page.content.documents}
        assert page.known_until is not None and page.known_until >= began
        assert platform.orders_changed(began, datetime.now(UTC)).content.documents == ()
