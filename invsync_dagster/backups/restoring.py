"""Brings a backup back into an empty home: the stock with every level in doubt, and the deliveries since, to be applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError

from invsync_dagster.backups.files import require, unpack
from invsync_dagster.backups.inbox import BroughtBack, bring_back
from invsync_dagster.backups.manifest import (
    CHANNELS_FILE,
    DATABASE,
    Manifest,
    read_manifest,
    require_known_schema,
)
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.backups.taking import mark, marker_of
from invsync_dagster.channels import load_for_webhooks
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.copies import BackupError, in_use, load_dump, to_disk
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.inventory.installation import installation_of, name_installation
from invsync_dagster.inventory.mends import has_commits_aside, is_there
from invsync_dagster.inventory.tables import (
    central_inventory,
    installation,
    order_lines,
    platform_mapping,
    stock_ledger,
)
from invsync_dagster.settings import Home
from invsync_dagster.sync.restored import doubt_all
from invsync_dagster.sync.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore brought back: levels in doubt, and the segments of the inbox."""

    manifest: Manifest
    levels: int
    inbox: BroughtBack


@dataclass(frozen=True, slots=True)
class Restoring:
    """One restore: of the backup `folder` into `home`, which nobody else works on. `survived`: an inbox to take in as well."""

    home: Home
    folder: Path
    keys: BackupKeys
    environ: Mapping[str, str]
    actor: str
    now: datetime
    survived: Path | None = None

    def restore(self) -> Restored:
        """Prove every file, bring the inbox back, then the database, to this version's schema and with every level in doubt.

        The database comes last, and for SQLite under its name only when all of it is there; PostgreSQL's is no installation
        until then (`NotRestoredError`). What broke off is done again from the beginning. Raises `BackupError` for a backup or
        a home that isn't fit for it, `BackupKeyError`, `DatabaseGoneError`, and `OSError`; then the home has no stock.
        """
        manifest = self.checked()
        for name, stored in manifest.files.items():
            require(self.folder / name, stored)
        if CHANNELS_FILE in manifest.files and not self.home.channels_file.exists():
            try:
                self._bring_back_channels(self.home.channels_file)
            except (
                OSError
            ):  # a server's folder of it, which is root's: the copy stays in force until a person puts it there
                self._bring_back_channels(self.home.last_good_channels_file)
        self.home.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        inbox = bring_back(self.folder, manifest, self.keys, self.home.inbox, self.survived, self.now)
        url = parse_url(self.home.database_url)
        if manifest.database == "sqlite":
            levels = self._restore_sqlite(Path(str(url.database)).absolute(), manifest)
        else:
            levels = self._restore_postgresql(manifest)
        mark(self.home, manifest.installation)
        return Restored(manifest, levels, inbox)

    def _bring_back_channels(self, place: Path) -> None:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = place.with_name(f"{place.name}.restoring")
        unpack(self.folder / CHANNELS_FILE, self.keys, new)
        new.replace(place)  # half of one would stay: one that is there is kept

    def checked(self) -> Manifest:
        """Return what the backup holds, if it may be brought back here. Raises as `restore`."""
        manifest = read_manifest(self.folder, self.keys)
        require_known_schema(manifest)
        backend = parse_url(self.home.database_url).get_backend_name()
        if backend != manifest.database:
            raise BackupError(
                f"the backup is of {manifest.database}, and INVSYNC_DATABASE_URL names {backend}: let it name a database of the "
                "backup's kind, restore, and then move it with `invsync move-database`"
            )
        self._require_its_home(manifest)
        _require_empty(self.home)
        return manifest

    def _require_its_home(self, manifest: Manifest) -> None:
        """Refuse a backup of another installation, as far as the home tells whose it is."""
        marker = marker_of(self.home)
        if marker.is_file() and (ours := marker.read_text().strip()) != manifest.installation:
            raise BackupError(
                f"{self.home.data} holds the data of the installation {ours}, and the backup is of {manifest.installation}: "
                "take a backup of this one, or restore into another root (INVSYNC_ROOT)"
            )
        if not self.home.channels_file.exists():
            return
        file = self.home.channels_file.name
        # As the receiver does, which keeps no copy: a look changes nothing.
        ours_by_name = {channel.name: channel for channel in load_for_webhooks(self.home, self.environ).channels}
        theirs = {channel.name: channel for channel in manifest.channels if channel.status != "retired"}
        mend = f"put the right {file} in place, or move this one away: the backup has a copy"
        for name in sorted(ours_by_name.keys() & theirs.keys()):
            here, there = ours_by_name[name], theirs[name]
            if (here.platform, here.environment) != (there.platform, there.environment):
                raise BackupError(
                    f"the channel {name} is {here.platform} ({here.environment}) in {file}, and {there.platform} "
                    f"({there.environment}) in the backup, which so is of another installation; {mend}"
                )
        if ours_by_name and theirs and not ours_by_name.keys() & theirs.keys():
            raise BackupError(
                f"none of the backup's channels ({', '.join(sorted(theirs))}) is in {file}: it is of another installation; {mend}"
            )

    def _restore_sqlite(self, target: Path, manifest: Manifest) -> int:
        new = target.with_name(f"{target.name}.restoring")
        _remove_database(new)
        unpack(self.folder / DATABASE, self.keys, new)
        engine = open_database(f"sqlite:///{new}")
        try:
            levels = self._make_ours(engine, manifest)
        finally:
            engine.dispose()
        to_disk(new)
        _remove_database(target)  # an empty one, with what is beside it
        new.replace(target)
        to_disk(target.parent)
        return levels

    def _restore_postgresql(self, manifest: Manifest) -> int:
        plain = self.home.data / "restoring.dump"
        try:
            unpack(self.folder / DATABASE, self.keys, plain)
            load_dump(parse_url(self.home.database_url), plain)
        finally:
            plain.unlink(missing_ok=True)
        engine = open_database(self.home.database_url)
        try:
            levels = self._make_ours(engine, manifest)
            with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.execute(text("ANALYZE"))  # it does it by itself, a minute after
        finally:
            engine.dispose()
        return levels

    def _make_ours(self, engine: Engine, manifest: Manifest) -> int:
        migrate(engine)
        ws = Workspace.over(self.home, engine, self.environ)
        try:
            with write_transaction(engine) as connection:
                levels = doubt_all(ws, connection, self.now)
                record_action(
                    connection,
                    at=self.now,
                    actor=self.actor,
                    action="restore",
                    subject=self.folder.name,
                    before=None,
                    after={"taken_at": manifest.taken_at.isoformat(), "sequence": manifest.sequence},
                    reason="",
                )
                name_installation(connection, manifest.installation)
        finally:
            ws.close()
        return levels


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _require_empty(home: Home) -> None:
    """Return if the home's database is none, or empty, or the rest of a restore that broke off. Raises `BackupError`."""
    url = parse_url(home.database_url)
    is_sqlite = url.get_backend_name() == "sqlite"
    path = Path(str(url.database)).absolute()
    if is_sqlite and not is_there(path):
        if has_commits_aside(path):
            raise BackupError(
                f"{path.name} was moved away, and its -wal stayed, with what was committed last: move that (and -shm) along, and "
                "restore again"
            )
        return
    mend = f"move {path} away" if is_sqlite else "let INVSYNC_DATABASE_URL name another, empty database"
    engine = open_database(home.database_url)
    try:
        with engine.connect() as connection:
            has = _holds(connection)
    except DBAPIError as error:
        if not is_sqlite:
            raise
        raise BackupError(
            f"the database of this home can't be read: {error.orig}; {mend}, and restore again"
        ) from error
    finally:
        engine.dispose()
    if has:
        raise BackupError(
            f"this home has a stock already ({has}), and a restore would replace it; {mend}, and restore again"
        )
    if used := in_use(home.database_url):
        raise BackupError(f"{used}: stop all services, and restore again")


def _holds(connection: Connection) -> str:
    """Say what a database holds, "" for nothing that a restore would replace."""
    inspector = inspect(connection)
    if inspector.has_table(installation.name) and installation_of(connection) is None:
        return ""
    counts = {}
    for table in (central_inventory, stock_ledger, order_lines, platform_mapping):
        if inspector.has_table(table.name):
            counts[table.name] = connection.execute(select(func.count()).select_from(table)).scalar_one()
    if not any(counts.values()):
        return ""
    return f"{counts['central_inventory']:,} SKUs, {counts['stock_ledger']:,} ledger entries"
