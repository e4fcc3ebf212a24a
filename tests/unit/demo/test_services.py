"""The demo's processes: started in groups of their own, and gone with the demo, however that ends."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from invsync_dagster.demo.services import DemoError, Services, check_port, child_environment, free_port, listens

PROJECT = Path(__file__).resolve().parents[3]

# A service that holds a lock as long as one of its processes lives: itself, and a child that hears SIGTERM only if told to.
SLEEPER = """\
import fcntl, os, signal, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
if os.fork() == 0 and "hears" not in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1] + ".ready", "w").close()
signal.pause()
signal.pause()
"""

STARTER = """\
import sys
from pathlib import Path
from invsync_dagster.demo.services import Services
import os
root = Path(sys.argv[1])
with Services(os.environ, root, root / "logs") as services:
    services.start("sleeper", ["sleeper", str(root / "lock")])
    services.wait_for("sleeper", (root / "lock.ready").exists, 30)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    return tmp_path


def wait_until_free(lock: Path) -> None:
    """Block until no process holds the lock: the kernel frees it with the last of them."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def test_leaving_ends_a_service_with_all_that_it_started(root: Path) -> None:
    with Services(dict(os.environ), root, root / "logs") as services:
        service = services.start("sleeper", ["sleeper", str(root / "lock")])
        services.wait_for("sleeper", (root / "lock.ready").exists, 30)
        services.stop("sleeper", patience=0.2)
    wait_until_free(root / "lock")
    assert service.process.returncode == -signal.SIGTERM


def test_a_killed_service_is_started_again_and_said_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invsync_dagster.demo.services.STEADY_SECONDS", 0.0)
    lock, ready, said = root / "lock", root / "lock.ready", list[str]()
    with Services(dict(os.environ), root, root / "logs") as services:
        first = services.start("sleeper", ["sleeper", str(lock), "hears"])
        services.wait_for("sleeper", ready.exists, 30)
        services.keep_running(said.append)
        assert said == []
        ready.unlink()
        first.process.kill()
        first.process.wait()
        services.keep_running(said.append)
        assert said == ["sleeper ended by signal 9: started again"]
        assert ready.exists()
        assert services.running["sleeper"].process.pid != first.process.pid
    wait_until_free(lock)


def test_a_service_that_ends_as_soon_as_it_is_started_is_not_started_again(root: Path) -> None:
    (root / "broken.py").write_text("raise SystemExit('no configuration')")
    said: list[str] = []
    with Services(dict(os.environ), root, root / "logs") as services:
        services.start("broken", ["broken"]).process.wait()
        with pytest.raises(DemoError, match="broken ended with code 1: no configuration"):
            services.keep_running(said.append)
    assert said == []


def test_a_demo_that_is_killed_leaves_no_process(root: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(root)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert demo.stdout is not None and demo.stdin is not None
    assert demo.stdout.readline() == b"ready\n"
    demo.kill()
    demo.wait()
    wait_until_free(root / "lock")
    demo.stdin.close()
    demo.stdout.close()


def test_a_service_that_ends_early_is_reported_with_its_last_words(root: Path) -> None:
    (root / "broken.py").write_text("raise SystemExit('the disk is full')\n")
    with Services(dict(os.environ), root, root / "logs") as services:
        services.start("broken", ["broken"])
        with pytest.raises(DemoError, match="broken ended with code 1: the disk is full"):
            services.wait_for("broken", lambda: False, 30)


def test_a_port_in_use_is_refused_with_the_option_that_gives_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(port)
        with pytest.raises(DemoError, match=rf"port {port} for the receiver .*--receiver-port"):
            check_port(port, "the receiver", "--receiver-port")


def test_a_free_port_passes() -> None:
    port = free_port()
    check_port(port, "the receiver", "--receiver-port")
    assert not listens(port)


def test_children_keep_their_bytecode_and_the_rest_of_the_environment() -> None:
    environ = child_environment({"PYTHONDONTWRITEBYTECODE": "1", "INVSYNC_ROOT": "/somewhere"})
    assert "PYTHONDONTWRITEBYTECODE" not in environ
    assert environ["INVSYNC_ROOT"] == "/somewhere"
