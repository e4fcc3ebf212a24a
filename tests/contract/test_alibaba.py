"""Alibaba.com keeps the platform contract as far as it calls, held against its stand-in account: it sends no webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.events import Content
from invsync_dagster.platforms.alibaba.client import ORDERS_A_PAGE
from invsync_dagster.platforms.alibaba.sandbox import AlibabaSandbox
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.registry import VENDORS
from tests.contract.suite import CallContract, Harness
from tests.contract.wire import ManualClock, Wire

KEY, SECRET, REFRESH = "50012345", "s3cr3t-0123456789abcdef", "5000-refresh-71c0fe"
SECRETS = {"app_key_env": KEY, "app_secret_env": SECRET, "refresh_token_env": REFRESH}


def settings_with(token_file: Path, **changed: Any) -> dict[str, Any]:
    """Return a channel's settings; `...` takes one away."""
    settings = {
        "app_key_env": "K",
        "app_secret_env": "S",
        "refresh_token_env": "R",
        "token_file": str(token_file),
    }
    return {name: value for name, value in (settings | changed).items() if value is not ...}


class AlibabaHarness:
    """Alibaba.com's client, wired to one stand-in account; its first token is given already. All SKUs are one product's."""

    writes_all_or_nothing = True
    compares = False
    idempotent = False
    page_size = ORDERS_A_PAGE
    secrets: tuple[str, ...] = (SECRET, REFRESH, f"{REFRESH}-r1", "5000-stand-in-000001")

    def __init__(self, token_file: Path, **settings: Any) -> None:
        self.clock = ManualClock()
        self.account = AlibabaSandbox(
            app_key=KEY, app_secret=SECRET, refresh_token=REFRESH, clock=self.clock, rate=1e6, burst=1e6
        )
        self.wire = Wire(self.account.handle)
        vendor = VENDORS["alibaba"]
        model = vendor.settings.model_validate(settings_with(token_file, **settings))
        self.platform = vendor.connect(model, SECRETS, {}, self.wire, self.clock)
        self.door = vendor.door(model, SECRETS)
        self.platform.orders_changed(self.clock.now(), self.clock.now())
        self.wire.requests.clear()
        self.wire.deadlines.clear()
        self._made = 0
        self._product = 1601314875038

    def make_level(self, quantity: int) -> LevelReference:
        self._made += 1
        return self.account.add_sku(f"SKU-{self._made}", quantity, product=self._product)

    def unknown_level(self) -> LevelReference:
        return LevelReference("999999999", str(self._product))

    def book(self, level: LevelReference) -> int:
        return self.account.shown(level)

    def edit(self, level: LevelReference, quantity: int) -> None:
        self.account.edit_stock(level, quantity)

    def revoke_credentials(self) -> None:
        self.account.revoke()

    def change(self, level: LevelReference) -> str:
        return self.account.buy({level: 1})

    def changes_in(self, content: Content) -> list[str]:
        return [*content.unclear_orders, *(document.order_id for document in content.documents)]

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        return []

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        return {}, b""


class TestAlibaba(CallContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return AlibabaHarness(tmp_path / "tokens.json")


class TestAlibabaWithSkusAsAMap(CallContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return AlibabaHarness(tmp_path / "tokens.json", sku_inventory="map")
