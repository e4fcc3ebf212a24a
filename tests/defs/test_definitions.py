import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import dagster as dg
import pytest
import yaml
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG

from invsync_dagster.channels import load
from invsync_dagster.cli import main
from invsync_dagster.definitions import definitions
from invsync_dagster.defs.build import build
from invsync_dagster.defs.names import LOCATION
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.schema import SchemaError
from invsync_dagster.settings import Home
from tests import databases
from tests.defs.conftest import ENTRY, SECRETS, Installation

ROOT = Path(__file__).parents[2]


def keys(definitions: dg.Definitions) -> set[str]:
    return {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()}


def test_the_graph_has_these_assets_jobs_schedules_and_sensors(install: Callable[..., Installation]) -> None:
    definitions = install("one", "two").definitions()
    dg.Definitions.validate_loadable(definitions)
    assert keys(definitions) == {
        "webhook_files",
        "import_files",
        "imports",
        "stock_ledger",
        "inventory_snapshot",
        "inventory_changes",
        "daily_snapshot",
        "push_results/one",
        "push_results/two",
        "sync_status",
        "full_sync/one",
        "full_sync/two",
        "listings/one",
        "listings/two",
        "subscriptions/one",
        "subscriptions/two",
        "database_backup",
        "housekeeping",
    }
    repository = definitions.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"} == {
        "incremental",
        "webhooks",
        "import_files",
        "audit",
        "snapshot_day",
        "backup",
        "clean_up",
        "forget_routine_runs",
        "full_sync",
        "discover",
        "subscriptions",
        "sync_skus",
        "preview_channel",
        "approve_first_push",
        "decide_held",
        "undo_change",
        "retry_failed_batches",
        "explain",
        "replay_deliveries",
    }
    assert {one.name: one.cron_schedule for one in repository.schedule_defs} == {
        "incremental_schedule": "*/5 * * * *",
        "audit_schedule": "30 * * * *",
        "daily_snapshot_schedule": "15 0 * * *",
        "clean_up_schedule": "45 4 * * *",
        "forget_routine_runs_schedule": "40 * * * *",
        "full_sync_schedule": "0 3 * * *",
        "listings_schedule": "0 2 * * *",
        "subscriptions_schedule": "20 * * * *",
        "backup_schedule": "0 * * * *",
    }
    assert {one.name for one in repository.sensor_defs} == {
        "inbox_sensor",
        "imports_sensor",
        "alerts_sensor",
        "status_sensor",
    }


def test_nothing_runs_by_itself_until_switched_on(install: Callable[..., Installation]) -> None:
    repository = install("one").definitions().get_repository_def()
    assert all(one.default_status is dg.DefaultScheduleStatus.STOPPED for one in repository.schedule_defs)
    assert all(one.default_status is dg.DefaultSensorStatus.STOPPED for one in repository.sensor_defs)


def test_every_asset_says_what_it_is_and_who_owns_it(install: Callable[..., Installation]) -> None:
    for spec in install("one").definitions().resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.group_name not in (None, "default"), spec.key


# What a person is told to do, as the beginning of a sentence or of what follows a colon or semicolon.
MEND = re.compile(r"(?:[.:;] |: )(?:look|make|mend|run|count|correct|import|wait|find)\b", re.IGNORECASE)


def test_every_asset_says_what_red_means_and_what_to_do(install: Callable[..., Installation]) -> None:
    home = install("one")
    with home.home.channels_file.open("a") as file:
        file.write(ENTRY.format(name="shop").replace("erp", "shopify").replace("base_url", "shop_url"))
    for spec in home.definitions().resolve_all_asset_specs():
        if spec.key.to_user_string() in ("webhook_files", "import_files"):
            continue  # files that others put there
        _, red, said = (spec.description or "").partition("*Red*")
        _, check, said_of_check = (spec.description or "").partition("*A red ")
        assert red or check, spec.key
        assert MEND.search(said or said_of_check), spec.key
        named = set(re.findall(r"`invsync ([^`]+)`", spec.description or ""))
        groups = {name for name, command in main.commands.items() if isinstance(command, click.Group)}
        assert named.isdisjoint(groups), f"{spec.key}: a group alone prints its help"


def test_every_table_has_its_columns_and_every_asset_its_kind(install: Callable[..., Installation]) -> None:
    tables = set()
    for spec in install("one").definitions().resolve_all_asset_specs():
        assert spec.kinds, spec.key
        if spec.kinds & {"table", "parquet"}:
            schema = spec.metadata["dagster/column_schema"]
            assert isinstance(schema, dg.TableSchema), spec.key
            assert all(column.name and column.type for column in schema.columns), spec.key
            assert len(schema.columns) >= 4, spec.key
            tables.add(spec.key.to_user_string())
    assert {"stock_ledger", "inventory_snapshot", "inventory_changes", "daily_snapshot", "sync_status"} <= tables


