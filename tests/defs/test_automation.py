import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from invsync_dagster.defs import schedules
from invsync_dagster.defs.names import CAUSE
from invsync_dagster.defs.schedules import incremental_cron, previous_day
from invsync_dagster.defs.sensors import (
    INBOX_AGAIN_SECONDS,
    WATCH_SECONDS,
    Requested,
    imports_sensor_function,
    inbox_sensor_function,
)
from invsync_dagster.inventory.channels import set_status
from invsync_dagster.inventory.database import DatabaseGoneError, open_database, write_transaction
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from tests.defs.conftest import Installation, queued_run

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    made.inbox.mkdir(parents=True)
    made.imports.mkdir(parents=True)
    return made


class Arrival(VirtualClock):
    """A clock that drops a file into a folder once it reaches a time."""

    def __init__(self, file: Path, after: float) -> None:
        super().__init__(NOW)
        self._file, self._at = file, NOW.timestamp() + after

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.now().timestamp() >= self._at and not self._file.exists():
            self._file.touch()


def evaluate(
    function: Callable[..., object], cursor: str | None = None, instance: dg.DagsterInstance | None = None
) -> dg.SensorResult | dg.SkipReason:
    with dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}}) as empty:
        result = function(dg.build_sensor_context(instance or empty, cursor=cursor))
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def test_an_empty_inbox_is_watched_for_just_under_ten_seconds(home: Home) -> None:
    clock = VirtualClock(NOW)
    assert isinstance(evaluate(inbox_sensor_function(home, clock)), dg.SkipReason)
    assert WATCH_SECONDS <= (clock.now() - NOW).total_seconds() < 10.0


def test_a_file_that_arrives_while_it_watches_requests_a_run_at_once(home: Home) -> None:
    clock = Arrival(home.inbox / "0000000000000001-a.segment", after=4.0)
    result = evaluate(inbox_sensor_function(home, clock))
    assert isinstance(result, dg.SensorResult)
    [request] = result.run_requests or []
    assert request.tags[CAUSE] == "webhook"
    assert (clock.now() - NOW).total_seconds() < 4.1


def test_what_only_ends_like_a_segment_requests_nothing(home: Home) -> None:
    (home.inbox / "copy.segment").touch()
    assert isinstance(evaluate(inbox_sensor_function(home, VirtualClock(NOW))), dg.SkipReason)


