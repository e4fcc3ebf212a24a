"""Public keys of platforms that publish what they sign with: fetched apart from the loop, and no oftener than is good."""

from __future__ import annotations

import asyncio
import logging

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.doors import KeyedDoor
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.platforms.transport import Transport

log = logging.getLogger("invsync.receiver")

# Whoever posts a made-up key id has it asked for: so many at once, then one in so many seconds. eBay allows an application
# 10,000 calls a day of its Notification API; this is 5,760.
BURST = 10.0
SECONDS_A_FETCH = 15.0


class Keys:
    """Fetches the keys of all doors; lives on the event loop, and one fetch a door is under way at most."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._under_way: dict[str, tuple[str, asyncio.Task[bool]]] = {}
        self._known: set[tuple[str, str]] = set()
        self._left: dict[str, float] = {}
        self._counted_at: dict[str, float] = {}

    async def ready(self, channel: str, door: KeyedDoor, headers: dict[str, str]) -> bool:
        """Return whether a delivery may be verified now; False if its key may be had later."""
        key = door.wanted_key(headers, self._clock.now())
        if not key:
            return True
        asked, task = self._under_way.get(channel, ("", None))
        if task is None:
            # A key that was good is asked for again whatever strangers have used up.
            if (channel, key) not in self._known and not self._may_ask(channel):
                return False
            task = asyncio.create_task(self._fetch(channel, door, key))
            self._under_way[channel] = key, task
        elif asked != key:
            return (channel, key) in self._known
        # Whoever waits may go away; the fetch goes on for the others.
        return await asyncio.shield(task)

    async def _fetch(self, channel: str, door: KeyedDoor, key: str) -> bool:
        try:
            await asyncio.to_thread(door.fetch_key, key, self._transport, self._clock.now())
        except PlatformError as error:
            log.warning("%s: a public key can't be had now: %s", channel, error)
            # An old key is good for a while longer; the door says so.
            return (channel, key) in self._known
        finally:
            del self._under_way[channel]
        self._known.add((channel, key))
        return True

    def _may_ask(self, channel: str) -> bool:
        now = self._clock.now().timestamp()
        since = now - self._counted_at.get(channel, now)
        left = min(BURST, self._left.get(channel, BURST) + since / SECONDS_A_FETCH)
        self._counted_at[channel] = now
        self._left[channel] = left - 1 if left >= 1 else left
        return left >= 1
