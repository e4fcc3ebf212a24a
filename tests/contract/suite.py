"""The contract that every platform keeps: its test class inherits `PlatformContract` and offers a `harness` fixture.

    class TestShopify(PlatformContract):
        @pytest.fixture
        def harness(self) -> Harness: ...

The harness holds the real client and the real webhook door, wired to the platform's stand-in over a `Wire`, which is
where calls fail. Every check reads the stand-in's own books besides the outcomes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from invsync_dagster.events import Content
from invsync_dagster.platforms.contract import ChannelListing, LevelReference, Outcome, Platform, Result, WriteRow
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery, SignatureError
from invsync_dagster.platforms.transport import Response
from tests.contract.wire import ManualClock, Wire


class Harness(Protocol):
    """One platform, connected to its stand-in.

    `writes_all_or_nothing`: one bad row makes the platform refuse the whole call.
    `compares`: the platform writes only where it shows the expected number; else the last write wins.
    `idempotent`: the platform answers a key that it has seen without writing again.
    `page_size`: how many changes one page of `orders_changed` holds.
    `secrets`: every secret that the client, the door and the stand-in know.
    """

    platform: Platform
    door: WebhookDoor
    wire: Wire
    clock: ManualClock
    secrets: tuple[str, ...]
    writes_all_or_nothing: bool
    compares: bool
    idempotent: bool
    page_size: int

    def make_level(self, quantity: int) -> LevelReference:
        """Put a new article into the stand-in that shows `quantity`."""
        ...

    def unknown_level(self) -> LevelReference:
        """Name a level that the stand-in doesn't have."""
        ...

    def book(self, level: LevelReference) -> int:
        """Return what the stand-in shows for the level, from its own books."""
        ...

    def edit(self, level: LevelReference, quantity: int) -> None:
        """Change the number behind our back."""
        ...

    def revoke_credentials(self) -> None:
        """Make the stand-in refuse the client's credentials from now on."""
        ...

    def change(self, level: LevelReference) -> str:
        """Sell one unit at the platform now (`clock`), and return the id under which a poll or webhook tells of it."""
        ...

    def changes_in(self, content: Content) -> list[str]:
        """Return the ids, as `change` gives them, of what `content` tells."""
        ...

    def deliveries(self) -> list[tuple[Mapping[str, str], bytes]]:
        """Return the signed webhooks sent since the last call: headers (names lower case) and body."""
        ...

    def unknown_delivery(self) -> tuple[Mapping[str, str], bytes]:
        """Return a webhook signed rightly, of a kind that we don't know."""
        ...


def write_one(harness: Harness, level: LevelReference, quantity: int, key: str = "key-1") -> Outcome:
    """Write one level without a compare-and-set value and return its outcome."""
    (outcome,) = harness.platform.write([WriteRow(level, quantity)], key=key).outcomes
    return outcome


def write_all(harness: Harness, rows: Sequence[WriteRow]) -> list[Outcome]:
    """Write rows in as few calls as the platform's limit allows and return their outcomes."""
    most = harness.platform.limits.write_batch
    answers = [
        harness.platform.write(rows[start : start + most], key=f"key-{start}") for start in range(0, len(rows), most)
    ]
    return [outcome for answer in answers for outcome in answer.outcomes]


