"""Backups of both kinds: they hold the stock, appear only when whole, and never show a password."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from invsync_dagster.inventory.backup import KEPT, BackupError, back_up
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory
from tests import databases
from tests.postgres_server import PASSWORD, shared_server

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path, each_database: str) -> str:
    """A database with one SKU; on PostgreSQL with the password in its URL."""
    url = databases.fresh_url(tmp_path)
    if each_database == "postgresql":
        url = shared_server().tcp_url(str(databases.opened(url).url.database))
    engine = databases.opened(url)
    with write_transaction(engine) as connection:
        set_skus(connection, [Sku("0071")], actor="test", reason="", now=NOW)
    return url


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(shared_server().bin), prepend=":")


def test_a_backup_restores_to_the_same_stock(tmp_path: Path, url: str, each_database: str) -> None:
    made = back_up(url, tmp_path / "backups", NOW)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.size_bytes == made.path.stat().st_size
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name]
    if each_database == "sqlite":
        restored = f"sqlite:///{made.path}"
    else:
        restored = databases.fresh_url(tmp_path, migrated=False)
        command = ["pg_restore", "--exit-on-error", "--no-owner", f"--dbname={shared_server().address(restored)}"]
        subprocess.run([*command, str(made.path)], check=True)
    engine = databases.opened(restored)
    with engine.connect() as connection:
        assert connection.execute(central_inventory.select()).one().sku == "0071"


def test_only_the_latest_are_kept(tmp_path: Path, url: str) -> None:
    first = back_up(url, tmp_path / "backups", NOW).path
    for hour in range(KEPT + 1):
        first.with_name(first.name.replace("20260701T12", f"20250701T{hour:02d}")).touch()
    made = back_up(url, tmp_path / "backups", NOW.replace(hour=13))
    assert (made.kept, made.removed) == (KEPT, 3)
    assert first.exists()
    assert len(list((tmp_path / "backups").iterdir())) == KEPT


def test_a_dump_that_fails_leaves_nothing_and_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = shared_server().tcp_url("no_such_database")
    with pytest.raises(BackupError, match=r"pg_dump: .*no_such_database.* does not exist") as caught:
        back_up(gone, tmp_path / "backups", NOW)
    assert PASSWORD not in str(caught.value)
    assert list((tmp_path / "backups").iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="no pg_dump on PATH"):
        back_up(gone, tmp_path / "backups", NOW)


def test_a_database_that_is_no_database_is_not_kept(tmp_path: Path) -> None:
    broken = tmp_path / "stock.db"
    engine = open_database(f"sqlite:///{broken}")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
        connection.commit()
    engine.dispose()
    content = bytearray(broken.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    broken.write_bytes(content)
    with pytest.raises(BackupError, match=r"stock\.db can't be copied: database disk image is malformed"):
        back_up(f"sqlite:///{broken}", tmp_path / "backups", NOW)
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_ends_though_another_connection_commits_all_the_time(tmp_path: Path) -> None:
    database = tmp_path / "stock.db"
    open_database(f"sqlite:///{database}").connect().close()
    writer = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA synchronous=OFF")
    writer.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
    writer.execute("INSERT INTO t VALUES (0, zeroblob(50000000))")
    done, went_on = threading.Event(), []

    def write() -> None:
        for number in range(1, 20_000):
            if done.is_set():
                went_on.append(number)
                return
            writer.execute("INSERT INTO t VALUES (?, NULL)", (number,))

    thread = threading.Thread(target=write)
    thread.start()
    made = back_up(f"sqlite:///{database}", tmp_path / "backups", NOW)
    done.set()
    thread.join()
    writer.close()
    assert went_on, "the backup ended only after the last of all commits"
    assert made.size_bytes > 50_000_000


def test_backups_of_a_database_with_a_longer_name_are_left_alone(tmp_path: Path) -> None:
    engine = databases.opened(databases.fresh_url(tmp_path))
    folder = tmp_path / "backups"
    folder.mkdir()
    for hour in range(KEPT + 1):
        (folder / f"stock-eu-20260701T{hour:02d}0000Z.db").touch()
    made = back_up(engine.url.render_as_string(), folder, NOW)
    assert (made.path.name, made.kept, made.removed) == ("stock-20260701T120000Z.db", 1, 0)
    assert len(list(folder.iterdir())) == KEPT + 2


def test_what_a_killed_backup_left_is_removed_and_one_under_way_is_not(tmp_path: Path) -> None:
    url = databases.fresh_url(tmp_path)
    folder = tmp_path / "backups"
    folder.mkdir()
    for name, age in (("090000Z.part", 2), ("090000Z.part-journal", 2), ("113000Z.part", 0)):
        left = folder / f"stock-20260701T{name}"
        left.touch()
        when = (NOW - timedelta(hours=age)).timestamp()
        os.utime(left, (when, when))
    back_up(url, folder, NOW)
    assert sorted(path.name for path in folder.iterdir()) == [
        "stock-20260701T113000Z.part",
        "stock-20260701T120000Z.db",
    ]


def test_two_backups_of_one_second_do_not_write_into_one_file(tmp_path: Path) -> None:
    url = databases.fresh_url(tmp_path)
    folder = tmp_path / "backups"
    folder.mkdir()
    under_way = folder / "stock-20260701T120000Z.part"
    under_way.write_text("of the other one")
    os.utime(under_way, (NOW.timestamp(), NOW.timestamp()))
    with pytest.raises(BackupError, match="another backup is under way"):
        back_up(url, folder, NOW)
    assert under_way.read_text() == "of the other one"


def test_whatever_breaks_a_backup_off_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        back_up(databases.fresh_url(tmp_path), tmp_path / "backups", NOW)
    assert list((tmp_path / "backups").iterdir()) == []