def test_files_under_way_are_not_requested_again_but_a_new_one_is(home: Home) -> None:
    (home.inbox / "0000000000000001-a.segment").touch()
    first = evaluate(inbox_sensor_function(home, VirtualClock(NOW)))
    assert isinstance(first, dg.SensorResult)
    assert isinstance(evaluate(inbox_sensor_function(home, VirtualClock(NOW)), first.cursor), dg.SkipReason)
    (home.inbox / "0000000000000002-a.segment").touch()
    second = evaluate(inbox_sensor_function(home, VirtualClock(NOW)), first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert second.run_requests[0].run_key != first.run_requests[0].run_key  # type: ignore[index]


def test_a_burst_is_one_run_while_that_run_is_queued(home: Home, instance: dg.DagsterInstance) -> None:
    (home.inbox / "0000000000000001-a.segment").touch()
    first = evaluate(inbox_sensor_function(home, VirtualClock(NOW)), instance=instance)
    assert isinstance(first, dg.SensorResult)
    run = queued_run(instance, "webhook")
    (home.inbox / "0000000000000002-a.segment").touch()
    clock = VirtualClock(NOW)
    assert isinstance(evaluate(inbox_sensor_function(home, clock), first.cursor, instance), dg.SkipReason)
    assert (clock.now() - NOW).total_seconds() < 10.0
    instance.report_run_failed(run)
    assert isinstance(evaluate(inbox_sensor_function(home, clock), first.cursor, instance), dg.SensorResult)


def test_files_whose_run_failed_are_requested_again_under_a_new_key(home: Home) -> None:
    (home.inbox / "0000000000000001-a.segment").touch()
    first = evaluate(inbox_sensor_function(home, VirtualClock(NOW)))
    assert isinstance(first, dg.SensorResult)
    later = VirtualClock(NOW)
    later.advance(INBOX_AGAIN_SECONDS)
    again = evaluate(inbox_sensor_function(home, later), first.cursor)
    assert isinstance(again, dg.SensorResult)
    assert again.run_requests[0].run_key != first.run_requests[0].run_key  # type: ignore[index]


def test_a_part_file_is_no_delivery(home: Home) -> None:
    (home.inbox / ".0001-a.segment.part").touch()
    assert isinstance(evaluate(inbox_sensor_function(home, VirtualClock(NOW))), dg.SkipReason)


@pytest.mark.parametrize(
    "cursor", [None, "", "no json", "[]", "{}", '{"newest": 1}', '{"newest": "a", "at": "x"}', "null"]
)
def test_a_cursor_that_cannot_be_read_starts_afresh(cursor: str | None) -> None:
    assert Requested.parse(cursor) == Requested()


def test_a_cursor_survives_its_storing() -> None:
    assert Requested.parse(Requested("0001-a.segment", 12.5).store()) == Requested("0001-a.segment", 12.5)
    assert json.loads(Requested("a", 1.0).store()) == {"newest": "a", "at": 1.0}


def test_a_settled_import_file_requests_its_import(home: Home) -> None:
    clock = VirtualClock(datetime.now(UTC))
    (home.imports / "stock.csv").write_text("sku,product_name,quantity,reserved_quantity,status\n")
    assert isinstance(evaluate(imports_sensor_function(home, clock)), dg.SkipReason)
    clock.advance(3600)
    result = evaluate(imports_sensor_function(home, clock))
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests[0].tags[CAUSE] == "import"  # type: ignore[index]
    assert isinstance(evaluate(imports_sensor_function(home, clock), result.cursor), dg.SkipReason)


def schedule(home: Installation, name: str, moment: datetime) -> list[dg.RunRequest]:
    definitions = home.definitions()
    found = definitions.resolve_schedule_def(name) if hasattr(definitions, "resolve_schedule_def") else None
    found = found or definitions.get_schedule_def(name)
    context = dg.build_schedule_context(
        instance=home.instance, scheduled_execution_time=moment, repository_def=definitions.get_repository_def()
    )
    return list(found.evaluate_tick(context).run_requests or [])


def test_the_full_run_is_one_run_a_channel_over_all_batches(install: Callable[..., Installation]) -> None:
    requests = schedule(install("one", "two"), "full_sync_schedule", NOW)
    assert {request.run_key for request in requests} == {"one", "two"}
    for request in requests:
        assert request.tags["dagster/asset_partition_range_start"] == "0"
        assert request.tags["dagster/asset_partition_range_end"] == "3"
        assert request.tags[CAUSE] == "schedule"
        assert request.asset_selection == [dg.AssetKey(["full_sync", request.run_key or ""])]


def pause(home: Installation, name: str) -> None:
    engine = open_database(home.home.database_url)
    with write_transaction(engine) as connection:
        set_status(connection, name, "paused", actor="ann", reason="stocktaking", now=home.clock.now())
    engine.dispose()


@pytest.mark.usefixtures("each_database")
def test_the_full_run_of_a_paused_channel_is_not_requested_and_says_why_where_none_is(
    install: Callable[..., Installation],
) -> None:
    home = install("one", "two")
    pause(home, "one")
    assert [request.run_key for request in schedule(home, "full_sync_schedule", NOW)] == ["two"]
    pause(home, "two")
    definitions = home.definitions()
    context = dg.build_schedule_context(
        instance=home.instance, scheduled_execution_time=NOW, repository_def=definitions.get_repository_def()
    )
    found = definitions.resolve_schedule_def("full_sync_schedule").evaluate_tick(context)
    assert found.run_requests == []
    assert found.skip_message == "; ".join(
        f"{name} is paused (stocktaking) until `invsync channels resume {name} --reason R`" for name in ("one", "two")
    )


def test_where_the_database_cannot_be_used_full_runs_are_requested_and_say_so_themselves(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("one", "two")

    def gone(connection: Any, name: str) -> bool:
        raise DatabaseGoneError(None, None, Exception("server closed the connection"))

    monkeypatch.setattr(schedules, "is_registered", gone)
    assert {request.run_key for request in schedule(home, "full_sync_schedule", NOW)} == {"one", "two"}


def test_the_daily_snapshot_is_of_yesterday(install: Callable[..., Installation]) -> None:
    [request] = schedule(install("one"), "daily_snapshot_schedule", datetime(2026, 3, 2, 0, 15, tzinfo=UTC))
    assert request.partition_key == "2026-03-01"
    assert previous_day(datetime(2026, 3, 2, 22, 30, tzinfo=UTC), "Asia/Tokyo") == "2026-03-02"


def test_the_incremental_schedule_follows_the_setting() -> None:
    assert incremental_cron(5) == "*/5 * * * *"
    assert incremental_cron(1) == "*/1 * * * *"
    assert incremental_cron(60) == "0 * * * *"
