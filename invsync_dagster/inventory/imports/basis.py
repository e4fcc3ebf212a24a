"""What every import runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from invsync_dagster.inventory.book import Book
from invsync_dagster.settings import ImportLimits, ImportSource


@dataclass(frozen=True, slots=True)
class Basis:
    """The database, the folder that keeps the files, the limits, the time, who asks, and in which run.

    `sources` are the kinds of files that channels.yaml names; `progress` is told the step ("read", "applied") and the rows
    of the file that it is done with.
    """

    engine: Engine
    folder: Path
    limits: ImportLimits
    now: datetime
    actor: str
    run_id: str = ""
    sources: Mapping[str, ImportSource] = field(default_factory=dict)
    progress: Callable[[str, int], None] = lambda _step, _rows: None

    def book(self, connection: Connection) -> Book:
        """Return a book that has read nothing yet, in the caller's transaction."""
        return Book(connection, now=self.now, run_id=self.run_id)
