"""WooCommerce keeps the platform contract, held against its stand-in store."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from invsync_dagster.events import Content
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.woocommerce.client import ORDERS_A_PAGE
from invsync_dagster.platforms.woocommerce.sandbox import WooCommerceSandbox
from tests.contract.suite import Harness, PlatformContract
from tests.contract.wire import ManualClock, Wire

KEY = "ck_0123456789abcdef0123456789abcdef01234567"
SECRET = "cs_fedcba9876543210fedcba9876543210fedcba98"
WEBHOOK = "webhook-71c0fe"
OLD_WEBHOOK = "webhook-old-93ab11"


class WooCommerceHarness:
    """WooCommerce's client and door, wired to one stand-in store over `scheme`: Basic on https, OAuth 1.0a on http."""

    writes_all_or_nothing = False
    compares = False
    idempotent = False
    page_size = ORDERS_A_PAGE
    secrets: tuple[str, ...] = (KEY, SECRET, WEBHOOK, OLD_WEBHOOK)

    def __init__(self, store_url: str) -> None:
        self.clock = ManualClock()
        self.store = WooCommerceSandbox(
            consumer_key=KEY,
            consumer_secret=SECRET,
            webhook_secret=WEBHOOK,
            clock=self.clock,
            burst=100_000.0,
        )
        self.wire = Wire(self.store.handle)
        vendor = VENDORS["woocommerce"]
        settings = vendor.settings.model_validate(
            {
                "store_url": store_url,
                "consumer_key_env": "K",
                "consumer_secret_env": "S",
                "webhook_secret_env": "W",
                "webhook_previous_secret_env": "P",
            }
        )
        secrets = {
            "consumer_key_env": KEY,
            "consumer_secret_env": SECRET,
            "webhook_secret_env": WEBHOOK,
            "webhook_previous_secret_env": OLD_WEBHOOK,
        }
        self.platform = vendor.connect(settings, secrets, {}, self.wire, self.clock)
        self.door = vendor.door(settings, secrets)
        self._made = 0

    def make_level(self, quantity: int) -> LevelReference:
        self._made += 1
        return self.store.add_product(f"SKU-{self._made}", quantity)

    def unknown_level(self) -> LevelReference:
        return LevelReference("999999999")

    def book(self, level: LevelReference) -> int:
        shown = self.store.shown(level)
        assert shown is not None
        return shown

    def edit(self, level: LevelReference, quantity: int) -> None:
        self.store.edit_stock(level, quantity)

    def revoke_credentials(self) -> None:
        self.store.change_key("ck_another", "cs_another")

    def change(self, level: LevelReference) -> str:
        return self.store.buy({level: 1})

    def changes_in(self, content: Content) -> list[str]:
        return [document.order_id for document in content.documents]

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        return [
            ({name.lower(): value for name, value in delivery.headers.items()}, delivery.body)
            for delivery in self.store.take_outgoing()
        ]

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        self.store.send_webhook("customer.created", {"id": 1})
        return self.deliveries()[-1]


class TestWooCommerceOverTls(PlatformContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return WooCommerceHarness("https://shop.example.com")


class TestWooCommerceOnLoopback(PlatformContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return WooCommerceHarness("http://127.0.0.1:8790/woo_main")
