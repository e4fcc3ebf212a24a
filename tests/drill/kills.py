"""kill -9 amid the demo: of the receiver, of a run that pushes, of the runner, and of the daemon; in step again after each."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import exists, select

from invsync_dagster.demo.compare import Compared, compare
from invsync_dagster.demo.house import DAEMON, RECEIVER, RUNNER, House
from invsync_dagster.demo.services import DemoError
from invsync_dagster.demo.smoke import bring_in_step
from invsync_dagster.demo.stage import Say
from invsync_dagster.demo.street import Street
from invsync_dagster.demo.watch import Watch
from invsync_dagster.inventory.tables import inventory_levels
from invsync_dagster.sync.claims import READ

BEFORE, WHILE_DEAD, AFTER = 5, 6, 4
GAP_SECONDS = 0.7
PUSH_SECONDS = 60.0

_LOGS = """query($id: ID!) { logsForRun(runId: $id) { __typename
  ... on EventConnection { events { ... on MessageEvent { message } } } } }"""
_PROCESS = re.compile(r"Executing steps in process \(pid: (\d+)\)")


@dataclass(frozen=True)
class Stage:
    """One kill, and what came of it."""

    killed: str
    sales: int
    in_step_after: float
    books: list[Compared]

    @property
    def differences(self) -> int:
        return sum(len(one.differences) for one in self.books)


def kills(house: House, watch: Watch, street: Street, say: Say) -> list[Stage]:
    """Kill each of the four while buyers buy, let it be started again, and compare all books once all is in step."""
    return [
        _stage("receiver", lambda: _kill_service(house, RECEIVER), house, watch, street, say),
        _stage("pushing run", lambda: _kill_pushing_runs(house, street, say), house, watch, street, say),
        _stage("runner", lambda: _kill_service(house, RUNNER), house, watch, street, say),
        _stage("daemon", lambda: _kill_service(house, DAEMON), house, watch, street, say),
    ]


def _stage(what: str, kill: Callable[[], None], house: House, watch: Watch, street: Street, say: Say) -> Stage:
    sold = street.counts["sale"]
    _live(street, BEFORE)
    say(f"kill -9: {what}")
    kill()
    _live(street, WHILE_DEAD)
    house.services.keep_running(say)
    _live(street, AFTER)
    began = time.monotonic()
    bring_in_step(house, watch, say, f"after the kill of the {what}")
    took = time.monotonic() - began
    return Stage(what, street.counts["sale"] - sold, took, compare(house.stage, house.shops, house.ws.engine))


def _live(street: Street, happenings: int) -> None:
    for _ in range(happenings):
        street.step()
        time.sleep(GAP_SECONDS)


def _kill_service(house: House, name: str) -> None:
    house.services.running[name].process.kill()


def _kill_pushing_runs(house: House, street: Street, say: Say) -> None:
    """Kill the runs under way while a level is claimed for a write; slow shops keep the write on the wire."""
    for shop in house.stage.channels:
        house.shops.set_faults(shop, {"slow": 1.0})
    try:
        until = time.monotonic() + PUSH_SECONDS
        while not (_writing(house) and (found := _processes(house))):
            if time.monotonic() > until:
                raise DemoError(f"no run was seen amid a push within {PUSH_SECONDS:.0f} s")
            street.buy()
            time.sleep(0.1)
        for process in found:
            os.kill(process, signal.SIGKILL)
        say(f"  {len(found)} run(s) killed with writes on the wire")
    finally:
        for shop in house.stage.channels:
            house.shops.set_faults(shop, {})


def _writing(house: House) -> bool:
    claim = inventory_levels.c.claim
    with house.ws.engine.connect() as connection:
        return bool(connection.execute(select(exists().where(claim.is_not(None), ~claim.startswith(READ)))).scalar())


def _processes(house: House) -> list[int]:
    processes = []
    for run in house.dagster.runs_under_way():
        events = house.dagster.ask(_LOGS, {"id": run})["logsForRun"].get("events", [])
        processes += [int(found[1]) for event in events if (found := _PROCESS.search(event.get("message") or ""))]
    return processes
