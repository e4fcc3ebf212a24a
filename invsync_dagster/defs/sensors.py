"""The sensors: one waits for webhook files and one looks for import files; each requests a run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from invsync_dagster.clock import Clock, SystemClock
from invsync_dagster.defs.names import CAUSE, IMPORT, INCREMENTAL, WEBHOOK, WEBHOOKS, WORK_LEFT
from invsync_dagster.defs.runner_lock import runner_is_at_work
from invsync_dagster.inventory.imports.folder import waiting_files
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.inbox import is_segment, segment_time

# The daemon submits evaluations on a beat of 5 s. One that ends just before a multiple of it leaves a gap of 0.24 s in
# which nobody looks; one of 10.1 s would leave almost 5 s. (Dagster's limit for an evaluation is 60 s.)
WATCH_SECONDS = 9.7
LOOK_EVERY_SECONDS = 0.02

# A folder's time has steps of some milliseconds: what comes right after a listing may leave it as it is.
SETTLED_SECONDS = 1.0

# A long inbox changes with every delivery: it is listed no more often than takes a tenth of the time (100,000 names in 0.1 s).
NAMES_A_SECOND = 100_000

# Asking Dagster's storage for queued runs costs a millisecond, unlike the folder's time.
LOOK_AGAIN_SECONDS = 0.25

# What still waits so long after its run was requested is requested again: that run failed, or never started.
INBOX_AGAIN_SECONDS = 30.0
IMPORTS_AGAIN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Requested:
    """A sensor's cursor: the newest thing that a run was requested for, and when (seconds since the epoch)."""

    newest: str = ""
    at: float = 0.0

    @classmethod
    def parse(cls, cursor: str | None) -> Requested:
        """Read a cursor; one that can't be read starts afresh, which at worst requests one run too many."""
        try:
            values = json.loads(cursor or "{}")
            return cls(str(values["newest"]), float(values["at"]))
        except (ValueError, KeyError, TypeError):
            return cls()

    def store(self) -> str:
        """Return the text that `parse` reads."""
        return json.dumps(asdict(self))

    def next(self, newest: str, now: float, again_after: float) -> Requested | None:
        """Return the cursor of a new request, or None: nothing waits, or the run that takes it is under way.

        A request covers all that lies there, so a burst becomes one run. Only the folder is the record of work. A clock that
        was set back makes no request one of the future, which all would wait for.
        """
        if not newest or (newest == self.newest and abs(now - self.at) < again_after):
            return None
        return Requested(newest, now)


