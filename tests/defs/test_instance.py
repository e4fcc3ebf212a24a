import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.setup import set_up

ROOT = Path(__file__).parents[2]

QUERY = """{
  instance { info hasInfo runQueueConfig { maxConcurrentRuns } daemonHealth { id } }
  workspaceOrError { ... on Workspace { locationEntries { name loadStatus
    locationOrLoadError { __typename ... on PythonError { message } } } } }
}"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone as far as Dagster sees it, after the set-up."""
    for name in ("dagster.yaml", "workspace.yaml", "channels.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    done = set_up(tmp_path, bare_environment())
    assert "initialised Dagster's storage" in done
    return tmp_path


def bare_environment() -> dict[str, str]:
    """What a person's shell has: nothing of ours. (PYTHONPATH stands for the editable install.)"""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def address(clone: Path) -> Iterator[str]:
    """The address of a bare `dg dev -w workspace.yaml` in the clone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "dg"), "dev", "-w", "workspace.yaml", "--port", str(port)]
    with (clone / "dg.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=clone, env=bare_environment(), stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield f"http://127.0.0.1:{port}/graphql"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(address: str, log: Path, patience: float = 90.0) -> dict[str, Any]:
    """Ask once the server is up; it is waited for, whatever time it takes within reason."""
    request = urllib.request.Request(  # noqa: S310 - our own server on loopback
        address, json.dumps({"query": QUERY}).encode(), {"content-type": "application/json"}
    )
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return dict(json.load(answer)["data"])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)


def test_a_bare_dg_dev_in_the_clone_uses_its_instance_and_loads_the_location(clone: Path, address: str) -> None:
    data = ask(address, clone / "dg.log")
    assert "INVSYNC_DAGSTER_STATE" in data["instance"]["info"]
    assert data["instance"]["runQueueConfig"]["maxConcurrentRuns"] == 16
    [location] = data["workspaceOrError"]["locationEntries"]
    assert location["name"] == "invsync"
    assert location["locationOrLoadError"]["__typename"] == "RepositoryLocation", location
    assert (clone / "data" / "dagster" / "history" / "runs.db").is_file()
    written = {path.name for path in clone.iterdir()} - {"dg.log", ".env"}
    assert written == {"dagster.yaml", "workspace.yaml", "channels.yaml", "data"}
