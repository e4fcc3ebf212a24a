"""Connections that cost more than a webhook does, on real sockets: slow ones, large heads, and more of them than places."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from invsync_dagster.webhooks import server
from tests.unit.webhooks.doors import signed
from tests.unit.webhooks.serving import BODY, LIMIT, Stage, ask

POST = b"POST /webhooks/shop HTTP/1.1\r\nHost: x\r\n"
JSON = POST + b"Content-Type: application/json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow is what takes a third of a second."""
    monkeypatch.setattr(server, "SENDER_SECONDS", 0.3)


@contextmanager
def connected(receiver: Stage) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as connection:
        yield connection


def said_at_the_end(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def send_while_it_lasts(connection: socket.socket, parts: Iterable[bytes]) -> bytes:
    """Send the parts until the other side has had enough; return what it said."""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)
    return said_at_the_end(connection)


def lines(number: int, length: int) -> bytes:
    return b"".join(b"X-%d: %s\r\n" % (index, b"a" * length) for index in range(number))


def endless(part: bytes, most: int = 100) -> Iterable[bytes]:
    """Return a part of 10 kB again and again, up to 1 MB."""
    return (part for _ in range(most))


LARGE = b"a" * 10_000


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([POST + lines(server.MOST_HEADERS, 1) + b"\r\n"], id="one header too many"),
        pytest.param([POST + lines(9, 8_000) + b"\r\n"], id="a long head at once"),
        pytest.param([b"GET /healthz?", *endless(LARGE)], id="an endless address"),
        pytest.param([POST + b"X: ", *endless(LARGE)], id="an endless header"),
        pytest.param([POST, *endless(lines(10, 990))], id="endless headers"),
        pytest.param([CHUNKED + b"1\r\na\r\n0\r\nX: ", *endless(LARGE)], id="an endless trailer"),
        pytest.param([CHUNKED + b"1\r\na\r\n0\r\n", *endless(lines(10, 990))], id="endless trailers"),
        pytest.param([CHUNKED, *endless(b"1;" + LARGE + b"\r\na\r\n")], id="words between the chunks"),
    ],
)
def test_more_than_a_body_can_need_beside_it_is_answered_431_and_cut_off(receiver: Stage, parts: list[bytes]) -> None:
    with connected(receiver) as connection:
        said = send_while_it_lasts(connection, parts)
    # An answer that meets bytes on their way is lost with the connection, as TCP has it.
    assert said == b"" or said == b"HTTP/1.1 431 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert receiver.kept() == []
    assert receiver.post(BODY, signed(BODY)) == 202


def test_a_head_at_the_limits_is_taken(receiver: Stage) -> None:
    # http.client sends Host, Accept-Encoding and Content-Length by itself.
    headers = signed(BODY) | {f"X-{index}": "a" * 500 for index in range(server.MOST_HEADERS - 6)}
    assert receiver.post(BODY, headers) == 202


def test_one_byte_a_chunk_is_taken_and_counts_as_a_body(receiver: Stage) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    connection.request("POST", "/webhooks/shop", (bytes([b]) for b in BODY), signed(BODY), encode_chunked=True)
    assert connection.getresponse().status == 202
    connection.close()
    with connected(receiver) as sent:
        assert send_while_it_lasts(sent, [CHUNKED + b"1\r\na\r\n" * (LIMIT + 1)]).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(b"PO", id="half a word"),
        pytest.param(POST + b"X-A: 1\r\n", id="half a head"),
        pytest.param(JSON + b"Content-Length: 99\r\n\r\n{", id="half a body"),
        pytest.param(CHUNKED + b"5\r\n{", id="half a chunk"),
        pytest.param(
            b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{", id="half a body after the answer"
        ),
    ],
)
@pytest.mark.usefixtures("hurried")
def test_a_sender_that_stops_at_any_stage_is_cut_off(receiver: Stage, begun: bytes) -> None:
    with connected(receiver) as connection:
        if begun:
            connection.sendall(begun)
        said = said_at_the_end(connection)
    assert said == b"" or (begun.startswith(b"POST /none") and said.startswith(b"HTTP/1.1 404 "))
    assert receiver.post(BODY, signed(BODY)) == 202


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("begun", [b"GET /", POST + b"X-A: ", JSON + b"Content-Length: 2000\r\n\r\n", b""])
def test_a_sender_that_drips_is_cut_off(receiver: Stage, begun: bytes) -> None:
    began = time.monotonic()
    with connected(receiver) as connection:
        connection.sendall(begun)
        connection.settimeout(0.05)
        while time.monotonic() - began < 20:
            try:
                connection.sendall(b"a" if begun else b"\r\n")
                if not connection.recv(1000):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it was let drip")


