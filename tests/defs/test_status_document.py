"""The sensor that writes the status document: over real runs, while the database is away, and of checks that there are."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import update

from invsync_dagster.defs import names
from invsync_dagster.defs.status import build_status_sensor, status_sensor_function
from invsync_dagster.defs.upkeep import CHECK
from invsync_dagster.inventory.database import DatabaseGoneError, open_database, write_transaction
from invsync_dagster.inventory.tables import channels
from invsync_dagster.sync import standing
from invsync_dagster.sync.standing import SAID_HERE, Standing
from invsync_dagster.webhooks.status import document
from tests.defs.conftest import SECRETS, Installation

BACKUP_CHECK = dg.AssetCheckKey(names.DATABASE_BACKUP, CHECK)


@pytest.fixture
def home(install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setattr(standing, "disk_cause", lambda data: ())
    return install("one", "two")


def look(home: Installation, made: Standing | None = None) -> document.Document | None:
    engine = open_database(home.home.database_url)
    made = made or Standing(home.home, home.configuration, SECRETS, engine, home.clock)
    evaluate = status_sensor_function(lambda: made, [BACKUP_CHECK])
    result = evaluate(dg.build_sensor_context(home.instance))
    assert isinstance(result, dg.SkipReason)
    engine.dispose()
    return document.read(home.home.status)


def test_each_look_writes_how_all_stands(home: Installation) -> None:
    home.stock({"A": 5, "B": 7}, ["one", "two"])
    first = look(home)
    assert first is not None
    assert [(one["channel"], one["out_of_step"]) for one in first["channels"]] == [("one", 2), ("two", 2)]
    assert home.run("incremental").success
    home.clock.advance(15)
    second = look(home)
    assert second is not None
    assert [(one["channel"], one["in_step"]) for one in second["channels"]] == [("one", 2), ("two", 2)]
    assert second["trend"]["out_of_step"][0] == 4
    assert second["backup"] is None


def test_a_backup_is_verified_if_its_checks_say_so(home: Installation) -> None:
    (home.home.data / "backups" / "invsync-20260301T100000Z").mkdir(parents=True)
    for passed in (True, False):
        event = dg.AssetCheckEvaluation(
            asset_key=names.DATABASE_BACKUP, check_name=BACKUP_CHECK.name, passed=passed, metadata={}
        )
        home.instance.report_runless_asset_event(event)
        told = look(home)
        assert told is not None
        assert told["backup"]["verified"] is passed


def test_a_database_that_is_away_is_written_down_and_its_return_too(
    home: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise DatabaseGoneError("", {}, OSError("refused"))

    with monkeypatch.context() as away:
        away.setattr(standing, "status", gone)
        assert look(home) is None
    assert look(home) is not None
    home.clock.advance(60)
    with monkeypatch.context() as away:
        away.setattr(standing, "status", gone)
        told = look(home)
    assert told is not None
    assert [problem["title"] for problem in told["problems"]] == ["The database can't be used"]
    assert document.seen(told, home.clock.now() + timedelta(seconds=1)).age_seconds == 1.0
    told = look(home)
    assert told is not None
    assert told["problems"] == []


def test_a_file_that_was_moved_away_is_told_by_a_run_and_by_the_sensor_and_neither_makes_another(
    home: Installation,
) -> None:
    home.stock({"A": 5}, ["one"])
    assert look(home) is not None
    file = home.home.data / "invsync.db"
    engine = open_database(home.home.database_url)
    standing_by = Standing(home.home, home.configuration, SECRETS, engine, home.clock)
    away = file.rename(file.with_name("away"))
    failed = home.run("incremental")
    assert not failed.success
    told = look(home, standing_by)
    assert told is not None
    [problem] = told["problems"]
    assert f"its file is gone ({file})" in str(problem)
    assert "move it back together with its -wal and -shm" in str(problem)
    assert not file.exists()
    away.rename(file)
    assert home.run("incremental").success
    told = look(home, standing_by)
    assert told is not None
    assert (told["problems"], [one["in_step"] for one in told["channels"]]) == ([], [1, 0])


def test_the_checks_that_the_document_speaks_for_are_there(home: Installation, tmp_path: Path) -> None:
    keys = home.definitions().resolve_asset_graph().asset_check_keys
    assert set(SAID_HERE) <= {f"{key.asset_key.to_user_string()}/{key.name}" for key in keys}


def test_a_secret_that_a_file_holds_does_not_stand_in_the_document(
    home: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "key"
    secret.write_text("planted-in-a-file\n")
    monkeypatch.delenv("KEY", raising=False)
    monkeypatch.setenv("KEY_FILE", str(secret))
    engine = open_database(home.home.database_url)
    with write_transaction(engine) as connection:
        words = "unauthorized: planted-in-a-file is unknown [re-authenticate]"
        connection.execute(update(channels).values(stopped_reason=words))
    engine.dispose()
    sensor = build_status_sensor(home.home, home.configuration, ())
    sensor.evaluate_tick(dg.build_sensor_context(home.instance))
    told = (home.home.status / document.FILE_NAME).read_text()
    assert "planted-in-a-file" not in told
    assert "is unknown" in told
