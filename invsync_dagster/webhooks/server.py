"""The receiver's HTTP server: how much time, how many bytes and places a connection may take, whoever is behind it."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Shopify gives a delivery 5 s in all. Who isn't through with a whole message by then, counted from its first byte (of the first
# one: from the connection), holds a place for nothing.
SENDER_SECONDS = 15.0
# As long may an answer take us; the deliveries of a disk that stalls are written all the same.
ANSWER_SECONDS = 60.0
# Of an idle connection after an answer. A proxy's (nginx: 60 s) is to end before: whoever closes first may do so in the face of a
# delivery that is on its way.
KEEP_ALIVE_SECONDS = 75
# All of a message but its body: head, chunk sizes, trailers. The parser itself sets no limit. Platforms send about 1 KB.
MOST_FRAME_BYTES = 64 * 1024
MOST_HEADERS = 100
# A process has 1,024 files, where nobody says otherwise.
MOST_CONNECTIONS = 512
SHUTDOWN_SECONDS = 10
# Set in the scope of a request that isn't taken: its connection needs its place no more than one that has nothing to say.
REFUSED = "invsync.refused"


class GuardedProtocol(HttpToolsProtocol):
    """A connection within these limits; uvicorn's own has none on heads, and none on the time that they take."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; the one that keeps us waiting longest gives its place where all are taken."""
        super().connection_made(transport)
        self._since = self.loop.time()
        # Whether it has asked anything yet, and whether a message has begun that isn't whole.
        self._asked = self._incomplete = False
        self._frame_bytes = 0
        if len(self.connections) > MOST_CONNECTIONS:
            waiting = (
                each for each in self.connections if isinstance(each, GuardedProtocol) and each.waits_for_sender()
            )
            slowest = min(waiting, key=lambda each: each._since)
            self.connections.discard(slowest)
            slowest.transport.abort()

    def waits_for_sender(self) -> bool:
        """Tell whether it is the sender's turn: no message has begun, or it isn't whole, or it is answered or refused."""
        return self._incomplete or not self._asked or self.cycle.response_complete or REFUSED in self.cycle.scope

    def cut_off_if_slow(self, now: float) -> None:
        """Close the connection if something takes too long; `now` is the loop's time."""
        if not self.waits_for_sender():
            limit = ANSWER_SECONDS
        elif self._incomplete or not self._asked:
            limit = SENDER_SECONDS
        else:
            limit = KEEP_ALIVE_SECONDS
        if now - self._since > limit:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._frame_bytes += len(data)
        super().data_received(data)
        if self._incomplete and self._frame_bytes > MOST_FRAME_BYTES and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since, self._incomplete = self.loop.time(), True

    def on_headers_complete(self) -> None:
        if len(self.headers) > MOST_HEADERS or (self._frame_bytes > MOST_FRAME_BYTES and self._is_long_head()):
            self._refuse(431)
            raise ValueError("the head is too large")
        super().on_headers_complete()
        self._asked = True

    def on_body(self, body: bytes) -> None:
        self._frame_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._since, self._incomplete, self._frame_bytes = self.loop.time(), False, 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._incomplete:
            self._since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Answer what isn't HTTP, without a word."""
        if not self.transport.is_closing():
            self._refuse(400)

    def _is_long_head(self) -> bool:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_FRAME_BYTES

    def _refuse(self, status: int) -> None:
        self.transport.write(b"HTTP/1.1 %d \r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()


class GuardedServer(uvicorn.Server):
    """The server that cuts slow connections off: looking at all of them twice a second is cheaper than a timer each."""

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does ten times a second, and look after the connections."""
        if counter % 5 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, GuardedProtocol):
                    connection.cut_off_if_slow(now)
        return await super().on_tick(counter)


def server_of(app: ASGIApp) -> GuardedServer:
    """Return the server of the receiver's app; it says nothing of itself in its answers."""
    return GuardedServer(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=GuardedProtocol,
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
