from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus
from dagster._check import NotImplementedCheckError
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import MockedRunLauncher, instance_for_test

from invsync_dagster.defs import runner
from invsync_dagster.defs.names import SCHEDULE, WEBHOOK
from invsync_dagster.defs.run_coordinator import AT_ONCE
from tests.defs.conftest import queued_run


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    overrides = {
        "run_coordinator": {"module": "invsync_dagster.defs.run_coordinator", "class": "WebhooksFirst"},
        "run_launcher": {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"},
    }
    with instance_for_test(overrides=overrides) as made:
        yield made


def submit(instance: DagsterInstance, cause: str) -> str:
    run = queued_run(instance, cause, DagsterRunStatus.NOT_STARTED)
    anything: Any = None
    return instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=anything)).run_id


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


def test_the_queue_has_places_beside_the_runs_that_go_past_it_and_backfills() -> None:
    runs = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text())["concurrency"]["runs"]
    (backfills,) = runs["tag_concurrency_limits"]
    assert runs["max_concurrent_runs"] > runner.AT_ONCE + AT_ONCE + backfills["limit"]
