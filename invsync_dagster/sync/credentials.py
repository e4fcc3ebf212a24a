"""Asks a channel's platform whether it lets us in, and does nothing else there."""

from __future__ import annotations

from datetime import timedelta

from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.sync.calls import OutOfTimeError
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.subscriptions import TOO_LATE
from invsync_dagster.sync.workspace import Workspace

# A call or three; a person waits for the answer.
LONGEST = timedelta(minutes=1)


def refusal(ws: Workspace, name: str) -> str:
    """Return "" if the platform of channel `name` lets us in with the rights that we need; else why not: the platform's
    words, and the class of the error. What the database knows of the channel stays as it is."""
    channel = ws.channel(name)
    if channel.disabled_reason:
        return f"configuration: {channel.disabled_reason}"
    calls = calls_of(ws, channel, ws.clock.now() + LONGEST, background=False)
    try:
        calls.wait(calls.platform.limits.read_cost)
        calls.platform.check_credentials()
    except PlatformError as error:
        return str(error)
    except OutOfTimeError:
        return TOO_LATE
    return ""
