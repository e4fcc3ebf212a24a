"""The transport over real loopback sockets: what it sends, what it takes, and what it says when something breaks."""

from __future__ import annotations

import gzip
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from requests.adapters import HTTPAdapter

from invsync_dagster.platforms.transport import Request, RequestsTransport, Response, TransportError, is_loopback

SECRET = "shpat_hidden"


class Server:
    """A loopback server that treats each connection as its script says, and keeps what came in."""

    def __init__(self, script: Callable[[Server, socket.socket], None]) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self._script = script
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def url(self, path: str = "/admin/api?token=hidden-query", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def read(self, connection: socket.socket) -> bytes:
        """Read one request with its body; empty once the client is gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while len(body) < (int(lengths[0]) if lengths else 0):
            body += connection.recv(65536)
        self.received.append(head + b"\r\n\r\n" + body)
        return self.received[-1]

    def close(self) -> None:
        self.over.set()
        # Closing alone doesn't wake a thread that waits in accept.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                with connection, suppress(OSError):
                    self._script(self, connection)


@contextmanager
def serving(script: Callable[[Server, socket.socket], None]) -> Iterator[Server]:
    server = Server(script)
    try:
        yield server
    finally:
        server.close()


def answering(*answers: bytes) -> Callable[[Server, socket.socket], None]:
    """Answer each request of a connection with the next of these."""

    def script(server: Server, connection: socket.socket) -> None:
        for answer in answers:
            if not server.read(connection):
                return
            connection.sendall(answer)
        server.read(connection)

    return script


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post(server: Server, deadline: float = 20.0, broken: str = "") -> Response:
    request = Request("POST", server.url(), {"X-Token": SECRET, "X-More": broken}, b'{"secret": "hidden-body"}')
    return RequestsTransport().send(request, deadline=deadline)


def failure(server: Server, deadline: float = 20.0, broken: str = "") -> TransportError:
    with pytest.raises(TransportError) as raised:
        post(server, deadline, broken)
    for hidden in (SECRET, "hidden-query", "hidden-body"):
        assert hidden not in repr(raised.value)
    # The causes hold what the message leaves out, so they must not be printed with it.
    assert "During handling" not in "".join(traceback.format_exception(raised.value))
    assert str(raised.value).startswith("POST 127.0.0.1/admin/api: ")
    return raised.value


def test_bytes_go_out_and_come_back_as_they_are() -> None:
    with serving(answering(ok(b"\x00\xff{}", "X-Cost: 7", "Content-Type: application/json"))) as server:
        response = post(server)
    assert (response.status, response.body) == (200, b"\x00\xff{}")
    assert (response.headers["x-cost"], response.headers["content-type"]) == ("7", "application/json")
    head, _, body = server.received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /admin/api?token=hidden-query HTTP/1.1\r\n")
    assert b"X-Token: shpat_hidden" in head
    assert body == b'{"secret": "hidden-body"}'


def test_gzip_is_accepted_and_unpacked_in_chunks_too() -> None:
    packed = gzip.compress(b"available " * 50_000)
    chunks = b"".join(
        f"{len(packed[start : start + 400]):x}\r\n".encode() + packed[start : start + 400] + b"\r\n"
        for start in range(0, len(packed), 400)
    )
    chunked = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    transport = RequestsTransport()
    with serving(answering(ok(packed, "Content-Encoding: gzip"), chunked)) as server:
        for _ in range(2):
            response = transport.send(Request("GET", server.url()), deadline=20.0)
            assert response.body == b"available " * 50_000
    assert b"Accept-Encoding: gzip\r\n" in server.received[0]


def test_one_connection_serves_many_requests_and_keeps_no_cookie() -> None:
    transport = RequestsTransport()
    with serving(answering(*[ok(b"{}", "Set-Cookie: session=abc; Path=/")] * 3)) as server:
        for _ in range(3):
            transport.send(Request("POST", server.url(), {}, b"{}"), deadline=20.0)
        assert server.connections == 1
    assert not [request for request in server.received if b"ookie" in request]


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(moved)) as server:
        assert post(server).status == 302
    assert len(server.received) == 1


def test_a_netrc_file_gives_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password word\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(answering(ok(b"{}"))) as server:
        post(server)
    assert b"authorization" not in server.received[0].lower()


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(answering(ok(b"{}"))) as server:
        assert post(server).status == 200


def test_a_refused_connection_sent_nothing() -> None:
    with serving(answering()) as server:
        pass
    error = failure(server)
    assert error.sent is False
    assert "could not be reached" in str(error)


def test_a_failed_tls_handshake_sent_nothing() -> None:
    def plain(server: Server, connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(plain) as server, pytest.raises(TransportError, match="TLS failed") as raised:
        RequestsTransport().send(Request("GET", server.url(scheme="https")), deadline=20.0)
    assert raised.value.sent is False


def test_certificates_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    asked: list[object] = []

    def refuse(adapter: HTTPAdapter, request: object, **options: object) -> None:
        asked.append(options["verify"])
        raise ConnectionError("not sent")

    monkeypatch.setattr(HTTPAdapter, "send", refuse)
    for url in ("https://shop.example/", "https://127.0.0.1:1/"):
        with pytest.raises(TransportError):
            RequestsTransport().send(Request("GET", url), deadline=5.0)
    assert asked == [True, True]


def test_a_header_that_cannot_be_sent_is_not_told() -> None:
    with serving(answering(ok(b"{}"))) as server:
        error = failure(server, broken=f"{SECRET}\r\nX-Other: 1")
        assert (error.sent, server.received) == (False, [])
        error = failure(server, broken=f"{SECRET}\u20ac")
        assert (error.sent, server.received) == (False, [])


def test_a_connection_cut_before_the_answer_may_have_been_worked_on() -> None:
    def cut(server: Server, connection: socket.socket) -> None:
        server.read(connection)

    with serving(cut) as server:
        error = failure(server)
    assert error.sent is True


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"this is no HTTP\r\n\r\n",
    ],
    ids=["short body", "short chunk", "not gzip", "not http"],
)
def test_a_broken_answer_is_no_answer(answer: bytes) -> None:
    def broken(server: Server, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(answer)

    with serving(broken) as server:
        assert failure(server).sent is True


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["silent", "silent body", "silent chunks"],
)
def test_a_server_that_falls_silent_meets_the_deadline(begin: bytes) -> None:
    def silent(server: Server, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(begin)
        server.over.wait(60)

    with serving(silent) as server:
        error = failure(server, deadline=0.3)
        assert not server.over.is_set()
    assert error.sent is True
    assert "deadline" in str(error)


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    ],
    ids=["head", "body", "chunks"],
)
def test_a_server_that_drips_meets_the_deadline_for_the_whole(begin: bytes, drip: bytes) -> None:
    def dripping(server: Server, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(begin)
        while not server.over.wait(0.05):
            connection.sendall(drip)

    with serving(dripping) as server:
        error = failure(server, deadline=0.4)
        assert not server.over.is_set()
    assert error.sent is True
    assert "deadline" in str(error)


def test_no_time_left_sends_nothing() -> None:
    with serving(answering(ok(b"{}"))) as server:
        error = failure(server, deadline=0.0)
        assert (error.sent, server.connections) == (False, 0)


@pytest.mark.parametrize("url", ["http://shop.example/admin", "http://10.0.0.1/x", "ftp://127.0.0.1/x", "nothing"])
def test_only_https_leaves_this_machine(url: str) -> None:
    with pytest.raises(TransportError, match="only https") as raised:
        RequestsTransport().send(Request("GET", url), deadline=5.0)
    assert raised.value.sent is False


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("10.0.0.1", False),
        ("192.168.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_its_text(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
