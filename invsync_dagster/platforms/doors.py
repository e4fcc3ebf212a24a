"""What a platform's webhooks need: the door that verifies and parses them, and what only some platforms' doors do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from invsync_dagster.events import Content
from invsync_dagster.platforms.transport import Transport


@runtime_checkable
class GreetedDoor(Protocol):
    """A door whose platform greets a new webhook's address, unsigned and without content, and wants exactly 200."""

    def is_greeting(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether a form that came in is such a greeting; nothing else may come of it."""
        ...


@runtime_checkable
class ChallengedDoor(Protocol):
    """A door whose platform asks a webhook's address with a GET to prove whose it is."""

    def challenge_answer(self, query: Mapping[str, str]) -> bytes | None:
        """Return the JSON body to answer with, None if the query is no challenge; nothing else may come of it."""
        ...


@runtime_checkable
class KeyedDoor(Protocol):
    """A door whose platform signs with keys that it publishes: a key is fetched, apart from `verify`, and kept.

    The sender names the key, so whoever fetches it bounds how often.
    """

    def wanted_key(self, headers: Mapping[str, str], now: datetime) -> str:
        """Return the id of the key to fetch before `verify`, "" if none is wanted."""
        ...

    def fetch_key(self, key_id: str, transport: Transport, now: datetime) -> None:
        """Fetch a key and keep it, or keep in mind that there is none; blocks. Raises `PlatformError` if it may be had later."""
        ...


@dataclass(frozen=True, slots=True)
class Queued:
    """A notification that a queue handed out: its body as it came, the queue's own id of it, and what takes it out."""

    message_id: str
    receipt: str
    body: bytes


class Queue(Protocol):
    """A queue that a platform puts its notifications into. What is handed out and not removed is handed out again."""

    def receive(self) -> Sequence[Queued]:
        """Wait for notifications, for seconds at most; return some, or none. Raises `PlatformError`."""
        ...

    def remove(self, taken: Sequence[Queued]) -> None:
        """Take out what `receive` returned. Raises `PlatformError` if some of it stays."""
        ...


@runtime_checkable
class QueuedDoor(Protocol):
    """A door whose platform can also bring its notifications by a queue of the seller's, from which they are fetched."""

    def queue(self) -> Queue | None:
        """Return the channel's queue, None if it has none."""
        ...


class WebhookDoor(Protocol):
    """What the receiver and the inbox need of a channel: no credentials for writing, only the webhook secret."""

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Check the signature on the raw bytes in constant time; header names are lower case. Raises `SignatureError`."""
        ...

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return the platform's name of the event (`orders/create`)."""
        ...

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        """Turn a verified webhook into documents, counts and unclear orders. Raises `NotUnderstoodError`."""
        ...
