"""A backup brought back: the stock is the live one again, nothing is raised unread, and what doesn't fit is refused."""

from __future__ import annotations

import random
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from invsync_dagster.backups.manifest import DATABASE
from invsync_dagster.backups.restoring import Restored, Restoring
from invsync_dagster.backups.sealing import BackupKeyError, BackupKeys
from invsync_dagster.backups.taking import Taken, marker_of, take
from invsync_dagster.channels import load
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.copies import BackupError, copy_database, load_dump
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.database_url import DatabaseUrlError, parse_url
from invsync_dagster.inventory.installation import NotRestoredError
from invsync_dagster.inventory.schema import require_schema
from invsync_dagster.inventory.tables import (
    bulk_submissions,
    central_inventory,
    inventory_levels,
    operator_actions,
    sync_logs,
)
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.settings import Home
from invsync_dagster.setup import make_folders_and_tables
from invsync_dagster.sync import push as push_module
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.seals import Seals
from tests import databases
from tests.postgres_server import shared_server
from tests.simulation.built import SECRETS
from tests.unit.backups.stage import NOW, Stage
from tests.unit.sync.conftest import quiet_world
from tests.unit.sync.kept_stage import SKU, Kept

KEYS, NO_KEYS = BackupKeys([bytes(range(32))]), BackupKeys()
CHANNELS = ("shop_main", "shop_eu", "woo_main", "erp_main")


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(shared_server().bin), prepend=":")


class Living(Kept):
    """A little world whose stock and inbox are in a home on disk, and after a restore in another one."""

    def __init__(self, folder: Path) -> None:
        world = quiet_world()
        home = Home(folder, folder / "data", str(world.engine.url), folder / "channels.yaml")
        if databases.current() == "sqlite":
            home = Home(folder, folder / "data", f"sqlite:///{folder}/stock.db", folder / "channels.yaml")
            with world.engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                with sqlite3.connect(folder / "stock.db") as file:
                    driver.backup(file)
        super().__init__(world, home.data)
        self.move_into(home)

    def move_into(self, home: Home) -> None:
        world = self.world
        world.engine = world.watch._engine = databases.opened(home.database_url)
        for process in world.processes:
            process.engine, process.home = world.engine, home
        self.folder = home.inbox

    def back_up(self, keys: BackupKeys = NO_KEYS) -> Taken:
        return take(self.ws.home, keys, self.world.clock.now())

    def restore(self, taken: Taken, root: Path, survived: Path | None = None, keys: BackupKeys = NO_KEYS) -> Restored:
        """Restore into a new home under `root`, and go on living there."""
        root.mkdir(exist_ok=True)
        url = databases.fresh_url(root)
        home = Home(root, root / "data", url, root / "channels.yaml")
        done = Restoring(home, taken.path, keys, SECRETS, "ann", self.world.clock.now(), survived).restore()
        self.move_into(home)
        return done

    def stock_up(self, sku: str) -> None:
        """Let the ERP count twenty units more, and every channel show them."""
        self.world.erp.restock(sku, 20)
        self.receive("erp_main")
        self.apply()
        for channel in CHANNELS:
            self.world.push(channel)

    def happen(self, rng: random.Random) -> None:
        """Let something happen in a shop or at the ERP, tell it, and apply it most of the times."""
        world = self.world
        sku = f"SKU-{rng.randrange(20):04d}"
        if rng.random() < 0.3:
            world.erp.restock(sku, rng.randint(1, 4))
        else:
            channel = rng.choice(CHANNELS[:2])
            if world.shops[channel].shows().get(sku, 0) > 0:
                world.sell(channel, sku)
        world.clock.advance(rng.randrange(1, 600))
        self.receive(*CHANNELS)
        if rng.random() < 0.6:
            self.apply()


@pytest.fixture
def living(tmp_path: Path, each_database: str) -> Living:
    return Living(tmp_path)


