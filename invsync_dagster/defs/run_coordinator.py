"""How a requested run gets its operator and its process: a webhook's or a cycle's at once, every other through the queue."""

from __future__ import annotations

from typing import Any, Final

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, QueuedRunCoordinator, RunsFilter
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._core.storage.tags import GRPC_INFO_TAG

from invsync_dagster.defs.names import CAUSE, INCREMENTAL, WEBHOOK
from invsync_dagster.defs.operators import tag_operator

# While one run pushes what was sold, a second may take what is sold meanwhile. More would only share the processor.
AT_ONCE: Final = 2


class WebhooksFirst(QueuedRunCoordinator[DagsterInstance]):
    """Dagster's queue, past which a webhook's run is launched while fewer than `AT_ONCE` of them are in progress, and a run of
    the job `incremental` while none is.

    The queue is looked at once a second: every sale would wait for that. And where runs of hours have all of its places, no
    order would be polled until one ends, nor a failure tried again. Limits of the queue count such a run as any other.
    Raises what launching a run raises; the inbox sensor requests anew what no run has taken, the schedule the next cycle.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Launch or enqueue the run, and return it as stored then."""
        run = context.dagster_run
        if run.status != DagsterRunStatus.NOT_STARTED:
            return super().submit_run(context)  # it says that the run was submitted before
        tag_operator(self._instance, context)
        if not self._goes_first(run):
            return super().submit_run(context)
        self._instance.launch_run(run.run_id, context.workspace)
        return self._instance.get_run_by_id(run.run_id) or run

    def cancel_run(self, run_id: str) -> bool:
        """End a run. One of the runner's has no code server that could be told: it looks at its own status."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.status not in IN_PROGRESS_RUN_STATUSES or GRPC_INFO_TAG in run.tags:
            return super().cancel_run(run_id)
        self._instance.report_run_canceling(run)
        return True

    def _goes_first(self, run: DagsterRun) -> bool:
        if run.tags.get(CAUSE) == WEBHOOK:
            return self._in_progress(tags={CAUSE: WEBHOOK}) < AT_ONCE
        return run.job_name == INCREMENTAL and not self._in_progress(job_name=INCREMENTAL)

    def _in_progress(self, **of: Any) -> int:
        return self._instance.get_runs_count(RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES, **of))
