from collections.abc import Callable

import dagster as dg

from invsync_dagster.defs.full_sync import batch_partitions, failed_batches
from invsync_dagster.settings import Settings
from tests.defs.conftest import Installation

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
    again = home.run("retry_failed_batches")
    assert again.success
    assert set(done(again)) == set(failed)
    assert all(status is dg.AssetPartitionStatus.MATERIALIZED for status in statuses(home).values())


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
