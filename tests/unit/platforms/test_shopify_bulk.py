"""A shop's levels read by one bulk operation: its states, its file in pieces, and what a broken one is worth."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from invsync_dagster.platforms.contract import BulkReader, BulkReading, BulkState, LevelReference, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.oauth import StaticToken
from invsync_dagster.platforms.shopify import ShopifyPlatform, ShopifySettings, bulk_reading
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.shopify.settings import LIMITS
from invsync_dagster.platforms.transport import Response
from tests.contract.wire import ManualClock, Wire


class Shop:
    """A stand-in with eight articles, three of them at two locations and one untracked, and its client."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sandbox = ShopifySandbox(access_token="shpat_x", webhook_secret="s", clock=self.clock, random=Random(3))
        self.wire = Wire(self.sandbox.handle)
        config = ShopifySettings(shop_url="https://x.myshopify.com/a", access_token_env="T", webhook_secret_env="S")
        self.client = ShopifyPlatform(config, StaticToken("shpat_x"), LIMITS, self.wire)
        other = self.sandbox.add_location()
        for number in range(8):
            level = self.sandbox.add_article(f"SKU-{number}", number, tracked=number != 7)
            if number < 3:
                self.sandbox.stock(LevelReference(level.item_id, other), -number)
        self.tracked = {level: quantity for level, quantity in self.sandbox.books().items() if quantity != 7}

    def start(self) -> str:
        outcome = self.client.read_all()
        assert outcome.result is Result.ACCEPTED
        return outcome.handle

    def done(self) -> str:
        handle = self.start()
        self.clock.advance(self.sandbox.bulk.seconds)
        told = self.client.reading_of_all(handle)
        assert told.state is BulkState.DONE
        return told.address

    def numbers(self, address: str) -> tuple[dict[LevelReference, int], int]:
        found: dict[LevelReference, int] = {}
        cursor, pieces = "", 0
        while True:
            piece = self.client.numbers_read(address, cursor)
            found |= piece.numbers
            pieces += 1
            if not piece.cursor:
                return found, pieces
            cursor = piece.cursor


def test_the_numbers_of_all_tracked_levels_are_there_once_it_is_done() -> None:
    shop = Shop()
    assert isinstance(shop.client, BulkReader)
    handle = shop.start()
    assert shop.client.reading_of_all(handle) == BulkReading(BulkState.OPEN)
    shop.clock.advance(shop.sandbox.bulk.seconds)
    told = shop.client.reading_of_all(handle)
    assert (told.state, told.message) == (BulkState.DONE, "")
    assert told.address == "https://x.myshopify.com/a/bulk-files/1.jsonl"
    assert shop.numbers(told.address) == (shop.tracked, 1)


@pytest.mark.parametrize(("size", "pieces"), [(600, 6), (3_360, 1), (1_000_000, 1)])
def test_the_file_is_fetched_piece_by_piece_and_no_line_is_lost(
    monkeypatch: pytest.MonkeyPatch, size: int, pieces: int
) -> None:
    shop = Shop()
    monkeypatch.setattr(bulk_reading, "PIECE_BYTES", size)
    address = shop.done()
    numbers, fetched = shop.numbers(address)
    assert numbers == shop.tracked
    assert (fetched >= pieces) if pieces > 1 else (fetched <= 2)


def test_a_storage_that_gives_no_pieces_gives_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    monkeypatch.setattr(bulk_reading, "PIECE_BYTES", 600)
    shop.sandbox.bulk.gives_pieces = False
    assert shop.numbers(shop.done()) == (shop.tracked, 1)


def test_the_storage_is_told_no_token() -> None:
    shop = Shop()
    shop.numbers(shop.done())
    asked = shop.wire.requests[-1]
    assert "shpat_x" not in f"{asked.url}{asked.headers}{asked.body!r}"
    told = shop.sandbox.handle(type(asked)("GET", asked.url, {**asked.headers, "X-Shopify-Access-Token": "shpat_x"}))
    assert told.status == 403


def test_a_shop_runs_one_at_a_time_and_says_so() -> None:
    shop = Shop()
    shop.start()
    refused = shop.client.read_all()
    assert (refused.result, refused.recovery, refused.code) == (
        Result.REJECTED,
        Recovery.WAIT,
        "operation_in_progress",
    )


