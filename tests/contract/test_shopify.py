"""Shopify keeps the platform contract, held against its stand-in shop."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from invsync_dagster.events import Content
from invsync_dagster.platforms.contract import BulkReader, BulkState, LevelReference, Result, WriteRow
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.shopify import documents
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from tests.contract.suite import Harness, PlatformContract
from tests.contract.wire import ManualClock, Wire

TOKEN = "shpat_0123456789abcdef0123456789abcdef"
SECRET = "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"
OLD_SECRET = "shpss_old3210fedcba9876543210fedcba98"


class ShopifyHarness:
    """Shopify's client and door, wired to one stand-in shop."""

    writes_all_or_nothing = True
    compares = True
    idempotent = True
    page_size = documents.ORDERS_A_PAGE
    secrets: tuple[str, ...] = (TOKEN, SECRET, OLD_SECRET)

    def __init__(self) -> None:
        self.clock = ManualClock()
        # The suite's many calls within one second are no test of the budget; that has its own.
        self.shop = ShopifySandbox(
            access_token=TOKEN, webhook_secret=SECRET, clock=self.clock, random=Random(7), burst=100_000.0
        )
        self.wire = Wire(self.shop.handle)
        vendor = VENDORS["shopify"]
        settings = vendor.settings.model_validate(
            {
                "shop_url": "https://sandbox.myshopify.com",
                "access_token_env": "T",
                "webhook_secret_env": "S",
                "webhook_previous_secret_env": "P",
            }
        )
        secrets = {
            "access_token_env": TOKEN,
            "webhook_secret_env": SECRET,
            "webhook_previous_secret_env": OLD_SECRET,
        }
        self.platform = vendor.connect(settings, secrets, {}, self.wire, self.clock)
        self.door = vendor.door(settings, secrets)
        self._made = 0

    def make_level(self, quantity: int) -> LevelReference:
        self._made += 1
        return self.shop.add_article(f"SKU-{self._made}", quantity)

    def unknown_level(self) -> LevelReference:
        return LevelReference("gid://shopify/InventoryItem/999", "gid://shopify/Location/124656943")

    def book(self, level: LevelReference) -> int:
        return self.shop.available(level)

    def edit(self, level: LevelReference, quantity: int) -> None:
        self.shop.edit_stock(level, quantity)

    def revoke_credentials(self) -> None:
        self.shop.access_token = "shpat_another"

    def change(self, level: LevelReference) -> str:
        return self.shop.buy({level: 1})

    def changes_in(self, content: Content) -> list[str]:
        return [document.order_id for document in content.documents]

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        return [
            ({name.lower(): value for name, value in delivery.headers.items()}, delivery.body)
            for delivery in self.shop.take_outgoing()
        ]

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        self.shop.send_webhook("customers/create", {"id": 1})
        return self.deliveries()[-1]


class GrantedHarness(ShopifyHarness):
    """The same by the client-credentials grant, its first token given already, where unstocked items are activated."""

    secrets: tuple[str, ...] = (SECRET, OLD_SECRET, "shpat_granted_00000001")

    def __init__(self) -> None:
        super().__init__()
        self.shop.access_token, self.shop.grants.client_id = "", "0123456789abcdef"
        vendor = VENDORS["shopify"]
        given = {"shop_url": "https://sandbox.myshopify.com", "client_id_env": "I", "webhook_secret_env": "S"}
        given["unstocked"] = "activate"
        secrets = {"client_id_env": "0123456789abcdef", "webhook_secret_env": SECRET}
        settings = vendor.settings.model_validate(given)
        self.platform = vendor.connect(settings, secrets, {}, self.wire, self.clock)
        self.platform.check_credentials()
        self.wire.requests.clear()
        self.wire.deadlines.clear()

    def revoke_credentials(self) -> None:
        self.shop.grants.revoke()


class TestShopifyByClientCredentials(PlatformContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return GrantedHarness()

    def test_a_level_that_is_not_there_yet_is_read_as_absent_and_made_by_its_write(
        self, harness: GrantedHarness
    ) -> None:
        there, other = harness.make_level(5), harness.shop.add_location()
        absent = LevelReference(there.item_id, other)
        (reading,) = harness.platform.read([absent]).readings
        assert (reading.absent, reading.quantity) == (True, None)
        rows = [WriteRow(absent, 3, absent=True), WriteRow(there, 4)]
        outcomes = harness.platform.write(rows, key="key-1").outcomes
        assert [one.result for one in outcomes] == [Result.ACKNOWLEDGED] * 2
        assert (harness.book(absent), harness.book(there)) == (3, 4)

    def test_all_levels_are_read_in_bulk_by_a_handle_that_another_client_may_ask_with(
        self, harness: GrantedHarness
    ) -> None:
        shown = {harness.make_level(quantity): quantity for quantity in (5, 0, 9)}
        platform = harness.platform
        assert isinstance(platform, BulkReader)
        started = platform.read_all()
        assert started.result is Result.ACCEPTED
        assert platform.reading_of_all(started.handle).state is BulkState.OPEN
        harness.clock.advance(harness.shop.bulk.seconds)
        done = platform.reading_of_all(started.handle)
        assert (done.state, platform.numbers_read(done.address).numbers) == (BulkState.DONE, shown)


class TestShopify(PlatformContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return ShopifyHarness()