def test_the_lineage_leads_from_the_files_to_the_status(install: Callable[..., Installation]) -> None:
    specs = {spec.key.to_user_string(): spec for spec in install("one").definitions().resolve_all_asset_specs()}
    parents = {key: {dep.asset_key.to_user_string() for dep in spec.deps} for key, spec in specs.items()}
    assert parents["stock_ledger"] == {"webhook_files", "imports"}
    assert parents["inventory_snapshot"] == {"stock_ledger"}
    assert parents["daily_snapshot"] == {"stock_ledger"}
    assert parents["inventory_changes"] == {"inventory_snapshot"}
    assert parents["push_results/one"] == {"stock_ledger", "inventory_changes"}
    assert parents["sync_status"] == {"push_results/one"}


def test_a_broken_entry_is_a_disabled_channel_with_a_red_check(install: Callable[..., Installation]) -> None:
    home = install("one", "two")
    home.stock({"A": 5}, ["one", "two"])
    text = home.home.channels_file.read_text().replace(
        "  - name: two\n    platform: erp\n", "  - name: two\n    platform: ebya\n"
    )
    home.home.channels_file.write_text(text)
    definitions = home.definitions()
    dg.Definitions.validate_loadable(definitions)
    assert {"push_results/one", "push_results/two"} <= keys(definitions)
    result = home.run("incremental")
    assert not result.success
    assert home.platforms["one"].shown == {"A": 5}
    checks = {(e.asset_key.to_user_string(), e.check_name): e for e in result.get_asset_check_evaluations()}
    assert not checks["stock_ledger", "configuration"].passed
    assert "channels.yaml line 14" in (checks["stock_ledger", "configuration"].description or "")
    assert checks["push_results/one", "pushed"].passed
    assert not checks["push_results/two", "pushed"].passed
    assert "unknown platform" in (checks["push_results/two", "pushed"].description or "")


@pytest.mark.parametrize("platform", ["'e bay!?'", "''", "42", "[a, b]", "'x{}'"])
def test_whatever_stands_as_a_platform_the_location_loads(install: Callable[..., Installation], platform: str) -> None:
    home = install("one")
    text = home.home.channels_file.read_text()
    home.home.channels_file.write_text(text.replace("platform: erp", f"platform: {platform}"))
    definitions = home.definitions()
    dg.Definitions.validate_loadable(definitions)
    assert "push_results/one" in keys(definitions)


def test_a_file_that_is_no_yaml_keeps_the_last_good_channels(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.home.channels_file.write_text("channels: [\n")
    definitions = home.definitions()
    dg.Definitions.validate_loadable(definitions)
    assert "push_results/one" in keys(definitions)


def test_without_any_channels_file_the_location_still_loads(tmp_path: Path) -> None:
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    definitions = build(home, load(home, SECRETS), Invsync())
    dg.Definitions.validate_loadable(definitions)
    assert "stock_ledger" in keys(definitions)


def test_a_channel_lost_from_the_file_is_paused_and_named(install: Callable[..., Installation]) -> None:
    home = install("one", "two")
    home.stock({"A": 5}, ["one", "two"])
    text = home.home.channels_file.read_text()
    home.home.channels_file.write_text(text[: text.index("  - name: two")])
    result = home.run("incremental")
    assert home.platforms["two"].written == []
    [check] = [e for e in result.get_asset_check_evaluations() if e.check_name == "configuration"]
    assert not check.passed
    assert "'two'" in (check.description or "")


def test_what_takes_long_is_not_ended_and_what_hangs_is(install: Callable[..., Installation]) -> None:
    repository = install("one").definitions().get_repository_def()
    longest = {job.name: int(job.run_tags.get(MAX_RUNTIME_SECONDS_TAG, 0)) for job in repository.get_all_jobs()}
    instance = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    # What has no tag is ended by this: a full run from the asset's page, and each run of a backfill. 100,000 listings of
    # Shopify take 3,998 s.
    assert instance["run_monitoring"]["max_runtime_seconds"] == 14400
    assert {name: longest[name] for name in ("incremental", "webhooks", "sync_skus")} == {
        "incremental": 300,
        "webhooks": 300,
        "sync_skus": 300,
    }
    assert longest["import_files"] == longest["full_sync"] == longest["audit"] == 14400


def test_the_location_has_one_name_everywhere() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    [entry] = workspace["load_from"]
    assert entry["python_module"]["location_name"] == LOCATION
    assert project["code_location_name"] == LOCATION
    assert (
        entry["python_module"]["module_name"] == project["code_location_target_module"] == "invsync_dagster.definitions"
    )


@pytest.mark.usefixtures("each_database")
def test_a_database_of_another_version_keeps_the_location_from_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVSYNC_ROOT", str(tmp_path))
    ours, gone = databases.fresh_url(tmp_path), "postgresql://nobody@127.0.0.1:9/nothing"
    for loading in (databases.fresh_url(tmp_path / "bare", migrated=False), gone, ours):
        monkeypatch.setenv("INVSYNC_DATABASE_URL", loading)
        assert len(list(definitions().jobs or ())) > 5
    with databases.opened(ours).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        connection.exec_driver_sql("DROP TABLE walked_listings")
    with pytest.raises(SchemaError, match=r"older version \(revision 0001\).*`invsync upgrade`"):
        definitions()


def test_loading_the_definitions_imports_neither_pandas_nor_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from invsync_dagster.definitions import definitions; definitions(); "
        "print(sorted({'pandas', 'pyarrow', 'alembic', 'openpyxl', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"INVSYNC_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
