"""The contract of platforms where notifications are subscribed to: how each kind stands, and what makes or mends one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from invsync_dagster.platforms.contract import Budget


class SubscriptionState(StrEnum):
    """How a kind of notification stands. OFF: there, and switched off by the platform or by somebody. WRONG: there, in a form
    that we can't use. ELSEWHERE: the one that there can be goes to another address, and isn't taken away from there."""

    ACTIVE = "active"
    MISSING = "missing"
    OFF = "off"
    WRONG = "wrong"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A kind of notification that a channel needs, by the platform's name of it (`orders/create`).

    `handle` is the platform's id of it, "" while there is none; `note` says more of its state, in the platform's words.
    """

    topic: str
    state: SubscriptionState
    handle: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class SubscriptionsAnswer:
    """What was found, or made: one entry a kind of notification."""

    subscriptions: tuple[Subscription, ...]
    budget: Budget | None = None


@runtime_checkable
class Subscriber(Protocol):
    """A platform where notifications are subscribed to, each kind by itself."""

    def subscriptions(self, address: str) -> SubscriptionsAnswer:
        """Tell how each kind of notification that we need stands at `address`, "" where the receiver has none.

        Nothing where none can come to this channel. Raises `PlatformError`.
        """
        ...

    def subscribe(self, subscription: Subscription, address: str) -> SubscriptionsAnswer:
        """Make or mend one that isn't active, and tell how it stands then. Raises `PlatformError`."""
        ...
