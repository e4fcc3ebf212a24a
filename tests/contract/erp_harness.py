"""The ERP of the contract tests: the real client and door, wired to the stand-in ERP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from random import Random
from typing import Any

from invsync_dagster.events import Content
from invsync_dagster.platforms import erp
from invsync_dagster.platforms.contract import LevelReference, Platform
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from tests.contract.wire import ManualClock, Wire

API_KEY, SIGNING, WEBHOOK, PREVIOUS = "key-9f31aa", "signing-77c2bd", "webhook-51e0cc", "previous-08d4ee"
SETTINGS = erp.ErpSettings(
    base_url="http://127.0.0.1:8790/erp_main",
    api_key_env="ERP_API_KEY",
    signing_secret_env="ERP_SIGNING_SECRET",
    webhook_secret_env="ERP_WEBHOOK_SECRET",
    webhook_previous_secret_env="ERP_WEBHOOK_PREVIOUS_SECRET",
)
SECRETS = {
    "api_key_env": API_KEY,
    "signing_secret_env": SIGNING,
    "webhook_secret_env": WEBHOOK,
    "webhook_previous_secret_env": PREVIOUS,
}


class ErpHarness:
    """The real client and door, wired to the stand-in ERP."""

    writes_all_or_nothing = False
    compares = True
    idempotent = True
    page_size = 10
    secrets: tuple[str, ...] = tuple(SECRETS.values())
    platform: Platform
    door: WebhookDoor

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.erp = ErpSandbox(
            self.clock,
            Random(7),
            api_key=API_KEY,
            signing_secret=SIGNING,
            webhook_secret=WEBHOOK,
            page_size=self.page_size,
        )
        self.wire = Wire(self.erp.handle)
        self.platform = erp.connect(SETTINGS, SECRETS, {}, self.wire, self.clock)
        self.door = erp.door(SETTINGS, SECRETS)
        self._number = 0

    def make_level(self, quantity: int) -> LevelReference:
        self._number += 1
        self.erp.add(f"SKU-{self._number:04d}", quantity)
        return LevelReference(f"SKU-{self._number:04d}")

    def unknown_level(self) -> LevelReference:
        return LevelReference("no-such-sku")

    def book(self, level: LevelReference) -> int:
        return self.erp.book(level.item_id).available_quantity

    def edit(self, level: LevelReference, quantity: int) -> None:
        self.erp.edit_available(level.item_id, quantity)

    def revoke_credentials(self) -> None:
        self.erp.change_credentials("another-key")

    def change(self, level: LevelReference) -> str:
        event_id = self.erp.sell(level.item_id)
        assert event_id is not None
        return event_id

    def changes_in(self, content: Content) -> list[str]:
        return [count.event_id for count in content.counts]

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        return [
            ({name.lower(): value for name, value in delivery.headers.items()}, delivery.body)
            for delivery in self.erp.take_outgoing()
        ]

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        return signed(self.clock.now(), json.dumps(an_event(change_type="transfer")).encode())


def signed(now: datetime, body: bytes, secret: str = WEBHOOK) -> tuple[dict[str, str], bytes]:
    timestamp = str(int(now.timestamp()))
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return {
        "x-invsync-event-id": "e-1",
        "x-invsync-timestamp": timestamp,
        "x-invsync-signature": base64.b64encode(digest).decode(),
    }, body


def an_event(**changed: Any) -> dict[str, Any]:
    event = {
        "event_id": "e-1",
        "sku": "00042",
        "change_type": "sale",
        "quantity": 41,
        "occurred_at": "2026-11-21T07:59:58.250+00:00",
        "version": 17,
    }
    return {name: value for name, value in (event | changed).items() if value is not ...}


def parsed(harness: ErpHarness, document: Any) -> Content:
    headers, body = signed(harness.clock.now(), json.dumps(document).encode())
    harness.door.verify(headers, body, harness.clock.now())
    return harness.door.parse(headers, body)
