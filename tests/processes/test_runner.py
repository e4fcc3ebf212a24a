"""The runner as a process: its runs are runs as any other, and whatever is killed, nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from invsync_dagster.clock import SystemClock
from invsync_dagster.defs.names import CAUSE, LEDGER, push_key
from invsync_dagster.defs.runner_lock import runner_is_at_work
from invsync_dagster.environment import read_env_file
from invsync_dagster.settings import Home
from invsync_dagster.setup import set_up
from invsync_dagster.webhooks.inbox import SegmentWriter
from invsync_dagster.webhooks.segments import Delivery

ROOT = Path(__file__).parents[2]
ENTRY = """\
  - name: {name}
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:{port}/{name}
      api_key_env: KEY
      signing_secret_env: SIGNING
      webhook_secret_env: HOOK
"""
PATIENCE_SECONDS = 60.0
T = TypeVar("T")


class Erp(BaseHTTPRequestHandler):
    """An ERP in which nothing has changed; it answers once the gate is open."""

    gate = threading.Event()

    def do_GET(self) -> None:
        self.gate.wait(PATIENCE_SECONDS)
        body = b'{"events": [], "next_cursor": ""}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


def eventually(what: str, found: Callable[[], T]) -> T:
    until = time.monotonic() + PATIENCE_SECONDS
    while not (value := found()):
        assert time.monotonic() < until, what
        time.sleep(0.02)
    return value


class House:
    """A home with its Dagster instance and at most one runner."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.list_channels("desk")
        shell = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        shell |= {"KEY": "key", "SIGNING": "signing", "HOOK": "hook", "PYTHONPATH": str(ROOT)}
        (root / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
        set_up(root, shell)
        self.environ = {**shell, **read_env_file(root)}
        self.home = Home.from_environment(self.environ)
        self._writer = SegmentWriter(self.home.inbox, SystemClock(), random.Random(1))
        self._runners: list[subprocess.Popen[bytes]] = []  # what an earlier test left at work serves the next one
        self.version = 0

    def list_channels(self, *names: str) -> None:
        entries = "".join(ENTRY.format(name=name, port=self.port) for name in names)
        (self.root / "channels.yaml").write_text(f"channels:\n{entries}")

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "invsync_dagster.defs.runner"]
        with (self.root / "runner.log").open("ab") as log:
            runner = subprocess.Popen(command, env=self.environ, cwd=self.root, stdout=log, stderr=log)
        self._runners.append(runner)
        return runner

    def at_work(self) -> subprocess.Popen[bytes]:
        """Return the runner that is at work; it is started if there is none, which takes 3 s."""
        for runner in self._runners:
            if runner.poll() is None:
                return runner
        runner = self.start()
        eventually("the runner is not at work", lambda: runner_is_at_work(self.home) or runner.poll() is not None)
        assert runner.poll() is None, self.log()
        return runner

    def log(self) -> str:
        return (self.root / "runner.log").read_text()

    def deliver(self) -> None:
        self.version += 1
        event = {
            "event_id": f"e{self.version}", "sku": "0071", "change_type": "adjustment", "quantity": 5,
            "occurred_at": datetime.now(UTC).isoformat(), "version": self.version,
        }  # fmt: skip
        headers = {"x-invsync-timestamp": str(int(time.time())), "content-type": "application/json"}
        self._writer.write([Delivery("desk", "stock/changed", datetime.now(UTC), headers, json.dumps(event).encode())])

    def close(self) -> None:
        Erp.gate.set()
        for runner in self._runners:
            if runner.poll() is None:
                runner.kill()
            runner.wait()


@pytest.fixture(scope="module")
def erp() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Erp)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, erp: int) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("runner"), erp)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environ.items():
            patch.setenv(name, value)
        yield made
        made.close()


@pytest.fixture
def instance(house: House) -> Iterator[dg.DagsterInstance]:
    Erp.gate.set()
    with dg.DagsterInstance.get() as found:
        yield found
    Erp.gate.set()