@pytest.mark.parametrize(
    ("each_database", "seed"), [("sqlite", 0), ("sqlite", 1), ("postgresql", 2)], indirect=["each_database"]
)
def test_restored_and_with_the_deliveries_since_the_stock_is_the_live_one_wherever_it_was_cut(
    living: Living, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    cut = rng.randrange(8)
    keys = rng.choice([KEYS, NO_KEYS])
    for step in range(10):
        living.happen(rng)
        if step == cut:
            taken = living.back_up(keys)
    waiting = living.inbox.waiting()
    live = living.folder
    shutil.copytree(live, tmp_path / "live")
    living.apply()
    before = living.sums()

    done = living.restore(taken, tmp_path / "new", tmp_path / "live", keys)
    assert done.inbox.waiting >= waiting
    assert living.apply().quarantined == 0
    assert living.sums() == before
    assert living.inbox.waiting() == 0
    with living.world.engine.connect() as connection:
        assert audit(connection) == []
    assert {path.name for path in living.folder.rglob("*.segment")} == {path.name for path in live.rglob("*.segment")}


def test_without_the_inbox_the_polls_bring_the_orders_and_nothing_is_raised_before(
    living: Living, tmp_path: Path
) -> None:
    world = living.world
    living.stock_up(SKU)
    taken = living.back_up()
    for _ in range(2):
        for channel in CHANNELS[:3]:
            world.sell(channel, SKU)
        world.clock.advance(60)
        living.receive(*CHANNELS)
        living.apply()
        for channel in CHANNELS:
            world.push(channel)
    world.sell("shop_eu", SKU)  # and of this nobody hears before the crash
    before = {channel: world.shown(channel, SKU) for channel in CHANNELS}

    living.restore(taken, tmp_path / "new")
    for channel in CHANNELS:
        world.push(channel)
        assert world.shown(channel, SKU) <= before[channel]
    shutil.rmtree(tmp_path / "data")
    world.clock.advance(3700)
    for channel in (*CHANNELS, *CHANNELS):
        assert not world.push(channel).problem
    assert [world.changes(channel) for channel in CHANNELS] == [0] * 4
    assert world.tally.violations == []
    assert world.shown("shop_main", SKU) == before["shop_main"] - 1
    with world.engine.connect() as connection:
        assert audit(connection) == []


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_while_the_orders_are_not_known_a_level_falls_and_does_not_rise(
    living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*arguments: object, **options: object) -> None:
        raise PlatformError(Recovery.RETRY, "closed", "no orders today")

    world = living.world
    living.stock_up(SKU)
    other = next(sku for sku in world.shops["shop_main"].shows() if sku != SKU)
    world.shops["shop_main"].edit(other, world.shown("shop_main", other) + 5)
    taken = living.back_up()
    world.sell("shop_main", SKU, 3)
    living.restore(taken, tmp_path / "new")
    desired = world.level("shop_main", SKU).desired
    before = world.shown("shop_main", SKU)
    assert before < desired
    monkeypatch.setattr(push_module, "poll_orders", closed)
    world.push("shop_main")
    world.clock.advance(600)
    world.push("shop_main")
    assert world.shown("shop_main", SKU) == before
    assert world.level("shop_main", SKU).uncertain == "restore"
    assert world.shown("shop_main", other) == world.level("shop_main", other).desired
    monkeypatch.undo()
    world.clock.advance(3600)
    for channel in (*CHANNELS, *CHANNELS):
        world.push(channel)
        world.clock.advance(60)
    assert world.changes("shop_main") == 0
    assert world.shown("shop_main", SKU) == before


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_a_level_does_not_rise_before_every_channel_has_told_what_it_sold(living: Living, tmp_path: Path) -> None:
    world = living.world
    living.stock_up(SKU)
    taken = living.back_up()
    world.sell("woo_main", SKU, 3)
    living.receive("woo_main")
    living.apply()
    for channel in CHANNELS:
        world.push(channel)
    before = world.shown("shop_main", SKU)

    living.restore(taken, tmp_path / "new")
    assert world.level("shop_main", SKU).desired == before + 3
    world.clock.advance(3700)
    for channel in ("shop_main", "shop_eu", "erp_main", "shop_main"):
        assert not world.push(channel).problem
        world.clock.advance(60)
    assert world.level("shop_main", SKU).uncertain == "restore"
    assert world.shown("shop_main", SKU) == before
    for channel in ("woo_main", "shop_main"):
        world.push(channel)
    assert (world.level("shop_main", SKU).uncertain, world.shown("shop_main", SKU)) == (None, before)


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_a_channel_that_does_not_answer_keeps_the_others_from_rising_for_a_bounded_time(
    living: Living, tmp_path: Path
) -> None:
    world = living.world
    living.stock_up(SKU)
    world.shops["shop_main"].edit(SKU, 5)
    living.restore(living.back_up(), tmp_path / "new")
    for minutes, shown in ((300, 5), (61, world.level("shop_main", SKU).desired)):
        world.clock.advance(60 * minutes)
        world.push("shop_main")
        assert world.shown("shop_main", SKU) == shown
    said = {row.error_message for row in living.rows(sync_logs) if row.action == "read" and row.sku == SKU}
    assert any(words.startswith("settled at the bound") for words in said), said


def test_what_was_under_way_is_void_and_its_numbers_are_not_used_again(living: Living, tmp_path: Path) -> None:
    world = living.world
    now = world.clock.now()
    with write_transaction(world.engine) as connection:
        under_way = {"claim": "t", "claim_until": now, "claim_worker": "gone", "bulk_handle": "feed-1", "failures": 3}
        accepted = {"accepted_quantity": 3, "accepted_handle": "h", "accepted_check_after": now}
        connection.execute(update(inventory_levels).values({**under_way, **accepted}))
        row = {"channel": "shop_main", "handle": "feed-1", "rows": 1, "submitted_at": now, "check_after": now}
        connection.execute(bulk_submissions.insert().values(row))
    before = world.level("shop_main", SKU)
    taken = living.back_up()
    world.clock.advance(1800)
    done = living.restore(taken, tmp_path / "new")
    now = world.clock.now()
    rows = living.rows(inventory_levels)
    assert done.levels == len(rows) == 68
    void = ("claim", "claim_until", "claim_worker", "bulk_handle", "accepted_quantity", "accepted_handle", "expected")
    assert {getattr(row, name) for row in rows for name in void} == {None}
    assert {(row.uncertain, row.uncertain_since, row.due_at, row.failures) for row in rows} == {
        ("restore", now, now, 0)
    }
    assert {row.linger_until for row in rows} == {now + timedelta(hours=1)}  # the file that names their limits is gone
    after = world.level("shop_main", SKU)
    assert after.attempt > before.attempt + 100_000
    assert (after.acknowledged_quantity, after.desired) == (before.acknowledged_quantity, before.desired)
    assert living.rows(bulk_submissions) == []
    action = living.rows(operator_actions)[-1]
    assert (action.actor, action.action, action.subject) == ("ann", "restore", taken.path.name)
    assert action.after == {"taken_at": taken.manifest.taken_at.isoformat(), "sequence": taken.manifest.sequence}


CHANNELS_FILE = """\
channels:
  - name: {name}
    platform: erp
    environment: {environment}
    settings:
      base_url: https://erp.example.com
      api_key_env: TOKEN
      signing_secret_env: SIGN
      webhook_secret_env: HOOK
    limits: {{ write_linger: 45, request_deadline: 10 }}
"""


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_the_channels_own_linger_counts_and_the_file_comes_back(living: Living, tmp_path: Path) -> None:
    content = CHANNELS_FILE.format(name="erp_main", environment="sandbox")
    living.ws.home.channels_file.write_text(content)
    taken = living.back_up(KEYS)
    living.restore(taken, tmp_path / "new", keys=KEYS)
    assert (tmp_path / "new" / "channels.yaml").read_text() == content
    now = living.world.clock.now()
    assert living.world.level("erp_main", SKU).linger_until == now + timedelta(seconds=55)
    assert living.world.level("shop_main", SKU).linger_until == now + timedelta(hours=1)


# --- what is refused --------------------------------------------------------------------------------------------------


def restoring(taken: Taken, root: Path, keys: BackupKeys = NO_KEYS, *, url: str = "") -> Restoring:
    root.mkdir(exist_ok=True)
    url = url or f"sqlite:///{root / 'stock.db'}"
    return Restoring(Home(root, root / "data", url, root / "channels.yaml"), taken.path, keys, SECRETS, "ann", NOW)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "old")