class CallContract:
    """What holds of every platform's calls; inherited by itself where a platform sends no webhooks.

    `written`: what a good row is answered with; an asynchronous platform only accepts it.
    """

    written = Result.ACKNOWLEDGED

    # --- writing ---------------------------------------------------------------------------------------------------

    def test_a_batch_is_written_and_each_row_acknowledged(self, harness: Harness) -> None:
        first, second = harness.make_level(5), harness.make_level(9)
        outcomes = write_all(harness, [WriteRow(first, 3), WriteRow(second, 0)])
        assert [outcome.result for outcome in outcomes] == [self.written] * 2
        assert (harness.book(first), harness.book(second)) == (3, 0)
        assert len(harness.wire.requests) == (1 if harness.platform.limits.write_batch > 1 else 2)
        assert 0 < harness.wire.deadlines[0] <= harness.platform.limits.request_deadline

    def test_outcomes_come_in_the_order_of_the_rows(self, harness: Harness) -> None:
        good, unknown = harness.make_level(5), harness.unknown_level()
        outcomes = write_all(harness, [WriteRow(unknown, 1), WriteRow(good, 1)])
        assert outcomes[0].recovery is Recovery.REVIEW
        assert outcomes[1].recovery is not Recovery.REVIEW

    def test_a_bad_row_is_rejected_for_review_and_the_good_one_is_told_apart(self, harness: Harness) -> None:
        good, unknown = harness.make_level(5), harness.unknown_level()
        outcomes = write_all(harness, [WriteRow(good, 2), WriteRow(unknown, 2)])
        assert (outcomes[1].result, outcomes[1].recovery) == (Result.REJECTED, Recovery.REVIEW)
        assert outcomes[1].code
        assert outcomes[1].message
        if harness.writes_all_or_nothing:
            assert (outcomes[0].result, outcomes[0].recovery) == (Result.NOT_SENT, Recovery.RETRY)
            assert outcomes[0].code == "batch_refused"
            assert harness.book(good) == 5
        else:
            assert outcomes[0].result is self.written
            assert harness.book(good) == 2

    def test_the_expected_number_lets_a_write_through(self, harness: Harness) -> None:
        level = harness.make_level(5)
        (outcome,) = harness.platform.write([WriteRow(level, 4, expected=5)], key="key-1").outcomes
        assert outcome.result is self.written
        assert harness.book(level) == 4

    def test_a_foreign_edit_makes_the_compare_and_set_refuse_where_there_is_one(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.edit(level, 2)
        (outcome,) = harness.platform.write([WriteRow(level, 4, expected=5)], key="key-1").outcomes
        if harness.compares:
            assert (outcome.result, outcome.recovery) == (Result.REJECTED, Recovery.SETTLE)
            assert harness.book(level) == 2
        else:
            assert outcome.result is self.written
            assert harness.book(level) == 4

    def test_the_same_write_with_the_same_key_is_acknowledged_and_done_once_where_keys_count(
        self, harness: Harness
    ) -> None:
        level = harness.make_level(5)
        harness.wire.lose_answer_next()
        assert write_one(harness, level, 3).result is Result.UNKNOWN
        harness.edit(level, 2)
        assert write_one(harness, level, 3).result is self.written
        assert harness.book(level) == (2 if harness.idempotent else 3)

    def test_both_of_two_rows_for_one_level_are_rejected_unsent_and_the_rest_is_written(self, harness: Harness) -> None:
        twice, once = harness.make_level(5), harness.make_level(6)
        rows = [WriteRow(twice, 1), WriteRow(once, 2), WriteRow(twice, 3)]
        answer = harness.platform.write(rows, key="key-1")
        assert [outcome.result for outcome in answer.outcomes] == [
            Result.REJECTED,
            self.written,
            Result.REJECTED,
        ]
        assert {answer.outcomes[0].recovery, answer.outcomes[2].recovery} == {Recovery.REJECT}
        assert (harness.book(twice), harness.book(once)) == (5, 2)

    def test_an_empty_batch_makes_no_call(self, harness: Harness) -> None:
        assert harness.platform.write([], key="key-1").outcomes == ()
        assert harness.platform.read([]).readings == ()
        assert harness.platform.orders([]).content == Content()
        assert harness.wire.requests == []

    def test_a_batch_at_the_limit_is_written_in_one_call(self, harness: Harness) -> None:
        levels = [harness.make_level(1) for _ in range(harness.platform.limits.write_batch)]
        answer = harness.platform.write([WriteRow(level, 7) for level in levels], key="key-1")
        assert {outcome.result for outcome in answer.outcomes} == {self.written}
        assert [harness.book(level) for level in levels] == [7] * len(levels)
        assert len(harness.wire.requests) == 1

    def test_a_batch_above_the_limit_is_refused_before_sending(self, harness: Harness) -> None:
        level = harness.make_level(1)
        with pytest.raises(ValueError, match=str(harness.platform.limits.write_batch)):
            harness.platform.write([WriteRow(level, 7)] * (harness.platform.limits.write_batch + 1), key="key-1")
        with pytest.raises(ValueError, match=str(harness.platform.limits.read_batch)):
            harness.platform.read([level] * (harness.platform.limits.read_batch + 1))
        assert harness.wire.requests == []
        assert harness.book(level) == 1

    # --- failures of a write ---------------------------------------------------------------------------------------

    def test_revoked_credentials_ask_for_new_ones_and_write_nothing(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.revoke_credentials()
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.REAUTHENTICATE)
        assert harness.book(level) == 5

    def test_a_401_asks_for_new_credentials(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.wire.answer_next(Response(401, {}, b"{}"))
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.REAUTHENTICATE)

    def test_a_429_with_a_hint_waits_as_told(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.wire.answer_next(Response(429, {"retry-after": "7"}, b""))
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery, outcome.retry_after) == (Result.NOT_SENT, Recovery.WAIT, 7.0)
        assert harness.book(level) == 5

    @pytest.mark.parametrize("hint", [None, "soon", "-5", "nan"])
    def test_a_429_without_a_usable_hint_waits_by_the_budget(self, harness: Harness, hint: str | None) -> None:
        level = harness.make_level(5)
        harness.wire.answer_next(Response(429, {} if hint is None else {"retry-after": hint}, b""))
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery, outcome.retry_after) == (Result.NOT_SENT, Recovery.WAIT, None)

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_5xx_leaves_it_unknown_whether_the_write_was_done(self, harness: Harness, status: int) -> None:
        done, undone = harness.make_level(5), harness.make_level(5)
        harness.wire.replace_answer_next(Response(status, {}, b"<html>bad gateway</html>"))
        outcome = write_one(harness, done, 3)
        assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
        assert harness.book(done) == 3
        harness.wire.answer_next(Response(status, {}, b""))
        outcome = write_one(harness, undone, 3, key="key-2")
        assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
        assert harness.book(undone) == 5

    @pytest.mark.parametrize(
        "body", [b"", b"<html>ok</html>", b'{"data":', b"[]", b"null", b"{}", b'"ok"', b"\xff\xfe"]
    )
    def test_a_malformed_answer_leaves_it_unknown(self, harness: Harness, body: bytes) -> None:
        level = harness.make_level(5)
        harness.wire.replace_answer_next(Response(200, {"content-type": "application/json"}, body))
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
        assert harness.book(level) == 3

    def test_a_redirect_is_not_followed_and_not_taken_for_success(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.wire.answer_next(Response(302, {"location": "https://elsewhere.example/"}, b""))
        assert write_one(harness, level, 3).result not in (Result.ACKNOWLEDGED, Result.ACCEPTED)
        assert len(harness.wire.requests) == 1

    def test_a_refused_connection_sent_nothing_and_may_be_retried(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.wire.refuse_next()
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.RETRY)
        assert harness.book(level) == 5

    def test_a_time_out_before_the_write_is_unknown(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.wire.lose_request_next()
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
        assert harness.book(level) == 5

    def test_a_time_out_after_the_write_is_unknown_and_a_reading_shows_it(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.wire.lose_answer_next()
        outcome = write_one(harness, level, 3)
        assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
        assert harness.book(level) == 3
        assert harness.platform.read([level]).readings[0].quantity == 3

    def test_a_write_that_lands_after_its_answer_was_lost_is_seen_by_a_later_reading(self, harness: Harness) -> None:
        level = harness.make_level(5)
        harness.wire.land_late_next()
        assert write_one(harness, level, 3).result is Result.UNKNOWN
        assert harness.platform.read([level]).readings[0].quantity == 5
        harness.wire.land()
        assert harness.book(level) == 3
        assert harness.platform.read([level]).readings[0].quantity == 3

    def test_a_failed_call_is_made_once_and_its_outcome_is_given_to_every_row(self, harness: Harness) -> None:
        rows = [WriteRow(harness.make_level(5), 3) for _ in range(min(3, harness.platform.limits.write_batch))]
        harness.wire.lose_request_next()
        answer = harness.platform.write(rows, key="key-1")
        assert [outcome.result for outcome in answer.outcomes] == [Result.UNKNOWN] * len(rows)
        assert len(harness.wire.requests) == 1

    # --- reading ---------------------------------------------------------------------------------------------------

    def test_levels_are_read_in_the_order_asked(self, harness: Harness) -> None:
        levels = [harness.make_level(quantity) for quantity in (4, 0, 11)]
        asked = [levels[2], levels[0], levels[1]]
        readings = harness.platform.read(asked).readings
        assert [reading.level for reading in readings] == asked
        assert [reading.quantity for reading in readings] == [11, 4, 0]

    def test_a_level_that_is_not_there_is_for_review_and_the_others_are_read(self, harness: Harness) -> None:
        level, unknown = harness.make_level(4), harness.unknown_level()
        missing, found = harness.platform.read([unknown, level]).readings
        assert found.quantity == 4
        assert missing.quantity is None
        assert missing.problem is not None
        assert missing.problem.recovery is Recovery.REVIEW

    def test_a_batch_of_levels_at_the_limit_is_read_in_one_call(self, harness: Harness) -> None:
        levels = [harness.make_level(number % 5) for number in range(harness.platform.limits.read_batch)]
        readings = harness.platform.read(levels).readings
        assert [reading.quantity for reading in readings] == [number % 5 for number in range(len(levels))]
        assert len(harness.wire.requests) == 1

    def test_failed_reads_raise_with_what_to_do(self, harness: Harness) -> None:
        level = harness.make_level(4)
        cases: list[tuple[Response, set[Recovery]]] = [
            (Response(401, {}, b"{}"), {Recovery.REAUTHENTICATE}),
            (Response(429, {"retry-after": "3"}, b""), {Recovery.WAIT}),
            (Response(503, {}, b""), {Recovery.RETRY, Recovery.SETTLE}),
            (Response(200, {}, b"<html>"), {Recovery.RETRY, Recovery.SETTLE}),
        ]
        for response, recoveries in cases:
            harness.wire.answer_next(response)
            with pytest.raises(PlatformError) as raised:
                harness.platform.read([level])
            assert raised.value.recovery in recoveries
        harness.wire.lose_answer_next()
        with pytest.raises(PlatformError):
            harness.platform.read([level])
        harness.wire.refuse_next()
        with pytest.raises(PlatformError) as raised:
            harness.platform.read([level])
        assert raised.value.recovery is Recovery.RETRY

    def test_good_credentials_pass_and_revoked_ones_are_named(self, harness: Harness) -> None:
        harness.platform.check_credentials()
        harness.revoke_credentials()
        with pytest.raises(PlatformError) as raised:
            harness.platform.check_credentials()
        assert raised.value.recovery is Recovery.REAUTHENTICATE

    # --- what changed ----------------------------------------------------------------------------------------------

    def test_the_window_of_changes_is_half_open(self, harness: Harness) -> None:
        level = harness.make_level(9)
        begin = harness.clock.now()
        ids = []
        for _ in range(3):
            ids.append(harness.change(level))
            harness.clock.advance(60)
        end = harness.clock.now()
        last = harness.change(level)
        page = harness.platform.orders_changed(begin, end)
        assert (sorted(harness.changes_in(page.content)), page.cursor) == (sorted(ids), "")
        harness.clock.advance(1)
        page = harness.platform.orders_changed(end, harness.clock.now())
        assert (harness.changes_in(page.content), page.cursor) == ([last], "")

    def test_pages_of_changes_follow_each_other_without_gap_or_double(self, harness: Harness) -> None:
        ids = []
        begin = harness.clock.now()
        level = harness.make_level(2 * harness.page_size + 5)
        for _ in range(2 * harness.page_size + 1):
            ids.append(harness.change(level))
            harness.clock.advance(1)
        found: list[str] = []
        cursor, pages = "", 0
        while True:
            page = harness.platform.orders_changed(begin, harness.clock.now(), cursor)
            found += harness.changes_in(page.content)
            pages, cursor = pages + 1, page.cursor
            if not cursor:
                break
        assert (pages, sorted(found)) == (3, sorted(ids))

    # --- what is listed --------------------------------------------------------------------------------------------

    def test_all_pages_of_listings_name_each_level_once_with_its_number(self, harness: Harness) -> None:
        levels = {harness.make_level(number): number for number in range(60)}
        found: list[ChannelListing] = []
        cursor, pages = "", 0
        while pages == 0 or cursor:
            page = harness.platform.listings(cursor)
            found += page.listings
            cursor, pages = page.cursor, pages + 1
            assert pages < 100
        shown = {one.level: one.quantity for one in found if not one.problem}
        assert {level: shown.get(level) for level in levels} == levels
        assert len({one.level for one in found}) == len(found)
        assert all(one.platform_sku and one.listing_id for one in found)

    # --- secrets ---------------------------------------------------------------------------------------------------

    def test_no_secret_is_ever_told_of_a_call(self, harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        level = harness.make_level(5)
        echo = " ".join(harness.secrets).encode()
        told = [repr(harness.platform), str(harness.platform), repr(harness.door), str(harness.door)]
        answers = [
            Response(status, {"x-echo": echo.decode()}, echo) for status in (200, 302, 400, 401, 403, 404, 429, 500)
        ]
        for number, answer in enumerate(answers):
            harness.wire.answer_next(answer)
            told.append(repr(harness.platform.write([WriteRow(level, 1)], key=f"key-{number}")))
            harness.wire.answer_next(answer)
            with pytest.raises(PlatformError) as raised:
                harness.platform.read([level])
            told += [str(raised.value), repr(raised.value), raised.value.message]
        harness.wire.lose_answer_next()
        told.append(repr(harness.platform.write([WriteRow(level, 1)], key="key-lost")))
        for secret in harness.secrets:
            assert secret
            assert not [text for text in (*told, caplog.text) if secret in text]


class PlatformContract(CallContract):
    """Inherited by each platform's test class, which offers the `harness` fixture."""

    # --- webhooks --------------------------------------------------------------------------------------------------

    def test_a_signed_webhook_is_accepted_and_tells_of_the_change(self, harness: Harness) -> None:
        level = harness.make_level(9)
        change = harness.change(level)
        deliveries = harness.deliveries()
        told = []
        for headers, body in deliveries:
            assert all(name == name.lower() for name in headers)
            harness.door.verify(headers, body, harness.clock.now())
            assert harness.door.topic(headers, body)
            told += harness.changes_in(harness.door.parse(headers, body))
        assert change in told

    def test_a_tampered_body_is_refused(self, harness: Harness) -> None:
        harness.change(harness.make_level(9))
        headers, body = harness.deliveries()[0]
        for wrong in (body + b" ", body[:-1], bytes([body[0] ^ 1]) + body[1:], b""):
            with pytest.raises(SignatureError):
                harness.door.verify(headers, wrong, harness.clock.now())

    def test_a_wrong_or_missing_signature_is_refused(self, harness: Harness) -> None:
        harness.change(harness.make_level(9))
        headers, body = harness.deliveries()[0]
        signature = next(name for name in headers if "signature" in name or "hmac" in name)
        for value in ("", "AAAA", "ä", "not base64!", headers[signature][:-4]):
            with pytest.raises(SignatureError):
                harness.door.verify({**headers, signature: value}, body, harness.clock.now())
        with pytest.raises(SignatureError):
            harness.door.verify(
                {name: value for name, value in headers.items() if name != signature}, body, harness.clock.now()
            )

    def test_an_unknown_kind_of_webhook_is_verified_and_not_understood(self, harness: Harness) -> None:
        headers, body = harness.unknown_delivery()
        harness.door.verify(headers, body, harness.clock.now())
        with pytest.raises(NotUnderstoodError):
            harness.door.parse(headers, body)

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b'"text"', b"{}", b"\xff"])
    def test_a_body_that_is_no_event_is_not_understood(self, harness: Harness, body: bytes) -> None:
        harness.change(harness.make_level(9))
        headers, _ = harness.deliveries()[0]
        with pytest.raises(NotUnderstoodError):
            harness.door.parse(headers, body)

    # --- secrets ---------------------------------------------------------------------------------------------------

    def test_no_secret_is_ever_told_of_a_webhook(self, harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        level = harness.make_level(5)
        echo = " ".join(harness.secrets).encode()
        harness.change(level)
        headers, body = harness.deliveries()[0]
        proofs = ("signature", "hmac", "-key")
        forged = {
            name: f"{value}x" if any(map(name.__contains__, proofs)) else value for name, value in headers.items()
        }
        with pytest.raises(SignatureError) as refused:
            harness.door.verify(forged, body + echo, harness.clock.now())
        with pytest.raises(NotUnderstoodError) as puzzled:
            harness.door.parse(headers, echo)
        told = [repr(refused.value), repr(puzzled.value), caplog.text]
        for secret in harness.secrets:
            assert secret
            assert not [text for text in told if secret in text]
