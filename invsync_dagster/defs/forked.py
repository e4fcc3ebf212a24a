"""What a fork of the runner does: one run of the job `webhooks`, or the report of a run whose process died."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._grpc.impl import core_execute_run
from dagster._utils import send_interrupt
from dagster._utils.interrupts import capture_interrupts

from invsync_dagster.defs.names import CAUSE, LOCATION, WEBHOOK, WEBHOOKS
from invsync_dagster.defs.sqlite_storage import KeptEvents
from invsync_dagster.settings import Home
from invsync_dagster.sync.workspace import Workspace

MODULE: Final = "invsync_dagster.definitions"

# How soon a run heeds that it was terminated. One look is one read of Dagster's storage, about a millisecond.
HEED_EVERY_SECONDS: Final = 1.0

ENDED_FROM_OUTSIDE: Final = (
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.CANCELED,
    dg.DagsterRunStatus.FAILURE,
)


@dataclass(frozen=True)
class WarmJob:
    """The job, loaded and planned once: what a fresh process would do anew for each run."""

    job: ReconstructableJob
    plan: ExecutionPlan
    origin: RemoteJobOrigin

    @classmethod
    def load(cls, home: Home) -> Self:
        """Load the definitions, and do once what every run does, with nothing left open.

        A fork has it imported and cached then. Raises what the definitions, Dagster's storage or the stock's raise.
        """
        pointer = ModuleCodePointer(MODULE, "definitions", str(home.root))
        repository = ReconstructableRepository(pointer, executable_path=sys.executable)
        job = repository.get_reconstructable_job(WEBHOOKS)
        job.get_definition().get_job_snapshot_id()
        _rehearse(home)
        place = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), repository.get_definition().name)
        return cls(job, create_execution_plan(job), place.get_job_origin(WEBHOOKS))

    def run(self, run_id: str) -> None:
        """Run it in this process, as the run `run_id`: one as any other, which the UI shows, ends and runs again.

        What fails in it is in the run's own log, and no failure of this function.
        """
        definition = self.job.get_definition()
        with capture_interrupts(), dg.DagsterInstance.get() as instance:
            run = instance.create_run_for_job(
                definition,
                self.plan,
                run_id=run_id,
                tags={**definition.run_tags, CAUSE: WEBHOOK},
                remote_job_origin=self.origin,
                job_code_origin=self.job.get_python_origin(),
            )
            with _terminable(instance, run_id):
                for _ in core_execute_run(self.job, run, instance, inject_env_vars=False):
                    pass


def report_death(run_id: str, how: str) -> None:
    """Let a run end as failed whose process died, as the code server does with its own; `how` is kept in its log."""
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_engine_event(how, run)
            instance.report_run_failed(run)


@contextmanager
def _terminable(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Interrupt this process's main thread once somebody ends the run in Dagster's storage.

    A run of the code server is told by its port; this one is reached by what all processes share.
    """
    done = threading.Event()

    def heed() -> None:
        while not done.wait(HEED_EVERY_SECONDS):
            run = instance.get_run_by_id(run_id)
            if run is None or run.status in ENDED_FROM_OUTSIDE:
                send_interrupt()
                return

    threading.Thread(target=heed, name="heed", daemon=True).start()
    try:
        yield
    except DagsterExecutionInterruptedError:
        pass  # the run's log has it by now
    finally:
        done.set()


@dg.asset(check_specs=[dg.AssetCheckSpec("rehearsed", asset="rehearsal")])
def rehearsal() -> dg.MaterializeResult:
    """Go the way of every asset."""
    return dg.MaterializeResult(metadata={"figure": 1}, check_results=[dg.AssetCheckResult(passed=True)])


def _rehearse(home: Home) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()
        if isinstance(instance.event_log_storage, KeptEvents):
            instance.event_log_storage.keep_template()
    dg.materialize([rehearsal])
    workspace = Workspace.open(home)
    try:
        with workspace.engine.connect():
            pass
    finally:
        workspace.close()
