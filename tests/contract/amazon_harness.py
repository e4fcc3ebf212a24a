"""The Amazon account of the contract tests: the real client and door, wired to the stand-in account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invsync_dagster.events import Content
from invsync_dagster.platforms.amazon.client import ORDERS_A_PAGE
from invsync_dagster.platforms.amazon.sandbox import AmazonSandbox
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.wire import ManualClock, Wire

SELLER = "A2STANDIN0001"
CLIENT_ID = "amzn1.application-oa2-client.0123456789abcdef"
CLIENT_SECRET = "amzn1.oa2-cs.v1.fedcba9876543210"
REFRESH = "Atzr|0123456789-refresh"
KEY, OLD_KEY = "eventbridge-71c0fe", "eventbridge-old-93ab11"
FIRST, SECOND = "A1PA6795UKMFR9", "A13V1IB3VIYZZH"
SECRETS = {
    "client_id_env": CLIENT_ID,
    "client_secret_env": CLIENT_SECRET,
    "refresh_token_env": REFRESH,
    "webhook_secret_env": KEY,
    "webhook_previous_secret_env": OLD_KEY,
}


API = "https://sellingpartnerapi-eu.amazon.com"


def settings_with(**changed: Any) -> dict[str, Any]:
    """Return a channel's settings; `...` takes one away."""
    settings = {
        "region": "eu",
        "seller_id": SELLER,
        "marketplaces": ["DE", "FR"],
        "client_id_env": "I",
        "client_secret_env": "C",
        "refresh_token_env": "R",
        "webhook_secret_env": "W",
        "webhook_previous_secret_env": "P",
    }
    return {name: value for name, value in (settings | changed).items() if value is not ...}


class AmazonHarness:
    """Amazon's client and door, wired to one stand-in account; its first token is given already."""

    writes_all_or_nothing = False
    compares = False
    idempotent = False
    page_size = ORDERS_A_PAGE
    secrets: tuple[str, ...] = (CLIENT_SECRET, REFRESH, KEY, OLD_KEY, "Atza|stand-in-00000001")

    def __init__(self, *, rate_factor: float = 1e6, processing_seconds: float = 0.0, **settings: Any) -> None:
        self.clock = ManualClock()
        self.account = AmazonSandbox(
            seller_id=SELLER,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            refresh_token=REFRESH,
            notification_key=KEY,
            clock=self.clock,
            marketplaces=(FIRST, SECOND),
            rate_factor=rate_factor,
            processing_seconds=processing_seconds,
        )
        self.exchanges: list[tuple[Request, Response]] = []
        self.wire = Wire(self._handle)
        vendor = VENDORS["amazon"]
        model = vendor.settings.model_validate(settings_with(**settings))
        self.platform = vendor.connect(model, SECRETS, {}, self.wire, self.clock)
        self.door = vendor.door(model, SECRETS)
        self.platform.check_credentials()
        self.wire.requests.clear()
        self.wire.deadlines.clear()
        self._made = 0

    def _handle(self, request: Request) -> Response:
        response = self.account.handle(request)
        self.exchanges.append((request, response))
        return response

    def make_level(self, quantity: int) -> LevelReference:
        self._made += 1
        return self.account.add_item(f"SKU {self._made}/ä", quantity)

    def unknown_level(self) -> LevelReference:
        return LevelReference("no-such-sku")

    def book(self, level: LevelReference) -> int:
        shown = self.account.item(level.item_id).quantity
        assert shown is not None
        return shown

    def edit(self, level: LevelReference, quantity: int) -> None:
        self.account.edit_stock(level.item_id, quantity)

    def revoke_credentials(self) -> None:
        self.account.revoke()

    def change(self, level: LevelReference) -> str:
        return self.account.buy({level.item_id: 1})

    def changes_in(self, content: Content) -> list[str]:
        return [document.order_id for document in content.documents]

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        return [
            ({name.lower(): value for name, value in delivery.headers.items()}, delivery.body)
            for delivery in self.account.take_outgoing()
        ]

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        self.account.send_notification("PRICING_HEALTH", {"issueType": "BuyBoxDisqualification"})
        return self.deliveries()[-1]
