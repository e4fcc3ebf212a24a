"""What one channel's deliveries wait for while strangers, or another channel, flood the receiver."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks._report import figure
from benchmarks.receiver import BODY, OTHER, SHOP, headers, in_a_folder, receiver

FLOOD_CONNECTIONS = 400
# More than there are places.
SLOW_CONNECTIONS = 700
PROBE_SECONDS = 6
STATUS_TOKEN = "a-token-of-the-benchmark-0123"  # noqa: S105 - of no account


def main() -> int:
    if shutil.which("wrk") is None:
        print("benchmarks: floods needs wrk", file=sys.stderr)
        return 2
    return in_a_folder(measure)


def measure(root: Path) -> int:
    unsigned = {name: value for name, value in headers().items() if name != "X-Shopify-Hmac-Sha256"}
    with receiver(root, INVSYNC_STATUS_TOKEN=STATUS_TOKEN) as port:
        quiet = probe(port)
        notes: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 2)}
        figure("receiver_other_channel_p99", quiet, "ms", **notes)
        for name, path, given in (
            ("signed_flood", f"/webhooks/{SHOP}", headers()),
            ("unsigned_flood", f"/webhooks/{SHOP}", unsigned),
            ("flood_of_unknown_names", "/webhooks/nobody", headers()),
            ("status_flood_without_token", "/status", {}),
            ("status_flood_with_token", "/status", {"Authorization": f"Bearer {STATUS_TOKEN}"}),
        ):
            with flooding(port, root, path, given, "GET" if "status" in name else "POST") as rate:
                p99 = probe(port)
                flood: dict[str, Any] = {"connections": FLOOD_CONNECTIONS, "flood_per_second": round(rate())}
            figure(f"receiver_other_channel_p99_{name}", p99, "ms", floor=quiet, **flood, **notes)
        with slow_connections(port):
            p99 = probe(port)
        figure("receiver_other_channel_p99_slow_senders", p99, "ms", floor=quiet, connections=SLOW_CONNECTIONS, **notes)
    return 0


def probe(port: int) -> float:
    """Send a delivery of the other channel every 10 ms, each on a connection of its own; return the 99th percentile in ms."""
    times = []
    end = time.perf_counter() + PROBE_SECONDS
    while (began := time.perf_counter()) < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", f"/webhooks/{OTHER}", BODY, headers())
        status = connection.getresponse().status
        connection.close()
        if status != 202:
            raise RuntimeError(f"the other channel was answered {status}")
        times.append(time.perf_counter() - began)
        time.sleep(max(0.0, 0.01 - times[-1]))
    times.sort()
    return times[int(len(times) * 0.99)] * 1000


@contextmanager
def flooding(port: int, root: Path, path: str, given: dict[str, str], method: str) -> Iterator[Callable[[], float]]:
    """Have wrk flood a path; what is yielded waits for its end and returns its requests a second."""
    script = root / "flood.lua"
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in given.items()]
    if method == "POST":
        lines.append(f"wrk.body = [[{BODY.decode()}]]")
    script.write_text("\n".join([f'wrk.method = "{method}"', *lines]), encoding="utf-8")
    address = f"http://127.0.0.1:{port}{path}"
    command = ["wrk", "-t1", f"-c{FLOOD_CONNECTIONS}", f"-d{PROBE_SECONDS + 2}s", "-s", str(script), address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(1)  # until its connections are there
        yield lambda: float(re.findall(r"Requests/sec:\s+([\d.]+)", process.communicate(timeout=30)[0])[0])


@contextmanager
def slow_connections(port: int) -> Iterator[None]:
    """Hold connections that have begun a head, more of them than there are places, and open new ones for those cut."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=open_slowly, args=(port, stop))
    process.start()
    time.sleep(2)  # until they are there
    try:
        yield
    finally:
        stop.set()
        process.join(timeout=30)


def open_slowly(port: int, stop: Any) -> None:
    with ExitStack() as stack:
        open_ones: list[socket.socket] = []
        while not stop.is_set():
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with suppress(OSError):
                connection.sendall(f"POST /webhooks/{SHOP} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())
            open_ones.append(connection)
            if len(open_ones) > SLOW_CONNECTIONS:
                open_ones.pop(0).close()
                time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
