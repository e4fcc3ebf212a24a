from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus, OpExecutionContext, job, op
from dagster._check import NotImplementedCheckError
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.tags import BACKFILL_ID_TAG, GRPC_INFO_TAG
from dagster._core.test_utils import MockedRunLauncher, create_run_for_test, instance_for_test
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from starlette.requests import Request

from invsync_dagster.defs import runner
from invsync_dagster.defs.names import BY_HAND, SCHEDULE, WEBHOOK
from invsync_dagster.defs.operators import operator_of, tag_operator
from invsync_dagster.defs.run_coordinator import AT_ONCE
from tests.defs.conftest import Installation, queued_run


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    overrides = {
        "run_coordinator": {"module": "invsync_dagster.defs.run_coordinator", "class": "WebhooksFirst"},
        "run_launcher": {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"},
    }
    with instance_for_test(overrides=overrides) as made:
        yield made


def submit(instance: DagsterInstance, cause: str, workspace: Any = None) -> str:
    run = queued_run(instance, cause, DagsterRunStatus.NOT_STARTED)
    return instance.run_coordinator.submit_run(SubmitRunContext(run, workspace)).run_id


def asked_with(**headers: str) -> Any:
    """Return what a webserver hands on of a request with these headers."""
    anything: Any = None
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return WorkspaceRequestContext(
        instance=anything,
        current_workspace=anything,
        process_context=anything,
        version=None,
        source=Request({"type": "http", "headers": named}),
        read_only=False,
    )


def tags(instance: DagsterInstance, run_id: str) -> Mapping[str, str]:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.tags


def launched(instance: DagsterInstance) -> list[str]:
    launcher = instance.run_launcher
    assert isinstance(launcher, MockedRunLauncher)
    return [run.run_id for run in launcher.queue()]


def status(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_webhooks_run_is_launched_at_once_and_any_other_is_queued(instance: DagsterInstance) -> None:
    by_webhook, by_schedule = submit(instance, WEBHOOK), submit(instance, SCHEDULE)
    assert launched(instance) == [by_webhook]
    assert status(instance, by_webhook) == DagsterRunStatus.STARTING
    assert status(instance, by_schedule) == DagsterRunStatus.QUEUED


def test_beyond_the_runs_at_once_a_webhooks_run_is_queued_until_one_ends(instance: DagsterInstance) -> None:
    first, *_ = at_once = [submit(instance, WEBHOOK) for _ in range(AT_ONCE)]
    one_more = submit(instance, WEBHOOK)
    assert launched(instance) == at_once
    assert status(instance, one_more) == DagsterRunStatus.QUEUED
    run = instance.get_run_by_id(first)
    assert run is not None
    instance.report_run_failed(run)
    assert launched(instance) == at_once
    after = submit(instance, WEBHOOK)
    assert launched(instance) == [*at_once, after]


def test_a_run_that_no_code_server_has_is_terminated_by_its_status(instance: DagsterInstance) -> None:
    own = queued_run(instance, WEBHOOK, DagsterRunStatus.STARTED)
    of_a_code_server = queued_run(instance, SCHEDULE, DagsterRunStatus.STARTED)
    instance.add_run_tags(of_a_code_server.run_id, {GRPC_INFO_TAG: "{}"})
    assert instance.run_coordinator.cancel_run(own.run_id)
    assert status(instance, own.run_id) == DagsterRunStatus.CANCELING
    with pytest.raises(NotImplementedCheckError):  # how this launcher answers that it was asked
        instance.run_coordinator.cancel_run(of_a_code_server.run_id)
    assert status(instance, of_a_code_server.run_id) == DagsterRunStatus.STARTED
    instance.report_run_canceled(own)
    waiting = queued_run(instance, SCHEDULE)
    assert instance.run_coordinator.cancel_run(waiting.run_id)
    assert status(instance, waiting.run_id) == DagsterRunStatus.CANCELED


@pytest.mark.parametrize("cause", [BY_HAND, WEBHOOK])
def test_a_run_carries_who_is_logged_in_at_the_proxy(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    monkeypatch.setenv("INVSYNC_USER_HEADER", "X-Invsync-User")
    run_id = submit(instance, cause, asked_with(x_invsync_user="ann", x_other="bob"))
    assert tags(instance, run_id)["user"] == "ann"
    assert "user" not in tags(instance, submit(instance, cause, asked_with(x_other="bob")))
    assert "user" not in tags(instance, submit(instance, cause))


def test_without_the_setting_no_header_is_believed(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVSYNC_USER_HEADER", raising=False)
    assert "user" not in tags(instance, submit(instance, BY_HAND, asked_with(x_invsync_user="ann")))


def test_a_user_that_came_along_as_a_tag_is_nobodys_word(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVSYNC_USER_HEADER", "X-Invsync-User")
    nothing: Any = None
    for workspace, told in ((asked_with(x_invsync_user="ann"), "ann"), (nothing, "")):
        run = create_run_for_test(instance, status=DagsterRunStatus.NOT_STARTED, tags={"user": "root"})
        tag_operator(instance, SubmitRunContext(run, workspace))
        assert tags(instance, run.run_id)["user"] == told
    parent = create_run_for_test(instance, status=DagsterRunStatus.FAILURE, tags={"user": "ann"})
    retry = create_run_for_test(
        instance,
        status=DagsterRunStatus.NOT_STARTED,
        tags={"user": "ann"},
        parent_run_id=parent.run_id,
        root_run_id=parent.run_id,
    )
    tag_operator(instance, SubmitRunContext(retry, nothing))
    assert tags(instance, retry.run_id)["user"] == "ann"


def test_a_step_knows_who_started_its_run() -> None:
    seen = []

    @op
    def ask(context: OpExecutionContext) -> None:
        seen.append(operator_of(context))

    @job
    def asking() -> None:
        ask()

    asking.execute_in_process(tags={"user": "ann"})
    asking.execute_in_process()
    assert seen == ["ann", ""]


@pytest.fixture
def projects_own() -> Iterator[DagsterInstance]:
    """An instance with the queue, its limits and the coordinator of the project's dagster.yaml."""
    file = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text())
    launcher = {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"}
    overrides = {
        "concurrency": file["concurrency"],
        "run_coordinator": file["run_coordinator"],
        "run_launcher": launcher,
    }
    with instance_for_test(overrides=overrides) as made:
        yield made


def requested(instance: DagsterInstance, home: Installation, job_name: str, **tags: str) -> str:
    """Submit a run of one of the project's jobs, with the tags that this job gives its runs; return its id."""
    given = home.definitions().resolve_job_def(job_name).run_tags
    nothing: Any = None
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("invsync"), "repository").get_job_origin(job_name)
    run = create_run_for_test(
        instance,
        job_name=job_name,
        status=DagsterRunStatus.NOT_STARTED,
        tags={**given, **tags},
        remote_job_origin=origin,
    )
    return instance.run_coordinator.submit_run(SubmitRunContext(run, nothing)).run_id


def taken_from_the_queue(instance: DagsterInstance) -> list[str]:
    """Let the daemon look at the queue once, and launch what it takes; return the jobs of these runs."""
    daemon, nothing = QueuedRunCoordinatorDaemon(interval_seconds=1), cast("Any", None)
    runs = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), fixed_iteration_time=None)
    for run in runs:
        instance.launch_run(run.run_id, nothing)
    return [run.job_name for run in runs]


def test_runs_of_hours_leave_places_for_the_others_and_a_cycle_waits_for_none(
    projects_own: DagsterInstance, install: Callable[..., Installation]
) -> None:
    home = install(*(f"shop_{number}" for number in range(6)))
    for job_name in ("discover", "full_sync", "retry_failed_batches"):
        for _ in range(6):
            requested(projects_own, home, job_name)
    for _ in range(3):
        requested(projects_own, home, "__ASSET_JOB", **{BACKFILL_ID_TAG: "by hand"})
    assert Counter(taken_from_the_queue(projects_own)) == {"discover": 4, "__ASSET_JOB": 2}
    assert taken_from_the_queue(projects_own) == []
    for _ in range(runner.AT_ONCE + AT_ONCE):
        queued_run(projects_own, WEBHOOK, DagsterRunStatus.STARTED)

    cycle = requested(projects_own, home, "incremental")
    assert status(projects_own, cycle) == DagsterRunStatus.STARTING
    [audit] = [requested(projects_own, home, "audit")]
    assert taken_from_the_queue(projects_own) == ["audit"]
    one_more, import_files = requested(projects_own, home, "incremental"), requested(projects_own, home, "import_files")
    assert status(projects_own, one_more) == status(projects_own, import_files) == DagsterRunStatus.QUEUED
    assert taken_from_the_queue(projects_own) == []
    for run_id in (cycle, audit):
        ended(projects_own, run_id)
    assert taken_from_the_queue(projects_own) == ["incremental", "import_files"]


def test_a_run_of_hours_that_ends_lets_the_next_one_in(
    projects_own: DagsterInstance, install: Callable[..., Installation]
) -> None:
    home = install("shop")
    first, *_ = [requested(projects_own, home, job) for job in ("discover", *["full_sync"] * 4)]
    assert taken_from_the_queue(projects_own) == ["discover", *["full_sync"] * 3]
    ended(projects_own, first)
    assert taken_from_the_queue(projects_own) == ["full_sync"]
    assert taken_from_the_queue(projects_own) == []


def ended(instance: DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)
