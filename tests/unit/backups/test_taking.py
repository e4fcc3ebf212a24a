"""Backups of both kinds: they hold stock and inbox, appear only when whole, share what stands still, and show no password."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from invsync_dagster.backups.files import require
from invsync_dagster.backups.manifest import CHANNELS_FILE, DATABASE, QUARANTINE, read_manifest
from invsync_dagster.backups.packs import SEGMENT, members_of
from invsync_dagster.backups.proving import prove
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.backups.taking import KEPT, KEPT_UNPROVEN, Taken, folder_of, marker_of, prune, take
from invsync_dagster.inventory.copies import BackupError, copy_database
from invsync_dagster.inventory.database import open_database
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.files import write_durably
from tests import databases
from tests.postgres_server import PASSWORD, shared_server
from tests.unit.backups.stage import NOW, Stage, names

KEYS, NO_KEYS = BackupKeys([bytes(range(32))]), BackupKeys()


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(shared_server().bin), prepend=":")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def packed(taken: Taken, keys: BackupKeys = NO_KEYS) -> list[str]:
    """Return the segments in a backup, each as often as it is in one of its packs."""
    packs = [pack for day in taken.manifest.days.values() for pack in day.packs]
    return [name for pack in packs for name, _ in members_of(taken.path / pack, keys, SEGMENT)]


def later(stage: Stage, keys: BackupKeys = NO_KEYS, **time: float) -> Taken:
    stage.clock.advance(timedelta(**(time or {"hours": 1})).total_seconds())
    return take(stage.home, keys, stage.clock.now())


def stand_still(stage: Stage) -> None:
    """Let the kept days look as if they had not been touched for a while."""
    for day in (stage.home.inbox / "done").glob("*"):
        os.utime(day, (1_700_000_000, 1_700_000_000))


@pytest.mark.parametrize("keys", [NO_KEYS, KEYS], ids=["open", "sealed"])
@pytest.mark.usefixtures("each_database")
def test_a_backup_holds_database_inbox_quarantine_and_channels_file_and_proves_itself(
    tmp_path: Path, keys: BackupKeys
) -> None:
    stage = Stage(tmp_path)
    applied, waiting = stage.receive(), stage.receive()
    stage.inbox.finish(applied)
    kept = stage.inbox.quarantine.keep(stage.inbox.read(waiting)[0], "no such thing")
    stage.home.channels_file.write_text("channels: []\n")
    made = take(stage.home, keys, NOW)
    assert names(made.path) == sorted([CHANNELS_FILE, DATABASE, QUARANTINE, "inbox/2026-07-01.1.tar", "manifest"])
    assert sorted(packed(made, keys)) == [applied.name, waiting.name]
    manifest = read_manifest(made.path, keys)
    assert manifest == made.manifest
    assert (manifest.skus, manifest.sequence, manifest.schema_revision, manifest.segments) == (1, 0, "0006", 2)
    assert (manifest.quarantined, manifest.key, manifest.database) == (1, keys.name, databases.current())
    assert manifest.replay_from == NOW - timedelta(hours=1)
    assert marker_of(stage.home).read_text().strip() == manifest.installation != ""
    for path in [made.path, *made.path.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    if keys.name:
        content = b"".join((made.path / name).read_bytes() for name in names(made.path))
        for word in (b"0071", b"orders/create", b"no such thing", b"channels", kept.name.encode()):
            assert word not in content, word
    proof = prove(made, stage.home.database_url, keys)
    assert (proof.is_restored, proof.differences) == (True, ())
    assert [path.name for path in folder_of(stage.home).iterdir()] == [made.path.name]


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_a_role_that_may_create_no_database_has_its_archive_read_to_the_end(tmp_path: Path, each_database: str) -> None:
    stage = Stage(tmp_path)
    database = str(stage.engine.url.database)
    with shared_server().admin() as admin:
        admin.execute(f"CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'".encode())
        admin.execute(f"GRANT pg_read_all_data TO poor; GRANT CONNECT ON DATABASE {database} TO poor".encode())
    try:
        url = stage.home.database_url.replace("postgres:", "poor:", 1).replace("://postgres", "://poor")
        home = Home(stage.home.root, stage.home.data, url.replace("poorql", "postgresql"), stage.home.channels_file)
        made = take(home, NO_KEYS, NOW)
        assert prove(made, home.database_url, NO_KEYS).is_restored is False
        archive = made.path / DATABASE
        archive.write_bytes(archive.read_bytes()[:-1000])
        with pytest.raises(BackupError, match="database is damaged"):
            prove(made, home.database_url, NO_KEYS)
    finally:
        stage.engine.dispose()
        with shared_server().admin() as admin:
            admin.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
            admin.execute(b"DROP ROLE poor")
            admin.execute(f"CREATE DATABASE {database}".encode())


def test_only_the_latest_of_the_proven_are_kept(stage: Stage) -> None:
    first = take(stage.home, NO_KEYS, NOW)
    prove(first, stage.home.database_url, NO_KEYS)
    copies(first.path, KEPT + 1)
    made = later(stage)
    prove(made, stage.home.database_url, NO_KEYS)
    assert prune(stage.home) == 3
    left = sorted(path.name for path in folder_of(stage.home).iterdir())
    assert (len(left), left[0], left[-2:]) == (KEPT, "stock-20250701T030000Z", [first.path.name, made.path.name])
    assert prune(stage.home) == 0


def test_however_many_proofs_fail_the_proven_ones_stay_and_the_others_do_not_pile_up(stage: Stage) -> None:
    first = take(stage.home, NO_KEYS, NOW)
    prove(first, stage.home.database_url, NO_KEYS)
    with stage.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE central_inventory SET quantity = 5")
        connection.commit()
    bad = later(stage)
    assert prove(bad, stage.home.database_url, NO_KEYS).differences
    copies(bad.path, 100, year=2027)
    assert prune(stage.home) == 101 - KEPT_UNPROVEN
    left = sorted(path.name for path in folder_of(stage.home).iterdir())
    assert (len(left), left[0], left[-1]) == (1 + KEPT_UNPROVEN, first.path.name, "stock-20270705T030000Z")
    read_manifest(folder_of(stage.home) / left[0], NO_KEYS)
    # Nor does a proven one of long ago go because newer ones are not.
    assert prune(stage.home) == 0


def test_one_that_was_never_proven_goes_with_the_proven_ones_before_it(stage: Stage) -> None:
    upgrade = take(stage.home, NO_KEYS, NOW)
    first = later(stage)
    prove(first, stage.home.database_url, NO_KEYS)
    copies(first.path, KEPT - 2, year=2027)
    assert prune(stage.home) == 0
    copies(first.path, 1, year=2028)
    assert prune(stage.home) == 1
    assert not upgrade.path.exists()
    assert first.path.exists()


def copies(backup: Path, number: int, year: int = 2025) -> None:
    for hour in range(number):
        shutil.copytree(backup, backup.with_name(f"stock-{year}07{hour // 24 + 1:02d}T{hour % 24:02d}0000Z"))


def test_days_that_stand_still_are_shared_and_a_day_that_grows_gets_a_pack_of_what_is_new(stage: Stage) -> None:
    old = stage.receive()
    stage.inbox.finish(old)
    stage.clock.advance(86_400)
    stage.inbox.finish(stage.receive())
    stand_still(stage)
    first = later(stage)
    second = later(stage)
    assert [name for name in second.fresh if name.startswith("inbox/2026")] == []
    assert packed(second) == packed(first)
    assert (first.path / "inbox/2026-07-01.1.tar").samefile(second.path / "inbox/2026-07-01.1.tar")
    new, waiting = stage.receive(), stage.receive()
    stage.inbox.finish(new)
    third = later(stage)
    assert [name for name in third.fresh if name.startswith("inbox/2026")] == ["inbox/2026-07-02.2.tar"]
    assert sorted(packed(third)) == sorted([*packed(first), new.name, waiting.name])
    assert third.manifest.segments == 4
    stage.inbox.finish(waiting)
    fourth = later(stage)
    assert sorted(packed(fourth)) == sorted(packed(third))
    # The day is over: its packs become one.
    fifth = later(stage, days=1)
    assert fifth.manifest.days["2026-07-02"].packs == ("inbox/2026-07-02.1.tar",)
    assert sorted(packed(fifth)) == sorted(packed(third))
    shutil.rmtree(first.path)
    assert sorted(packed(fifth)) == sorted(packed(third))
    for taken in (second, third, fourth, fifth):
        assert prove(taken, stage.home.database_url, NO_KEYS).differences == ()


def cut(pack: Path) -> None:
    pack.write_bytes(pack.read_bytes()[:100])


def rot(pack: Path) -> None:
    content = bytearray(pack.read_bytes())
    content[700] ^= 1
    pack.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, rot, Path.unlink])
@pytest.mark.parametrize("grows", [True, False])
def test_a_pack_that_is_damaged_since_is_not_shared_and_keeps_no_backup_from_being_made(
    stage: Stage, damage: Callable[[Path], None], grows: bool
) -> None:
    stage.inbox.finish(stage.receive())
    stage.clock.advance(0 if grows else 86_400)
    stand_still(stage)
    first = later(stage)
    damage(first.path / "inbox/2026-07-01.1.tar")
    if grows:
        stage.inbox.finish(stage.receive())
    made = later(stage) if grows else later(stage, hours=24)
    assert len(packed(made)) == 1 + grows
    for name, written in made.manifest.files.items():
        require(made.path / name, written)
    assert later(stage).manifest.segments == 1 + grows


def test_after_a_backup_that_failed_its_proof_what_is_shared_with_it_is_proven_too(stage: Stage) -> None:
    stage.inbox.finish(stage.receive())
    stand_still(stage)
    pack = "inbox/2026-07-01.1.tar"
    bad = later(stage)
    rot(bad.path / pack)
    with pytest.raises(BackupError, match="is damaged"):
        prove(bad, stage.home.database_url, NO_KEYS)
    made = later(stage)
    assert prove(made, stage.home.database_url, NO_KEYS).differences == ()
    for name, written in made.manifest.files.items():
        require(made.path / name, written)
    assert len(packed(made)) == 1
    # One whose proof was never begun shares its packs, and they are looked at with the next.
    (made.path / "proven").unlink()
    last = later(stage)
    assert (made.path / pack).samefile(last.path / pack)
    assert pack not in last.fresh
    rot(last.path / pack)
    with pytest.raises(BackupError, match="is damaged"):
        prove(last, stage.home.database_url, NO_KEYS)


def test_what_was_erased_or_forgotten_in_the_inbox_is_not_in_the_next_backup(stage: Stage) -> None:
    erased, forgotten, other = stage.receive(b"Anna Buyer"), stage.receive(b"Ben Buyer"), stage.receive()
    done = stage.home.inbox / "done" / "2026-07-01"
    for path in (erased, forgotten, other):
        stage.inbox.finish(path)
    stand_still(stage)
    assert len(packed(later(stage))) == 3
    write_durably(done / erased.name, b"less")
    made = later(stage)
    assert made.manifest.days["2026-07-01"].packs == ("inbox/2026-07-01.1.tar",)
    contents = dict(members_of(made.path / "inbox/2026-07-01.1.tar", NO_KEYS, SEGMENT))
    assert contents[erased.name] == b"less"
    (done / forgotten.name).unlink()
    assert sorted(packed(later(stage))) == [erased.name, other.name]
    shutil.rmtree(done)
    assert later(stage).manifest.days == {}


def test_a_day_that_was_touched_just_before_the_backup_is_looked_at_again(stage: Stage) -> None:
    stage.inbox.finish(stage.receive())
    first = later(stage)
    assert first.manifest.days["2026-07-01"].stamp == 0
    stand_still(stage)
    second = later(stage)
    assert second.manifest.days["2026-07-01"].stamp == 1_700_000_000 * 10**9
    assert packed(second) == packed(first)


def test_with_another_key_nothing_is_shared(stage: Stage) -> None:
    stage.inbox.finish(stage.receive())
    stand_still(stage)
    take(stage.home, NO_KEYS, NOW)
    made = later(stage, KEYS)
    assert "inbox/2026-07-01.1.tar" in made.fresh
    assert packed(made, KEYS)
    newer = BackupKeys([bytes(32), bytes(range(32))])
    assert "inbox/2026-07-01.1.tar" in later(stage, newer).fresh
    assert "inbox/2026-07-01.1.tar" not in later(stage, newer).fresh


def test_where_the_file_system_has_no_links_the_packs_are_made_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError("no links here")

    stage.inbox.finish(stage.receive())
    stand_still(stage)
    first = later(stage)
    monkeypatch.setattr(os, "link", refused)
    second = later(stage)
    assert "inbox/2026-07-01.1.tar" in second.fresh
    assert packed(second) == packed(first)


def test_a_segment_that_is_applied_while_the_inbox_is_packed_is_in_the_backup(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from invsync_dagster.backups import packs

    waiting = [stage.receive() for _ in range(3)]
    listing = packs.segments_in

    def listed(folder: Path) -> dict[str, Path]:
        found = listing(folder)
        if folder == stage.home.inbox / "done" / "2026-07-01":
            for path in waiting:
                stage.inbox.finish(path)
        return found

    monkeypatch.setattr(packs, "segments_in", listed)
    assert sorted(packed(later(stage))) == [path.name for path in waiting]


def test_what_is_not_applied_yet_is_replayed_however_old_and_what_is_no_segment_is_left_alone(stage: Stage) -> None:
    waiting = stage.receive()
    (stage.home.inbox / "0000000000000001-0123456789ab.segment").mkdir()
    (stage.home.inbox / f"copy of {waiting.name}").write_text("a copy")
    made = later(stage, days=3)
    assert packed(made) == [waiting.name]
    assert made.manifest.replay_from == NOW + timedelta(seconds=1) - timedelta(hours=1)


def test_a_dump_that_fails_leaves_nothing_and_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Home(tmp_path, tmp_path / "data", shared_server().tcp_url("postgres"), tmp_path / "channels.yaml")
    with pytest.raises(Exception, match="installation") as caught:
        take(gone, NO_KEYS, NOW)
    assert PASSWORD not in str(caught.value)
    assert list(folder_of(gone).iterdir()) == []


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_without_pg_dump_there_is_no_backup(
    tmp_path: Path, each_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="no pg_dump on PATH"):
        take(stage.home, NO_KEYS, NOW)
    assert list(folder_of(stage.home).iterdir()) == []


def test_a_database_that_is_no_database_is_not_kept(stage: Stage) -> None:
    stage.engine.dispose()
    database = stage.home.root / "stock.db"
    content = bytearray(database.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    database.write_bytes(content)
    with pytest.raises(BackupError, match=r"stock\.db can't be copied: database disk image is malformed"):
        take(stage.home, NO_KEYS, NOW)
    assert list(folder_of(stage.home).iterdir()) == []


@pytest.mark.parametrize(
    ("left", "why"),
    [(b"", "its file is empty; move it back"), (None, "its file is gone; move it back")],
    ids=["empty", "moved away"],
)
def test_a_database_whose_file_is_missing_is_told_with_its_mend(stage: Stage, left: bytes | None, why: str) -> None:
    stage.engine.dispose()
    database = stage.home.root / "stock.db"
    (stage.home.root / "inbox").mkdir()
    (stage.home.root / "inbox" / "waits").touch()  # a stock was worked on here
    database.unlink()
    if left is not None:
        database.write_bytes(left)
    with pytest.raises(BackupError, match=rf"stock\.db can't be copied: {why} together with its -wal"):
        copy_database(stage.home.database_url, stage.home.root / "copy.db")


def test_the_copy_of_a_backup_that_was_not_restored_is_not_backed_up(stage: Stage) -> None:
    made = take(stage.home, NO_KEYS, NOW)
    shutil.copy(made.path / DATABASE, stage.home.root / "stock.db")
    with pytest.raises(BackupError, match="comes from a backup whose restore was not ended"):
        later(stage)


def test_a_backup_ends_though_another_connection_commits_all_the_time(stage: Stage) -> None:
    writer = sqlite3.connect(stage.home.root / "stock.db", isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA synchronous=OFF")
    writer.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
    writer.execute("INSERT INTO t VALUES (0, zeroblob(50000000))")
    done, ended = threading.Event(), []

    def write() -> None:
        # A backup that waits for the last commit would wait for ever, so even this writer has an end.
        deadline = time.monotonic() + 120
        while not done.is_set():
            if time.monotonic() > deadline:
                return
            writer.execute("INSERT INTO t (b) VALUES (NULL)")
        ended.append("before the last commit")

    thread = threading.Thread(target=write)
    thread.start()
    made = take(stage.home, NO_KEYS, NOW)
    done.set()
    thread.join()
    writer.close()
    assert ended == ["before the last commit"]
    assert made.manifest.size_bytes > 50_000_000


def test_backups_of_a_database_with_a_longer_name_are_left_alone(stage: Stage, tmp_path: Path) -> None:
    longer = Stage(tmp_path / "eu", "stock-eu")
    other = take(longer.home, NO_KEYS, NOW).path
    for hour in range(KEPT + 1):
        place = folder_of(stage.home) / f"stock-eu-20260701T{hour:02d}0000Z"
        shutil.copytree(other, place)
    made = take(stage.home, NO_KEYS, NOW)
    assert (made.path.name, prune(stage.home)) == ("stock-20260701T120000Z", 0)
    assert len(list(folder_of(stage.home).iterdir())) == KEPT + 2


def test_what_a_killed_backup_left_is_removed_and_one_under_way_is_not(stage: Stage) -> None:
    folder = folder_of(stage.home)
    for name, age in (("090000Z.part", 2), ("091000Z.scratch", 2), ("113000Z.part", 0)):
        left = folder / f"stock-20260701T{name}"
        (left / "inbox").mkdir(parents=True)
        when = (NOW - timedelta(hours=age)).timestamp()
        os.utime(left, (when, when))
    (folder / "stock-20260701T080000Z" / "inbox").mkdir(parents=True)  # one that was being removed
    take(stage.home, NO_KEYS, NOW)
    assert sorted(path.name for path in folder.iterdir()) == [
        "stock-20260701T113000Z.part",
        "stock-20260701T120000Z",
    ]


def test_two_backups_of_one_second_do_not_write_into_one_folder(stage: Stage) -> None:
    under_way = folder_of(stage.home) / "stock-20260701T120000Z.part"
    under_way.mkdir(parents=True)
    (under_way / "copy").write_text("of the other one")
    os.utime(under_way, (NOW.timestamp(), NOW.timestamp()))
    with pytest.raises(BackupError, match="another backup is under way"):
        take(stage.home, NO_KEYS, NOW)
    assert (under_way / "copy").read_text() == "of the other one"


@pytest.mark.parametrize("call", range(7))
def test_whatever_breaks_a_backup_off_and_wherever_leaves_no_part_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls, sync = iter(range(100)), os.fsync

    def interrupted(descriptor: int) -> None:
        if next(calls) == call:
            raise KeyboardInterrupt
        sync(descriptor)

    stage.receive()
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        take(stage.home, NO_KEYS, NOW)
    left = list(folder_of(stage.home).iterdir())
    # Only the last of them comes after the backup has its name: then all of it is there.
    assert [(path / "manifest").is_file() for path in left] == [True] * (call == 6)


def test_a_damaged_backup_is_proven_to_be_one(stage: Stage) -> None:
    stage.receive()
    made = take(stage.home, NO_KEYS, NOW)
    for name in (DATABASE, "inbox/2026-07-01.1.tar", QUARANTINE):
        path = made.path / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"!")
        with pytest.raises(BackupError, match=rf"{path.name} is damaged"):
            prove(made, stage.home.database_url, NO_KEYS)
        path.write_bytes(content)
    assert prove(made, stage.home.database_url, NO_KEYS).differences == ()


def test_books_that_do_not_add_up_show_in_the_proof(stage: Stage) -> None:
    with stage.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE central_inventory SET quantity = 5")
        connection.commit()
    proof = prove(take(stage.home, NO_KEYS, NOW), stage.home.database_url, NO_KEYS)
    assert [(one.sku, one.stored, one.proven) for one in proof.differences] == [("0071", 5, 0)]


def test_an_open_database_in_a_backup_is_one_file_that_opens_by_itself(stage: Stage) -> None:
    made = take(stage.home, NO_KEYS, NOW)
    engine = open_database(f"sqlite:///{made.path / DATABASE}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT sku FROM central_inventory").scalar_one() == "0071"
    engine.dispose()
