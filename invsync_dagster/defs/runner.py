"""The runner: a warm process that waits for webhook files, and runs the job `webhooks` in forks of itself.

It takes out of a sale's way the start of an interpreter (1.1 s) and the daemon's beat (up to 5 s). It has one thread and
nothing open, so that a fork is whole. What it leaves lying is requested by the inbox sensor, which also works alone.
Why: docs/decisions/0021-a-warm-process-runs-what-webhooks-start.md
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from dagster._core.utils import make_new_run_id

import invsync_dagster
from invsync_dagster.clock import Clock, SystemClock
from invsync_dagster.defs.forked import WarmJob, report_death
from invsync_dagster.defs.runner_lock import runner_is_at_work, take_runner_lock
from invsync_dagster.defs.sensors import INBOX_AGAIN_SECONDS, LOOK_EVERY_SECONDS, Requested, Waiting
from invsync_dagster.environment import load_env_file
from invsync_dagster.settings import Home

log = logging.getLogger("invsync.runner")

MODULE = "invsync_dagster.defs.runner"

# A run that began so recently has not listed the inbox yet: it takes what arrives meanwhile. The more runs push already, the
# longer the next one waits: each applies what is sold meanwhile, and then shares the channels' limits with the others.
FOLD_SECONDS = 0.25
AT_ONCE = 6
# Runs under way get so long to come to their end after SIGTERM; they end by themselves within half a minute.
ENDING_SECONDS = 60.0
# Dagster ends a run of this job after 300 s. A process that doesn't heed that would keep its place for good.
MOST_SECONDS = 360.0

# What is loaded: files with the time and size that they have, None for one that isn't there.
Stamps = Mapping[str, tuple[int, int] | None]


def next_request(requested: Requested, newest: str, now: float, under_way: int) -> Requested | None:
    """Return the cursor of a run to begin now, or None. `newest` is the newest waiting segment, `now` seconds."""
    if under_way >= AT_ONCE or abs(now - requested.at) < FOLD_SECONDS * under_way**2:
        return None
    return requested.next(newest, now, INBOX_AGAIN_SECONDS)


def loaded_files(home: Home, before: Stamps) -> Stamps:
    """Stamp every file whose content this process works with: all modules, and channels.yaml.

    `before` are stamps from before they were read: one that was changed while it was being read is to differ.
    """
    paths = {path for module in list(sys.modules.values()) if (path := getattr(module, "__dict__", {}).get("__file__"))}
    loaded = stamps([*paths, str(home.channels_file)])
    return {path: before.get(path, stamp) for path, stamp in loaded.items()}


def own_files(home: Home) -> Stamps:
    """Stamp the files that people change: our modules, and channels.yaml."""
    return stamps([*map(str, Path(invsync_dagster.__file__).parent.rglob("*.py")), str(home.channels_file)])


def stamps(paths: Iterable[str]) -> Stamps:
    """Return the stamps of files, as they are now."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - 2,000 files before each run: with Path it takes three times as long
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@dataclass(frozen=True)
class Fork:
    """A process that executes a run; what is left of it at `latest` (seconds since the epoch) is killed."""

    run_id: str
    latest: float


@dataclass
class Runner:
    """The loop. `under_way` has the forks by their process, `job` what they run, `loaded` the files that it is made of."""

    home: Home
    clock: Clock
    job: WarmJob
    loaded: Stamps
    lock: int
    under_way: dict[int, Fork] = field(default_factory=dict)
    ending: bool = False
    _requested: Requested = field(default_factory=Requested)

    def __post_init__(self) -> None:
        self._waiting = Waiting(self.home.inbox)

    def serve(self) -> None:
        """Work until SIGTERM or SIGINT, then wait for the runs under way."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        while not self.ending:
            self.look()
            self.clock.sleep(LOOK_EVERY_SECONDS)
        until = self.clock.now().timestamp() + ENDING_SECONDS
        while self.under_way and self.clock.now().timestamp() < until:
            self.reap()
            self.clock.sleep(LOOK_EVERY_SECONDS)

    def look(self) -> None:
        """Begin a run if there is something for it to do."""
        self.reap()
        if len(self.under_way) >= AT_ONCE:
            return
        now = self.clock.now().timestamp()
        request = next_request(self._requested, self._waiting.newest(now), now, len(self.under_way))
        if request is None:
            return
        if stamps(self.loaded) != self.loaded:
            self._start_anew()
        self._requested = request
        run_id = make_new_run_id()
        self.under_way[self._fork(partial(self.job.run, run_id))] = Fork(run_id, now + MOST_SECONDS)

    def reap(self) -> None:
        """Take note of forks that have ended; a run whose process died is reported by one more."""
        now = self.clock.now().timestamp()
        for pid in [pid for pid, fork in self.under_way.items() if now >= fork.latest]:
            os.kill(pid, signal.SIGKILL)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            fork, code = self.under_way.pop(pid, None), os.waitstatus_to_exitcode(status)
            if code and fork is None:
                log.error("the report of a dead run failed; Dagster's monitoring ends that run by its time limit")
            elif code and fork is not None:
                how = f"The run's process {pid} ended {f'by signal {-code}' if code < 0 else f'with code {code}'}."
                log.warning("run %s: %s", fork.run_id, how)
                self._fork(partial(report_death, fork.run_id, how))

    def _start_anew(self) -> None:
        """Become a fresh process of what is on disk now; the runs under way stay its own, and are handed over."""
        log.info("the code or channels.yaml has changed: starting anew")
        logging.shutdown()
        handed = [f"{pid}:{fork.run_id}" for pid, fork in self.under_way.items()]
        os.execv(sys.executable, [sys.executable, "-m", MODULE, *handed])  # noqa: S606

    def _fork(self, work: Callable[[], None]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            return pid
        code = 1
        try:
            os.close(self.lock)  # the fork's copy: the lock is the parent's alone
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            work()
            code = 0
        except BaseException:  # also an interrupt: a fork must never go on as the runner
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ending = True


def main() -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 2 with one line if a runner is at work here already."""
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)
    load_env_file(Home.from_environment().root)
    home, clock = Home.from_environment(), SystemClock()
    latest = clock.now().timestamp() + MOST_SECONDS
    handed = {int(pid): Fork(run_id, latest) for pid, _, run_id in (word.partition(":") for word in sys.argv[1:])}
    before = own_files(home)
    job = None if runner_is_at_work(home) else WarmJob.load(home)
    lock = None if job is None else take_runner_lock(home, clock)
    if job is None or lock is None:
        print(f"a runner is at work on {home.data} already", file=sys.stderr)
        return 2
    gc.collect()
    gc.freeze()  # what is here stays: a fork's collector needn't touch, and so copy, its pages
    log.info("at work: %s", home.inbox)
    Runner(home, clock, job, loaded_files(home, before), lock, handed).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
