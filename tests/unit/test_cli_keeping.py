"""`invsync upgrade` and `move-database`: a backup before anything else, and a stock that is the same elsewhere."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import inspect, select

from invsync_dagster.inventory.database_url import DatabaseUrlError
from invsync_dagster.inventory.tables import central_inventory
from invsync_dagster.setup import set_up
from tests import databases
from tests.postgres_server import PASSWORD, shared_server
from tests.unit.commands import invoke, own_root


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on SQLite, whose Dagster storage is initialised already as far as the marker tells."""
    own_root(monkeypatch, tmp_path)
    monkeypatch.setattr("invsync_dagster.cli.keeping.initialise_dagster", lambda home, environ: False)
    (tmp_path / "channels.yaml").write_text("channels: []\n")
    (tmp_path / "stock.csv").write_text("sku,quantity\n0071,10\n")
    return tmp_path


def make_older(url: str) -> None:
    with databases.opened(url).begin() as connection:
        databases.make_older(connection)


def test_the_first_upgrade_makes_the_database_and_each_that_changes_it_backs_it_up(root: Path) -> None:
    first = invoke("upgrade")
    assert (first.exit_code, "backup" in first.output) == (0, False)
    assert first.output.startswith(f"stock: made in sqlite:///{root}")
    assert (root / "data" / "invsync.db").is_file()
    second = invoke("upgrade")
    assert second.exit_code == 0
    assert second.output.startswith(f"stock: up to date in sqlite:///{root}")
    assert not (root / "data" / "backups").exists()
    make_older(f"sqlite:///{root}/data/invsync.db")
    assert "older version (revision 0004): stop all services and run `invsync upgrade`" in invoke("status").stderr
    third = invoke("upgrade")
    assert third.exit_code == 0
    assert third.output.startswith(f"backup: {root}/data/backups/invsync-")
    assert "stock: migrated in sqlite:///" in third.output
    assert len(list((root / "data" / "backups").glob("*/manifest"))) == 1
    assert invoke("status").exit_code == 0


@pytest.mark.usefixtures("each_database")
def test_a_database_that_is_none_of_this_versions_is_refused_before_its_backup_and_by_every_command(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.fresh_url(root)
    monkeypatch.setenv("INVSYNC_DATABASE_URL", url)
    assert invoke("status").exit_code == 0
    with databases.opened(url).begin() as connection:
        connection.exec_driver_sql("ALTER TABLE channels DROP COLUMN recognised")
    monkeypatch.setenv("INVSYNC_NEW_DATABASE_URL", f"sqlite:///{root}/new.db")
    for command in ("upgrade", "status", "audit", "move-database"):
        refused = invoke(command)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert refused.stderr.count("\n") == 1
        assert "is another one: there is no column channels.recognised. It was made before the first" in refused.stderr
        assert "docs/upgrading.md, A database of before the first release" in refused.stderr
    assert not (root / "new.db").exists()
    assert not (root / "data" / "backups").exists()


def test_a_database_that_cannot_be_looked_at_is_told_in_one_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "loop").symlink_to("loop")  # what a folder that may not be entered is for others than root
    monkeypatch.setenv("INVSYNC_DATABASE_URL", f"sqlite:///{root}/loop/invsync.db")
    for command in ("upgrade", "status"):
        refused = invoke(command)
        assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)
        assert f"unable to open database file ({root}/loop/invsync.db)" in refused.stderr
        assert "let the user that we run as read and write it" in refused.stderr


def test_a_folder_that_may_not_be_entered_is_told_with_the_mend(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "mkdir", refused)  # root may enter every folder
    told = invoke("upgrade")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == (
        f"invsync: {root}/data/inbox: permission denied; let the user that we run as read and write it, and enter its folder\n"
    )


ERP = """\
channels:
  - name: erp_main
    platform: erp
    environment: sandbox
    settings: {base_url: "http://127.0.0.1:9", api_key_env: K, signing_secret_env: S, webhook_secret_env: W}
"""


