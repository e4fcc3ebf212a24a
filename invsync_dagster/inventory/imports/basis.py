"""What every import runs on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from invsync_dagster.settings import ImportLimits


@dataclass(frozen=True, slots=True)
class Basis:
    """The database, the folder that keeps the files, the limits, the time, who asks, and in which run."""

    engine: Engine
    folder: Path
    limits: ImportLimits
    now: datetime
    actor: str
    run_id: str = ""
