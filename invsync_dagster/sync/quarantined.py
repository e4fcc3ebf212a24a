"""What is in quarantine now, whichever run put it there: how many deliveries, and why."""

from __future__ import annotations

from dataclasses import dataclass

from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox

SHOWN = 5


@dataclass(frozen=True, slots=True)
class InQuarantine:
    """`deliveries` that could not be applied, and the different reasons of the latest ones."""

    deliveries: int
    reasons: tuple[str, ...]


def in_quarantine(ws: Workspace) -> InQuarantine:
    """Look into the quarantine."""
    number, latest = Inbox(ws.home.inbox).quarantine.standing(SHOWN)
    reasons = dict.fromkeys(f"{one.channel}: {one.reason}" if one.channel else one.reason for one in latest)
    return InQuarantine(number, tuple(reasons))
