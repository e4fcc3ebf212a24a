"""A real browser without a screen, spoken to by its DevTools protocol: Chromium, or what INVSYNC_BROWSER names."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

SECONDS = 30
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def program() -> str | None:
    """Return the browser's program; None where there is none."""
    return os.environ.get("INVSYNC_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page of the browser; `complaints` are errors of its scripts and breaches of its policy."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Call a method and return its result; what the page complains of meanwhile is noted."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                return dict(told["result"])

    def wait_for(self, event: str) -> None:
        while self._next().get("method") != event:
            pass

    def _next(self) -> dict[str, Any]:
        told = json.loads(self._connection.recv(timeout=SECONDS))
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            self.complaints.append(told["params"]["entry"]["text"])
        if told.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(told["params"]["exceptionDetails"]["text"])
        return dict(told)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return what an expression, or a promise of it, comes to."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Start the browser with an empty profile and yield a page of it."""
    found = program()
    assert found is not None
    # Its own sandbox needs rights that a container doesn't give; what it is shown is ours.
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--mute-audio",
    ]
    command = [found, *flags, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        said = process.stderr
        assert said is not None
        try:
            address = next(line.split()[-1] for line in said if line.startswith("DevTools listening on"))
            with requests.Session() as session:
                session.trust_env = False
                port = address.split("/")[2]
                pages = session.get(f"http://{port}/json/list", timeout=SECONDS).json()
            [page] = [each for each in pages if each["type"] == "page"]
            with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
                yield Tab(connection)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            said.close()
            process.wait(timeout=SECONDS)