def test_one_that_failed_has_the_numbers_of_a_part_and_one_that_was_cancelled_early_none() -> None:
    shop = Shop()
    shop.sandbox.bulk.end_next("FAILED", "TIMEOUT", share=0.5)
    handle = shop.start()
    shop.clock.advance(60)
    told = shop.client.reading_of_all(handle)
    assert (told.state, told.message) == (BulkState.DONE, "the operation is FAILED TIMEOUT")
    part, _ = shop.numbers(told.address)
    assert 0 < len(part) < len(shop.tracked)
    assert part.items() <= shop.tracked.items()
    shop.sandbox.bulk.end_next("CANCELED")
    handle = shop.start()
    shop.clock.advance(60)
    assert shop.client.reading_of_all(handle) == BulkReading(BulkState.LOST, message="the operation is CANCELED")


def test_a_file_is_kept_for_seven_days() -> None:
    shop = Shop()
    address = shop.done()
    shop.clock.advance(8 * 86_400)
    told = shop.client.reading_of_all("gid://shopify/BulkOperation/1")
    assert (told.state, told.message) == (BulkState.LOST, "the operation is EXPIRED")
    with pytest.raises(PlatformError) as refused:
        shop.client.numbers_read(address)
    assert (refused.value.recovery, refused.value.code) == (Recovery.RETRY, "bulk_file")


def test_an_operation_that_is_unknown_is_lost_and_an_empty_shop_has_no_file() -> None:
    shop = Shop()
    assert shop.client.reading_of_all("gid://shopify/BulkOperation/9").state is BulkState.LOST
    shop.wire.answer_next(answer({"bulkOperation": {"id": "x", "status": "COMPLETED", "url": None}}))
    assert shop.client.reading_of_all("x") == BulkReading(BulkState.DONE)


def answer(data: Any) -> Response:
    return Response(200, {}, json.dumps({"data": data}).encode())


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"bulkOperationRunQuery": None},
        {"bulkOperationRunQuery": {"bulkOperation": {"id": 7}, "userErrors": None}},
        {"bulkOperationRunQuery": {"bulkOperation": None, "userErrors": ["odd"]}},
    ],
)
def test_an_answer_that_shows_no_operation_is_a_refusal(data: Any) -> None:
    shop = Shop()
    shop.wire.answer_next(answer(data))
    assert shop.client.read_all().result is Result.REJECTED


def test_a_lost_answer_to_the_start_is_unknown_and_nothing_is_known_of_the_operation() -> None:
    shop = Shop()
    shop.wire.lose_answer_next()
    assert shop.client.read_all().result is Result.UNKNOWN


LEVEL = {"id": "l", "item": {"id": "i", "tracked": True}, "location": {"id": "p"}}


@pytest.mark.parametrize(
    "body", [b"{", b"[1]\n", b'"text"\n', json.dumps({**LEVEL, "quantities": 3}).encode(), b'{"location": 3}\n']
)
def test_a_file_that_is_not_what_we_asked_for_is_refused(body: bytes) -> None:
    shop = Shop()
    shop.wire.answer_next(Response(200, {}, body))
    with pytest.raises(PlatformError) as refused:
        shop.client.numbers_read("https://storage.example/file")
    assert (refused.value.recovery, refused.value.code) == (Recovery.RETRY, "malformed_answer")


@pytest.mark.parametrize("quantity", [None, "3", True, 10**12])
def test_a_number_that_is_none_is_left_to_an_ordinary_reading(quantity: Any) -> None:
    shop = Shop()
    line = {**LEVEL, "quantities": [{"name": "available", "quantity": quantity}]}
    shop.wire.answer_next(Response(200, {}, json.dumps(line).encode()))
    assert shop.client.numbers_read("https://storage.example/file").numbers == {}


def test_a_line_longer_than_a_piece_is_refused_and_not_asked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    monkeypatch.setattr(bulk_reading, "PIECE_BYTES", 20)
    with pytest.raises(PlatformError) as refused:
        shop.numbers(shop.done())
    assert "too long" in refused.value.message


def test_operations_survive_a_restart_of_the_shop() -> None:
    shop = Shop()
    address = shop.done()
    state = json.loads(json.dumps(shop.sandbox.dump()))
    other = Shop()
    other.clock.advance(60)
    other.sandbox.load(state)
    assert other.numbers(address)[0] == shop.tracked
