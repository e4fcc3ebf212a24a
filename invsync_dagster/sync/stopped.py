"""What a level is to its channel once the platform has said that it can't be kept there: excluded, or in review."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from invsync_dagster.inventory.discovery import KEPT_THERE
from invsync_dagster.inventory.listings import exclude, send_to_review
from invsync_dagster.platforms.contract import KEPT_BY_PLATFORM, Outcome, Result
from invsync_dagster.platforms.errors import Recovery

# Of a reading without a number and without a reason.
NO_NUMBER: Final = Outcome(Result.REJECTED, Recovery.REVIEW, "no_number", "the platform shows no number")


def is_kept_by_platform(problem: Outcome | None) -> bool:
    """Say whether a problem needs nobody: the platform keeps the level's stock itself."""
    return problem is not None and problem.code == KEPT_BY_PLATFORM


def stop_level(connection: Connection, channel: str, level_id: int, problem: Outcome, now: datetime) -> str:
    """Exclude a level that the platform keeps itself, send any other to review; return what it is then."""
    actor = f"channel {channel}"
    if is_kept_by_platform(problem):
        exclude(connection, level_id, reason=f"{KEPT_THERE}: {problem.message}", actor=actor, now=now)
        return "excluded"
    send_to_review(connection, level_id, reason=problem.words, actor=actor, now=now)
    return "in review"
