"""What the tests over sockets stand on: a receiver of webhooks, a served world, and the real clients before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import requests

from invsync_dagster.channels import Channel
from invsync_dagster.clock import SystemClock
from invsync_dagster.platforms import erp, shopify, woocommerce
from invsync_dagster.platforms.contract import LevelReference, Outcome, WriteRow
from invsync_dagster.platforms.transport import RequestsTransport
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World

ENVIRON = {"KEY": "key-9f31aa", "SIGNING": "signing-77c2bd", "WEBHOOK": "webhook-51e0cc", "TOKEN": "shpat_51f3"}
SOCKS = LevelReference("gid://shopify/InventoryItem/43000000589824", "gid://shopify/Location/70012345678")
HATS = LevelReference("gid://shopify/InventoryItem/43000002850816", "gid://shopify/Location/70012345678")
ARTICLES = {
    "erp_main": [Article("A-1", 10), Article("B-2", 4), Article("C-3", 0)],
    "woo": [
        Article("HAT", 9, "101"),
        Article("SHIRT-S", 4, "301", "201"),
        Article("SHIRT-L", 5, "302", "201"),
        Article("MUG-BLUE", 6, "401", "", "402"),
    ],
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


def woo_settings(port: int) -> woocommerce.WooCommerceSettings:
    return woocommerce.WooCommerceSettings(
        store_url=f"http://127.0.0.1:{port}/woo",
        consumer_key_env="KEY",
        consumer_secret_env="SIGNING",
        webhook_secret_env="WEBHOOK",
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
        woo, woo_secrets = woo_settings(server.port), woo_channel(0).secrets(ENVIRON)
        self.woo = woocommerce.connect(woo, woo_secrets, {}, RequestsTransport(), SystemClock())
        self.woo_door = woocommerce.door(woo, woo_secrets)

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


def woo_channel(port: int) -> Channel:
    return Channel("woo", "woocommerce", "sandbox", woo_settings(port))


def a_world(tmp_path: Path, receiver: Receiver) -> World:
    state_file = tmp_path / "sandbox" / "state.json"
    channels = [channel(0), shop_channel(0), woo_channel(0)]
    return World(channels, ENVIRON, ARTICLES, SystemClock(), Random(5), receiver.url, state_file)


def until(holds: Callable[[], bool]) -> None:
    """Ask again and again until it holds; 20 s is far more than anything here takes."""
    ends_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends_at


def in_the_shop(stage: Stage, shop: str = "shop") -> dict[str, int]:
    return {row["sku"]: row["quantity"] for row in stage.get(f"{shop}/books")}