class SensorFunction(Protocol):
    """What a sensor evaluates."""

    def __call__(self, context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason: ...


class Waiting:
    """What waits in the inbox; it is listed when its own time has changed, or did so just now.

    So an inbox that stands still costs one listing, not fifty a second, and a long one that changes `NAMES_A_SECOND`.
    """

    def __init__(self, inbox: Path) -> None:
        self._inbox = inbox
        self._changed_at = -1
        self._listed_at = self._rests = 0.0
        self._newest = self._oldest = ""

    def newest(self, now: float) -> str:
        """Return the name of the newest segment, "" if none waits; `now` in seconds since the epoch."""
        try:
            changed_at = self._inbox.stat().st_mtime_ns
            if changed_at != self._changed_at and abs(now - self._listed_at) >= self._rests:
                with os.scandir(self._inbox) as entries:
                    names = [entry.name for entry in entries if is_segment(entry.name)]
                is_settled = now >= changed_at / 1e9 + SETTLED_SECONDS
                self._changed_at = changed_at if is_settled else -1
                self._listed_at, self._rests = now, len(names) / NAMES_A_SECOND
                self._newest, self._oldest = max(names, default=""), min(names, default="")
        except FileNotFoundError:
            self._changed_at, self._newest, self._oldest = -1, "", ""
        return self._newest

    def since(self) -> float:
        """Return when the oldest segment that was listed was written (seconds since the epoch); one must wait."""
        return segment_time(Path(self._oldest)).timestamp()


def watch(
    inbox: Path,
    cursor: Requested,
    clock: Clock,
    one_is_queued: Callable[[], bool],
    runner_is_at_work: Callable[[], bool],
    work_is_left: Callable[[], bool],
) -> Requested | None:
    """Look at the inbox until there is something to request, or other work, for at most `WATCH_SECONDS`.

    While a run of an earlier request is still queued, nothing is requested: it will take all that lies there. A runner
    that is at work is quicker, so it has everything that has not waited for long.
    """
    until = clock.now().timestamp() + WATCH_SECONDS
    waiting, looked_at = Waiting(inbox), 0.0
    while True:
        now = clock.now().timestamp()
        if abs(now - looked_at) >= LOOK_AGAIN_SECONDS:
            looked_at = now
            if work_is_left():
                return None
        request = cursor.next(waiting.newest(now), now, INBOX_AGAIN_SECONDS)
        left_alone = request is not None and (
            (runner_is_at_work() and abs(now - waiting.since()) < INBOX_AGAIN_SECONDS) or one_is_queued()
        )
        if now >= until or (request and not left_alone):
            return None if left_alone else request
        clock.sleep(LOOK_AGAIN_SECONDS if left_alone else LOOK_EVERY_SECONDS)


def inbox_sensor_function(home: Home, clock: Clock) -> SensorFunction:
    """Return what the inbox sensor evaluates."""

    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED], tags={CAUSE: WEBHOOK})
        pushing = [dg.RunsFilter(statuses=NOT_FINISHED_STATUSES, job_name=job) for job in (INCREMENTAL, WEBHOOKS)]

        def work_is_left() -> bool:
            return home.work_left.exists() and not any(context.instance.get_runs_count(runs) for runs in pushing)

        request = watch(
            home.inbox,
            Requested.parse(context.cursor),
            clock,
            lambda: context.instance.get_runs_count(queued) > 0,
            lambda: runner_is_at_work(home),
            work_is_left,
        )
        if request is None and work_is_left():
            # Taken away first: the run sets it again if its time ends it, too. Lost with this process, the schedule goes on.
            home.work_left.unlink(missing_ok=True)
            key = f"{WORK_LEFT}@{clock.now().timestamp():.3f}"
            return dg.SensorResult(
                run_requests=[dg.RunRequest(run_key=key, tags={CAUSE: WORK_LEFT})], cursor=context.cursor
            )
        if request is None:
            return dg.SkipReason("no new webhook files, or the runner or a queued run takes them")
        return _result(request, WEBHOOK)

    return evaluate


def imports_sensor_function(home: Home, clock: Clock) -> SensorFunction:
    """Return what the import sensor evaluates."""

    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        files = sorted((path.stat().st_mtime_ns, ascii(path.name)) for path in waiting_files(home.imports, clock.now()))
        newest = f"{files[-1][0]}-{files[-1][1]}" if files else ""
        request = Requested.parse(context.cursor).next(newest, clock.now().timestamp(), IMPORTS_AGAIN_SECONDS)
        if request is None:
            return dg.SkipReason("no new import files")
        return _result(request, IMPORT)

    return evaluate


def _result(request: Requested, cause: str) -> dg.SensorResult:
    # The time makes the key of a second attempt a new one: Dagster never runs a key twice, also not after a failure.
    key = f"{request.newest}@{request.at:.3f}"
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags={CAUSE: cause})], cursor=request.store())


def build_sensors(home: Home) -> list[dg.SensorDefinition]:
    """Return the sensors, stopped until somebody switches them on."""
    clock = SystemClock()
    return [
        dg.SensorDefinition(
            name="inbox_sensor",
            job_name=WEBHOOKS,
            evaluation_fn=inbox_sensor_function(home, clock),
            minimum_interval_seconds=1,
            description="Waits for webhook files in data/inbox/ and starts the job `webhooks` as soon as one "
            "is there. While the service `runner` is at work, which is quicker, it takes only what has waited for 30 s. It also "
            "starts the next push where one was ended by its time with more to do. "
            "Off: webhooks are still taken, and applied by the runner or the schedule.",
        ),
        dg.SensorDefinition(
            name="imports_sensor",
            job_name="import_files",
            evaluation_fn=imports_sensor_function(home, clock),
            minimum_interval_seconds=30,
            description="Looks for finished files in data/imports/ and starts their import.",
        ),
    ]
