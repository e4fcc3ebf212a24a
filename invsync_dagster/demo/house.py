"""The running demo: services started in the order that is ready soonest, Dagster switched on, all of it ended in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import requests

from invsync_dagster.defs.runner_lock import runner_is_at_work
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

SANDBOX, RECEIVER, RUNNER = "sandbox", "receiver", "runner"
DAEMON, WEBSERVER = "daemon", "webserver"

# What Dagster loads: modules by the name of their location.
LOCATIONS: Mapping[str, str] = {LOCATION: "invsync_dagster.definitions"}


@dataclass(frozen=True)
class Ports:
    """The loopback ports of the demo."""

    sandbox: int
    receiver: int
    webserver: int


@dataclass
class House:
    """The demo once everything runs; `approved` channels have their first push before them."""

    stage: Stage
    ws: Workspace
    services: Services
    shops: Shops
    dagster: Dagster
    approved: list[str]


@contextmanager
def running(
    home: Home,
    stage: Stage,
    ports: Ports,
    environ: Mapping[str, str],
    random: Random,
    say: Say,
    locations: Mapping[str, str] = LOCATIONS,
) -> Iterator[House]:
    """Start everything, and end everything on leaving, whatever happened. Raises `DemoError`.

    The code servers load while the stock is filled; daemon and webserver start once they answer, since they would keep
    an error for a minute if they came first.
    """
    stock_shops(home, stage)
    ws = Workspace.open(home, environ)
    try:
        with Services(child_environment(environ), home.root, home.data / "demo" / "logs") as services:
            _start_outside(home, ports, services)
            code_ports = {name: _start_code_server(home, services, name, module) for name, module in locations.items()}
            fill_stock(ws, stage, random, say)
            shops = Shops(f"http://127.0.0.1:{ports.sandbox}")
            services.wait_for(SANDBOX, shops.is_ready, START_SECONDS)
            services.wait_for(RECEIVER, lambda: listens(ports.receiver), START_SECONDS)
            approved = approve_channels(ws, stage, lambda preview: _say_preview(preview, say), say)
            dagster = _start_dagster(home, ports, services, code_ports)
            start_runner(home, services)
            switched = dagster.switch_on()
            say(f"switched on: {', '.join(switched)}" if switched else "schedules and sensors are on")
            try:
                yield House(stage, ws, services, shops, dagster, approved)
            finally:
                say("ending: what starts runs, the runs under way, then the rest")
                services.stop(DAEMON)
                _let_runs_end(dagster)
    finally:
        ws.close()


def _start_outside(home: Home, ports: Ports, services: Services) -> None:
    state = home.data / "sandbox" / "state.json"
    arguments = {
        "--port": str(ports.sandbox),
        "--state": str(state),
        "--receiver": f"http://127.0.0.1:{ports.receiver}",
        "--catalogue": str(shops_folder(home)),
    }
    services.start(SANDBOX, ["invsync_dagster.sandbox.server", *_flat(arguments)])
    services.start(RECEIVER, ["invsync_dagster.webhooks.receiver"])


def _start_code_server(home: Home, services: Services, location: str, module: str) -> int:
    port = free_port()
    arguments = {
        "--module-name": module,
        "--working-directory": str(home.root),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--location-name": location,
    }
    services.start(_code_server(location), ["dagster", "code-server", "start", *_flat(arguments)])
    return port


def _start_dagster(home: Home, ports: Ports, services: Services, code_ports: Mapping[str, int]) -> Dagster:
    for location, port in code_ports.items():
        services.wait_for(_code_server(location), lambda port=port: listens(port), START_SECONDS)  # type: ignore[misc]
    workspace = home.data / "demo" / "workspace.yaml"
    lines = [
        f"  - grpc_server: {{ host: 127.0.0.1, port: {port}, location_name: {location} }}\n"
        for location, port in code_ports.items()
    ]
    workspace.write_text("load_from:\n" + "".join(lines), encoding="utf-8")
    dagster = Dagster(f"http://127.0.0.1:{ports.webserver}")
    services.start(DAEMON, ["dagster._daemon", "run", "--workspace", str(workspace)])
    web = {"--host": "127.0.0.1", "--port": str(ports.webserver), "--workspace": str(workspace)}
    services.start(WEBSERVER, ["dagster_webserver", *_flat(web)])
    services.wait_for(WEBSERVER, lambda: dagster.is_ready(code_ports), START_SECONDS)
    return dagster


def start_runner(home: Home, services: Services) -> None:
    """Start what runs at once what webhooks start, and wait until it is at work. Raises `DemoError`."""
    services.start(RUNNER, ["invsync_dagster.defs.runner"])
    services.wait_for(RUNNER, lambda: runner_is_at_work(home), START_SECONDS)


def _code_server(location: str) -> str:
    return f"code-server-{location}"


def _flat(arguments: Mapping[str, str]) -> list[str]:
    return [word for pair in arguments.items() for word in pair]


def _let_runs_end(dagster: Dagster) -> None:
    until = time.monotonic() + LAST_RUNS_SECONDS
    try:
        while dagster.runs_under_way() and time.monotonic() < until:
            time.sleep(0.3)
    except (requests.RequestException, DemoError):
        return  # the webserver has gone first: then the runs end with the code server


def _say_preview(preview: Preview, say: Say) -> None:
    totals = preview.totals()
    say(
        "{channel}: preview of {levels} listings: {equal} as they should be, {raised} to raise, {lowered} to lower, "
        "{zeroed} of them to 0; units on show {units_shown} -> {units_desired}".format(
            channel=preview.channel, **totals
        )
    )
    for row in preview.changes[:3]:
        say(f"    largest: {row.sku} {row.shown} -> {row.desired}  {row.product_name}")