class Runs:
    """The runs that are new since a moment."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._known = {run.run_id for run in instance.get_runs()}

    def first(self, *statuses: dg.DagsterRunStatus) -> dg.DagsterRun:
        """Return the one new run once it has one of the statuses."""

        def found() -> list[dg.DagsterRun]:
            runs = [run for run in self._instance.get_runs() if run.run_id not in self._known]
            return [run for run in runs if run.status in statuses]

        return eventually(f"no new run is {statuses}", found)[0]


ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
STARTED = dg.DagsterRunStatus.STARTED


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """Return the process that executes a run, once its step waits for the ERP."""

    def found() -> list[int]:
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        if not any(event.step_key == "push_results" and event.is_step_start for event in events):
            return []
        words = next(event.message or "" for event in events if "in process (pid: " in (event.message or ""))
        return [int(words.partition("(pid: ")[2].rstrip(")."))]

    return eventually("the run's step has not begun", found)[0]


def messages(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    return "\n".join(entry.user_message or str(entry.dagster_event) for entry in instance.all_logs(run.run_id))


def test_a_delivery_is_applied_at_once_by_a_run_as_any_other(house: House, instance: dg.DagsterInstance) -> None:
    runs, runner = Runs(instance), house.at_work()
    assert len(list(Path(f"/proc/{runner.pid}/task").iterdir())) == 1, "a fork of several threads is no whole process"
    house.deliver()
    run = runs.first(*ENDED)
    assert run.status == dg.DagsterRunStatus.SUCCESS, messages(instance, run)
    assert (run.job_name, run.tags[CAUSE], run.tags["dagster/max_runtime"]) == ("webhooks", "webhook", "300")
    of_the_location = dg.RunsFilter(tags={REPOSITORY_LABEL_TAG: "__repository__@invsync"})  # as pages of the UI ask
    assert run.run_id in {found.run_id for found in instance.get_runs(of_the_location)}
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "invsync"
    assert run.job_snapshot_id is not None
    assert instance.has_job_snapshot(run.job_snapshot_id)
    written = instance.get_latest_materialization_events([LEDGER, push_key("desk")])
    assert [event.run_id if event else "" for event in written.values()] == [run.run_id, run.run_id]
    assert not list(house.home.inbox.glob("*.segment"))


def test_a_run_is_terminated_in_the_storage_and_ends_as_canceled(house: House, instance: dg.DagsterInstance) -> None:
    runs = Runs(instance)
    house.at_work()
    Erp.gate.clear()
    house.deliver()
    run = runs.first(STARTED)
    process_of(instance, run)
    assert instance.run_coordinator.cancel_run(run.run_id)
    assert runs.first(*ENDED).status == dg.DagsterRunStatus.CANCELED


def test_a_killed_run_is_failed_at_once_and_the_next_goes_on(house: House, instance: dg.DagsterInstance) -> None:
    runs = Runs(instance)
    house.at_work()
    Erp.gate.clear()
    house.deliver()
    killed = runs.first(STARTED)
    process = process_of(instance, killed)
    os.kill(process, signal.SIGKILL)
    assert runs.first(*ENDED).status == dg.DagsterRunStatus.FAILURE
    assert f"The run's process {process} ended by signal 9." in messages(instance, killed)
    Erp.gate.set()
    next_runs = Runs(instance)
    house.deliver()
    assert next_runs.first(*ENDED).status == dg.DagsterRunStatus.SUCCESS


def test_what_has_changed_on_disk_is_loaded_before_the_next_run(house: House, instance: dg.DagsterInstance) -> None:
    runner = house.at_work()
    Erp.gate.clear()
    before = Runs(instance)
    house.deliver()
    under_way = before.first(STARTED)
    process = process_of(instance, under_way)
    house.list_channels("desk", "counter")
    after = Runs(instance)
    house.deliver()
    eventually("the runner has not seen the change", lambda: "starting anew" in house.log())
    os.kill(process, signal.SIGKILL)  # a child of the same process still, which takes note of its end
    later = after.first(STARTED, *ENDED)
    planned = {
        event.dagster_event.asset_key
        for event in instance.all_logs(later.run_id)
        if event.dagster_event and event.dagster_event.is_asset_materialization_planned
    }
    assert push_key("counter") in planned
    assert runner.poll() is None
    ended = dg.RunsFilter(run_ids=[under_way.run_id], statuses=[dg.DagsterRunStatus.FAILURE])
    eventually("the killed run is not failed", lambda: instance.get_runs_count(ended))
    assert f"The run's process {process} ended by signal 9." in messages(instance, under_way)


def test_a_killed_runner_leaves_its_run_to_its_end_and_frees_its_place(
    house: House, instance: dg.DagsterInstance
) -> None:
    runs, runner = Runs(instance), house.at_work()
    second = house.start()
    assert second.wait(PATIENCE_SECONDS) == 2
    assert "a runner is at work" in house.log()
    Erp.gate.clear()
    house.deliver()
    run = runs.first(STARTED)
    process_of(instance, run)
    runner.kill()
    runner.wait()
    assert not runner_is_at_work(house.home)
    Erp.gate.set()
    assert runs.first(*ENDED).status == dg.DagsterRunStatus.SUCCESS


def test_a_runner_that_is_told_to_end_waits_for_its_run(house: House, instance: dg.DagsterInstance) -> None:
    runs, runner = Runs(instance), house.at_work()
    Erp.gate.clear()
    house.deliver()
    process_of(instance, runs.first(STARTED))
    runner.terminate()
    house.deliver()
    time.sleep(0.2)  # ten looks of a runner that would still start runs
    assert runner.poll() is None
    Erp.gate.set()
    assert runner.wait(PATIENCE_SECONDS) == 0
    assert runs.first(*ENDED).status == dg.DagsterRunStatus.SUCCESS
