"""Dagster's own SQLite storage with connections that are kept: as it comes, it makes an engine and a connection an event.

A webhook's run stores some 70 events by 270 connections. Each compiles its statement anew, and the last one to close a
file moves its log into it, with two waits for the disk: together half of such a run. Files and tables stay Dagster's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event

# Of a run's file. It has 25 tables and indices, most of them empty, and each takes a page: with SQLite's own 4,096 bytes a
# webhook's run was 246 KB of which 100 were empty.
PAGE_BYTES = 512


def kept_engine(url: str, page_bytes: int = 4096) -> Engine:
    """Return an engine that keeps its connections; a file that it makes has pages of `page_bytes`.

    They don't wait for the disk at each commit: a crash of the machine may lose the last entries of Dagster's history,
    which describes the stock's own books and isn't them. (A crash of a process loses nothing.)
    """
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def without_waits(connection: Any, record: object) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA page_size = {page_bytes}")

    return engine


class KeptEvents(SqliteEventLogStorage):
    """The events, with the index's connection and that of the run that was used last kept open.

    `_template` is an empty file of a run, once a process has kept it for its forks: making one loads all of Dagster's
    migrations, 0.1 s of processor time.
    """

    _template: ClassVar[bytes] = b""

    def __init__(self, base_dir: str) -> None:
        self._engines: dict[str, Engine] = {}
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def keep_template(self) -> None:
        """Keep what a run's file is made of, for this process and its forks."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "template.db"
            engine = kept_engine(f"sqlite:///{path}", PAGE_BYTES)
            self._initdb(engine)
            engine.dispose()
            KeptEvents._template = path.read_bytes()

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        if not self._template or for_index_shard or not self._copied(Path(str(engine.url.database))):
            super()._initdb(engine, for_index_shard)

    def _copied(self, path: Path) -> bool:
        """Make a run's file from the template; False if it is there: another process may have been first."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(self._template)
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        finally:
            part.unlink()
        return True

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, and let the run's file look changed: the UI watches it, and what is new is in its log."""
        super().store_event(event)
        os.utime(self.path_for_shard(event.run_id))

    def dispose(self) -> None:
        """Close all connections."""
        super().dispose()
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()

    def _engine(self, shard: str) -> Engine:
        """Return the engine of a shard; those of other runs are closed, since a webserver reads thousands."""
        if shard not in self._engines:
            for other in self._engines.keys() - {INDEX_SHARD_NAME}:
                self._engines.pop(other).dispose()
            page_bytes = 4096 if shard == INDEX_SHARD_NAME else PAGE_BYTES
            self._engines[shard] = kept_engine(self.conn_string_for_shard(shard), page_bytes)
        return self._engines[shard]


class KeptRuns(SqliteRunStorage):
    """The runs, with connections that are kept."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(conn_string, inst_data)
        self._engine = kept_engine(conn_string)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection in a transaction."""
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close all connections."""
        super().dispose()
        self._engine.dispose()


class KeptSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage in `base_dir`, of these two and its own schedules.

    `_checked` are folders whose files this process, or the one that it is a fork of, has made or found to be of this version:
    each look loads all of Dagster's migrations.
    """

    _checked: ClassVar[set[str]] = set()

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.base_dir = base_dir
        runs, schedules = _runs_directory(base_dir), _schedule_directory(base_dir)
        if base_dir in self._checked:
            self._run_storage = KeptRuns(create_db_conn_string(runs, "runs"))
            self._schedule_storage = SqliteScheduleStorage(create_db_conn_string(schedules, "schedules"))
        else:
            self._run_storage = KeptRuns.from_local(runs)
            self._schedule_storage = SqliteScheduleStorage.from_local(schedules)
            self._checked.add(base_dir)
        self._event_log_storage = KeptEvents(_event_logs_directory(base_dir))
        self._inst_data = inst_data
        DagsterStorage.__init__(self)  # type: ignore[no-untyped-call, arg-type]  # not its parent's, which makes its own
