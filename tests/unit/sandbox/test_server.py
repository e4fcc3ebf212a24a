"""The stand-ins over real loopback sockets: calls, faults, control endpoints, webhooks, and a second start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests

from invsync_dagster.channels import Channel
from invsync_dagster.clock import SystemClock
from invsync_dagster.platforms import erp, shopify
from invsync_dagster.platforms.contract import LevelReference, Outcome, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import RequestsTransport
from invsync_dagster.sandbox.server import SandboxServer, loopback_socket, main
from invsync_dagster.sandbox.standins import Article
from invsync_dagster.sandbox.world import World, read_catalogue

ENVIRON = {"KEY": "key-9f31aa", "SIGNING": "signing-77c2bd", "WEBHOOK": "webhook-51e0cc", "TOKEN": "shpat_51f3"}
SOCKS = LevelReference("gid://shopify/InventoryItem/43000000589824", "gid://shopify/Location/70012345678")
HATS = LevelReference("gid://shopify/InventoryItem/43000002850816", "gid://shopify/Location/70012345678")
ARTICLES = {
    "erp_main": [Article("A-1", 10), Article("B-2", 4), Article("C-3", 0)],
    "shop": [
        Article("SOCKS", 9, SOCKS.item_id, SOCKS.location_id, "gid://shopify/ProductVariant/41"),
        Article("HATS", 0, HATS.item_id, HATS.location_id, "gid://shopify/ProductVariant/42"),
    ],
}


def settings(port: int) -> erp.ErpSettings:
    return erp.ErpSettings(
        base_url=f"http://127.0.0.1:{port}/erp_main",
        api_key_env="KEY",
        signing_secret_env="SIGNING",
        webhook_secret_env="WEBHOOK",
    )


def shop_settings(port: int) -> shopify.ShopifySettings:
    return shopify.ShopifySettings(
        shop_url=f"http://127.0.0.1:{port}/shop", access_token_env="TOKEN", webhook_secret_env="WEBHOOK"
    )


class Receiver:
    """What the webhooks reach: it keeps them, and refuses the first `refusals` of them."""

    def __init__(self) -> None:
        self.refusals = 0
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver.arrived:
                    refused = receiver.refusals > 0
                    receiver.refusals -= refused
                    if not refused:
                        headers = {name.lower(): value for name, value in self.headers.items()}
                        receiver.got.append((self.path, headers, body))
                    receiver.arrived.notify_all()
                self.send_response(503 if refused else 202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def wait_for(self, number: int) -> list[tuple[str, dict[str, str], bytes]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got) >= number, timeout=20), self.got
            return list(self.got)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Stage:
    """A served world with the real client and door in front of it."""

    def __init__(self, server: SandboxServer) -> None:
        self.url = f"http://127.0.0.1:{server.port}/_sandbox"
        given = settings(server.port)
        secrets = channel(0).secrets(ENVIRON)
        self.platform = erp.connect(given, secrets, {"request_deadline": 5.0}, RequestsTransport(), SystemClock())
        self.hasty = erp.connect(given, secrets, {"request_deadline": 0.3}, RequestsTransport(), SystemClock())
        self.door = erp.door(given, secrets)
        shop, shop_secrets = shop_settings(server.port), shop_channel(0).secrets(ENVIRON)
        self.shop = shopify.connect(shop, shop_secrets, {}, RequestsTransport(), SystemClock())
        self.shop_door = shopify.door(shop, shop_secrets)

    def write(self, sku: str, quantity: int, key: str) -> Outcome:
        return self.platform.write([WriteRow(LevelReference(sku), quantity)], key=key).outcomes[0]

    def shown(self, sku: str) -> int | None:
        return self.platform.read([LevelReference(sku)]).readings[0].quantity

    def post(self, path: str, document: Any = None) -> Any:
        answer = requests.post(f"{self.url}/{path}", json=document, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        return requests.get(f"{self.url}/{path}", timeout=10).json()

    def fail_next(self, kind: str, seconds: float = 0.0) -> None:
        self.post("erp_main/faults", {"script": [{"kind": kind, "seconds": seconds}]})


def channel(port: int) -> Channel:
    return Channel("erp_main", "erp", "sandbox", settings(port))


def shop_channel(port: int) -> Channel:
    return Channel("shop", "shopify", "sandbox", shop_settings(port))


def a_world(tmp_path: Path, receiver: Receiver) -> World:
    state_file = tmp_path / "sandbox" / "state.json"
    return World([channel(0), shop_channel(0)], ENVIRON, ARTICLES, SystemClock(), Random(5), receiver.url, state_file)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def stage(tmp_path: Path, receiver: Receiver) -> Iterator[Stage]:
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        yield Stage(server)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for the tests whose cases don't meet."""
    receiver = Receiver()
    with SandboxServer(a_world(tmp_path_factory.mktemp("standing"), receiver)) as server:
        yield Stage(server)
    receiver.close()


