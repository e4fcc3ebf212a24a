"""Messengers on loopback: a web hook and a mail server that keep what they are told, and refuse or hang when asked to."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Sink:
    """What a messenger was told, the time of each (`time.monotonic`), and how it behaves."""

    port: int = 0
    told: list[tuple[str, str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    refuses: bool = False
    hangs: threading.Event | None = None

    def take(self, title: str, body: str) -> None:
        self.told.append((title, body))
        self.at.append(time.monotonic())


@contextmanager
def web_sink() -> Iterator[Sink]:
    """A web hook; its address for Apprise is `json://127.0.0.1:<port>/…`. It refuses with 401."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if sink.hangs is not None:
                sink.hangs.wait(30)
            if not sink.refuses:
                sink.take(body["title"], body["message"])
            self.send_response(401 if sink.refuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler), sink):
        yield sink


@contextmanager
def mail_sink() -> Iterator[Sink]:
    """A mail server without encryption; its address is `mailto://user:password@127.0.0.1:<port>/…`. It refuses the recipient."""
    sink = Sink()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 sink")
            while line := self.rfile.readline():
                word = line.split()[0].upper() if line.split() else b""
                if word == b"EHLO":
                    self._say("250-sink\r\n250 AUTH PLAIN LOGIN")
                elif word == b"AUTH":
                    self._say("235 come in")
                elif word == b"RCPT" and sink.refuses:
                    self._say("550 no such mailbox")
                elif word == b"DATA":
                    self._say("354 go on")
                    _take_mail(sink, b"".join(iter(self.rfile.readline, b".\r\n")))
                    self._say("250 taken")
                elif word == b"QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("250 fine")

        def _say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _serving(server, sink):
        yield sink


def _take_mail(sink: Sink, content: bytes) -> None:
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    body = mail.get_body(("plain", "html"))
    sink.take(str(mail["subject"]), body.get_content() if body is not None else "")


@contextmanager
def _serving(server: socketserver.BaseServer, sink: Sink) -> Iterator[None]:
    sink.port = server.server_address[1]  # type: ignore[index, assignment]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
