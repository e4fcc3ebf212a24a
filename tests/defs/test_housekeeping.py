import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_postgres.event_log import PostgresEventLogStorage

from invsync_dagster.defs import housekeeping
from invsync_dagster.defs.names import CAUSE, HOUSEKEEPING, LEDGER, PUSHED, SCHEDULE, SNAPSHOT, WEBHOOK, push_key
from invsync_dagster.defs.storage_url import VARIABLE
from invsync_dagster.platforms.errors import PlatformError, Recovery
from tests import databases
from tests.defs.conftest import SECRETS, Installation

# The other tests are about files under data/ alone.
on_each_database = pytest.mark.usefixtures("each_database")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance whose storage is as in the field: on disk with a file a run, or in a PostgreSQL database of its own."""
    (tmp_path / "dagster").mkdir()
    storage: dict[str, object] = {}
    if databases.current() == "postgresql":
        monkeypatch.setenv(VARIABLE, databases.fresh_url(tmp_path, migrated=False))
        storage["storage"] = {
            "custom": {
                "module": "invsync_dagster.defs.storage",
                "class": "ChosenStorage",
                "config": {"base_dir": str(tmp_path / "dagster")},
            }
        }
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides=storage) as instance:
        yield instance


def run_ids(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def runs_with_events(folder: Path, instance: dg.DagsterInstance) -> set[str]:
    """Return the runs whose events take room: with SQLite each has a file, with PostgreSQL rows."""
    if databases.current() == "sqlite":
        return {path.stem for path in (folder / "dagster" / "history" / "runs").glob("*.db") if path.stem != "index"}
    storage = instance.event_log_storage
    assert isinstance(storage, PostgresEventLogStorage)
    with storage.index_connection() as connection:
        return {row.run_id for row in connection.execute(SqlEventLogStorageTable.select())}


@on_each_database
def test_old_runs_go_with_their_files_but_never_one_that_made_the_latest_of_something(
    install: Callable[..., Installation], tmp_path: Path
) -> None:
    home = install("shop")
    home.stock({"A": 5}, ["shop"])
    [imported] = run_ids(home.instance)
    first, second = home.run("incremental").run_id, home.run("incremental").run_id
    dry = home.run("incremental", selection=[LEDGER]).run_id
    assert runs_with_events(tmp_path, home.instance) == {imported, first, second, dry}
    assert home.run("clean_up").success
    assert run_ids(home.instance) > {imported, first, second, dry}

    home.clock.advance(15 * 86_400)
    result = home.run("clean_up")
    [made] = result.asset_materializations_for_node("housekeeping")
    # `first` is superseded in all; `second` made the latest pushes, `dry` the latest ledger, the import the latest imports.
    # The first housekeeping is old, and the latest but for the one that is under way.
    assert made.metadata["runs_deleted"].value == 1
    assert made.metadata["runs_kept_as_latest"].value == 4
    assert first not in run_ids(home.instance)
    assert {imported, second, dry} < run_ids(home.instance)
    assert first not in runs_with_events(tmp_path, home.instance)
    assert not list(tmp_path.glob(f"dagster/**/*{first}*"))
    for key in (LEDGER, SNAPSHOT, push_key("shop")):
        assert home.instance.get_latest_materialization_event(key) is not None
    latest = home.instance.get_latest_materialization_event(LEDGER)
    assert latest is not None
    assert latest.run_id == dry


@on_each_database
def test_every_partition_keeps_the_run_that_made_its_latest_materialisation(
    install: Callable[..., Installation],
) -> None:
    home = install("shop")
    home.stock({"A": 5, "B": 6, "C": 7, "D": 8}, ["shop"])
    key = dg.AssetKey(["full_sync", "shop"])

    def batch(number: str) -> str:
        return home.run("full_sync", selection=[key], partition_key=number).run_id

    batches = home.definitions().resolve_asset_graph().get(key).partitions_def
    assert batches is not None
    zero, one = batches.get_partition_keys()[:2]
    old, other, again = batch(zero), batch(one), batch(zero)
    home.clock.advance(15 * 86_400)
    home.run("clean_up")
    assert old not in run_ids(home.instance)
    assert {other, again} < run_ids(home.instance)
    assert home.instance.get_materialized_partitions(key) == {zero, one}


def test_what_is_older_than_the_settings_say_goes_from_the_files_too(install: Callable[..., Installation]) -> None:
    home = install("shop", settings="  retention: { deliveries_days: 5, reports_days: 5 }\n")
    done = home.home.inbox / "done"
    for days in (20, 6, 4):
        folder = done / f"{home.clock.now() - timedelta(days=days):%Y-%m-%d}"
        folder.mkdir(parents=True)
        (folder / "0000000000000001-a.segment").touch()
    (home.home.reports / "run").mkdir(parents=True)
    assert home.run("clean_up").success
    assert len(list(done.iterdir())) == 1
    assert list(home.home.reports.iterdir()) == [home.home.reports / "run"]
    home.clock.advance(6 * 86_400)
    result = home.run("clean_up")
    [made] = result.asset_materializations_for_node("housekeeping")
    assert (made.metadata["segments_removed"].value, made.metadata["reports_removed"].value) == (1, 1)
    assert list(home.home.reports.iterdir()) == []


@on_each_database
def test_the_sizes_of_the_databases_are_told_wherever_they_are(
    install: Callable[..., Installation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("shop")
    (home.home.data / "dagster").mkdir()
    (home.home.data / "dagster" / "runs.db").write_bytes(b"x" * 250_000)
    [made] = home.run("clean_up").asset_materializations_for_node("housekeeping")
    stock_mb: Any = made.metadata["stock_mb"].value
    assert stock_mb > 0.2
    assert made.metadata["dagster_mb"].value == 0.2
    if databases.current() == "postgresql":
        monkeypatch.setitem(SECRETS, VARIABLE, databases.fresh_url(tmp_path))
        [made] = home.run("clean_up").asset_materializations_for_node("housekeeping")
        dagster_mb: Any = made.metadata["dagster_mb"].value
        assert dagster_mb > 5


@on_each_database
def test_the_copies_of_imported_files_go_and_those_that_wait_for_a_decision_stay(
    install: Callable[..., Installation],
) -> None:
    home = install("shop", settings="  retention: { deliveries_days: 5 }\n")
    home.stock({"A": 5}, ["shop"])
    copies = {path.name for path in (home.home.imports / "done").iterdir()}
    assert len(copies) == 2
    held = home.home.imports / "held" / "20260101T000000-0-stock.csv"
    held.parent.mkdir(exist_ok=True)
    held.write_text("sku,quantity\n")
    own = home.home.imports / "done" / "of the spring"
    own.mkdir()
    os.utime(own, (0, 0))

    def clean_up() -> object:
        [made] = home.run("clean_up").asset_materializations_for_node("housekeeping")
        return made.metadata["import_files_removed"].value

    assert clean_up() == 0
    assert {path.name for path in (home.home.imports / "done").iterdir()} == {*copies, own.name}
    home.clock.advance(6 * 86_400)
    assert clean_up() == 2
    assert list((home.home.imports / "done").iterdir()) == [own]
    assert held.exists()


def test_a_disk_that_takes_no_archive_still_loses_its_old_reports_and_says_so(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("shop")
    (home.home.reports / "run").mkdir(parents=True)
    home.clock.advance(40 * 86_400)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("invsync_dagster.defs.housekeeping.archive_logs", full)
    result = home.run("clean_up")
    assert not result.success
    assert list(home.home.reports.iterdir()) == []
    assert {one.check_name for one in result.get_asset_check_evaluations()} == {"disk", "buyers_erased"}
    failure = result.failure_data_for_node("housekeeping")
    assert failure is not None
    assert "No space left on device" in str(failure.error)


@on_each_database
def test_all_pages_of_old_runs_are_deleted(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invsync_dagster.defs.housekeeping.PAGE", 2)
    home = install("shop")
    for _ in range(6):
        home.run("audit")
    checks = AssetCheckExecutionsTable
    storage = home.instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    home.clock.advance(15 * 86_400)
    home.run("clean_up")
    left = run_ids(home.instance)
    assert len(left) == 2
    with storage.index_connection() as connection:
        assert {row.run_id for row in connection.execute(checks.select())} == left


def test_a_disk_that_is_nearly_full_turns_the_check_red(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("shop")
    assert home.run("clean_up").get_asset_check_evaluations()[0].passed
    monkeypatch.setattr("invsync_dagster.defs.housekeeping.FREE_SHARE", 1.1)
    [check] = (one for one in home.run("clean_up").get_asset_check_evaluations() if one.check_name == "disk")
    assert not check.passed
    assert "GB are free" in (check.description or "")
    assert check.asset_key == HOUSEKEEPING


def routine(home: Installation, job: str, cause: str = SCHEDULE, *, selection: list[dg.AssetKey] | None = None) -> str:
    """Run a job as something that comes by itself; return its run's id."""
    return home.run(job, selection=selection, tags={CAUSE: cause}).run_id


