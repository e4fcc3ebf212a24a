"""Fuzz of what we read in the platforms' answers: true ones that were changed anywhere, or whose bytes are broken.

Whatever comes, a call raises `PlatformError`, a write has an outcome, and every number that is understood stands in the answer.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.events import OrderDocument
from invsync_dagster.platforms.contract import (
    MAX_QUANTITY,
    BulkNumbers,
    BulkReport,
    ListingsPage,
    OrdersPage,
    Outcome,
    ReadAnswer,
    WriteAnswer,
    WriteRow,
)
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.amazon_harness import AmazonHarness
from tests.contract.ebay_harness import EbayHarness
from tests.contract.wire import Wire
from tests.unit.platforms.alibaba_stage import AlibabaStage
from tests.unit.platforms.test_shopify_tokens import Granted
from tests.unit.webhooks.changing import broken, changed

EXAMPLES = int(os.environ.get("INVSYNC_FUZZ", "20"))


@dataclass
class Case:
    """A call on a platform before its stand-in, and the wire on which its answers can be changed."""

    wire: Wire
    call: Callable[[], Any]


def ebay(what: str) -> Case:
    harness = EbayHarness()
    levels = [harness.make_level(5), harness.make_level(9)]
    harness.account.set_own_quantity(levels[1].item_id, 4)
    began = harness.clock.now()
    whole, shipped = harness.account.buy({levels[0]: 2}), harness.account.buy({levels[0]: 2})
    harness.account.ship(shipped, {next(iter(harness.account.order(shipped).lines)): 1})
    harness.clock.advance(60)
    platform, until = harness.platform, harness.clock.now()
    calls: dict[str, Callable[[], Any]] = {
        "changed": lambda: platform.orders_changed(began, until),
        "orders": lambda: platform.orders([whole, shipped]),
        "read": lambda: platform.read([levels[0], *(each.level for each in platform.listings().listings)]),
        "listings": platform.listings,
        "write": lambda: platform.write([WriteRow(level, 3) for level in levels], key="key"),
    }
    return Case(harness.wire, calls[what])


def amazon(what: str) -> Case:
    harness = AmazonHarness()
    levels = [harness.make_level(5), harness.make_level(9)]
    began = harness.clock.now()
    order = harness.account.buy({level.item_id: 2 for level in levels})
    platform: Any = harness.platform
    feed = platform.submit({100: WriteRow(levels[0], 3), 101: WriteRow(levels[1], 4)}).handle
    report = platform.read_all().handle
    harness.clock.advance(600)
    until = harness.clock.now()
    address = platform.reading_of_all(report).address
    calls: dict[str, Callable[[], Any]] = {
        "changed": lambda: platform.orders_changed(began, until),
        "orders": lambda: platform.orders([order]),
        "read": lambda: platform.read(levels),
        "listings": platform.listings,
        "write": lambda: platform.write([WriteRow(levels[0], 3)], key="key"),
        "feed": lambda: platform.submitted(feed),
        "report": lambda: platform.reading_of_all(report),
        "numbers": lambda: platform.numbers_read(address),
    }
    return Case(harness.wire, calls[what])


def grant(vendor: str) -> Case:
    made: dict[str, Callable[[], Any]] = {
        "ebay": EbayHarness,
        "amazon": AmazonHarness,
        "shopify": Granted,
        "alibaba": lambda: AlibabaStage(Path(tempfile.mkdtemp()) / "tokens.json"),
    }
    harness = made[vendor]()
    harness.clock.advance(10 * 86_400)
    return Case(harness.wire, harness.platform.make_ready)


CASES: dict[str, Callable[[], Case]] = {
    **{f"ebay {what}": partial(ebay, what) for what in ("changed", "orders", "read", "listings", "write")},
    **{
        f"amazon {what}": partial(amazon, what)
        for what in ("changed", "orders", "read", "listings", "write", "feed", "report", "numbers")
    },
    **{f"{vendor} grant": partial(grant, vendor) for vendor in ("ebay", "amazon", "shopify", "alibaba")},
}


def spoiled(data: st.DataObject, body: bytes) -> bytes:
    """Return a body that differs somewhere from the true one."""
    packed = body[:2] == b"\x1f\x8b"
    plain = gzip.decompress(body) if packed else body
    try:
        document = json.loads(plain)
    except ValueError:
        plain = torn(data, plain)  # a table
    else:
        plain = data.draw(changed(document) | changed(document) | broken(document))
    return gzip.compress(plain) if packed and data.draw(st.booleans()) else plain


def unpacked(body: bytes) -> bytes:
    """Return what is in a body, the body itself where it only begins like a packed one."""
    try:
        return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    except (OSError, EOFError, zlib.error):
        return body


def torn(data: st.DataObject, body: bytes) -> bytes:
    """Return a body with bytes put in, taken out or changed."""
    changed_body = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed_body)))
        changed_body[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"\t", b"\r\n", b"-1", b"9" * 30, b"1.5"])
        )
    return bytes(changed_body)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", CASES)
def test_an_answer_that_was_changed_is_refused_or_understood_and_never_made_up(name: str, data: st.DataObject) -> None:
    case = CASES[name]()
    seen: list[bytes] = []
    which = data.draw(st.integers(0, 2))

    def step(number: int) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            response = case.wire._handler(request)
            body = spoiled(data, response.body) if number == which else response.body
            seen.append(unpacked(body))
            headers = {key: value for key, value in response.headers.items() if key.lower() != "content-length"}
            return Response(response.status, headers, body)

        return answer

    case.wire._script.extend(step(number) for number in range(3))
    with suppress(PlatformError):
        told = case.call()
        case.wire._script.clear()
        assert_sound(told, b"\n".join(seen).decode("utf-8", "replace"))


def assert_sound(told: Any, answers: str) -> None:
    """Assert that what was understood is of the promised form, and that its numbers stand in the answers."""
    numbers: list[int | None] = []
    if isinstance(told, WriteAnswer):
        assert all(isinstance(one, Outcome) for one in told.outcomes)
    elif isinstance(told, ReadAnswer):
        numbers = [reading.quantity for reading in told.readings]
        assert all((reading.quantity is None) == (reading.problem is not None) for reading in told.readings)
    elif isinstance(told, ListingsPage):
        numbers = [one.quantity for one in told.listings]
    elif isinstance(told, BulkReport):
        numbers = list(told.shown.values())
    elif isinstance(told, BulkNumbers):
        numbers = list(told.numbers.values())
    elif isinstance(told, OrdersPage):
        for document in told.content.documents:
            numbers += assert_document(document)
    for number in numbers:
        assert number is None or (type(number) is int and str(number) in answers)
        assert number is None or abs(number) <= MAX_QUANTITY


def assert_document(document: OrderDocument) -> list[int | None]:
    """Assert that a document is of the promised form; return its numbers."""
    assert document.order_id
    for at in (document.created_at, document.updated_at):
        assert isinstance(at, datetime)
        assert at.utcoffset() == timedelta(0)
    for line in document.lines:
        assert 0 <= line.cancelled <= line.ordered
        assert all(0 <= movement.quantity <= MAX_QUANTITY for movement in line.shipments)
    return [line.ordered for line in document.lines]