def until(holds: Callable[[], bool]) -> None:
    """Ask again and again until it holds; 20 s is far more than anything here takes."""
    ends_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends_at


def test_the_real_client_writes_and_reads_over_a_socket(stage: Stage) -> None:
    stage.platform.check_credentials()
    assert stage.write("A-1", 7, "key-1").result is Result.ACKNOWLEDGED
    assert stage.shown("A-1") == 7
    shown = {row["sku"]: (row["quantity"], row["on_hand"]) for row in stage.get("erp_main/books")}
    assert shown == {"A-1": (7, 10), "B-2": (4, 4), "C-3": (0, 0)}


def test_a_signed_query_of_a_get_survives_the_socket(stage: Stage) -> None:
    begin = datetime.now(UTC)
    stage.post("erp_main/buy", {"lines": [{"sku": "A-1", "quantity": 2}]})
    page = stage.platform.orders_changed(begin, datetime.now(UTC))
    assert [(count.platform_sku, count.quantity, count.change_type) for count in page.content.counts] == [
        ("A-1", 8, "sale")
    ]


@pytest.mark.parametrize(
    ("kind", "result", "recovery", "booked"),
    [
        ("refuse", Result.UNKNOWN, Recovery.SETTLE, 10),
        ("cut_before", Result.UNKNOWN, Recovery.SETTLE, 10),
        ("cut_after", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("throttle", Result.NOT_SENT, Recovery.WAIT, 10),
        ("throttle_silent", Result.NOT_SENT, Recovery.WAIT, 10),
        ("error_500", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("error_502", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("error_503", Result.UNKNOWN, Recovery.SETTLE, 10),
        ("error_504", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("malformed", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("slow", Result.ACKNOWLEDGED, None, 7),
    ],
)
def test_each_fault_shows_on_the_socket_as_it_should(
    standing: Stage, kind: str, result: Result, recovery: Recovery | None, booked: int
) -> None:
    standing.post("erp_main/edit", {"sku": "A-1", "quantity": 10})
    standing.fail_next(kind)
    outcome = standing.write("A-1", 7, f"key-{kind}")
    assert (outcome.result, outcome.recovery) == (result, recovery)
    assert standing.shown("A-1") == booked


@pytest.mark.parametrize(("kind", "booked"), [("timeout_before", 10), ("timeout_after", 7)])
def test_a_caller_that_gives_up_waiting_leaves_the_write_undone_or_done(
    standing: Stage, kind: str, booked: int
) -> None:
    standing.post("erp_main/edit", {"sku": "A-1", "quantity": 10})
    standing.fail_next(kind)
    (outcome,) = standing.hasty.write([WriteRow(LevelReference("A-1"), 7)], key=f"key-{kind}").outcomes
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
    assert standing.shown("A-1") == booked


def test_a_late_write_lands_after_its_answer_was_lost(stage: Stage) -> None:
    stage.fail_next("late", 0.3)
    assert stage.write("A-1", 7, "key-1").result is Result.UNKNOWN
    assert stage.get("health")["late_writes"] == 1
    until(lambda: stage.get("health")["late_writes"] == 0)
    assert stage.shown("A-1") == 7


def in_the_shop(stage: Stage) -> dict[str, int]:
    return {row["sku"]: row["quantity"] for row in stage.get("shop/books")}


def test_the_real_client_writes_to_a_shop_and_its_books_name_the_level(stage: Stage) -> None:
    rows = [WriteRow(SOCKS, 6, expected=9), WriteRow(HATS, 2)]
    answer = stage.shop.write(rows, key="key-1")
    assert [outcome.result for outcome in answer.outcomes] == [Result.ACKNOWLEDGED] * 2
    assert [reading.quantity for reading in stage.shop.read([SOCKS, HATS]).readings] == [6, 2]
    assert stage.get("shop/books")[0] == {
        "item_id": SOCKS.item_id,
        "location_id": SOCKS.location_id,
        "sku": "SOCKS",
        "quantity": 6,
        "on_hand": None,
    }


def test_a_shop_sells_cancels_ships_and_takes_back_and_tells_of_each(stage: Stage, receiver: Receiver) -> None:
    first = stage.post("shop/buy", {"lines": [{"sku": "SOCKS", "quantity": 2}]})["order"]
    second = stage.post("shop/buy")["order"]
    sold = 9 - in_the_shop(stage)["SOCKS"]
    assert sold >= 3
    assert stage.post("shop/open_orders") == [first, second]
    stage.post("shop/cancel", {"order": first})
    stage.post("shop/fulfil", {"order": second})
    stage.post("shop/refund", {"order": second, "restock_type": "return"})
    assert in_the_shop(stage) == {"SOCKS": 9, "HATS": 0}
    stage.post("shop/edit", {"sku": "HATS", "quantity": 3})
    assert in_the_shop(stage) == {"SOCKS": 9, "HATS": 3}
    until(lambda: stage.get("health")["webhooks"]["pending"] == 0)
    told = set()
    for path, headers, body in receiver.got:
        assert path == "/webhooks/shop"
        stage.shop_door.verify(headers, body, datetime.now(UTC))
        told.add(stage.shop_door.topic(headers, body))
    assert told == {"orders/create", "orders/updated", "orders/cancelled", "refunds/create"}


def test_a_shop_goes_on_where_it_stopped(tmp_path: Path, receiver: Receiver) -> None:
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        order = Stage(server).post("shop/buy", {"lines": [{"sku": "SOCKS", "quantity": 2}]})["order"]
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        stage = Stage(server)
        assert in_the_shop(stage) == {"SOCKS": 7, "HATS": 0}
        assert stage.post("shop/open_orders") == [order]


def test_rates_hold_until_they_are_cleared(stage: Stage) -> None:
    assert stage.post("erp_main/faults", {"rates": {"throttle": 1.0}}) == {"rates": {"throttle": 1.0}}
    for _ in range(2):
        with pytest.raises(PlatformError) as raised:
            stage.platform.check_credentials()
        assert raised.value.recovery is Recovery.WAIT
    stage.post("erp_main/faults", {"rates": {}})
    stage.platform.check_credentials()
    assert stage.get("health")["channels"]["erp_main"] == {"calls": 3, "failed": 2}


def test_a_sale_sends_a_webhook_that_the_real_door_takes(stage: Stage, receiver: Receiver) -> None:
    sold = stage.post("erp_main/buy", {"lines": [{"sku": "B-2", "quantity": 3}, {"sku": "C-3", "quantity": 1}]})
    assert sold["lines"] == [{"sku": "B-2", "quantity": 3}]
    ((path, headers, body),) = receiver.wait_for(1)
    assert path == "/webhooks/erp_main"
    stage.door.verify(headers, body, datetime.now(UTC))
    (count,) = stage.door.parse(headers, body).counts
    assert (count.platform_sku, count.quantity, count.change_type) == ("B-2", 1, "sale")


def test_buyers_choose_for_themselves_what_is_there(stage: Stage) -> None:
    lines = stage.post("erp_main/buy")["lines"]
    assert {line["sku"] for line in lines} <= {"A-1", "B-2"}
    assert sum(line["quantity"] for line in lines) >= 1
    on_hand = {row["sku"]: row["on_hand"] for row in stage.get("erp_main/books")}
    assert 14 - sum(on_hand.values()) == sum(line["quantity"] for line in lines)


def test_goods_come_break_leave_and_are_edited(stage: Stage, receiver: Receiver) -> None:
    stage.post("erp_main/restock", {"sku": "C-3", "quantity": 5})
    stage.post("erp_main/adjust", {"sku": "C-3", "quantity": -1})
    stage.post("erp_main/ship", {"sku": "C-3", "quantity": 2})
    stage.post("erp_main/edit", {"sku": "C-3", "quantity": 9})
    (row,) = [row for row in stage.get("erp_main/books") if row["sku"] == "C-3"]
    assert (row["quantity"], row["on_hand"]) == (9, 2)
    assert len(receiver.wait_for(3)) == 3


def test_a_refused_webhook_comes_again_signed_anew(stage: Stage, receiver: Receiver) -> None:
    receiver.refusals = 1
    stage.post("erp_main/restock", {"sku": "A-1", "quantity": 1})
    ((_, headers, body),) = receiver.wait_for(1)
    stage.door.verify(headers, body, datetime.now(UTC))
    until(lambda: stage.get("health")["webhooks"]["pending"] == 0)
    webhooks = stage.get("health")["webhooks"]
    assert (webhooks["attempts"], webhooks["delivered"]) == (2, 1)


def test_webhooks_are_doubled_or_lost_when_told_so(stage: Stage, receiver: Receiver) -> None:
    stage.post("webhooks", {"duplicate": 1.0})
    stage.post("erp_main/restock", {"sku": "A-1", "quantity": 1})
    first, second = receiver.wait_for(2)
    assert first[2] == second[2]
    stage.post("webhooks", {"duplicate": 0.0, "drop": 1.0})
    stage.post("erp_main/restock", {"sku": "A-1", "quantity": 1})
    webhooks = stage.get("health")["webhooks"]
    assert (webhooks["dropped"], webhooks["doubled"], webhooks["pending"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        ("erp_main/dance", {}, 404),
        ("nowhere/buy", {}, 404),
        ("erp_main/restock", {"sku": "no-such", "quantity": 1}, 404),
        ("erp_main/restock", {"sku": "A-1", "quantity": "1"}, 400),
        ("erp_main/ship", {"sku": "A-1", "quantity": 99}, 400),
        ("shop/buy", {"lines": [{"sku": "SOCKS", "quantity": 99}]}, 400),
        ("shop/buy", {"lines": [{"sku": "no-such", "quantity": 1}]}, 404),
        ("shop/buy", {"lines": "all"}, 400),
        ("shop/cancel", {"order": "12"}, 400),
        ("shop/refund", {"order": 12, "restock_type": "return"}, 400),
        ("erp_main/faults", {"rates": {"boredom": 0.5}}, 400),
        ("erp_main/faults", {"rates": {"refuse": 1.5}}, 400),
        ("webhooks", {"drop": 2}, 400),
        ("webhooks", {"boredom": 1}, 400),
        ("webhooks", [], 400),
    ],
)
def test_what_cannot_be_done_is_answered_with_its_reason(
    standing: Stage, path: str, document: Any, status: int
) -> None:
    answer = requests.post(f"{standing.url}/{path}", json=document, timeout=10)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


def test_a_path_of_no_channel_is_404(standing: Stage) -> None:
    assert requests.get(standing.url.replace("_sandbox", "elsewhere"), timeout=10).status_code == 404


def test_many_callers_at_once_lose_no_unit(stage: Stage) -> None:
    def buy(_: int) -> int:
        sold = stage.post("erp_main/buy", {"lines": [{"sku": "A-1", "quantity": 1}]})
        return len(sold["lines"])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(buy, range(24))) == 10
    assert stage.shown("A-1") == 10
    (row,) = [row for row in stage.get("erp_main/books") if row["sku"] == "A-1"]
    assert row["on_hand"] == 0


def test_a_second_start_goes_on_with_the_books_and_the_undelivered_webhooks(tmp_path: Path, receiver: Receiver) -> None:
    receiver.refusals = 1_000
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        stage = Stage(server)
        stage.write("A-1", 3, "key-1")
        stage.post("erp_main/restock", {"sku": "A-1", "quantity": 5})
        assert stage.post("save") == {"saved": True}
    receiver.refusals = 0
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        stage = Stage(server)
        (row,) = [row for row in stage.get("erp_main/books") if row["sku"] == "A-1"]
        assert (row["quantity"], row["on_hand"]) == (3, 15)
        ((_, headers, body),) = receiver.wait_for(1)
        assert stage.door.parse(headers, body).counts[0].quantity == 15


def test_a_state_file_that_cannot_be_read_is_named(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "state.json").write_text("{half")
    with pytest.raises(ValueError, match=r"state\.json"):
        a_world(tmp_path, receiver)


def test_a_port_in_use_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INVSYNC_ROOT", str(tmp_path))
    taken = loopback_socket(0)
    try:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    finally:
        taken.close()
    assert capsys.readouterr().err == f"sandbox: port {port} can't be used: Address already in use\n"


def test_the_process_serves_the_sandbox_channels_and_keeps_the_books_when_ended(tmp_path: Path) -> None:
    free = loopback_socket(0)
    port = free.getsockname()[1]
    free.close()
    (tmp_path / "channels.yaml").write_text(
        "channels:\n"
        "  - {name: erp_main, platform: erp, environment: sandbox, settings: {base_url: 'http://127.0.0.1/erp_main',\n"
        "      api_key_env: KEY, signing_secret_env: SIGNING, webhook_secret_env: WEBHOOK}}\n"
        "  - {name: real, platform: erp, environment: production, settings: {base_url: 'https://erp.example.com',\n"
        "      api_key_env: KEY, signing_secret_env: SIGNING, webhook_secret_env: WEBHOOK}}\n"
    )
    (tmp_path / "inventory.csv").write_text("sku,product_name,quantity\n007,Socks,12\n")
    (tmp_path / "mapping.csv").write_text(
        "central_sku,channel,platform_sku,platform_item_id,platform_location_id\n007,erp_main,007,007,\n"
    )
    environ = {**os.environ, **ENVIRON, "INVSYNC_ROOT": str(tmp_path), "INVSYNC_DATA": "", "INVSYNC_CHANNELS": ""}
    arguments = [sys.executable, "-m", "invsync_dagster.sandbox.server", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/_sandbox"
    for units in (11, 10):
        process = subprocess.Popen([*arguments, "--catalogue", str(tmp_path)], env=environ, stderr=subprocess.PIPE)
        try:
            until(lambda: is_up(f"{url}/health"))
            assert requests.get(f"{url}/health", timeout=10).json()["names"] == ["erp_main"]
            bought = {"lines": [{"sku": "007", "quantity": 1}]}
            assert requests.post(f"{url}/erp_main/buy", json=bought, timeout=10).json()["lines"] == bought["lines"]
            (row,) = requests.get(f"{url}/erp_main/books", timeout=10).json()
            assert row["on_hand"] == units
            process.terminate()
            _, told = process.communicate(timeout=20)
        finally:
            process.kill()
        assert (process.returncode, b"Traceback" in told) == (0, False)


def is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def test_the_catalogue_is_read_as_each_channel_lists_it(tmp_path: Path) -> None:
    (tmp_path / "inventory.csv").write_text("sku,product_name,quantity\n007,Socks,12\n008,Hats,3\n")
    (tmp_path / "mapping.csv").write_text(
        "central_sku,channel,platform_sku,platform_item_id,platform_location_id,platform_variant_id\n"
        "007,shop,S-7,item-7,place-1,variant-7\n008,shop,S-8,item-8,place-1,\n007,erp_main,007,007,,\n"
    )
    assert read_catalogue(tmp_path) == {
        "shop": [Article("S-7", 12, "item-7", "place-1", "variant-7"), Article("S-8", 3, "item-8", "place-1", "")],
        "erp_main": [Article("007", 12, "007", "", "")],
    }
