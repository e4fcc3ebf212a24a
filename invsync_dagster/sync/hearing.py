"""Whether what channels send still comes in: the oldest delivery that waits in the inbox, and channels that fell silent."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.hearing import Unheard, keep_silence, look_for_silence
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox, segment_time

# A delivery is applied within seconds; one that waits longer has nobody who applies it.
LONGEST_WAIT = timedelta(minutes=5)

# A store's cron may hold a webhook back until somebody visits, and who places an order does.
HEARD_WITHIN = timedelta(hours=1)


def oldest_waiting(inbox: Path, now: datetime) -> timedelta | None:
    """Return how long the oldest delivery has been waiting in the inbox, None where none waits."""
    oldest = Inbox(inbox).segments(1)
    return max(now - segment_time(oldest[0]), timedelta()) if oldest else None


def hear(ws: Workspace, name: str) -> Unheard:
    """Return what happened at channel `name` that a delivery should have told of by now, and hasn't."""
    delay = timedelta(seconds=ws.platform(ws.channel(name)).limits.webhook_delay)
    with ws.engine.connect() as connection:
        unheard = look_for_silence(connection, name, ws.clock.now() - max(HEARD_WITHIN, delay))
    with write_transaction(ws.engine, name) as connection:
        keep_silence(connection, name, unheard)
    return unheard