@on_each_database
def test_superseded_cycles_and_pushes_go_after_hours_and_the_latest_of_each_thing_stays(
    install: Callable[..., Installation], tmp_path: Path
) -> None:
    home = install("shop", "other")
    home.stock({"A": 5}, ["shop", "other"])
    [imported] = run_ids(home.instance)
    cycle = routine(home, "incremental")
    pushed = [routine(home, "webhooks", WEBHOOK) for _ in range(3)]
    of_one_shop = routine(home, "webhooks", WEBHOOK, selection=[push_key("shop")])
    home.clock.advance(5 * 3600)
    before = routine(home, "forget_routine_runs")
    assert run_ids(home.instance) == {imported, cycle, *pushed, of_one_shop, before}

    home.clock.advance(2 * 3600)
    # The cycle made the latest snapshot and status, the third webhook's run the latest of the ledger and of the other shop.
    after = routine(home, "forget_routine_runs")
    assert run_ids(home.instance) == {imported, cycle, pushed[-1], of_one_shop, after}
    assert runs_with_events(tmp_path, home.instance) == run_ids(home.instance)
    for key, run_id in {
        SNAPSHOT: cycle,
        LEDGER: pushed[-1],
        push_key("other"): pushed[-1],
        push_key("shop"): of_one_shop,
    }.items():
        latest = home.instance.get_latest_materialization_event(key)
        assert latest is not None
        assert latest.run_id == run_id
    pushed_check = dg.AssetCheckKey(push_key("shop"), PUSHED)
    [record] = home.instance.event_log_storage.get_latest_asset_check_execution_by_key([pushed_check]).values()
    assert record.run_id == of_one_shop