@pytest.mark.usefixtures("hurried")
def test_an_idle_connection_is_closed_and_a_busy_one_is_not(receiver: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.4)
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    connection.request("POST", "/webhooks/shop", BODY, signed(BODY))
    connection.getresponse().read()
    first = connection.sock.getsockname()
    began = time.monotonic()
    while time.monotonic() - began < 0.8:
        connection.request("POST", "/webhooks/shop", BODY, signed(BODY))
        assert connection.getresponse().read() == b""
    assert connection.sock.getsockname() == first
    assert said_at_the_end(connection.sock) == b""
    connection.close()


def test_a_connection_that_waits_for_the_disk_is_not_slow_but_ends_one_day(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SENDER_SECONDS", 0.1)
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.9)
    receiver.writer.gate.clear()
    began = time.monotonic()
    with connected(receiver) as connection:
        connection.sendall(whole_request())
        assert said_at_the_end(connection) == b""
    assert time.monotonic() - began > 0.85
    receiver.writer.gate.set()
    assert receiver.post(BODY, signed(BODY)) == 202
    assert [kept.body for kept in receiver.kept()] == [BODY, BODY]


def whole_request() -> bytes:
    head = {**signed(BODY), "Content-Length": str(len(BODY))}
    return POST + "".join(f"{name}: {value}\r\n" for name, value in head.items()).encode() + b"\r\n" + BODY


def test_a_store_that_speaks_http_1_0_is_answered_and_its_connection_closed(receiver: Stage) -> None:
    with connected(receiver) as connection:
        connection.sendall(whole_request().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert said_at_the_end(connection).startswith(b"HTTP/1.1 202 ")


def test_a_sender_that_asks_first_is_told_to_go_on(receiver: Stage) -> None:
    head, _, body = whole_request().partition(b"\r\n\r\n")
    with connected(receiver) as connection:
        connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(12) == b"HTTP/1.1 202"


def test_where_every_place_is_taken_who_keeps_us_waiting_longest_gives_way(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(receiver)) for _ in range(8)]
        for connection in slow:
            connection.sendall(b"GET / HT")
        # An answer to a ninth says that all of them have begun.
        assert ask(receiver.port, "GET", "/other")[0] == 404
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 8)
        assert [receiver.post(BODY, signed(BODY)) for _ in range(3)] == [202] * 3
        # The places of those that were answered are free again, so one has had to go, or a few by the time.
        said = [
            send_while_it_lasts(connection, [b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]) for connection in slow
        ]
        assert 1 <= said.count(b"") <= 4
        assert all(words == b"" or words.startswith(b"HTTP/1.1 404 ") for words in said)


def test_those_that_wait_for_the_disk_keep_their_places(receiver: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.writer.gate.clear()
    with connected(receiver) as first, connected(receiver) as second, contextlib.ExitStack() as stack:
        for connection in (first, second):
            connection.sendall(whole_request())
        # An answer to a third says that both have come in.
        assert ask(receiver.port, "GET", "/other")[0] == 404
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
        late = [stack.enter_context(connected(receiver)) for _ in range(3)]
        assert [said_at_the_end(connection) for connection in late[:2]] == [b""] * 2
        receiver.writer.gate.set()
        assert [connection.recv(12) for connection in (first, second)] == [b"HTTP/1.1 202"] * 2


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"POST /webhooks/shop HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /webhooks/shop HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /webhooks/shop HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /webhooks/shop HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
    ],
)
def test_what_isnt_http_is_answered_400_without_a_word(receiver: Stage, sent: bytes) -> None:
    with connected(receiver) as connection:
        connection.sendall(sent)
        assert said_at_the_end(connection) == b"HTTP/1.1 400 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "TLS/1.0"])
def test_a_wish_for_another_protocol_is_not_heard(receiver: Stage, upgrade: str) -> None:
    with connected(receiver) as connection:
        connection.sendall(
            f"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n".encode()
        )
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_many_slow_senders_keep_no_true_one_waiting(receiver: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 16)
    stop = threading.Event()
    opened = threading.Semaphore(0)

    def attack() -> None:
        """Open connections that never say a whole word, and open another for each that is cut."""
        with contextlib.ExitStack() as stack:
            while not stop.is_set():
                try:
                    connection = stack.enter_context(socket.create_connection(("127.0.0.1", receiver.port), timeout=20))
                    connection.sendall(b"POST /webhooks/shop HTTP/1.1\r\nX-A: ")
                except OSError:
                    continue
                opened.release()
                stop.wait(0.005)

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        for _ in range(20):
            assert opened.acquire(timeout=20)
        assert [receiver.post(BODY, signed(BODY)) for _ in range(20)] == [202] * 20
    finally:
        stop.set()
        thread.join(timeout=20)
    assert not thread.is_alive()
