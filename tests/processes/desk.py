"""An own ERP on loopback, which outlives whoever writes to it: its stand-in behind a socket, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

from invsync_dagster.clock import SystemClock
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.platforms.transport import Request, Response

API_KEY, SIGNING_SECRET, WEBHOOK_SECRET = "the desk's key", "what signs our requests", "what signs the desk's webhooks"


class Desk:
    """Starts with `units` of each SKU shown to its desks; `written` counts the calls that wrote."""

    def __init__(self, skus: Collection[str], units: int) -> None:
        self.written = 0
        self._books = ErpSandbox(
            SystemClock(),
            Random(1),
            api_key=API_KEY,
            signing_secret=SIGNING_SECRET,
            webhook_secret=WEBHOOK_SECRET,
            rate=1e6,
            burst=1e6,
        )
        for sku in skus:
            self._books.add(sku, units)
        self._one_at_a_time = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def shows(self) -> dict[str, int]:
        """What each SKU's desks see."""
        with self._one_at_a_time:
            return {sku: article["available_quantity"] for sku, article in self._books.books().items()}

    def _answer(self, request: Request) -> Response:
        with self._one_at_a_time:
            self.written += request.method == "POST"
            return self._books.handle(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(
                    self.command, f"http://{self.headers['Host']}{self.path}", dict(self.headers.items()), body
                )
                response = answer(request)
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)

            do_POST = do_PUT = do_GET

            def handle(self) -> None:
                # Whoever is killed amid a call leaves it so.
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
