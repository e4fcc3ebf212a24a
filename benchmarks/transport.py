"""Measures the CPU of a write call of each platform, at its batch size: by our transport, and by `requests` alone, in turns.

The requests are those that the platform's client makes at its stand-in; a bare server in a process of its own answers them
with as many bytes as the stand-in did.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import requests

from benchmarks._accounts import PLATFORMS, SECRETS, channel_of, place_of, stand_in
from benchmarks._report import figure
from invsync_dagster.platforms.contract import Platform, WriteRow
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import Request, RequestsTransport, Response
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.transport import InProcessTransport

GOAL = 1.5
CALLS = 1000
CONNECT_SECONDS = 10.0


class Answers(BaseHTTPRequestHandler):
    """Answers every call with JSON of the length that its address asks for."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: apart, the second waits 40 ms for the first one's acknowledgement

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'"' + b"x" * (int(self.path.rpartition("=")[2]) - 2) + b'"'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PATCH = do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def written(name: str, folder: Path) -> tuple[Request, int, int]:
    """Return the request by which a platform's client writes a full batch, its rows, and the length of its answer."""
    clock = VirtualClock(datetime(2026, 3, 2, tzinfo=UTC))
    channel = channel_of(name, folder)
    kept: list[tuple[Request, Response]] = []
    places = {f"SKU-{number:06d}": place_of(name, number) for number in range(300)}
    shop = stand_in(name, places, 5, clock)

    def handle(request: Request) -> Response:
        answer: Response = shop.handle(request)
        kept.append((request, answer))
        return answer

    vendor = VENDORS[channel.platform]
    transport = InProcessTransport(handle, clock)
    platform: Platform = vendor.connect(channel.settings, channel.secrets(SECRETS), {}, transport, clock)
    levels = list(places.values())
    if platform.limits.one_location_a_write:
        levels = [level for level in levels if level.location_id == levels[0].location_id]
    rows = [WriteRow(level, 7, 5) for level in levels[: platform.limits.write_batch]]
    answer = platform.write(rows, key="00000000-0000-4000-8000-000000000001")
    if any(outcome.code for outcome in answer.outcomes):
        raise SystemExit(f"{name}: the stand-in refused the write: {answer}")
    request, response = kept[-1]
    return request, len(rows), len(response.body)


def compared(request: Request, base: str, length: int) -> tuple[float, float]:
    """Return the CPU seconds of a call: by our transport, and by `requests` alone, in turns."""
    url = f"{base}{urlsplit(request.url).path}?bytes={length}"
    ours_request = Request(request.method, url, request.headers, request.body)
    transport = RequestsTransport()
    ours = bare = 0.0
    with requests.Session() as session:
        for number in range(CALLS + 1):  # the first opens the connections
            cpu = time.process_time()
            transport.send(ours_request, deadline=30)
            between = time.process_time()
            session.request(request.method, url, data=request.body, headers=dict(request.headers), timeout=30)
            if number:
                ours += between - cpu
                bare += time.process_time() - between
    return ours / CALLS, bare / CALLS


def measure(names: list[str]) -> None:
    """Run the server in a process of its own and print a figure a platform."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.transport", "--serve", str(port)]
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder, subprocess.Popen(command) as server:
        try:
            _wait_for(port)
            for name in names:
                request, rows, length = written(name, Path(folder))
                ours, bare = compared(request, f"http://127.0.0.1:{port}", length)
                figure(
                    f"transport_cpu_a_call_{PLATFORMS[name]}", 1000 * ours, "ms", floor=1000 * bare, ratio=ours / bare,
                    goal=GOAL, met=ours / bare <= GOAL, rows=rows, bytes=len(request.body),
                    note="floor: requests alone, the same request, in turns; goal: the ratio",
                )  # fmt: skip
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def main() -> None:
    """Run the measurement of each platform, or of one; `--serve` is its child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channel", choices=PLATFORMS, help="this one alone")
    parser.add_argument("--serve", type=int)
    given = parser.parse_args()
    if given.serve is not None:
        ThreadingHTTPServer(("127.0.0.1", given.serve), Answers).serve_forever()
    else:
        measure([given.channel] if given.channel else list(PLATFORMS))


if __name__ == "__main__":
    main()
