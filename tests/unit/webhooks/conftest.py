"""The receiver that most tests here speak to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.woocommerce import WooCommerceDoor
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.webhooks import receiver as receiver_module
from invsync_dagster.webhooks.gates import Gates
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.status.tokens import Tokens
from tests.contract.ebay_harness import EbayHarness
from tests.unit.webhooks.doors import Door
from tests.unit.webhooks.serving import LIMIT, NOW, TOKEN, Stage, WatchedWriter, opened, served


@pytest.fixture(autouse=True)
def _refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests not wait for what they are refused."""
    monkeypatch.setattr(receiver_module, "REFUSED_SECONDS", 0.0)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Stage]:
    clock = VirtualClock(NOW)
    inbox = Inbox(tmp_path / "inbox")
    inbox.prepare(NOW)
    writer = WatchedWriter(SegmentWriter(inbox.folder, clock, random.Random(1)))
    writer.gate.set()
    woo = WooCommerceDoor("https://shop.example.com", ["secret"])
    doors: dict[str, WebhookDoor] = {"shop": Door(), "desk": Door(), "woo": woo, "ebay": EbayHarness().door}
    gates = Gates(doors, {"broken": "its secret is not set"}, plain="desk")
    with served(opened(gates, writer, inbox.folder, clock, LIMIT, tokens=Tokens([TOKEN]))) as port:
        yield Stage(port, inbox, writer, clock)
        # Whatever a test holds up ends with it.
        writer.gate.set()
