import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from invsync_dagster.defs.runner import AT_ONCE, FOLD_SECONDS, loaded_files, next_request, own_files, stamps
from invsync_dagster.defs.runner_lock import runner_is_at_work, take_runner_lock
from invsync_dagster.defs.sensors import INBOX_AGAIN_SECONDS, Requested, Waiting, inbox_sensor_function
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.inbox import SegmentWriter

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    made.inbox.mkdir(parents=True)
    return made


def evaluate(home: Home, clock: VirtualClock) -> dg.SensorResult | dg.SkipReason:
    with dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}}) as instance:
        return inbox_sensor_function(home, clock)(dg.build_sensor_context(instance))


def test_a_run_begins_at_once_and_one_that_began_just_now_takes_what_follows() -> None:
    first = next_request(Requested(), "a", 100.0, 0)
    assert first == Requested("a", 100.0)
    assert next_request(first, "b", 100.0 + FOLD_SECONDS - 0.01, 1) is None
    assert next_request(first, "b", 100.0 + FOLD_SECONDS, 1) == Requested("b", 100.0 + FOLD_SECONDS)
    assert next_request(first, "", 200.0, 0) is None


def test_the_more_runs_are_under_way_the_longer_the_next_one_waits_and_there_is_a_most() -> None:
    first = Requested("a", 100.0)
    waits = [FOLD_SECONDS * number**2 for number in range(AT_ONCE)]
    assert waits == [0.0, 0.25, 1.0, 2.25, 4.0, 6.25]
    for number, wait in enumerate(waits):
        assert next_request(first, "b", 100.0 + wait, number) == Requested("b", 100.0 + wait)
        assert number == 0 or next_request(first, "b", 100.0 + wait - 0.01, number) is None
    assert next_request(first, "b", 999.0, AT_ONCE) is None


def test_what_a_run_left_lying_is_tried_again_after_a_while() -> None:
    first = Requested("a", 100.0)
    assert next_request(first, "a", 100.0 + INBOX_AGAIN_SECONDS - 0.01, 0) is None
    assert next_request(first, "a", 100.0 + INBOX_AGAIN_SECONDS, 0) is not None


def test_a_clock_that_is_set_back_stops_neither_the_runner_nor_the_sensor(home: Home) -> None:
    ahead, clock = VirtualClock(NOW + timedelta(hours=1)), VirtualClock(NOW)
    first = next_request(Requested(), "a", ahead.now().timestamp(), 0)
    assert first is not None
    for newest in ("a", "b"):
        assert next_request(first, newest, NOW.timestamp(), 1) is not None

    SegmentWriter(home.inbox, ahead, random.Random(1)).write([])  # its names go on from the later time
    lock = take_runner_lock(home, clock)
    assert lock is not None
    assert isinstance(evaluate(home, clock), dg.SensorResult)
    os.close(lock)


def test_the_stamps_tell_a_changed_a_new_and_a_vanished_file(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b", "c")]
    for path in paths[:2]:
        Path(path).write_text("as it was")
    before = stamps(paths)
    assert stamps(before) == before
    Path(paths[0]).write_text("longer than it was")
    os.utime(paths[0], ns=(0, before[paths[0]][0]))  # type: ignore[index]
    Path(paths[1]).unlink()
    Path(paths[2]).touch()
    after = stamps(before)
    assert [after[path] != before[path] for path in paths] == [True, True, True]


def test_what_is_changed_while_it_is_being_loaded_differs_from_what_is_loaded(home: Home) -> None:
    home.channels_file.write_text("channels: []")
    before = own_files(home)
    home.channels_file.write_text("channels:  []")
    loaded = loaded_files(home, before)
    assert {path for path, stamp in stamps(loaded).items() if stamp != loaded[path]} == {str(home.channels_file)}
    assert __file__ in loaded


def test_only_one_runner_has_the_lock_and_the_system_frees_it_with_the_descriptor(home: Home) -> None:
    assert not runner_is_at_work(home)
    lock = take_runner_lock(home, VirtualClock(NOW))
    assert lock is not None
    assert runner_is_at_work(home)
    assert take_runner_lock(home, VirtualClock(NOW)) is None
    os.close(lock)
    assert not runner_is_at_work(home)


def test_a_lock_that_cant_be_opened_leaves_the_work_to_the_sensor(home: Home) -> None:
    (home.locks / "runner.lock").mkdir(parents=True)
    assert not runner_is_at_work(home)


def test_the_sensor_leaves_to_a_runner_what_has_not_waited_for_long(home: Home) -> None:
    clock = VirtualClock(NOW)
    SegmentWriter(home.inbox, clock, random.Random(1)).write([])
    lock = take_runner_lock(home, clock)
    assert lock is not None
    assert isinstance(evaluate(home, clock), dg.SkipReason)
    clock.advance(INBOX_AGAIN_SECONDS)
    assert isinstance(evaluate(home, clock), dg.SensorResult)
    os.close(lock)


def test_the_sensor_takes_everything_at_once_when_the_runner_is_gone(home: Home) -> None:
    clock = VirtualClock(NOW)
    SegmentWriter(home.inbox, clock, random.Random(1)).write([])
    lock = take_runner_lock(home, clock)
    assert lock is not None
    os.close(lock)
    assert isinstance(evaluate(home, clock), dg.SensorResult)
    assert clock.now() == NOW


def test_an_inbox_is_listed_again_while_its_time_is_too_young_to_tell(home: Home) -> None:
    waiting = Waiting(home.inbox)
    (home.inbox / "0000000000000001-a.segment").touch()
    changed_at = home.inbox.stat().st_mtime_ns
    now = changed_at / 1e9
    assert waiting.newest(now) == "0000000000000001-a.segment"
    (home.inbox / "0000000000000002-a.segment").touch()
    os.utime(home.inbox, ns=(changed_at, changed_at))
    assert waiting.newest(now + 0.5) == "0000000000000002-a.segment"
    (home.inbox / "0000000000000003-a.segment").touch()
    os.utime(home.inbox, ns=(changed_at, changed_at))
    assert waiting.newest(now + 2.0) == "0000000000000003-a.segment"
    (home.inbox / "0000000000000004-a.segment").touch()
    os.utime(home.inbox, ns=(changed_at, changed_at))
    assert waiting.newest(now + 3.0) == "0000000000000003-a.segment"
    (home.inbox / "0000000000000004-a.segment").rename(home.inbox / "0000000000000005-a.segment")
    assert waiting.newest(now + 4.0) == "0000000000000005-a.segment"


def test_a_long_inbox_that_changes_with_every_delivery_is_listed_now_and_then(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invsync_dagster.defs.sensors.NAMES_A_SECOND", 2)
    waiting = Waiting(home.inbox)
    for number in (1, 2):
        (home.inbox / f"{number:016d}-a.segment").touch()
    now = home.inbox.stat().st_mtime_ns / 1e9
    assert waiting.newest(now) == "0000000000000002-a.segment"
    (home.inbox / "0000000000000003-a.segment").touch()
    assert waiting.newest(now + 0.9) == "0000000000000002-a.segment"
    assert waiting.newest(now + 1.0) == "0000000000000003-a.segment"
