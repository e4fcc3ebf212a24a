"""SQLite's file was moved away, emptied or damaged: nothing is made in its place, no commit is lost, and the mend is told."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, text

from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import DatabaseGoneError, migrate, open_database, write_transaction
from invsync_dagster.inventory.mends import mend_of
from invsync_dagster.inventory.skus import Sku, set_skus
from tests import databases
from tests.unit.inventory.stock import START

MOVE_BACK = (
    "move it back together with its -wal and -shm, let INVSYNC_DATABASE_URL name it where it is, or bring a backup back: "
    "`invsync restore BACKUP`"
)


def units(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(text("SELECT sum(quantity) FROM central_inventory")).scalar_one() or 0


def said_of(engine: Engine) -> str:
    with pytest.raises(DatabaseGoneError) as caught:
        units(engine)
    return str(caught.value)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A stock of 50 units that are in the -wal alone, as whoever is killed leaves them."""
    database = tmp_path / "living" / "stock.db"
    databases.make_file(database)
    with write_transaction(engine := databases.engine_of(database)) as connection:
        set_skus(connection, [Sku("A")], actor="test", reason="", now=START)
        apply_counts(connection, [Count("A", 50, START)], CountSource("shelf"), now=START, run_id="")
    shutil.copytree(database.parent, tmp_path / "data")
    engine.dispose()
    return tmp_path / "data" / "stock.db"


@pytest.mark.parametrize("make", [False, True])
def test_a_file_that_was_moved_away_is_not_made_anew_and_what_was_committed_last_is_there_when_it_is_back(
    killed: Path, make: bool
) -> None:
    engine = databases.engine_of(killed, make=make)
    aside = killed.with_name("away")
    killed.rename(aside)
    said = said_of(engine)
    assert said.startswith(f"the stock's database can't be used: its file is gone ({killed}). ")
    assert said.endswith(f"; {MOVE_BACK}")
    assert not killed.exists()
    assert killed.with_name("stock.db-wal").stat().st_size > 0
    aside.rename(killed)
    assert units(engine) == 50  # the same process goes on by itself


@pytest.mark.parametrize("make", [False, True])
def test_an_empty_file_in_its_place_costs_no_commit(killed: Path, make: bool) -> None:
    engine = databases.engine_of(killed, make=make)
    aside = killed.rename(killed.with_name("away"))
    killed.touch()
    said = said_of(engine)
    assert said.startswith(f"the stock's database can't be used: its file is empty ({killed}). ")
    assert said.endswith(f"; {MOVE_BACK}")
    aside.replace(killed)
    assert units(engine) == 50


def test_who_makes_a_stock_makes_its_file_and_folder_and_takes_an_empty_one(tmp_path: Path) -> None:
    for file in (tmp_path / "new" / "stock.db", tmp_path / "stock.db"):
        if file.parent == tmp_path:
            file.touch()
        engine = databases.engine_of(file, make=True)
        migrate(engine)
        assert units(engine) == 0
        assert file.stat().st_size > 0


def test_a_set_up_is_named_only_where_nothing_was_ever_kept(tmp_path: Path) -> None:
    file = tmp_path / "stock.db"
    (tmp_path / "imports").mkdir()
    engine = databases.engine_of(file)
    assert "there is no such file" in said_of(engine)
    assert said_of(engine).endswith("; if there never was one: `make setup`")
    (tmp_path / "imports" / "stock.csv").touch()
    assert "its file is gone" in said_of(engine)
    assert "make setup" not in said_of(engine)
    assert not file.exists()


def test_whoever_still_has_a_moved_file_open_is_told_that_it_is_gone(killed: Path) -> None:
    engine = databases.engine_of(killed)
    with engine.connect() as connection, pytest.raises(DatabaseGoneError, match="its file is gone"):
        connection.execute(text("SELECT 1"))
        killed.rename(killed.with_name("away"))
        connection.execute(text("SELECT 1 FROM nothing"))


@pytest.mark.parametrize("from_byte", [0, 4096])
def test_a_damaged_file_is_named_with_the_restore_that_mends_it(tmp_path: Path, from_byte: int) -> None:
    file = tmp_path / "stock.db"
    databases.make_file(file)
    with file.open("r+b") as broken:
        broken.seek(from_byte)
        broken.write(b"\xff" * (file.stat().st_size - from_byte))
    said = said_of(databases.engine_of(file))
    assert f"({file})" in said
    assert said.endswith(
        "; move it away together with its -wal and -shm, and bring a backup back: `invsync restore BACKUP`"
    )


def test_another_database_than_the_stocks_is_named(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE theirs (it)")
    said = said_of(databases.engine_of(file))
    assert said.startswith(f"the stock's database can't be used: no such table: central_inventory ({file}). ")
    assert "; let INVSYNC_DATABASE_URL name the stock's own, or bring a backup back" in said


@pytest.mark.parametrize(
    "name", ["a b.db", "50%.db", "a%41b.db", "a?mode=ro.db", "a#b.db", "a&b=c;d.db", "Bestände €.db"]
)
def test_a_path_may_hold_whatever_a_url_gives_a_meaning(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{quote(str(tmp_path / name))}"
    migrate(databases.opened(url))
    assert (tmp_path / name).stat().st_size > 0
    assert units(databases.engine_of(tmp_path / name)) == 0
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))] == [name]


def test_a_relative_path_counts_from_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    databases.make_file(tmp_path / "folder" / "stock.db")
    monkeypatch.chdir(tmp_path)
    engine = open_database("sqlite:///folder/stock.db")
    monkeypatch.chdir("/")
    assert units(engine) == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("reason", "mend"),
    [
        ("database or disk is full", "free space on its disk, and the next run does it"),
        ('relation "installation" does not exist', "let INVSYNC_DATABASE_URL name the stock's own"),
        ('database "nowhere" does not exist', "put the user, the password or the database's name in its URL right"),
        ("unable to open database file", "let the user that we run as read and write it"),
        (
            "attempt to write a readonly database",
            "let the user that we run as read and write it, its -wal and -shm, and its",
        ),
        ("permission denied for table channels", "put the role that made its tables into its URL"),
        (
            "cannot execute UPDATE in a read-only transaction",
            "let INVSYNC_DATABASE_URL name the server that is written to",
        ),
        ("failed to resolve host 'db'", "put the host in its URL right"),
        ('role "nobody" does not exist', "put the user, the password or the database's name in its URL right"),
        (
            'lock timeout CONTEXT: while locking tuple (0,1) in relation "channels"',
            "the next run does it, once it is back",
        ),
        ("server closed the connection", "the next run does it, once it is back"),
    ],
)
def test_each_reason_has_its_own_mend(reason: str, mend: str) -> None:
    assert mend_of(reason).startswith(mend)
