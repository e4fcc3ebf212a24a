"""A WooCommerce client before its stand-in store, with short names for what the tests do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.contract import LevelReference, Outcome, Reading, WriteRow
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.platforms.woocommerce import WooCommercePlatform, WooCommerceSettings, connect
from invsync_dagster.platforms.woocommerce.sandbox import WooCommerceSandbox
from tests.contract.wire import ManualClock, Wire

SECRETS = {
    "consumer_key_env": "ck_0123456789abcdef",
    "consumer_secret_env": "cs_fedcba9876543210",
    "webhook_secret_env": "webhook-71c0fe",
}
SETTINGS = WooCommerceSettings(
    store_url="https://shop.example.com",
    consumer_key_env="K",
    consumer_secret_env="S",
    webhook_secret_env="W",
)


class WooStage:
    """The client `platform` before the stand-in `store`."""

    def __init__(
        self,
        limits: Mapping[str, float] | None = None,
        *,
        orders_as_posts: bool = False,
        failed_gives_back: bool = True,
        header_dropped: bool = False,
    ) -> None:
        self.clock = ManualClock()
        self.store = WooCommerceSandbox(
            consumer_key=SECRETS["consumer_key_env"],
            consumer_secret=SECRETS["consumer_secret_env"],
            webhook_secret=SECRETS["webhook_secret_env"],
            clock=self.clock,
            burst=100_000.0,
            product_webhooks=True,
            orders_as_posts=orders_as_posts,
            failed_gives_back=failed_gives_back,
            header_dropped=header_dropped,
        )
        self.wire = Wire(self.store.handle)
        self.platform: WooCommercePlatform = connect(SETTINGS, SECRETS, limits or {}, self.wire, self.clock)

    def write(self, level: LevelReference, quantity: int) -> Outcome:
        (outcome,) = self.platform.write([WriteRow(level, quantity)], key="key").outcomes
        return outcome

    def read(self, level: LevelReference) -> Reading:
        (reading,) = self.platform.read([level]).readings
        return reading

    def bodies(self) -> list[Any]:
        """The JSON bodies that were sent."""
        return [json.loads(request.body) for request in self.wire.requests if request.body]

    def slow(self, seconds: float) -> None:
        """Let the next request take so long."""

        def step(request: Request) -> Response:
            self.clock.advance(seconds)
            return self.store.handle(request)

        self.wire._script.append(step)


def body(value: Any, before: bytes = b"", after: bytes = b"") -> Response:
    """An answer whose JSON something was printed around."""
    return Response(200, {"content-type": "text/html"}, before + json.dumps(value).encode() + after)
