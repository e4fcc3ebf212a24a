import csv
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from invsync_dagster.defs import jobs
from invsync_dagster.defs.full_sync import CHECK, batch_partitions, failed_batches, sync_batches
from invsync_dagster.defs.names import failed_channel_tag
from invsync_dagster.inventory.catch_up import catch_up
from invsync_dagster.inventory.channels import set_status
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.platforms.contract import LevelReference, Outcome, ReadAnswer, Result, WriteAnswer
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.settings import Settings
from tests.defs.conftest import FakePlatform, Installation

STOCK = {f"S{number}": 10 + number for number in range(8)}
ALL = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "3"}
KEY = dg.AssetKey(["full_sync", "one"])


def in_step(install: Callable[..., Installation]) -> Installation:
    home = install("one")
    home.stock(STOCK, ["one"])
    assert home.run("incremental").success
    assert home.platforms["one"].shown == STOCK
    home.clock.advance(60)
    return home


def full_run(home: Installation) -> dg.ExecuteInProcessResult:
    return home.run("full_sync", selection=[KEY], tags=ALL)


def done(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    return {
        event.partition or "": {key: value.value for key, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }


def statuses(home: Installation) -> dict[str, dg.AssetPartitionStatus | None]:
    batches = batch_partitions(home.configuration.settings)
    return dict(home.instance.get_status_by_partition(KEY, batches.get_partition_keys(), batches) or {})


@pytest.mark.usefixtures("each_database")
def test_a_full_run_finds_drift_says_why_and_repairs_it(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    home.platforms["one"].shown["S3"] = 99
    result = full_run(home)
    assert result.success
    assert home.platforms["one"].shown == STOCK
    batches = done(result)
    assert set(batches) == {"0", "1", "2", "3"}
    assert sum(int(str(one["levels"])) for one in batches.values()) == len(STOCK)
    assert sum(int(str(one["drift"])) for one in batches.values()) == 1
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    reports = list((home.home.reports / result.run_id).glob("differences_one_*.csv"))
    assert len(reports) == 1
    assert "86 more than acknowledged" in reports[0].read_text()


def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (one,) = [one for one in result.get_asset_check_evaluations() if one.check_name == CHECK]
    return one


def totals(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = result.get_asset_observation_events()
    return {key: value.value for key, value in event.asset_observation_data.asset_observation.metadata.items()}


def test_a_run_sums_up_its_batches_with_all_differences_in_one_file(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    home.platforms["one"].shown |= {"S3": 99, "S6": 0}
    result = full_run(home)
    found = totals(result)
    assert (found["batches"], found["failed_batches"], found["levels"], found["drift"]) == (4, 0, len(STOCK), 2)
    assert (found["equal"], found["repaired"]) == (len(STOCK) - 2, 2)
    with Path(str(found["report"])).open(encoding="utf-8-sig") as file:
        assert {row["sku"]: row["observed"] for row in csv.DictReader(file)} == {"S3": "99", "S6": "0"}


def test_one_batch_run_again_alone_does_not_speak_for_the_others(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    home.platforms["one"].shown["S3"] = 99
    whole = full_run(home)
    drifted = next(batch for batch, figures in done(whole).items() if figures["drift"])
    home.clock.advance(60)
    other = home.run("full_sync", selection=[KEY], partition_key=next(b for b in done(whole) if b != drifted))
    verdict = check(other)
    assert (verdict.passed, verdict.metadata["drift"].value) == (False, 1)
    assert verdict.description is not None
    assert verdict.description.startswith("1 of 8 levels had drifted")
    assert "in the latest runs of 4 batches" in verdict.description
    home.clock.advance(60)
    home.platforms["one"].error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")
    failed = check(home.run("full_sync", selection=[KEY], partition_key=drifted))
    assert (failed.passed, failed.metadata["drift"].value) == (False, 1)
    assert f"Of them these did not come to their end: {drifted}." in str(failed.description)
    home.platforms["one"].error = None
    home.clock.advance(60)
    again = check(home.run("full_sync", selection=[KEY], partition_key=drifted))
    assert (again.passed, again.metadata["drift"].value) == (True, 0)


def test_a_channel_that_fails_is_a_tag_of_its_run(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    tag = failed_channel_tag("one")
    assert tag not in home.tags(full_run(home))
    home.platforms["one"].broken = {"S5"}
    assert home.tags(full_run(home))[tag] == "true"
    assert home.tags(home.run("retry_failed_batches"))[tag] == "true"
    home.platforms["one"].error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")
    preview = {"ops": {"read_and_compare": {"config": {"channel": "one"}}}}
    assert home.tags(home.run("preview_channel", run_config=preview))[tag] == "true"
    assert home.tags(home.run("discover"))[tag] == "true"
    home.platforms["one"].error, home.platforms["one"].broken = None, set()
    for result in (home.run("retry_failed_batches"), home.run("preview_channel", run_config=preview)):
        assert result.success
        assert tag not in home.tags(result)


@pytest.mark.usefixtures("each_database")
def test_one_failing_batch_leaves_the_others_done_and_is_run_again_alone(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    home.platforms["one"].broken = {"S5"}
    first = full_run(home)
    assert not first.success
    assert len(done(first)) == 3
    failed = failed_batches(home.instance, "one", batch_partitions(home.configuration.settings))
    assert len(failed) == 1
    assert sorted(status.value for status in statuses(home).values() if status) == ["FAILED"] + ["MATERIALIZED"] * 3
    still_broken = home.run("retry_failed_batches")
    assert not still_broken.success
    assert failed_batches(home.instance, "one", batch_partitions(home.configuration.settings)) == failed
    home.platforms["one"].broken = set()
    status = home.status()
    assert (status.channels[0].failed_batches, status.channels[0].last_full_run_at) == (
        (int(failed[0]),),
        home.clock.now(),
    )
    assert f"one: of the last full run these batches failed: {int(failed[0])};" in "\n".join(status.notes())
    again = home.run("retry_failed_batches")
    assert again.success
    assert check(again).passed
    assert home.status().channels[0].failed_batches == ()
    assert set(done(again)) == set(failed)
    assert all(status is dg.AssetPartitionStatus.MATERIALIZED for status in statuses(home).values())


def after(result: dg.ExecuteInProcessResult, **tags: str) -> dict[str, str]:
    """Return the tags of a full run of all batches that is made of the one before, as Dagster makes it."""
    return ALL | {"dagster/parent_run_id": result.run_id} | {f"dagster/{name}": value for name, value in tags.items()}


@pytest.mark.usefixtures("each_database")
def test_a_run_that_dagster_starts_again_goes_on_where_the_one_before_died(
    install: Callable[..., Installation],
) -> None:
    home = in_step(install)
    died = home.run("full_sync", selection=[KEY], tags=ALL | {"dagster/asset_partition_range_start": "2"})
    assert set(done(died)) == {"2", "3"}
    home.platforms["one"].broken = {"S5"}
    retried = home.run("full_sync", selection=[KEY], tags=after(died, retry_number="1"))
    (failed,) = failed_batches(home.instance, "one", batch_partitions(home.configuration.settings))
    assert failed in {"0", "1"}
    assert set(done(retried)) == {"0", "1", "2", "3"} - {failed}
    assert totals(retried)["batches"] == 2
    assert "goes on with the 2 batches that the run before left" in log_of(home, retried)
    home.platforms["one"].broken = set()
    again = home.run("full_sync", selection=[KEY], tags=after(retried, retry_number="2"))
    assert totals(again)["batches"] == 1
    assert set(done(again)) == {"0", "1", "2", "3"}
    assert check(again).passed
    nothing_left = home.run("full_sync", selection=[KEY], tags=after(again, retry_number="3"))
    assert (nothing_left.success, totals(nothing_left)["batches"], check(nothing_left).passed) == (True, 0, True)
    by_hand = home.run("full_sync", selection=[KEY], tags=after(nothing_left))
    assert totals(by_hand)["batches"] == 4


def crashing(item: str) -> Callable[[FakePlatform, Sequence[LevelReference]], ReadAnswer]:
    """Return a reading that breaks where nobody expects it, of one item."""
    read = FakePlatform.read

    def reading(platform: FakePlatform, levels: Sequence[LevelReference]) -> ReadAnswer:
        if any(level.item_id == item for level in levels):
            raise KeyError("quantity")
        return read(platform, levels)

    return reading


def log_of(home: Installation, result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(entry.user_message for entry in home.instance.all_logs(result.run_id))


@pytest.mark.usefixtures("each_database")
def test_a_batch_that_breaks_fails_alone_with_its_traceback_in_the_log_and_its_name_in_the_check(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = in_step(install)
    monkeypatch.setattr(FakePlatform, "read", crashing("S5"))
    result = full_run(home)
    assert not result.success
    assert len(done(result)) == 3
    (broken,) = failed_batches(home.instance, "one", batch_partitions(home.configuration.settings))
    assert totals(result)["failed_batches"] == 1
    log = log_of(home, result)
    assert f"batch {broken} of one: KeyError: 'quantity'\nTraceback (most recent call last):" in log
    assert 'raise KeyError("quantity")' in log
    failure = result.failure_data_for_node("full_sync__one")
    assert failure is not None
    assert f"one: failed batches: {broken} (KeyError: 'quantity')" in str(failure.error)
    assert f"Of them these did not come to their end: {broken}." in str(check(result).description)
    assert home.status().channels[0].failed_batches == (int(broken),)
    monkeypatch.undo()
    assert home.run("retry_failed_batches").success
    assert home.status().channels[0].failed_batches == ()


def test_a_channel_whose_batches_break_leaves_the_other_channels_their_turn(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("one", "two")
    home.stock(STOCK, ["one", "two"])
    assert home.run("incremental").success
    home.clock.advance(60)
    for name in ("one", "two"):
        home.platforms[name].broken = {"S5"}
        home.run("full_sync", selection=[dg.AssetKey(["full_sync", name])], tags=ALL)
    home.platforms["two"].broken = set()
    monkeypatch.setattr(jobs, "sync_batches", ended_by("one", sync_batches))
    result = home.run("retry_failed_batches")
    assert not result.success
    assert "OSError: no space left on device" in log_of(home, result)
    assert home.tags(result)[failed_channel_tag("one")] == "true"
    assert failed_channel_tag("two") not in home.tags(result)
    assert {shop.channel: len(shop.failed_batches) for shop in home.status().channels} == {"one": 1, "two": 0}


def ended_by(channel: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    def ended(context: Any, ws: Any, name: str, batches: Sequence[str]) -> Any:
        if name == channel:
            raise OSError("no space left on device")
        return otherwise(context, ws, name, batches)

    return ended


@pytest.mark.usefixtures("each_database")
def test_a_number_that_the_shop_refuses_turns_the_check_red_until_it_is_there(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = in_step(install)
    refusal = Outcome(Result.REJECTED, Recovery.REJECT, "invalid_quantity", "no more than 9 of these")
    monkeypatch.setattr(FakePlatform, "write", lambda platform, rows, *, key: WriteAnswer(tuple(refusal for _ in rows)))
    home.stock(STOCK | {"S3": 2}, [])
    home.run("incremental")
    result = full_run(home)
    assert result.success
    verdict = check(result)
    assert (verdict.passed, verdict.metadata["failed_rows"].value, verdict.metadata["drift"].value) == (False, 1, 0)
    assert "1 show a former number since our last write failed" in str(verdict.description)
    found = totals(result)
    assert (found["equal"], found["failed_rows"], found["cause_failed_row"], found["claimed"]) == (7, 1, 1, 0)
    with Path(str(found["report"])).open(encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert (row["sku"], row["observed"], row["desired"], row["cause"]) == ("S3", "13", "2", "failed_row")
    monkeypatch.undo()
    home.clock.advance(60)
    assert home.run("incremental").success
    assert home.platforms["one"].shown["S3"] == 2
    again = full_run(home)
    assert (check(again).passed, totals(again)["equal"]) == (True, 8)


def test_the_audit_names_failed_batches(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    home.platforms["one"].broken = {"S5"}
    full_run(home)
    audit = home.run("audit")
    assert audit.success
    checks = {one.check_name: one for one in audit.get_asset_check_evaluations()}
    assert not checks["no_failed_batch"].passed
    assert checks["adds_up"].passed
    assert checks["mappings_clear"].passed


def test_batches_sort_as_numbers_do() -> None:
    keys = batch_partitions(Settings(sku_batches=16)).get_partition_keys()
    assert keys == sorted(keys)
    assert [int(key) for key in keys] == list(range(16))


def test_a_batch_beyond_those_in_force_is_no_batch_that_failed(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    full_run(home)
    assert home.status().channels[0].last_full_run_at is not None
    right = home.home.channels_file.read_text()
    home.home.channels_file.write_text(right.replace("sku_batches: 4", "sku_batches: 8"))
    assert not home.run("full_sync", selection=[KEY], partition_key="6").success
    home.home.channels_file.write_text(right)
    shop = home.status().channels[0]
    assert (shop.failed_batches, shop.last_full_run_at is None) == ((), False)


def choose(home: Installation, status: str) -> None:
    """Let a person pause or resume the channel."""
    engine = open_database(home.home.database_url)
    with write_transaction(engine) as connection:
        set_status(connection, "one", status, actor="ann", reason="stocktaking", now=home.clock.now())
    catch_up(engine, home.clock.now())
    engine.dispose()


def failed_keys(home: Installation) -> list[str]:
    return failed_batches(home.instance, "one", batch_partitions(home.configuration.settings))


@pytest.mark.usefixtures("each_database")
def test_a_paused_channel_is_not_looked_at_its_red_check_stays_and_the_retry_reads_it_once_it_is_resumed(
    install: Callable[..., Installation],
) -> None:
    home = in_step(install)
    home.platforms["one"].shown["S3"] = 99
    full_run(home)
    read_back = home.status().channels[0].last_full_run_at
    home.clock.advance(3600)
    choose(home, "paused")
    result = full_run(home)
    assert not result.success
    assert (done(result), totals(result)["passed_over_batches"], totals(result)["failed_batches"]) == ({}, 4, 0)
    failure = result.failure_data_for_node("full_sync__one")
    assert failure is not None
    why = "one is paused (stocktaking) until `invsync channels resume one --reason R`"
    assert f"one: batches not looked at: 0, 1, 2, 3 ({why})" in str(failure.error)
    assert (check(result).passed, check(result).metadata["drift"].value) == (False, 1)
    assert f"Nothing is looked at now: {why}." in str(check(result).description)
    shop = home.status().channels[0]
    assert (shop.last_full_run_at, shop.failed_batches) == (read_back, ())
    retried = home.run("retry_failed_batches")
    assert retried.success
    assert f"one is passed over: {why}" in log_of(home, retried)
    assert failed_keys(home) == ["0", "1", "2", "3"]
    choose(home, "active")
    again = home.run("retry_failed_batches")
    assert again.success
    assert (set(done(again)), check(again).passed) == ({"0", "1", "2", "3"}, True)
    assert home.status().channels[0].last_full_run_at == home.clock.now()


def test_a_pause_amid_a_run_leaves_the_batches_after_it_undone(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = in_step(install)
    one_after_the_other(home)
    full_run(home)
    home.clock.advance(3600)
    monkeypatch.setattr(FakePlatform, "read", reading_then("S5", lambda: choose(home, "paused")))
    result = full_run(home)
    assert not result.success
    looked_at, left = set(done(result)), set(failed_keys(home))
    assert (looked_at | left, looked_at & left) == ({"0", "1", "2", "3"}, set())
    assert left
    assert totals(result)["passed_over_batches"] == len(left)
    assert "in the latest runs of 4 batches. Nothing is looked at now: one is paused" in str(check(result).description)
    assert home.status().channels[0].last_full_run_at == home.clock.now() - timedelta(seconds=3600)


def one_after_the_other(home: Installation) -> None:
    text = home.home.channels_file.read_text()
    home.home.channels_file.write_text(text.replace("sku_batches: 4", "sku_batches: 4\n  full_sync_at_once: 1"))


def reading_then(item: str, then: Callable[[], None]) -> Callable[[FakePlatform, Sequence[LevelReference]], ReadAnswer]:
    """Return a reading after which something happens, of one item."""
    read = FakePlatform.read

    def reading(platform: FakePlatform, levels: Sequence[LevelReference]) -> ReadAnswer:
        if any(level.item_id == item for level in levels):
            then()
        return read(platform, levels)

    return reading


def test_a_channel_that_was_never_looked_at_has_no_green_check(install: Callable[..., Installation]) -> None:
    home = in_step(install)
    choose(home, "paused")
    assert not check(full_run(home)).passed
    choose(home, "active")
    assert check(full_run(home)).passed
