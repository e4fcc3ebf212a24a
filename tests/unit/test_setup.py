import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import inspect

from invsync_dagster import setup
from invsync_dagster.channels import load
from invsync_dagster.defs.storage_url import VARIABLE
from invsync_dagster.environment import load_env_file, read_env_file, read_environment, write_env_file
from invsync_dagster.inventory.database import open_database
from invsync_dagster.settings import Home

CHANNELS = """\
channels:
  - name: erp_demo
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:9
      api_key_env: DEMO_KEY
      signing_secret_env: DEMO_SIGNING
      webhook_secret_env: DEMO_WEBHOOK
  - name: erp_real
    platform: erp
    environment: production
    settings:
      base_url: https://erp.example.com
      api_key_env: REAL_KEY
      signing_secret_env: REAL_SIGNING
      webhook_secret_env: REAL_WEBHOOK
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose Dagster storage is taken as initialised: that takes seconds, and a test of its own does it."""
    (tmp_path / "channels.yaml").write_text(CHANNELS)
    monkeypatch.setattr(setup, "initialise_dagster", lambda home, environ: False)
    return tmp_path


def test_the_set_up_writes_absolute_paths_and_sandbox_secrets_for_the_owner_only(root: Path) -> None:
    done = setup.set_up(root, {})
    assert len(done) == 1
    variables = read_env_file(root)
    for name in ("INVSYNC_ROOT", "DAGSTER_HOME", "INVSYNC_DAGSTER_STATE", "INVSYNC_DAGSTER_LOGS"):
        assert Path(variables[name]).is_absolute()
        assert Path(variables[name]).is_relative_to(root)
    assert variables["DAGSTER_HOME"] == str(root)
    secrets = {name: variables[name] for name in ("DEMO_KEY", "DEMO_SIGNING", "DEMO_WEBHOOK")}
    assert len(set(secrets.values())) == 3
    assert all(len(value) >= 32 for value in secrets.values())
    assert stat.S_IMODE((root / ".env").stat().st_mode) == 0o600


def test_secrets_of_production_channels_are_never_invented(root: Path) -> None:
    setup.set_up(root, {})
    assert not {"REAL_KEY", "REAL_SIGNING", "REAL_WEBHOOK"} & read_env_file(root).keys()


def test_a_second_set_up_changes_nothing(root: Path) -> None:
    setup.set_up(root, {})
    before = (root / ".env").read_bytes()
    assert setup.set_up(root, {}) == []
    assert (root / ".env").read_bytes() == before


def test_what_people_wrote_into_the_file_stays_and_wins(root: Path) -> None:
    (root / ".env").write_text("# mine\nDEMO_KEY='chosen by me'\nOTHER=1\n")
    setup.set_up(root, {})
    lines = (root / ".env").read_text().splitlines()
    assert lines[:3] == ["# mine", "DEMO_KEY='chosen by me'", "OTHER=1"]
    assert read_env_file(root)["DEMO_KEY"] == "chosen by me"


def test_a_secret_of_the_environment_is_not_written_down(root: Path) -> None:
    setup.set_up(root, {"DEMO_KEY": "from outside"})
    assert "DEMO_KEY" not in read_env_file(root)
    assert "from outside" not in (root / ".env").read_text()


def test_a_clone_that_was_moved_gets_its_new_paths_and_keeps_its_secrets(root: Path) -> None:
    write_env_file(root, {"DAGSTER_HOME": "/somewhere/else", "DEMO_KEY": "kept"})
    setup.set_up(root, {})
    assert read_env_file(root)["DAGSTER_HOME"] == str(root)
    assert read_env_file(root)["DEMO_KEY"] == "kept"


def test_the_set_up_makes_the_folders_and_the_tables(root: Path) -> None:
    setup.set_up(root, {})
    home = Home.from_environment(read_env_file(root))
    assert all(folder.is_dir() for folder in (home.inbox, home.imports, home.reports, home.status, home.locks))
    engine = open_database(home.database_url)
    assert {"stock_ledger", "central_inventory", "inventory_levels"} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_a_database_of_another_version_stops_the_set_up_with_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.set_up(root, {})
    engine = open_database(Home.from_environment(read_env_file(root)).database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE walked_listings")
    engine.dispose()
    monkeypatch.chdir(root)
    monkeypatch.setattr(setup, "load_env_file", lambda root: None)
    monkeypatch.delenv("INVSYNC_DATABASE_URL", raising=False)
    assert setup.main() == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "set-up: the stock's database says that it is of revision 0006, and is another one: there is no "
    )
    assert said.count("\n") == 1