@pytest.mark.usefixtures("each_database")
def test_what_the_page_takes_out_of_an_old_database_goes_into_a_new_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "KSW":
        monkeypatch.setenv(name, "secret")
    (root / "channels.yaml").write_text(ERP)
    (root / "mapping.csv").write_text(
        "central_sku,channel,platform_sku,platform_item_id,platform_location_id,buffer\n0071,erp_main,0071,0071,,2\n"
    )
    page = (Path(__file__).parents[2] / "docs" / "upgrading.md").read_text()
    files = {name: query for query, name in re.findall(r'invsync\.db "(SELECT .*)" > (\w+\.csv)', page)}
    assert files.keys() == {"stock.csv", "mapping.csv"}
    shown = []
    for number in (1, 2):
        monkeypatch.setenv("INVSYNC_DATABASE_URL", url := databases.fresh_url(root / str(number)))
        for command in (("channels", "sync"), ("import", root / "stock.csv"), ("import", root / "mapping.csv")):
            done = invoke(*command)
            assert done.exit_code == 0, done.output
        explained = json.loads(invoke("explain", "0071", "--channel", "erp_main", "--json").stdout)
        shown.append((explained["quantity"], [listing["desired"] for listing in explained["listings"]]))
        with databases.opened(url).connect() as connection:
            for name, query in files.items():
                found = connection.exec_driver_sql(query)
                with (root / name).open("w", newline="") as file:
                    csv.writer(file).writerows([list(found.keys()), *found.all()])
    assert shown == [(10, [8]), (10, [8])]


def test_without_a_backup_nothing_is_upgraded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    databases.use("postgresql")
    monkeypatch.setenv("INVSYNC_DATABASE_URL", url := databases.fresh_url(root))
    make_older(url)
    databases.use("sqlite")
    monkeypatch.setenv("PATH", str(root))
    refused = invoke("upgrade")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("invsync: nothing was changed, since there is no backup: there is no pg_dump")
    assert not list((root / "data" / "backups").iterdir())
    assert "(revision 0004)" in invoke("status").stderr


def test_a_bare_database_on_postgresql_has_nothing_to_back_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    databases.use("postgresql")
    monkeypatch.setenv("INVSYNC_DATABASE_URL", databases.fresh_url(root, migrated=False))
    databases.use("sqlite")
    monkeypatch.setenv("PATH", str(root))
    upgraded = invoke("upgrade")
    assert (upgraded.exit_code, "backup" in upgraded.output) == (0, False)


def test_the_stock_moves_to_postgresql_and_no_password_is_shown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("upgrade").exit_code == 0
    assert invoke("import", str(root / "stock.csv")).exit_code == 0
    assert invoke("move-database").stderr.startswith("invsync: INVSYNC_NEW_DATABASE_URL is not set")
    databases.use("postgresql")
    own = databases.opened(databases.fresh_url(root, migrated=False))
    databases.use("sqlite")
    monkeypatch.setenv("INVSYNC_NEW_DATABASE_URL", shared_server().tcp_url(str(own.url.database)))
    moved = invoke("move-database")
    assert moved.exit_code == 0, moved.output
    assert "central_inventory: 1 rows" in moved.output
    assert PASSWORD not in moved.output
    with own.connect() as connection:
        assert connection.execute(select(central_inventory.c.sku, central_inventory.c.quantity)).all() == [("0071", 10)]
    again = invoke("move-database")
    assert (again.exit_code, "not empty" in again.stderr) == (2, True)


