"""What a push leaves whose time ended is gone on with at once, one run at a time; what only waits is left to the schedule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from invsync_dagster.defs.names import CAUSE, INCREMENTAL, WEBHOOK, WEBHOOKS, WORK_LEFT
from invsync_dagster.defs.sensors import inbox_sensor_function
from invsync_dagster.platforms.contract import Limits, Outcome, Result, WriteAnswer, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sandbox.clock import VirtualClock
from tests.defs.conftest import FakePlatform, Installation

STOCK = {f"SKU-{number:02}": 10 + number for number in range(20)}
PUSH_SECONDS = 20.0


@dataclass
class SlowShop(FakePlatform):
    """A shop that takes one row a call, and eight seconds for it; it `refuses` rows by name."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(datetime.now(UTC)))
    refuses: set[str] = field(default_factory=set)

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        self.clock.advance(8.0)
        if self.refuses & {row.level.item_id for row in rows}:
            return WriteAnswer(tuple(Outcome(Result.REJECTED, Recovery.REJECT, "no", "not this one") for _ in rows))
        return super().write(rows, key=key)


@pytest.fixture
def home(install: Callable[..., Installation]) -> Installation:
    """An installation whose shop takes two or three rows a push."""
    made = install("shop", settings=f"  push_deadline_seconds: {PUSH_SECONDS}\n")
    limits = Limits(write_batch=1, read_batch=50, rate=1000.0, burst=1000.0)
    made.platforms["shop"] = SlowShop(limits=limits, clock=made.clock)
    made.stock(STOCK, ["shop"])
    return made


def asked(home: Installation) -> list[str]:
    """Let the inbox sensor look; return the causes of the runs that it requests."""
    home.home.inbox.mkdir(parents=True, exist_ok=True)
    found = inbox_sensor_function(home.home, home.clock)(dg.build_sensor_context(home.instance))
    return [one.tags[CAUSE] for one in found.run_requests or []] if isinstance(found, dg.SensorResult) else []


def in_step(home: Installation) -> int:
    return sum(home.platforms["shop"].shown[sku] == units for sku, units in STOCK.items())


def test_a_backlog_is_worked_off_by_one_run_after_the_other(home: Installation) -> None:
    done = []
    home.run("incremental")
    while asked(home) == [WORK_LEFT]:
        done.append(in_step(home))
        assert asked(home) == []
        assert home.run("webhooks", tags={CAUSE: WORK_LEFT}).success
    first, second = done  # 20 s at 8 s a row, then 120 s
    assert (first, second) == (3, 18)
    assert in_step(home) == len(STOCK)
    assert not home.home.work_left.exists()


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
@pytest.mark.parametrize("job_name", [INCREMENTAL, WEBHOOKS])
def test_none_is_requested_while_a_push_is_queued_or_under_way(
    home: Installation, job_name: str, status: dg.DagsterRunStatus
) -> None:
    home.run("incremental")
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("invsync"), "repository").get_job_origin(job_name)
    other = create_run_for_test(home.instance, job_name=job_name, status=status, remote_job_origin=origin)
    assert asked(home) == []
    home.instance.report_run_failed(other)
    assert asked(home) == [WORK_LEFT]


def test_what_only_waits_is_left_to_the_schedule(home: Installation) -> None:
    shop = home.platforms["shop"]
    assert isinstance(shop, SlowShop)
    shop.refuses = set(STOCK)
    home.run("incremental")
    asked(home)  # it read all of them, and so went on
    result = home.run("webhooks", tags={CAUSE: WORK_LEFT})
    [pushed] = result.asset_materializations_for_node("push_results")[:1]
    assert pushed.metadata["rejected"].value
    assert pushed.metadata["left"].value
    assert in_step(home) == 0
    assert asked(home) == []


def test_a_stopped_channel_and_a_dry_run_request_nothing(home: Installation) -> None:
    dry = {"ops": {"push_results": {"config": {"dry_run": True}}}}
    assert home.run("incremental", run_config=dry).success
    assert asked(home) == []
    home.platforms["shop"].error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is refused")
    home.run("incremental")
    assert in_step(home) == 0
    assert asked(home) == []


def test_a_webhook_and_a_backlog_are_one_run(home: Installation) -> None:
    home.run("incremental")
    (home.home.inbox).mkdir(parents=True, exist_ok=True)
    (home.home.inbox / "0000000000000001-a.segment").touch()
    assert asked(home) == [WORK_LEFT]
    assert asked(home) == [WEBHOOK]  # unless a run has taken the file by then