def test_of_hours_ago_what_failed_or_a_person_started_stays_for_days(install: Callable[..., Installation]) -> None:
    home = install("shop", settings="  retention: { routine_hours: 1, runs_days: 2 }\n")
    home.stock({"A": 5}, ["shop"])
    home.platforms["shop"].error = PlatformError(Recovery.RETRY, "down", "it is down")
    failed = routine(home, "incremental")
    home.platforms["shop"].error = None
    by_hand, audit = home.run("incremental").run_id, routine(home, "audit")
    by_itself = routine(home, "incremental")
    routine(home, "audit")
    routine(home, "incremental")
    home.clock.advance(2 * 3600)
    routine(home, "forget_routine_runs")
    assert {failed, by_hand, audit} < run_ids(home.instance)
    assert by_itself not in run_ids(home.instance)
    home.clock.advance(2 * 86_400)
    home.run("clean_up")
    assert not {failed, by_hand, audit} & run_ids(home.instance)


def test_a_pass_that_takes_too_long_ends_and_the_next_one_goes_on(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("shop")
    home.stock({"A": 5}, ["shop"])
    pushed = [routine(home, "webhooks", WEBHOOK) for _ in range(4)]
    home.clock.advance(7 * 3600)
    delete = housekeeping._delete_run

    def slow(instance: dg.DagsterInstance, run_id: str) -> None:
        home.clock.advance(400)
        delete(instance, run_id)

    monkeypatch.setattr(housekeeping, "_delete_run", slow)
    routine(home, "forget_routine_runs")
    assert [run_id in run_ids(home.instance) for run_id in pushed] == [False, False, True, True]
    routine(home, "forget_routine_runs")
    assert [run_id in run_ids(home.instance) for run_id in pushed] == [False, False, False, True]
