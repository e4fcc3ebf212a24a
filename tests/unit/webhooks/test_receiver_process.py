"""The receiver as a process: killed, ended in order, and refused its port."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from invsync_dagster.platforms.erp import wire
from invsync_dagster.webhooks.inbox import Inbox
from tests.unit.webhooks.serving import ask

ROOT = Path(__file__).parents[3]
SECRET = "the secret that signs webhooks"
CHANNELS = """\
channels:
  - name: desk
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:1/desk
      api_key_env: DESK_KEY
      signing_secret_env: DESK_SIGNING
      webhook_secret_env: DESK_SECRET
      webhook_previous_secret_env: DESK_PREVIOUS
"""


def start(root: Path, port: int, **variables: str) -> subprocess.Popen[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "INVSYNC_ROOT": str(root),
        "INVSYNC_RECEIVER_PORT": str(port),
        **(variables or {"DESK_SECRET": SECRET}),
    }
    command = [sys.executable, "-m", "invsync_dagster.webhooks.receiver"]
    return subprocess.Popen(command, env=environ, cwd=root, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(root: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the receiver and yield it with its port; it is dead afterwards whatever happens."""
    (root / "channels.yaml").write_text(CHANNELS, encoding="utf-8")
    process = start(root, 0, **variables)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "listening on" in line:
                yield process, int(line.split("listening on ")[1].split()[0].rpartition(":")[2])
                break
        else:
            pytest.fail("the receiver didn't start")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(connection: http.client.HTTPConnection, body: bytes, secret: str = SECRET) -> int:
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        wire.TIMESTAMP_HEADER: timestamp,
        wire.SIGNATURE_HEADER: wire.sign(secret, timestamp, body),
    }
    connection.request("POST", "/webhooks/desk", body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Senders:
    """Send without pause on several connections, and note every body that was answered 202, until one isn't."""

    def __init__(self, port: int, number: int) -> None:
        self.answered: list[bytes] = []
        self.failures: list[object] = []
        self.stop = threading.Event()
        self.enough = threading.Semaphore(0)
        self._port = port
        self._threads = [threading.Thread(target=self._send, args=(index,)) for index in range(number)]
        for thread in self._threads:
            thread.start()

    def _send(self, index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            for count in range(100_000):
                body = b'{"sender": %d, "count": %d}' % (index, count)
                if self.stop.is_set():
                    return
                if (status := post(connection, body)) != 202:
                    self.failures.append(status)
                    return
                self.answered.append(body)
                self.enough.release()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(error)
        finally:
            connection.close()

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.enough.acquire(timeout=30)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive()


def kept_bodies(root: Path) -> list[bytes]:
    inbox = Inbox(root / "data" / "inbox")
    bodies = [delivery.body for path in inbox.segments(100_000) for delivery in inbox.read(path)]
    assert list((inbox.folder / "quarantine").iterdir()) == []
    return bodies


@pytest.mark.parametrize("seed", range(3))
def test_every_delivery_answered_before_a_kill_is_in_the_inbox(tmp_path: Path, seed: int) -> None:
    with running(tmp_path) as (process, port):
        senders = Senders(port, 8)
        senders.wait_for(random.Random(seed).randrange(50, 400))
        process.kill()
        senders.join()
    assert len(senders.answered) >= 50
    assert set(senders.answered) <= set(kept_bodies(tmp_path))


def test_a_second_start_after_a_kill_goes_on_in_the_same_inbox(tmp_path: Path) -> None:
    answered = []
    for _ in range(2):
        with running(tmp_path) as (process, port):
            senders = Senders(port, 2)
            senders.wait_for(10)
            process.kill()
            senders.join()
            answered += senders.answered
    assert all(kept_bodies(tmp_path).count(body) >= answered.count(body) for body in set(answered))


def test_a_terminated_receiver_finishes_what_it_has_and_ends_with_0(tmp_path: Path) -> None:
    with running(tmp_path) as (process, port):
        senders = Senders(port, 8)
        senders.wait_for(100)
        process.send_signal(signal.SIGTERM)
        senders.join()
        assert process.wait(timeout=20) == 0
    kept = kept_bodies(tmp_path)
    assert sorted(set(senders.answered)) == sorted(set(senders.answered) & set(kept))
    assert not list((tmp_path / "data" / "inbox").glob(".*.part"))


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(tmp_path, port)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors == f"the receiver can't listen on 127.0.0.1:{port}: Address already in use\n"


def read_anew(process: subprocess.Popen[str]) -> None:
    """Send SIGHUP, and return once everything is read."""
    assert process.stderr is not None
    process.send_signal(signal.SIGHUP)
    for line in process.stderr:
        if "open for" in line or "stay so" in line:
            return
    pytest.fail("the receiver ended")


def test_a_secret_is_changed_without_a_restart_and_without_a_delivery_refused(tmp_path: Path) -> None:
    variables = tmp_path / "receiver.env"
    variables.write_text(f"DESK_SECRET='{SECRET}'\n")
    with running(tmp_path, INVSYNC_ENV_FILE=str(variables)) as (process, port):
        senders = Senders(port, 4)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        senders.wait_for(20)
        assert post(connection, b"{}", "another") == 401

        variables.write_text(f"DESK_SECRET=another\nDESK_PREVIOUS='{SECRET}'\n")
        read_anew(process)
        senders.wait_for(20)
        assert [post(connection, b"{}", secret) for secret in ("another", SECRET)] == [202, 202]
        senders.stop.set()
        senders.join()
        assert senders.failures == []

        variables.write_text("DESK_SECRET=another\nDESK_PREVIOUS=\n")
        read_anew(process)
        assert [post(connection, b"{}", secret) for secret in ("another", SECRET)] == [202, 401]

        # What opens nothing at all changes nothing.
        variables.write_text("")
        read_anew(process)
        assert post(connection, b"{}", "another") == 202
        connection.close()
    assert set(senders.answered) <= set(kept_bodies(tmp_path))


def test_a_secret_in_a_file_is_changed_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "desk_secret"
    file.write_text(f"{SECRET}\n")
    with running(tmp_path, DESK_SECRET_FILE=str(file)) as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        new = tmp_path / "new"
        new.write_text("another\n")
        new.replace(file)
        assert [post(connection, b"{}", secret) for secret in ("another", SECRET)] == [401, 202]
        read_anew(process)
        assert [post(connection, b"{}", secret) for secret in ("another", SECRET)] == [202, 401]
        # A file that is gone closes nothing that is open.
        file.unlink()
        read_anew(process)
        assert post(connection, b"{}", "another") == 202
        connection.close()


def test_the_status_token_is_changed_without_a_restart_and_a_bad_one_closes_nothing_else(tmp_path: Path) -> None:
    variables = tmp_path / "receiver.env"

    def answered(port: int, *tokens: str) -> list[int]:
        bearers = [{"Authorization": f"Bearer {token}"} for token in tokens]
        return [ask(port, "GET", "/status", headers=headers)[0] for headers in bearers]

    first, second = "the-first-token-0123456789", "the-second-token-0123456789"
    secret = f"DESK_SECRET='{SECRET}'\n"
    variables.write_text(f"{secret}INVSYNC_STATUS_TOKEN={first}\n")
    with running(tmp_path, INVSYNC_ENV_FILE=str(variables)) as (process, port):
        assert answered(port, first, second) == [200, 401]
        variables.write_text(f"{secret}INVSYNC_STATUS_TOKEN={second}\nINVSYNC_STATUS_PREVIOUS_TOKEN={first}\n")
        read_anew(process)
        assert answered(port, first, second) == [200, 200]
        (tmp_path / "token").write_text(f"{second}\n")
        variables.write_text(f"{secret}INVSYNC_STATUS_TOKEN_FILE={tmp_path / 'token'}\n")
        read_anew(process)
        assert answered(port, first, second) == [401, 200]
        variables.write_text(f"{secret}INVSYNC_STATUS_TOKEN_FILE={tmp_path / 'none'}\n")
        read_anew(process)
        assert answered(port, first, second) == [404, 404]
        variables.write_text(f"{secret}INVSYNC_STATUS_TOKEN={first}\n")
        (tmp_path / "channels.yaml").write_text("channels: []\n", encoding="utf-8")
        read_anew(process)
        assert answered(port, first, second) == [200, 401]
        (tmp_path / "channels.yaml").write_text(CHANNELS, encoding="utf-8")
        variables.write_text(f"{secret}INVSYNC_STATUS_TOKEN=hunter2\n")
        read_anew(process)
        assert answered(port, first, "hunter2") == [404, 404]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        assert post(connection, b"{}") == 202
        connection.close()


def test_an_environment_file_that_cant_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, 0, INVSYNC_ENV_FILE=str(tmp_path / "none"))
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (
        2,
        f"INVSYNC_ENV_FILE {tmp_path}/none can't be read: No such file or directory\n",
    )


def test_a_delivery_that_is_sent_again_when_its_time_is_over_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        statuses = []
        for age in (0, 290, 310, -310):
            timestamp = str(int(time.time()) - age)
            headers = {
                "Content-Type": "application/json",
                wire.TIMESTAMP_HEADER: timestamp,
                wire.SIGNATURE_HEADER: wire.sign(SECRET, timestamp, b"{}"),
            }
            connection.request("POST", "/webhooks/desk", b"{}", headers)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
    assert statuses == [202, 202, 401, 401]
