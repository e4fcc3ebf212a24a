"""The watchdog of subscriptions: what a channel's platform is to notify us of, what is missing or off, and its mend."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.channels import is_retired
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.subscribed import expect_deliveries, mended_again, note_mends
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.subscribing import Subscriber, Subscription, SubscriptionState
from invsync_dagster.platforms.transport import is_loopback
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.recognition import why_elsewhere
from invsync_dagster.sync.workspace import Workspace

# A few calls a channel; whoever can't answer them in this time is asked the next time.
LONGEST = timedelta(minutes=2)

NOT_TOLD = (
    "no address for its webhooks is known, so its orders are heard from lists alone; set receiver_url in channels.yaml (for "
    "Amazon webhook_queue or webhook_event_bridge)"
)
AGAIN_MEND = (
    "the platform drops it, mostly since its deliveries aren't answered in time: see whether the receiver can be reached "
    "from outside and answers with 200, and that no other installation uses the account (docs/webhooks.md)"
)
TOO_LATE = "the channel allowed no call in time"


@dataclass(frozen=True, slots=True)
class Topic:
    """A kind of notification: how it was found, what was done (`made`, `mended`, ""), and why it isn't active now, ""
    where it is."""

    topic: str
    found: str
    done: str = ""
    problem: str = ""


@dataclass
class Watch:
    """What a channel's subscriptions are. `unwatched` says why there is nothing to look at, `problem` why nothing could be
    seen; "" otherwise. `again`: what was made or mended for the second time within a day, with the last time."""

    channel: str
    address: str = ""
    topics: list[Topic] = field(default_factory=list)
    unwatched: str = ""
    problem: str = ""
    again: dict[str, str] = field(default_factory=dict)
    api_calls: int = 0

    @property
    def active(self) -> int:
        return sum(not one.problem for one in self.topics)

    @property
    def problems(self) -> list[str]:
        """What is left to a person, one sentence each."""
        own = [self.problem] if self.problem else []
        return [
            *own,
            *(f"{one.topic}: {one.problem}" for one in self.topics if one.problem),
            *(f"{topic} was mended twice within a day, last at {at}: {AGAIN_MEND}" for topic, at in self.again.items()),
        ]


def watch_subscriptions(ws: Workspace, name: str, *, mend: bool) -> Watch:
    """Look at what channel `name` needs to be subscribed to, and with `mend` make or mend what isn't active.

    Never raises for the platform's failures: they stand in the answer. A channel isn't stopped by them, since only its
    notifications are concerned.
    """
    channel = ws.channel(name)
    watch = Watch(name)
    if channel.disabled_reason:
        watch.problem = f"configuration: {channel.disabled_reason}"
        return watch
    with ws.engine.connect() as connection:
        if is_retired(connection, name):
            watch.unwatched = "the channel is retired"
            return watch
        elsewhere = why_elsewhere(connection, channel)
    watch.address = _address(ws, channel)
    platform = ws.platform(channel)
    if not isinstance(platform, Subscriber):
        watch.unwatched = f"{channel.platform} has nothing to subscribe to"
        return watch
    if watch.address and elsewhere:
        watch.problem = elsewhere
        return watch
    calls = calls_of(ws, channel, ws.clock.now() + LONGEST, background=False)
    try:
        answer = calls.ask(platform.limits.read_cost, lambda: platform.subscriptions(watch.address))
    except PlatformError as error:
        watch.problem = str(error)
    except OutOfTimeError:
        watch.problem = TOO_LATE
    else:
        watch.topics = [_looked_at(calls, platform, one, watch.address, mend=mend) for one in answer.subscriptions]
        watch.unwatched = "" if answer.subscriptions else NOT_TOLD
    watch.api_calls = calls.made
    _keep(ws, watch, mend=mend)
    return watch


def _keep(ws: Workspace, watch: Watch, *, mend: bool) -> None:
    """Keep what was mended, and since when deliveries are expected; not where the platform could not be asked."""
    now, name = ws.clock.now(), watch.channel
    if mend and not watch.problem:
        with write_transaction(ws.engine, name) as connection:
            note_mends(connection, name, {one.topic: one.done == "made" for one in watch.topics if one.done}, now)
            if watch.unwatched or watch.active == len(watch.topics):
                expect_deliveries(connection, name, None if watch.unwatched else now)
    with ws.engine.connect() as connection:
        watch.again = {topic: in_utc(at) for topic, at in mended_again(connection, name, now).items()}


def _address(ws: Workspace, channel: Channel) -> str:
    """Return where a channel's platform is to send webhooks, "" where that is unknown: the receiver of a demo can't be reached
    from a real shop, whose own machine would be told of its orders."""
    address = channel.settings.notified_at(ws.configuration.settings.receiver_url, channel.name)
    if channel.environment == "production" and is_loopback(urlsplit(address).hostname or ""):
        return ""
    return address


def _looked_at(calls: Calls, platform: Subscriber, one: Subscription, address: str, *, mend: bool) -> Topic:
    if one.state is SubscriptionState.ACTIVE:
        return Topic(one.topic, one.state)
    if one.state is SubscriptionState.ELSEWHERE:
        return Topic(one.topic, one.state, problem=f"{one.note}; delete it there if this installation is to have it")
    if not mend:
        return Topic(one.topic, one.state, problem=_words(one))
    try:
        now = _mended(calls, platform, one, address)
    except PlatformError as error:
        return Topic(one.topic, one.state, problem=f"{_words(one)}; {error}")
    except OutOfTimeError:
        return Topic(one.topic, one.state, problem=f"{_words(one)}; {TOO_LATE}")
    if now.state is not SubscriptionState.ACTIVE:
        return Topic(one.topic, one.state, problem=f"{_words(now)}, after we asked for it")
    return Topic(one.topic, one.state, done="mended" if one.handle else "made")


def _mended(calls: Calls, platform: Subscriber, one: Subscription, address: str) -> Subscription:
    """Make or mend one in a single call: after a lost answer the next look tells what came of it, and a call made again
    might make a second one. Raises `PlatformError`, `OutOfTimeError`."""
    cost = calls.platform.limits.write_cost
    calls.wait(cost)
    try:
        answer = platform.subscribe(one, address)
    except PlatformError as error:
        if error.recovery is Recovery.WAIT:
            calls.throttled(error)
        raise
    calls.learn(answer.budget, cost)
    return answer.subscriptions[0]


def _words(one: Subscription) -> str:
    return f"{one.state} ({one.note})" if one.note else str(one.state)
