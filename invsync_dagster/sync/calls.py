"""One channel's calls: wait for the budget first, learn from the answer, try again what may be tried again, and stop."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import Budget, Outcome, Paced, Platform, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync.limiter import Limiter
from invsync_dagster.sync.line import Line

# The clock counts in microseconds, and its time as a float errs by a fraction of one: who waits does so by this longer, so as
# not to be refused for the last of a point. It adds up to nothing: a call's turn follows from the one before it.
MARGIN = 0.000_1

# Full jitter between 0 and 1, 2, 4 … seconds, at most this.
LONGEST_BACKOFF = 10.0

# How long a list of orders with a budget of its own may wait for it in a push, whose writes wait behind it.
LONGEST_ORDERS_WAIT = 1.0

# How far a wait that the platform doesn't tell is shortened or prolonged by chance.
JITTER = 0.25


class OutOfTimeError(Exception):
    """The budget allows no further call before the channel's deadline: what is left stays a change.

    `why`: the platform's words for what took the time, "" if that was the rate alone. As text it is a sentence for people.
    """

    def __init__(self, why: str = "") -> None:
        super().__init__(f"no call could be made in time{f': {why}' if why else ''}")
        self.why = why


class GaveWayError(OutOfTimeError):
    """The orders' own budget is used up: their list gives way to all else, and is tried again by the next push."""


class Answer(Protocol):
    """Any platform's answer: it may tell what is left of the budget."""

    @property
    def budget(self) -> Budget | None: ...


A = TypeVar("A", bound=Answer)
T = TypeVar("T")