def test_after_the_set_up_the_sandbox_channel_is_usable_and_the_real_one_asks_for_its_secrets(root: Path) -> None:
    setup.set_up(root, {})
    variables = read_env_file(root)
    channels = {one.name: one for one in load(Home.from_environment(variables), variables).channels}
    assert channels["erp_demo"].disabled_reason == ""
    assert "REAL_KEY" in channels["erp_real"].disabled_reason


def test_the_storage_of_dagster_is_initialised_once_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Mapping[str, str]] = []

    def run(command: list[str], *, env: Mapping[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-m", "dagster", "instance", "migrate"]
        calls.append(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    environ = {"DAGSTER_HOME": str(tmp_path)}
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    assert setup.initialise_dagster(home, environ)
    assert not setup.initialise_dagster(home, environ)
    (home.data / "dagster" / "initialised-by").write_text("dagster 0.0.1\n")
    assert setup.initialise_dagster(home, environ)
    assert calls == [environ, environ]


def test_a_storage_that_dagster_cannot_open_is_told_in_its_last_error_and_tried_again(tmp_path: Path) -> None:
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    (tmp_path / "dagster.yaml").write_text("run_storage: {module: nowhere, class: None}\n")
    environ = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    with pytest.raises(setup.DagsterStorageError, match=r"^Dagster can't open its storage: \S+Error: .*nowhere[^\n]*$"):
        setup.initialise_dagster(home, environ)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert setup.initialise_dagster(home, environ)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            '  File "a.py", line 1\n    raise OddError("x") from error\nodd.Refusal: the server is too old',
            "odd.Refusal: the server is too",
        ),
        ('odd.OddError: no such role\n  File "a.py", line 1\n    except OddError:', "odd.OddError: no such role"),
        ("odd.OddError: wrong configuration\n    Error 1: no entry 'class'", "Error 1: no entry 'class'"),
        ("", "exit code 3"),
    ],
)
def test_why_dagster_cannot_open_its_storage_is_no_line_of_code(
    said: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 3, "", said)

    monkeypatch.setattr("invsync_dagster.setup.subprocess.run", refusing)
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    with pytest.raises(setup.DagsterStorageError) as raised:
        setup.initialise_dagster(home, {"DAGSTER_HOME": str(tmp_path)})
    assert str(raised.value).startswith(f"Dagster can't open its storage: {reason}")


def test_without_a_home_of_dagster_its_storage_is_not_made_and_the_mend_is_told(tmp_path: Path) -> None:
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    with pytest.raises(setup.DagsterStorageError, match="DAGSTER_HOME is not set: give it the folder"):
        setup.initialise_dagster(home, {})
    assert not (home.data / "dagster").exists()


def test_a_storage_of_which_dagster_would_take_another_than_is_set_is_not_initialised(tmp_path: Path) -> None:
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    write_env_file(tmp_path, {VARIABLE: "postgresql://invsync:hidden@db/one"})
    environ = {"DAGSTER_HOME": str(tmp_path), VARIABLE: "postgresql://invsync:hidden@db/two"}
    said = r"is another one in \.env, and Dagster takes that: take it out"
    with pytest.raises(setup.DagsterStorageError, match=said) as raised:
        setup.initialise_dagster(home, environ)
    assert "hidden" not in str(raised.value)
    assert not (home.data / "dagster").exists()


def test_variables_that_are_set_win_over_the_file(tmp_path: Path) -> None:
    write_env_file(tmp_path, {"A": "file", "B": "file"})
    environ = {"A": "set"}
    load_env_file(tmp_path, environ)
    assert environ == {"A": "set", "B": "file"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("env")


PRINTABLE = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="'\\")


@given(value=st.text(PRINTABLE))
def test_every_value_comes_back_as_it_was_written(folder: Path, value: str) -> None:
    (folder / ".env").unlink(missing_ok=True)
    write_env_file(folder, {"VALUE": value})
    assert read_env_file(folder) == {"VALUE": value}


@pytest.mark.parametrize("value", ["it's", "a\\b", "two\nlines"])
def test_a_value_that_would_break_the_file_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValueError, match="single quote"):
        write_env_file(tmp_path, {"A": value})
    assert not (tmp_path / ".env").exists()


def test_a_named_file_stands_in_the_place_of_the_roots_and_what_is_set_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=root\n")
    named = tmp_path / "receiver.env"
    named.write_text("A='a file'\nB=2\n")
    root = {"INVSYNC_ROOT": str(tmp_path)}
    assert read_environment(root) == root | {"A": "root"}
    both = root | {"INVSYNC_ENV_FILE": str(named), "B": "set"}
    assert read_environment(both) == both | {"A": "a file"}
    with pytest.raises(FileNotFoundError):
        read_environment({"INVSYNC_ENV_FILE": str(tmp_path / "none")})
