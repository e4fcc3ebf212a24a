"""The production set-up of `deploy/` in a folder of a test: its own command lines and environment, on free ports."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HOME = "/srv/invsync"
ETC = "/etc/invsync"
BIN = Path(sys.executable).parent
PORTS = ("4000", "3000", "8791", "3001")


def units() -> dict[str, configparser.ConfigParser]:
    """Return the service units by name."""
    found = {}
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        parser = configparser.ConfigParser(interpolation=None, strict=True)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(path)
        found[path.stem] = parser
    return found


def compose() -> dict[str, Any]:
    """Return the Compose file, its merges resolved."""
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def example_environment(name: str) -> dict[str, str]:
    """Return the variables of an example environment file: `receiver` or `invsync`."""
    lines = (DEPLOY / f"{name}.env.example").read_text().splitlines()
    named = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value.strip("'") for name, value in named}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Deployed:
    """The services of the units in `folder`, as systemd would start them; `stop` ends them as it would.

    `variables` are what people fill into invsync.env, `webhooks` what they fill into receiver.env.
    """

    def __init__(self, folder: Path, variables: dict[str, str], webhooks: dict[str, str]) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in PORTS}
        (folder / "deploy").mkdir()
        shutil.copy(ROOT / "dagster.yaml", folder)
        (folder / "deploy" / "workspace.yaml").write_text(
            (DEPLOY / "workspace.yaml").read_text().replace("port: 4000", f"port: {self.ports['4000']}")
        )
        given = {file: self._here(example_environment(file)) for file in ("receiver", "invsync")}
        received = {**given["receiver"], "INVSYNC_RECEIVER_PORT": self.ports["8791"], **webhooks}
        (folder / "receiver.env").write_text("".join(f"{name}={value}\n" for name, value in received.items()))
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        kept["PYTHONPATH"] = str(ROOT)
        self.environment = {**kept, **received, **given["invsync"], **variables, "PYTHONPATH": str(ROOT)}
        self._receivers = {**kept, "INVSYNC_ENV_FILE": str(folder / "receiver.env")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def _here(self, variables: dict[str, str]) -> dict[str, str]:
        folder = str(self.folder)
        return {name: value.replace(HOME, folder).replace(ETC, folder) for name, value in variables.items()}

    def command(self, line: str) -> list[str]:
        """Return a command line of `deploy/` with our programs, folder and ports."""
        words = [word.replace(f"{HOME}/.venv/bin", str(BIN)) for word in shlex.split(line)]
        return [self.ports.get(word, word) for word in words]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )

    def start(self) -> None:
        for name, unit in units().items():
            with (self.folder / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    self.command(unit["Service"]["ExecStart"]),
                    cwd=self.folder,
                    env=self.environment if "EnvironmentFile" in unit["Service"] else self._receivers,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def wait_for(self, what: str, happened: Callable[[], bool], patience: float = 90.0) -> None:
        until = time.monotonic() + patience
        while not happened():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, self.log(ended[0])
            assert time.monotonic() < until, f"{what}: {''.join(self.log(name) for name in self.processes)}"
            time.sleep(0.2)

    def log(self, name: str) -> str:
        return f"--- {name}\n{(self.folder / f'{name}.log').read_text()[-3000:]}"

    def stop(self, patience: float = 60.0) -> dict[str, int]:
        """Send SIGTERM to each service's processes, and return the exit codes of those that ended by themselves."""
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + patience
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()
        return codes
