"""The demo's child processes: each in a group of its own, with its log under data/demo/, started, awaited and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from invsync_dagster.demo.guard import end_groups, signal_group

POLL_SECONDS = 0.05

# A service that ends sooner after its start than this is broken, and starting it once more would only hide that.
STEADY_SECONDS = 10.0
READY_AGAIN_SECONDS = 60.0


class DemoError(Exception):
    """What keeps the demo from running: one line that says what and how to mend it."""


def check_port(port: int, what: str, option: str) -> None:
    """Raise `DemoError` if another process listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            mend = f"stop what uses it, or give another with {option}"
            raise DemoError(f"port {port} for {what} can't be used ({error.strerror}): {mend}") from None


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Say whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Service:
    """One child process: `python -m <arguments>`; `log` is the file that its output goes to."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes]
    log: Path
    started_at: float
    ready: Callable[[], bool] = lambda: True

    def ended(self) -> str:
        """Say how it ended; "" while it runs."""
        code = self.process.poll()
        if code is None:
            return ""
        return f"{self.name} ended by signal {-code}" if code < 0 else f"{self.name} ended with code {code}"

    def check(self) -> None:
        """Raise `DemoError` if it has ended."""
        if ended := self.ended():
            raise DemoError(f"{ended}: {_last_line(self.log)} (all of it: {self.log})")


@dataclass
class Services:
    """The children of one demo; leaving the context ends them all, whatever happened."""

    environ: Mapping[str, str]
    root: Path
    logs: Path
    running: dict[str, Service] = field(default_factory=dict)
    _guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "invsync_dagster.demo.guard"]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd=self.root)
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop(*list(self.running))
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()

    def start(self, name: str, arguments: Sequence[str]) -> Service:
        """Start `python -m <arguments>` in a group of its own."""
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=dict(self.environ),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tell_guard(f"+{process.pid}")
        self.running[name] = Service(name, arguments, process, log, time.monotonic())
        return self.running[name]

    def wait_for(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready` says so. Raises `DemoError` if the service ends before, or takes longer than `seconds`."""
        service = self.running[name]
        service.ready = ready
        until = time.monotonic() + seconds
        while not ready():
            service.check()
            if time.monotonic() > until:
                raise DemoError(f"{name} isn't ready after {seconds:.0f} s: {_last_line(service.log)} ({service.log})")
            time.sleep(POLL_SECONDS)

    def keep_running(self, say: Callable[[str], None]) -> None:
        """Start what has ended again, say so, and wait until it is ready as it was before.

        Raises `DemoError` for one that ends as soon as it is started, or doesn't get ready.
        """
        for name, service in list(self.running.items()):
            if not (ended := service.ended()):
                continue
            if time.monotonic() < service.started_at + STEADY_SECONDS:
                service.check()
            # What it started would be left behind at the end.
            self.stop(name)
            self.start(name, service.arguments)
            say(f"{ended}: started again")
            self.wait_for(name, service.ready, READY_AGAIN_SECONDS)

    def stop(self, *names: str, patience: float = 10.0) -> None:
        """End services together, with all that they started; what is left after `patience` seconds is killed."""
        ending = [self.running.pop(name) for name in names]
        groups = [service.process.pid for service in ending]
        for group in groups:
            signal_group(group, signal.SIGTERM)
        until = time.monotonic() + patience
        for service in ending:
            try:
                service.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait()
        end_groups(groups, max(1.0, until - time.monotonic()))
        for group in groups:
            self._tell_guard(f"-{group}")

    def _tell_guard(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{line}\n".encode())
            self._guard.stdin.flush()


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the children: without bytecode of their own every run would compile its imports again,
    and a code server that is told to end must not wait a minute for it."""
    kept = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": "3", "PYTHONUNBUFFERED": "1"}


def _last_line(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, os.path.getsize(log) - 4096))  # noqa: PTH202 - the open file's own size
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
