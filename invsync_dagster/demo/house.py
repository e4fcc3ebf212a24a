"""The running demo: all services started in the order that is ready soonest, Dagster switched on, everything ended in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from invsync_dagster.demo.dagster_api import LOCATION, Dagster
from invsync_dagster.demo.services import DemoError, Services, child_environment, free_port, listens
from invsync_dagster.demo.shops import Shops
from invsync_dagster.demo.stage import Say, Stage, approve_channels, fill_stock, shops_folder, stock_shops
from invsync_dagster.settings import Home
from invsync_dagster.sync.preview import Preview
from invsync_dagster.sync.workspace import Workspace

# Importing Dagster takes about 2 s of one core, and three services do so side by side.
START_SECONDS = 90.0
# Runs that are under way when the demo ends get so long to come to their end.
LAST_RUNS_SECONDS = 15.0

SANDBOX, RECEIVER, CODE, DAEMON, WEBSERVER = "sandbox", "receiver", "code-server", "daemon", "webserver"


@dataclass(frozen=True)
class Ports:
    """The loopback ports of the demo."""

    sandbox: int
    receiver: int
    webserver: int


@dataclass
class House:
    """The demo once everything runs."""

    stage: Stage
    ws: Workspace
    services: Services
    shops: Shops
    dagster: Dagster
    approved: list[str]


@contextmanager
def running(
    home: Home, stage: Stage, ports: Ports, environ: Mapping[str, str], random: Random, say: Say
) -> Iterator[House]:
    """Start everything, and end everything on leaving, whatever happened. Raises `DemoError`.

    Dagster's code server loads while the stock is filled; daemon and webserver start once it answers, since they would
    keep an error for a minute if they came first.
    """
    stock_shops(home, stage)
    ws = Workspace.open(home, environ)
    try:
        with Services(child_environment(environ), home.root, home.data / "demo" / "logs") as services:
            yield from _play(home, stage, ports, random, say, ws, services)
    finally:
        ws.close()


def _play(
    home: Home, stage: Stage, ports: Ports, random: Random, say: Say, ws: Workspace, services: Services
) -> Iterator[House]:
    code_port = free_port()
    receiver = f"http://127.0.0.1:{ports.receiver}"
    state = home.data / "sandbox" / "state.json"
    services.start(
        SANDBOX,
        ["invsync_dagster.sandbox.server", "--port", str(ports.sandbox), "--state", str(state)]
        + ["--receiver", receiver, "--catalogue", str(shops_folder(home))],
    )
    services.start(RECEIVER, ["invsync_dagster.webhooks.receiver"])
    services.start(
        CODE,
        [
            "dagster",
            "code-server",
            "start",
            "-m",
            "invsync_dagster.definitions",
            "-d",
            str(home.root),
            "-h",
            "127.0.0.1",
        ]
        + ["-p", str(code_port), "--location-name", LOCATION],
    )
    fill_stock(ws, stage, random, say)
    shops = Shops(f"http://127.0.0.1:{ports.sandbox}")
    services.wait_for(SANDBOX, shops.is_ready, START_SECONDS)
    services.wait_for(RECEIVER, lambda: listens(ports.receiver), START_SECONDS)
    approved = approve_channels(ws, stage, lambda preview: _say_preview(preview, say), say)
    services.wait_for(CODE, lambda: listens(code_port), START_SECONDS)
    workspace = _workspace_file(home, code_port)
    dagster = Dagster(f"http://127.0.0.1:{ports.webserver}")
    services.start(DAEMON, ["dagster._daemon", "run", "-w", str(workspace)])
    services.start(
        WEBSERVER, ["dagster_webserver", "-h", "127.0.0.1", "-p", str(ports.webserver), "-w", str(workspace)]
    )
    services.wait_for(WEBSERVER, dagster.is_ready, START_SECONDS)
    switched = dagster.switch_on()
    say(f"switched on: {', '.join(switched)}" if switched else "schedules and sensors are on")
    try:
        yield House(stage, ws, services, shops, dagster, approved)
    finally:
        say("ending: the daemon, the runs under way, then the rest")
        services.stop(*[name for name in (DAEMON,) if name in services.running])
        _let_runs_end(dagster)


def _workspace_file(home: Home, port: int) -> Path:
    path = home.data / "demo" / "workspace.yaml"
    server = f"{{ host: 127.0.0.1, port: {port}, location_name: {LOCATION} }}"
    path.write_text(f"load_from:\n  - grpc_server: {server}\n", encoding="utf-8")
    return path


def _let_runs_end(dagster: Dagster) -> None:
    until = time.monotonic() + LAST_RUNS_SECONDS
    try:
        while dagster.runs_under_way() and time.monotonic() < until:
            time.sleep(0.3)
    except (OSError, DemoError):
        return  # the webserver has gone first: then the runs end with the code server


def _say_preview(preview: Preview, say: Say) -> None:
    totals = preview.totals()
    say(
        "{channel}: preview of {levels} listings: {equal} as they should be, {raised} to raise, {lowered} to lower, {zeroed} of "
        "them to 0; units on show {units_shown} -> {units_desired}".format(channel=preview.channel, **totals)
    )
    for row in preview.changes[:3]:
        say(f"    largest: {row.sku} {row.shown} -> {row.desired}  {row.product_name}")