def test_a_home_with_a_stock_is_refused_with_the_mend(tmp_path: Path, each_database: str) -> None:
    old = Stage(tmp_path / "old")
    taken = take(old.home, NO_KEYS, NOW)
    again = Restoring(old.home, taken.path, NO_KEYS, SECRETS, "ann", NOW)
    mend = r"move .*stock\.db away" if each_database == "sqlite" else "let INVSYNC_DATABASE_URL name another, empty"
    with pytest.raises(BackupError, match=rf"has a stock already \(1 SKUs, 0 ledger entries\).*{mend}"):
        again.restore()
    with old.engine.connect() as connection:
        assert connection.execute(select(operator_actions.c.action)).scalars().all().count("restore") == 0


def test_damaged_cut_and_missing_files_are_refused_and_nothing_is_there(stage: Stage, tmp_path: Path) -> None:
    stage.receive()
    taken = take(stage.home, NO_KEYS, NOW)
    for name in (DATABASE, "manifest", "inbox/2026-07-01.1.tar", "inbox/quarantine.tar"):
        path = taken.path / name
        content = path.read_bytes()
        middle = len(content) // 2
        for damaged in (content[:-600], content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(BackupError, match="damaged"):
                restoring(taken, tmp_path / "new").restore()
        path.unlink()
        with pytest.raises(BackupError, match=r"is missing|no whole backup"):
            restoring(taken, tmp_path / "new").restore()
        path.write_bytes(content)
        assert not (tmp_path / "new" / "stock.db").exists()
    assert restoring(taken, tmp_path / "new").restore().levels == 0


def test_a_wrong_or_missing_key_is_refused_and_named(stage: Stage, tmp_path: Path) -> None:
    taken = take(stage.home, KEYS, NOW)
    for keys in (NO_KEYS, BackupKeys([bytes(32)])):
        with pytest.raises(BackupKeyError, match=f"sealed with the key {KEYS.name}, which INVSYNC_BACKUP_KEY"):
            restoring(taken, tmp_path / "new", keys).checked()
    assert restoring(taken, tmp_path / "new", BackupKeys([bytes(32), bytes(range(32))])).checked() == taken.manifest


def test_a_schema_that_is_newer_than_the_code_is_refused_and_an_older_one_is_migrated(
    stage: Stage, tmp_path: Path
) -> None:
    with stage.engine.begin() as connection:
        databases.make_older(connection)
    older = take(stage.home, NO_KEYS, NOW)
    restoring(older, tmp_path / "older").restore()
    require_schema(f"sqlite:///{tmp_path / 'older' / 'stock.db'}")
    with stage.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer = take(stage.home, NO_KEYS, NOW + timedelta(hours=1))
    with pytest.raises(BackupError, match="of revision 9999, which this version of invsync doesn't know"):
        restoring(newer, tmp_path / "newer").restore()


def test_an_archive_of_an_older_revision_fills_a_database_that_this_one_made_and_is_migrated(tmp_path: Path) -> None:
    databases.use("postgresql")
    older, new = databases.fresh_url(tmp_path), databases.fresh_url(tmp_path)
    databases.use("sqlite")
    with databases.opened(older).begin() as connection:
        databases.make_older(connection)
    copy_database(older, tmp_path / "archive")
    load_dump(parse_url(new), tmp_path / "archive")
    migrate(databases.opened(new))
    require_schema(new)


def test_a_backup_of_another_installation_is_refused(stage: Stage, tmp_path: Path) -> None:
    taken = take(stage.home, NO_KEYS, NOW)
    new = restoring(taken, tmp_path / "new")
    new.home.data.mkdir()
    marker_of(new.home).write_text("0123456789abcdef\n")
    with pytest.raises(
        BackupError, match=f"installation 0123456789abcdef, and the backup is of {taken.manifest.installation}"
    ):
        new.restore()
    marker_of(new.home).write_text(f"{taken.manifest.installation}\n")
    assert new.restore().manifest == taken.manifest


def test_a_new_home_whose_empty_stock_was_backed_up_before_the_restore_is_nobodys_yet(
    stage: Stage, tmp_path: Path
) -> None:
    taken = take(stage.home, NO_KEYS, NOW)
    new = restoring(taken, tmp_path / "new")
    make_folders_and_tables(new.home)
    assert take(new.home, NO_KEYS, NOW).manifest.installation != taken.manifest.installation
    new.restore()
    assert marker_of(new.home).read_text().strip() == taken.manifest.installation


@pytest.mark.skipif(databases.current() != "sqlite", reason="the file of a database is SQLite's")
def test_a_set_up_makes_no_empty_stock_where_one_was_backed_up(stage: Stage) -> None:
    taken = take(stage.home, NO_KEYS, NOW)
    stage.engine.dispose()
    (stage.home.root / "stock.db").rename(stage.home.root / "away.db")
    with pytest.raises(
        DatabaseUrlError, match=r"of a stock that was backed up, .* restore BACKUP`; to begin anew, move"
    ):
        make_folders_and_tables(stage.home)
    assert not (stage.home.root / "stock.db").exists()
    restoring(taken, stage.home.root).restore()
    make_folders_and_tables(stage.home)
    with databases.opened(stage.home.database_url).connect() as connection:
        assert connection.execute(select(central_inventory.c.sku)).scalars().all() == ["0071"]


@pytest.mark.parametrize(
    ("name", "environment", "reason"),
    [
        (
            "shop",
            "sandbox",
            r"the channel shop is erp \(sandbox\) in channels.yaml, and shopify \(sandbox\) in the backup",
        ),
        ("other", "sandbox", r"none of the backup's channels \(shop\) is in channels.yaml"),
    ],
)
def test_channels_that_are_anothers_are_refused(
    stage: Stage, tmp_path: Path, name: str, environment: str, reason: str
) -> None:
    from invsync_dagster.inventory import channels
    from invsync_dagster.inventory.rules import Rules

    with write_transaction(stage.engine) as connection:
        channels.register(connection, "shop", "shopify", "sandbox", True, Rules(), NOW, NOW)
    new = restoring(take(stage.home, NO_KEYS, NOW), tmp_path / "new")
    new.home.channels_file.write_text(CHANNELS_FILE.format(name=name, environment=environment))
    with pytest.raises(BackupError, match=rf"{reason}.*put the right channels.yaml in place"):
        new.restore()
    new.home.channels_file.unlink()
    assert new.restore().manifest.channels[0].name == "shop"


def test_another_kind_of_database_and_a_folder_that_is_no_backup_are_refused(stage: Stage, tmp_path: Path) -> None:
    taken = take(stage.home, NO_KEYS, NOW)
    with pytest.raises(BackupError, match=r"of sqlite, and INVSYNC_DATABASE_URL names postgresql: .*move-database"):
        restoring(taken, tmp_path / "new", url="postgresql://stock@127.0.0.1:9/stock").checked()
    (taken.path / "manifest").unlink()
    with pytest.raises(BackupError, match="no whole backup of invsync"):
        restoring(taken, tmp_path / "new").checked()


def test_a_file_that_is_no_database_and_one_in_use_are_refused(stage: Stage, tmp_path: Path) -> None:
    taken = take(stage.home, NO_KEYS, NOW)
    new = restoring(taken, tmp_path / "new")
    place = tmp_path / "new" / "stock.db"
    place.write_bytes(b"not a database" * 100)
    with pytest.raises(BackupError, match=r"can't be read: .*not a database; move .*stock\.db away"):
        new.restore()
    place.unlink()
    databases.fresh_url(tmp_path / "new")
    used = sqlite3.connect(place)
    used.execute("SELECT * FROM channels").fetchall()
    with pytest.raises(BackupError, match=r"stock\.db is in use: stop all services"):
        new.restore()
    used.close()
    assert new.restore().manifest.skus == 1


def test_a_wal_that_stayed_where_a_database_was_moved_away_is_not_removed(stage: Stage, tmp_path: Path) -> None:
    taken = take(stage.home, NO_KEYS, NOW)
    new = restoring(taken, tmp_path / "new")
    wal = tmp_path / "new" / "stock.db-wal"
    wal.write_bytes(b"the last commits")
    (tmp_path / "new" / "stock.db").touch()
    with pytest.raises(
        BackupError, match=r"stock\.db was moved away, and its -wal stayed, .*: move that \(and -shm\) along"
    ):
        new.restore()
    assert wal.read_bytes() == b"the last commits"
    wal.rename(tmp_path / "kept-wal")
    assert new.restore().manifest.skus == 1


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_a_postgresql_database_that_a_service_has_open_is_refused(living: Living, tmp_path: Path) -> None:
    taken = living.back_up()
    new = restoring(taken, tmp_path / "new", url=databases.fresh_url(tmp_path))
    service = open_database(new.home.database_url)
    with service.connect() as connection:
        connection.execute(select(central_inventory.c.sku)).all()
        with pytest.raises(
            BackupError, match=r"is in use \(connection \d+ from .*\): stop all services, and restore again"
        ):
            new.restore()
    # One that rests in its pool is a service's, too.
    with pytest.raises(BackupError, match="is in use"):
        new.checked()
    service.dispose()
    watching = open_database(
        f"{new.home.database_url}{'&' if '?' in new.home.database_url else '?'}application_name=psql"
    )
    with watching.connect() as connection:
        connection.execute(select(central_inventory.c.sku)).all()
        connection.rollback()
        assert new.restore().manifest.skus == taken.manifest.skus
    watching.dispose()


# --- whatever ends it midway -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("each_database", "where"),
    [
        ("sqlite", "bring_back"),
        ("sqlite", "unpack"),
        ("sqlite", "doubt_all"),
        ("postgresql", "load_dump"),
        ("postgresql", "name_installation"),
    ],
    indirect=["each_database"],
)
def test_a_restore_that_was_killed_leaves_no_stock_to_work_on_and_can_be_done_again(
    living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    living.world.sell("shop_main", SKU)
    living.receive("shop_main")
    taken = living.back_up()
    living.apply()
    before = living.sums()
    root = tmp_path / "new"
    root.mkdir()
    url = databases.fresh_url(root, migrated=False)
    home = Home(root, root / "data", url, root / "channels.yaml")
    again = Restoring(home, taken.path, NO_KEYS, SECRETS, "ann", living.world.clock.now())

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"invsync_dagster.backups.restoring.{where}", killed)
        with pytest.raises(KeyboardInterrupt):
            again.restore()
    if databases.current() == "sqlite":
        assert not (root / "stock.db").exists()
    elif where == "name_installation":
        with pytest.raises(NotRestoredError, match="invsync restore"):
            Workspace.open(home, SECRETS)
    (root / "stock.db.restoring").write_bytes(b"half a database")  # what `kill -9` may leave
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "restoring.dump").write_bytes(b"half an archive")
    again.restore()
    living.move_into(home)
    living.apply()
    assert living.sums() == before
    Workspace.open(home, SECRETS).close()


