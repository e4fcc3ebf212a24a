"""eBay's client and door, wired to a stand-in account, for the contract suite and the tests of eBay alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from invsync_dagster.events import Content
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.doors import KeyedDoor, WebhookDoor
from invsync_dagster.platforms.ebay.sandbox import EbaySandbox
from invsync_dagster.platforms.ebay.windows import ORDERS_A_PAGE
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.wire import ManualClock, Wire

CLIENT_ID = "Seller-invsync-PRD-0a1b2c3d4-5e6f7a8b"
CLIENT_SECRET = "PRD-9f8e7d6c5b4a-4321-4b2a-9c1d-77aa"
REFRESH = "v^1.1#i^1#r^1#refresh-5d8c2e"
VERIFICATION = "verification_0123456789abcdef0123456789"
ENDPOINT = "https://sync.example.com/webhooks/ebay_main"

SECRETS = {
    "client_id_env": CLIENT_ID,
    "client_secret_env": CLIENT_SECRET,
    "refresh_token_env": REFRESH,
    "verification_token_env": VERIFICATION,
}
SETTINGS = {
    "client_id_env": "I",
    "client_secret_env": "S",
    "refresh_token_env": "R",
    "verification_token_env": "V",
    "webhook_url": ENDPOINT,
}


class EbayHarness:
    """A seller's account and what talks to it. `own`: its offers keep quantities of their own.

    The client has its token already, so that the wire's script and its requests are those of the calls.
    """

    writes_all_or_nothing = False
    compares = False
    idempotent = False
    page_size = ORDERS_A_PAGE
    secrets: tuple[str, ...] = (CLIENT_SECRET, REFRESH, VERIFICATION)

    def __init__(
        self,
        *,
        own: bool = False,
        limits: Mapping[str, float] | None = None,
        settings: Mapping[str, Any] | None = None,
        watch: Callable[[Request, Response], None] | None = None,
        **sandbox: Any,
    ) -> None:
        self.clock = ManualClock()
        given: dict[str, Any] = {"burst": 100_000.0, **sandbox}
        self.account = EbaySandbox(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            refresh_token=REFRESH,
            clock=self.clock,
            random=Random(1),
            **given,
        )

        def handle(request: Request) -> Response:
            response = self.account.handle(request)
            if watch is not None:
                watch(request, response)
            return response

        self.wire = Wire(handle)
        self.keys = Wire(handle)
        vendor = VENDORS["ebay"]
        model = vendor.settings.model_validate({**SETTINGS, **(settings or {})})
        self.platform = vendor.connect(model, SECRETS, limits or {}, self.wire, self.clock)
        self.door: WebhookDoor = vendor.door(model, SECRETS)
        self._own = own
        self._made = 0
        self.platform.check_credentials()
        self.wire.requests.clear()
        self.wire.deadlines.clear()

    def make_level(self, quantity: int) -> LevelReference:
        self._made += 1
        return self.account.add_item(f"SKU-{self._made}", quantity, own=self._own)

    def unknown_level(self) -> LevelReference:
        return LevelReference("SKU-nowhere", "99999" if self._own else "")

    def book(self, level: LevelReference) -> int:
        return self.account.shown(level)

    def edit(self, level: LevelReference, quantity: int) -> None:
        self.account.edit_stock(level, quantity)

    def revoke_credentials(self) -> None:
        self.account.access.revoke()

    def change(self, level: LevelReference) -> str:
        return self.account.buy({level: 1})

    def changes_in(self, content: Content) -> list[str]:
        return [*(document.order_id for document in content.documents), *content.unclear_orders]

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        """Return the notifications; the door is given their key first, as the receiver does."""
        found: list[tuple[Mapping[str, str], bytes]] = [
            ({name.lower(): value for name, value in delivery.headers.items()}, delivery.body)
            for delivery in self.account.take_outgoing()
        ]
        assert isinstance(self.door, KeyedDoor)
        for headers, _ in found:
            if key := self.door.wanted_key(headers, self.clock.now()):
                self.door.fetch_key(key, self.keys, self.clock.now())
        return found

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        self.account.notify("FEEDBACK_LEFT", {"feedback": 1})
        return self.deliveries()[-1]
