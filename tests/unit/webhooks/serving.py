"""The receiver on a real loopback socket, in a thread, and a client that speaks plain HTTP to it."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import RequestsTransport, Transport
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.webhooks.gates import Gates
from invsync_dagster.webhooks.group import Writer
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.queues import QueuePoller
from invsync_dagster.webhooks.receiver import Receiver
from invsync_dagster.webhooks.segments import Delivery
from invsync_dagster.webhooks.server import server_of
from invsync_dagster.webhooks.status.tokens import NO_TOKENS, Tokens

TOKEN = "a-token-of-the-tests-0123456789"
NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
LIMIT = 2_000
BODY = b'{"id": 820982911946154508, "line_items": []}'


def opened(
    gates: Gates,
    writer: Writer,
    inbox: Path,
    clock: Clock,
    max_bytes: int,
    transport: Transport | None = None,
    pollers: Sequence[QueuePoller] = (),
    tokens: Tokens = NO_TOKENS,
) -> Receiver:
    """Return a receiver that is open; the status document is beside the inbox."""
    receiver = Receiver(writer, inbox, inbox.parent / "status", clock, transport or RequestsTransport())
    receiver.open(gates, max_bytes, pollers, tokens)
    return receiver


@contextmanager
def served(app: ASGIApp) -> Iterator[int]:
    """Serve `app` as the receiver does, and yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
    assert not thread.is_alive()


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Send one request on a connection of its own; return status, body and headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


@dataclass
class WatchedWriter:
    """The true writer, which the test can hold up and let fail."""

    inner: SegmentWriter
    gate: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    problem: OSError | None = None

    def write(self, deliveries: Sequence[Delivery]) -> Path:
        self.began.set()
        assert self.gate.wait(timeout=20)
        if self.problem is not None:
            raise self.problem
        return self.inner.write(deliveries)


@dataclass
class Stage:
    """A receiver on a socket, with its inbox, its clock, and the writer that a test can hold up."""

    port: int
    inbox: Inbox
    writer: WatchedWriter
    clock: VirtualClock

    @property
    def status(self) -> Path:
        """The folder of the status document."""
        return self.inbox.folder.parent / "status"

    def post(self, body: bytes, headers: dict[str, str], path: str = "/webhooks/shop") -> int:
        return ask(self.port, "POST", path, body, headers)[0]

    def kept(self) -> list[Delivery]:
        return [delivery for path in self.inbox.segments(1000) for delivery in self.inbox.read(path)]