@dataclass
class Calls:
    """The calls of one channel within one run; `deadline` stops new calls, never one that is under way.

    Those of `background` leave the way to all others: each starts only when nobody else needs the budget. `orders`: the
    budget of orders where they have their own, else None.
    """

    platform: Platform
    line: Line
    limiter: Limiter
    orders: Limiter | None
    clock: Clock
    rng: random.Random
    retries: int
    deadline: datetime
    background: bool = False
    made: int = 0
    waited: float = 0.0
    last: str = ""  # the words of the latest failure since a call succeeded
    _kept_pace: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if isinstance(self.platform, Paced):
            if pace := self.limiter.pace():
                self.platform.go_on_from(pace)
            self._kept_pace = self.platform.pace

    def keep_pace(self) -> None:
        """Keep what the platform has learned of its host since, for all processes of the channel."""
        if isinstance(self.platform, Paced) and self.platform.pace != self._kept_pace:
            self._kept_pace = self.platform.pace
            self.limiter.keep_pace(self._kept_pace)

    def wait(self, cost: float) -> None:
        """Wait until the channel's budget allows a call of `cost`, and make ready for it. Raises `OutOfTimeError`,
        `PlatformError`."""
        self._wait(cost, self.limiter)

    def _wait(self, cost: float, limiter: Limiter) -> None:
        self.keep_pace()
        while True:
            if self.background:
                self._wait_behind(cost, limiter)
            else:
                self._wait_in_turn(cost, limiter)
            try:
                self.platform.make_ready()
            except PlatformError as error:
                if error.recovery is not Recovery.WAIT:
                    raise
                self._throttled(error, limiter)
            else:
                self.made += 1
                return

    def _wait_in_turn(self, cost: float, limiter: Limiter) -> None:
        now = self.clock.now()
        if now >= self.deadline:
            raise OutOfTimeError(self.last)
        until = self.deadline
        if limiter is self.orders:
            patience = max(LONGEST_ORDERS_WAIT, cost / limiter.limits.rate)
            until = min(until, now + timedelta(seconds=patience))
        seconds = limiter.reserve(cost, now.timestamp(), until.timestamp())
        if seconds is None:
            why = self.last or limiter.why
            raise GaveWayError(why) if limiter is self.orders else OutOfTimeError(why)
        self._sleep_until_turn(seconds)

    def _wait_behind(self, cost: float, limiter: Limiter) -> None:
        while True:
            now = self.clock.now()
            if now >= self.deadline:
                raise OutOfTimeError(self.last or limiter.why)
            seconds = limiter.start_behind(cost, now.timestamp())
            if not seconds:
                return
            self._sleep_until_turn(min(seconds, (self.deadline - now).total_seconds()))

    def _sleep_until_turn(self, seconds: float) -> None:
        if seconds:
            self.waited += seconds
            self.clock.sleep(seconds + MARGIN)

    def learn(self, budget: Budget | None, reserved: float) -> None:
        """Take over what the answer of a call that reserved `reserved` points told of the budget."""
        self._learn(budget, reserved, self.limiter)

    def _learn(self, budget: Budget | None, reserved: float, limiter: Limiter) -> None:
        if budget is not None:
            limiter.learn(budget, reserved, self.clock.now().timestamp())

    def throttled(self, error: PlatformError) -> None:
        """Let nobody call this channel before the time that a throttled answer told."""
        self._throttled(error, self.limiter)

    def _throttled(self, error: PlatformError, limiter: Limiter) -> None:
        self.last = str(error)
        now = self.clock.now().timestamp()
        if error.retry_after is None:
            limiter.refused(now, self.last, self.rng.uniform(1.0 - JITTER, 1.0 + JITTER))
        else:
            limiter.block(now + error.retry_after, self.last)

    def answered(self) -> None:
        """Note that the platform took a call."""
        self._answered(self.limiter)

    def _answered(self, limiter: Limiter) -> None:
        self.last = ""
        limiter.accepted()

    def ask(self, cost: float, call: Callable[[], A]) -> A:
        """Make a call that changes nothing (a reading); a failed one is made again, within bounds.

        Raises `PlatformError` when it may not be tried again or has failed `retries` times more, `OutOfTimeError`.
        """
        return self.retrying(lambda: self._ask(cost, call, self.limiter))

    def ask_orders(self, call: Callable[[], A]) -> A:
        """Make a call for orders, as `ask` does; where they have a budget of their own, a refused one gives way at once.

        Raises `PlatformError`, `OutOfTimeError`.
        """
        cost = self.platform.limits.orders_cost
        return self.retrying(lambda: self._ask(cost, call, self.orders or self.limiter))

    def _ask(self, cost: float, call: Callable[[], A], limiter: Limiter) -> A:
        while True:
            self._wait(cost, limiter)
            try:
                with self.within_deadline():
                    answer = call()
            except PlatformError as error:
                self.last = str(error)
                if error.recovery is not Recovery.WAIT:
                    raise
                # A wait uses up no retry; the deadline or the platform's own word bounds it.
                self._throttled(error, limiter)
                continue
            self._learn(answer.budget, cost, limiter)
            self._answered(limiter)
            return answer

    def within_deadline(self) -> contextlib.AbstractContextManager[None]:
        """Let what is asked end by the deadline too: no time-out is worth more than what is left."""
        return self.line.within(self.deadline)

    def retrying(self, once: Callable[[], T]) -> T:
        """Run `once` again after failures that may pass by themselves: exponential with jitter, `retries` times."""
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(self.retries + 1),
            wait=self._backoff,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(once)

    def _backoff(self, state: RetryCallState) -> float:
        self.last = str(state.outcome.exception()) if state.outcome is not None else ""
        return self.rng.uniform(0.0, min(LONGEST_BACKOFF, 0.5 * 2.0**state.attempt_number))

    def _sleep(self, seconds: float) -> None:
        if self.clock.now() + timedelta(seconds=seconds) >= self.deadline:
            raise OutOfTimeError(self.last)
        self.clock.sleep(seconds)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, PlatformError) and error.recovery in (Recovery.RETRY, Recovery.SETTLE)


def failure_of_call(outcomes: Sequence[Outcome]) -> PlatformError | None:
    """Return what failed the call as a whole: every row shares one outcome that no row of its own would have."""
    first = outcomes[0] if outcomes else Outcome(Result.ACKNOWLEDGED)
    if first.result not in (Result.NOT_SENT, Result.UNKNOWN) or first.recovery is None:
        return None
    if any(outcome != first for outcome in outcomes):
        return None
    return PlatformError(first.recovery, first.code, first.message, first.retry_after)
