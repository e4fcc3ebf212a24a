"""Amazon keeps the platform contract, held against its stand-in account.

Where the contract means something else for it, the check is made anew here: it takes one SKU a call, lists no order of the
last two minutes, and EventBridge proves itself by a key instead of a signature over the body.
"""

from __future__ import annotations

import pytest

from invsync_dagster.platforms.contract import BulkReader, BulkState, Result, WriteRow
from invsync_dagster.platforms.errors import SignatureError
from tests.contract.amazon_harness import AmazonHarness
from tests.contract.suite import Harness, PlatformContract

LAG = 121


class TestAmazon(PlatformContract):
    written = Result.ACCEPTED

    @pytest.fixture
    def harness(self) -> Harness:
        return AmazonHarness()

    def test_both_of_two_rows_for_one_level_are_rejected_unsent_and_the_rest_is_written(self, harness: Harness) -> None:
        twice = harness.make_level(5)
        with pytest.raises(ValueError, match="at most 1 row a call, not 2"):
            harness.platform.write([WriteRow(twice, 1), WriteRow(twice, 3)], key="key-1")
        assert harness.wire.requests == []
        assert harness.book(twice) == 5

    def test_the_window_of_changes_is_half_open(self, harness: Harness) -> None:
        level = harness.make_level(9)
        begin = harness.clock.now()
        ids = []
        for _ in range(3):
            ids.append(harness.change(level))
            harness.clock.advance(60)
        end = harness.clock.now()
        last = harness.change(level)
        harness.clock.advance(LAG)
        page = harness.platform.orders_changed(begin, end)
        assert (sorted(harness.changes_in(page.content)), page.cursor) == (sorted(ids), "")
        page = harness.platform.orders_changed(end, harness.clock.now())
        assert (harness.changes_in(page.content), page.cursor) == ([last], "")

    def test_pages_of_changes_follow_each_other_without_gap_or_double(self, harness: Harness) -> None:
        level = harness.make_level(2 * harness.page_size + 5)
        begin = harness.clock.now()
        ids = []
        for _ in range(2 * harness.page_size + 1):
            ids.append(harness.change(level))
            harness.clock.advance(1)
        harness.clock.advance(LAG)
        end = harness.clock.now()
        found: list[str] = []
        cursor, pages = "", 0
        while pages == 0 or cursor:
            page = harness.platform.orders_changed(begin, end, cursor)
            found += harness.changes_in(page.content)
            pages, cursor = pages + 1, page.cursor
        assert (pages, sorted(found)) == (3, sorted(ids))

    def test_all_levels_are_read_in_bulk_by_a_handle_that_another_client_may_ask_with(self, harness: Harness) -> None:
        shown = {harness.make_level(quantity): quantity for quantity in (5, 0, 9)}
        platform = harness.platform
        assert isinstance(platform, BulkReader)
        started = platform.read_all()
        assert started.result is Result.ACCEPTED
        assert platform.reading_of_all(started.handle).state is BulkState.OPEN
        harness.clock.advance(241)
        done = platform.reading_of_all(started.handle)
        assert (done.state, platform.numbers_read(done.address).numbers) == (BulkState.DONE, shown)

    def test_a_tampered_body_is_refused(self, harness: Harness) -> None:
        """A body that was changed comes from somebody without the key of the connection."""
        harness.change(harness.make_level(9))
        _, body = harness.deliveries()[0]
        for forged in ({}, {"x-invsync-key": ""}, {"x-invsync-key": "guessed"}, {"authorization": "guessed"}):
            with pytest.raises(SignatureError):
                harness.door.verify(forged, body, harness.clock.now())

    def test_a_wrong_or_missing_signature_is_refused(self, harness: Harness) -> None:
        harness.change(harness.make_level(9))
        headers, body = harness.deliveries()[0]
        key = headers["x-invsync-key"]
        for value in ("", "AAAA", "ä", key[:-4], f"{key}x", key.upper()):
            with pytest.raises(SignatureError):
                harness.door.verify({**headers, "x-invsync-key": value}, body, harness.clock.now())
        with pytest.raises(SignatureError):
            harness.door.verify({}, body, harness.clock.now())
