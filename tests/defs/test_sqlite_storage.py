"""Dagster's SQLite storage as we keep it: the same files, which its own classes and other processes read and write."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from invsync_dagster.defs.compute_logs import LogsInFiles
from invsync_dagster.defs.sqlite_storage import PAGE_BYTES, KeptEvents
from invsync_dagster.defs.storage import ChosenStorage

CONFIG = """\
storage:
  custom: {{ module: {module}, class: {name}, config: {{ base_dir: {folder} }} }}
compute_logs:
  module: invsync_dagster.defs.compute_logs
  class: LogsInFiles
  config: {{ base_dir: {folder}/logs }}
telemetry: {{ enabled: false }}
"""


@dg.asset
def talks() -> None:
    print("said to the output")
    print("said to the errors", file=sys.stderr)


def instance_of(folder: Path, storage: type) -> dg.DagsterInstance:
    """Open the instance in `folder` with a storage class."""
    home = folder / storage.__name__
    home.mkdir(exist_ok=True)
    text = CONFIG.format(module=storage.__module__, name=storage.__name__, folder=folder)
    (home / "dagster.yaml").write_text(text)
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home)))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with instance_of(tmp_path, ChosenStorage) as instance:
        yield instance


def opened(folder: Path) -> set[str]:
    """Return the databases in `folder` that this process has open."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    found = {str(link.readlink()) for link in links}
    return {path for path in found if path.startswith(str(folder)) and path.endswith(".db")}


def test_a_run_is_read_by_dagsters_own_storage_and_the_other_way_round(
    tmp_path: Path, kept: dg.DagsterInstance
) -> None:
    ours = dg.materialize([talks], instance=kept)
    with instance_of(tmp_path, DagsterSqliteStorage) as plain:
        run = plain.get_run_by_id(ours.run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert len(plain.all_logs(ours.run_id)) == len(kept.all_logs(ours.run_id)) > 5
        theirs = dg.materialize([talks], instance=plain)
    assert kept.get_run_by_id(theirs.run_id) is not None
    latest = kept.get_latest_materialization_event(dg.AssetKey("talks"))
    assert latest is not None
    assert latest.run_id == theirs.run_id
    assert len(kept.all_logs(theirs.run_id)) > 5


def test_it_keeps_the_connections_of_one_run_and_closes_all_at_the_end(
    tmp_path: Path, kept: dg.DagsterInstance
) -> None:
    first = dg.materialize([talks], instance=kept).run_id
    second = dg.materialize([talks], instance=kept).run_id
    names = {Path(path).stem for path in opened(tmp_path)}
    assert names == {"runs", "index", second}
    kept.all_logs(first)
    assert {Path(path).stem for path in opened(tmp_path)} == {"runs", "index", first}
    kept.dispose()
    assert opened(tmp_path) == set()


def test_what_the_ui_watches_changes_with_each_event(tmp_path: Path, kept: dg.DagsterInstance) -> None:
    run_id = dg.materialize([talks], instance=kept).run_id
    run = kept.get_run_by_id(run_id)
    assert run is not None
    shard = tmp_path / "history" / "runs" / f"{run_id}.db"
    os.utime(shard, (1, 1))
    kept.all_logs(run_id)
    assert shard.stat().st_mtime == 1
    kept.report_engine_event("one more", run)
    assert shard.stat().st_mtime > 1


def test_a_runs_file_made_from_the_template_is_what_dagster_makes(
    tmp_path: Path, kept: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dg.materialize([talks], instance=kept).run_id
    monkeypatch.setattr(KeptEvents, "_template", b"")
    storage = kept.event_log_storage
    assert isinstance(storage, KeptEvents)
    storage.keep_template()
    copied = dg.materialize([talks], instance=kept).run_id
    kept.dispose()
    schemas = []
    for run_id in (made, copied):
        connection = sqlite3.connect(tmp_path / "history" / "runs" / f"{run_id}.db")
        schemas.append(
            [
                *connection.execute("SELECT sql FROM sqlite_master ORDER BY name"),
                *connection.execute("SELECT version_num FROM alembic_version"),
                *connection.execute("PRAGMA journal_mode"),
                *connection.execute("PRAGMA page_size"),
            ]
        )
        connection.close()
    assert schemas[0] == schemas[1]
    assert schemas[0][-1] == (PAGE_BYTES,)
    assert not list((tmp_path / "history" / "runs").glob("*.part"))


def test_a_step_that_prints_is_kept_in_files_without_a_process_more(tmp_path: Path, kept: dg.DagsterInstance) -> None:
    assert isinstance(kept.compute_log_manager, LogsInFiles)
    run_id = dg.materialize([talks], instance=kept).run_id
    [captured] = [
        entry.dagster_event.logs_captured_data
        for entry in kept.all_logs(run_id)
        if entry.dagster_event and entry.dagster_event.event_type == dg.DagsterEventType.LOGS_CAPTURED
    ]
    key = [run_id, "compute_logs", captured.file_key]
    assert kept.compute_log_manager.is_capture_complete(key)
    data = kept.compute_log_manager.get_log_data(key)
    assert b"said to the output" in (data.stdout or b"")
    assert b"said to the errors" in (data.stderr or b"")
