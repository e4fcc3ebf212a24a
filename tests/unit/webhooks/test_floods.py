"""One channel's flood: it has its share, the others have theirs, and the log stays readable."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
import time

import pytest

from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.webhooks import bodies, floods, server
from invsync_dagster.webhooks import receiver as receiver_module
from invsync_dagster.webhooks.floods import FoldedLog, FullError, Shares
from invsync_dagster.webhooks.status.counts import Counts
from tests.unit.webhooks.doors import signed
from tests.unit.webhooks.serving import BODY, LIMIT, NOW, Stage, ask


def test_a_channel_has_its_share_and_gets_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floods, "MOST_WAITING", 2)
    shares = Shares()
    with shares.of("shop", 1):
        with shares.of("shop", 1), pytest.raises(FullError), shares.of("shop", 1):
            pytest.fail("it had more than its share")
        with shares.of("shop", 1), shares.of("desk", 1):
            pass


def test_a_share_has_bytes_too_and_one_delivery_always_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floods, "MOST_WAITING_BYTES", 100)
    shares = Shares()
    with shares.of("shop", 60), shares.of("shop", 40), pytest.raises(FullError), shares.of("shop", 1):
        pytest.fail("it had more than its share")
    with shares.of("shop", 1_000):
        pass


def test_a_share_comes_back_whatever_became_of_the_delivery() -> None:
    shares = Shares()
    for _ in range(floods.MOST_WAITING + 1):
        with pytest.raises(KeyError), shares.of("shop", 1):
            raise KeyError


def test_what_a_flooding_channel_has_waiting_leaves_room_for_the_others(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floods, "MOST_WAITING", 3)
    receiver.writer.gate.clear()
    waiting = [http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20) for _ in range(3)]
    for connection in waiting:
        connection.request("POST", "/webhooks/shop", BODY, signed(BODY))
    # The third has come in once a fourth is refused; whatever isn't waits with them.
    refused = None
    while refused is None:
        refused = refused_now(receiver)
    assert refused == (503, "30")
    other = threading.Thread(target=lambda: statuses.append(receiver.post(BODY, signed(BODY), "/webhooks/desk")))
    statuses: list[int] = []
    other.start()
    receiver.writer.gate.set()
    other.join(timeout=20)
    assert statuses == [202]
    assert [connection.getresponse().status for connection in waiting] == [202] * 3
    for connection in waiting:
        connection.close()
    assert receiver.post(BODY, signed(BODY)) == 202


def refused_now(receiver: Stage) -> tuple[int, str] | None:
    """Return status and Retry-After of an answer that comes at once, None if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=0.2)
    try:
        connection.request("POST", "/webhooks/shop", BODY, signed(BODY))
        answer = connection.getresponse()
        return answer.status, answer.headers["retry-after"]
    except TimeoutError:
        return None
    finally:
        connection.close()


def test_what_isnt_taken_waits_for_its_answer_and_what_is_taken_does_not(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "REFUSED_SECONDS", 0.4)
    refused = [("POST", "/webhooks/shop", {}), ("POST", "/webhooks/nobody", signed(BODY)), ("GET", "/other", {})]
    for method, path, headers in refused:
        began = time.monotonic()
        assert ask(receiver.port, method, path, BODY, headers)[0] >= 400
        assert time.monotonic() - began >= 0.4
    monkeypatch.setattr(receiver_module, "REFUSED_SECONDS", 5.0)
    assert receiver.post(BODY, signed(BODY)) == 202


def test_those_that_wait_for_a_refusal_give_their_places_away(receiver: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(receiver.port, "GET", "/healthz")[0] == 200
    monkeypatch.setattr(receiver_module, "REFUSED_SECONDS", 5.0)
    with contextlib.ExitStack() as stack:
        flood = [http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20) for _ in range(4)]
        for connection in flood:
            stack.callback(connection.close)
            connection.request("POST", "/webhooks/shop", BODY, signed(b"another"))
        assert ask(receiver.port, "GET", "/healthz")[0] == 200
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
        assert [receiver.post(BODY, signed(BODY)) for _ in range(3)] == [202] * 3


def test_a_reason_is_told_once_a_minute_with_its_number(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(NOW)
    folded = FoldedLog(clock, Counts())
    for _ in range(5):
        folded.refused("shop", 401, "the signature is wrong")
    folded.refused("desk", 401, "the signature is wrong")
    clock.advance(60)
    folded.refused("shop", 401, "the signature is wrong")
    assert [record.getMessage() for record in caplog.records] == [
        "refused a webhook for shop with 401: the signature is wrong",
        "refused a webhook for desk with 401: the signature is wrong",
        "refused a webhook for shop with 401: the signature is wrong (4 times more since 12:00:00 UTC)",
    ]


def test_strangers_write_no_more_than_a_line_whatever_names_they_try(
    receiver: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(20):
        assert ask(receiver.port, "POST", f"/webhooks/name{number}", BODY, signed(BODY))[0] == 503
    told = [record.getMessage() for record in caplog.records if record.name == "invsync.receiver"]
    assert told == [
        "refused a webhook for a channel that channels.yaml doesn't have with 503: nobody has the name 'name0'"
    ]


def test_large_bodies_that_are_on_their_way_share_a_bound_and_small_ones_pass(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SMALL_BODY", 100)
    monkeypatch.setattr(bodies, "LARGE_BODIES", 1_500)
    large, largest = b"a" * 1_000, b"a" * LIMIT
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as slow:
        head = (
            b"POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n\r\n"
        )
        slow.sendall(head + large)
        # An answer to another says that this much has come in.
        assert ask(receiver.port, "GET", "/other")[0] == 404
        assert receiver.post(large, signed(large)) == 503
        assert receiver.post(BODY, signed(BODY)) == 202
    # By one of these the receiver has seen that the slow one is gone.
    assert 202 in (receiver.post(large, signed(large)) for _ in range(100))
    # One alone passes however large it is.
    assert receiver.post(largest, signed(largest)) == 202
    assert [len(kept.body) for kept in receiver.kept()] == [len(BODY), len(large), len(largest)]


def test_a_channel_with_large_bodies_on_their_way_leaves_as_much_to_the_others(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SMALL_BODY", 100)
    monkeypatch.setattr(bodies, "LARGE_BODIES", 1_500)
    large = b"a" * 500
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as slow:
        head = (
            b"POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
        )
        slow.sendall(head + b"a" * 600)
        assert ask(receiver.port, "GET", "/other")[0] == 404
        assert receiver.post(large, signed(large)) == 503
        assert receiver.post(large, signed(large), path="/webhooks/desk") == 202
    assert [(kept.channel, len(kept.body)) for kept in receiver.kept()] == [("desk", 500)]