@pytest.mark.usefixtures("each_database")
def test_a_stock_that_a_service_has_open_is_not_moved(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = databases.fresh_url(root)
    monkeypatch.setenv("INVSYNC_DATABASE_URL", url)
    monkeypatch.setenv("INVSYNC_NEW_DATABASE_URL", f"sqlite:///{root}/new.db")
    service = databases.opened(url)
    service.connect().close()  # it rests in the service's pool
    refused = invoke("move-database")
    assert refused.exit_code == 2
    assert " is in use" in refused.stderr
    assert refused.stderr.endswith("stop all services, and move again\n")
    assert not (root / "new.db").exists()
    service.dispose()
    assert invoke("move-database").exit_code == 0


def test_dagsters_own_database_is_not_taken_for_a_newer_stock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(root / "runs.db") as theirs:
        theirs.execute("CREATE TABLE alembic_version (version_num TEXT)")
        theirs.execute("INSERT INTO alembic_version VALUES ('29b539ebc72a')")
    theirs.close()
    monkeypatch.setenv("INVSYNC_DATABASE_URL", f"sqlite:///{root}/runs.db")
    assert "of a newer version of invsync (revision 29b539ebc72a" in invoke("upgrade").stderr
    with sqlite3.connect(root / "runs.db") as theirs:
        theirs.execute("CREATE TABLE daemon_heartbeats (timestamp TEXT)")
    theirs.close()
    for command in ("upgrade", "status"):
        refused = invoke(command)
        assert refused.exit_code == 2
        assert refused.stderr == (
            "invsync: the database that was named for the stock is Dagster's own: let INVSYNC_DATABASE_URL name another one, "
            "which only the stock is in\n"
        )


@pytest.mark.parametrize("by", ["upgrade", "set-up"])
def test_one_database_for_both_is_refused_before_anything_is_made_in_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    databases.use("postgresql")
    own = databases.opened(databases.fresh_url(root, migrated=False))
    databases.use("sqlite")
    url = shared_server().tcp_url(str(own.url.database))
    both = {"INVSYNC_DATABASE_URL": url, "INVSYNC_DAGSTER_DATABASE_URL": url.replace("postgresql:", "postgres:")}
    if by == "upgrade":
        for name, value in both.items():
            monkeypatch.setenv(name, value)
        refused = invoke("upgrade")
        assert (refused.exit_code, PASSWORD in refused.stderr) == (2, False)
        assert "INVSYNC_DAGSTER_DATABASE_URL names the database of the stock" in refused.stderr
    else:
        with pytest.raises(DatabaseUrlError, match="names the database of the stock"):
            set_up(root, both)
    assert inspect(own).get_table_names() == []
    assert not (root / ".env").exists()


def test_a_password_with_an_at_sign_stands_neither_in_an_error_nor_in_a_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVSYNC_DAGSTER_DATABASE_URL", "postgresql://me:my@hidden@127.0.0.1:9/dagster")
    refused = invoke("upgrade")
    assert refused.stderr.startswith("invsync: INVSYNC_DAGSTER_DATABASE_URL has an @ ")
    assert "hidden" not in refused.output
    assert not (root / "data").exists()


def test_a_stock_that_is_not_there_is_not_moved_nor_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVSYNC_NEW_DATABASE_URL", f"sqlite:///{root}/new.db")
    refused = invoke("move-database")
    assert refused.exit_code == 2
    assert f"there is no such file ({root}/data/invsync.db)" in refused.stderr
    assert not (root / "data" / "invsync.db").exists()
    assert not (root / "new.db").exists()


def test_a_new_database_that_lets_nobody_in_is_named_by_the_variable_that_was_given(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("upgrade").exit_code == 0
    wrong = shared_server().tcp_url("postgres").replace(PASSWORD, "hidden-but-wrong")
    for variable in ("INVSYNC_NEW_DATABASE_URL", "ELSEWHERE"):
        monkeypatch.setenv(variable, wrong)
        refused = invoke("move-database", *(["--to", variable] if variable == "ELSEWHERE" else []))
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert refused.stderr.endswith(f"the password or the database's name in its URL right ({variable})\n")
        assert "hidden" not in refused.stderr


def test_a_move_says_where_the_stock_is_in_the_words_that_it_was_given(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("upgrade").exit_code == 0
    monkeypatch.setenv("INVSYNC_NEW_DATABASE_URL", f"sqlite:///{root}/new.db")
    moved = invoke("move-database")
    said = f"0 rows are in sqlite:///{root}/new.db; let INVSYNC_DATABASE_URL be what INVSYNC_NEW_DATABASE_URL is"
    assert moved.output.splitlines()[-1] == said
    monkeypatch.setenv("INVSYNC_NEW_DATABASE_URL", f"sqlite:///{root}/stock.csv/new.db")
    refused = invoke("move-database")
    assert (refused.exit_code, refused.stderr.startswith("invsync: ")) == (2, True), refused.output


def test_a_url_that_can_not_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVSYNC_DATABASE_URL", "mysql://stock:hidden@db/stock")
    for command in ("status", "upgrade"):
        refused = invoke(command)
        assert refused.exit_code == 2
        assert refused.stderr == (
            "invsync: the database URL names 'mysql'; the stock is kept in sqlite or postgresql\n"
        )