def test_a_restore_that_was_killed_leaves_no_half_a_channels_file(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.home.channels_file.write_text("channels: []\n")
    new = restoring(take(stage.home, NO_KEYS, NOW), tmp_path / "new")

    def killed(_source: Path, _keys: BackupKeys, target: Path) -> None:
        target.write_text("chan")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("invsync_dagster.backups.restoring.unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            new.restore()
    new.restore()
    assert new.home.channels_file.read_text() == "channels: []\n"


def test_a_channels_file_that_can_not_be_put_in_its_place_is_in_force_as_the_copy(stage: Stage, tmp_path: Path) -> None:
    content = CHANNELS_FILE.format(name="erp_main", environment="sandbox")
    stage.home.channels_file.write_text(content)
    (tmp_path / "etc").write_text("no folder that we may write to")
    home = Home(tmp_path, tmp_path / "data", f"sqlite:///{tmp_path}/new.db", tmp_path / "etc" / "channels.yaml")
    Restoring(home, take(stage.home, NO_KEYS, NOW).path, NO_KEYS, SECRETS, "ann", NOW).restore()
    assert home.last_good_channels_file.read_text() == content
    in_force = load(home, {"TOKEN": "a", "SIGN": "b", "HOOK": "c"})
    assert [channel.name for channel in in_force.channels] == ["erp_main"]
    assert "the last readable one stays in force" in in_force.problems[0]


def test_the_copy_in_a_backup_put_in_place_by_hand_is_not_worked_on(stage: Stage, tmp_path: Path) -> None:
    taken = take(stage.home, NO_KEYS, NOW)
    new = restoring(taken, tmp_path / "new")
    shutil.copy(taken.path / DATABASE, tmp_path / "new" / "stock.db")
    with pytest.raises(NotRestoredError, match="comes from a backup"):
        Workspace.open(new.home, SECRETS)
    new.restore()
    Workspace.open(new.home, SECRETS).close()


def test_the_homes_own_inbox_is_taken_in_and_its_files_stay(stage: Stage, tmp_path: Path) -> None:
    early = stage.receive()
    stage.inbox.finish(early)
    stage.clock.advance(7200)
    taken = take(stage.home, NO_KEYS, stage.clock.now())
    since, waiting = stage.receive(), stage.receive()
    stage.inbox.finish(since)
    shutil.move(tmp_path / "old" / "stock.db", tmp_path / "broken.db")
    for beside in ("-wal", "-shm"):
        (tmp_path / "old" / f"stock.db{beside}").unlink(missing_ok=True)
    stage.engine.dispose()
    done = Restoring(stage.home, taken.path, NO_KEYS, SECRETS, "ann", stage.clock.now()).restore()
    assert (done.inbox.waiting, done.inbox.kept) == (2, 1)
    assert [path.name for path in stage.inbox.segments(9)] == [since.name, waiting.name]
    assert (stage.home.inbox / "done" / "2026-07-01" / early.name).is_file()


def test_sealed_deliveries_and_the_quarantine_come_back_as_they_were(stage: Stage, tmp_path: Path) -> None:
    seals = Seals([bytes(32)])
    path = stage.receive()
    path.write_bytes(seals.seal(path.read_bytes()))
    (delivery,) = type(stage.inbox)(stage.home.inbox, seals).read(path)
    kept = stage.inbox.quarantine.keep(delivery, "no such thing")
    taken = take(stage.home, KEYS, NOW)
    new = restoring(taken, tmp_path / "new", KEYS)
    new.restore()
    assert (new.home.inbox / path.name).read_bytes() == path.read_bytes()
    assert (new.home.inbox / "quarantine" / kept.name).read_bytes() == kept.read_bytes()
    for file in (new.home.inbox / path.name, new.home.inbox / "quarantine" / kept.name, new.home.root / "stock.db"):
        assert file.stat().st_mode & 0o077 == 0
