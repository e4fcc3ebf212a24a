"""One channel's calls: wait for the budget first, learn from the answer, try again what may be tried again, and stop."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import Budget, Paced, Platform
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync.limiter import Limiter

# What a throttled platform gets when it doesn't say how long to wait.
UNTOLD_WAIT = 2.0

# The clock counts in microseconds, and its time as a float errs by a fraction of one: who waits does so by this longer, so as
# not to be refused for the last of a point. It adds up to nothing: a call's turn follows from the one before it.
MARGIN = 0.000_1

# Full jitter between 0 and 1, 2, 4 … seconds, at most this.
LONGEST_BACKOFF = 10.0


class OutOfTimeError(Exception):
    """The budget allows no further call before the channel's deadline: what is left stays a change."""


class Answer(Protocol):
    """Any platform's answer: it may tell what is left of the budget."""

    @property
    def budget(self) -> Budget | None: ...


A = TypeVar("A", bound=Answer)
T = TypeVar("T")


@dataclass
class Calls:
    """The calls of one channel within one run; `deadline` stops new calls, never one that is under way.

    Those of `background` leave the way to all others: each starts only when nobody else needs the budget.
    """

    platform: Platform
    limiter: Limiter
    clock: Clock
    rng: random.Random
    retries: int
    deadline: datetime
    background: bool = False
    made: int = 0
    waited: float = 0.0
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
        self.keep_pace()
        while True:
            if self.background:
                self._wait_behind(cost)
            else:
                self._wait_in_turn(cost)
            try:
                self.platform.make_ready()
            except PlatformError as error:
                if error.recovery is not Recovery.WAIT:
                    raise
                self.throttled(error.retry_after)
            else:
                self.made += 1
                return

    def _wait_in_turn(self, cost: float) -> None:
        now = self.clock.now()
        if now >= self.deadline:
            raise OutOfTimeError
        seconds = self.limiter.reserve(cost, now.timestamp(), self.deadline.timestamp())
        if seconds is None:
            raise OutOfTimeError
        self._sleep_until_turn(seconds)

    def _wait_behind(self, cost: float) -> None:
        while True:
            now = self.clock.now()
            if now >= self.deadline:
                raise OutOfTimeError
            seconds = self.limiter.start_behind(cost, now.timestamp())
            if not seconds:
                return
            self._sleep_until_turn(min(seconds, (self.deadline - now).total_seconds()))

    def _sleep_until_turn(self, seconds: float) -> None:
        if seconds:
            self.waited += seconds
            self.clock.sleep(seconds + MARGIN)

    def learn(self, budget: Budget | None, reserved: float) -> None:
        """Take over what the answer of a call that reserved `reserved` points told of the budget."""
        if budget is not None:
            self.limiter.learn(budget, reserved, self.clock.now().timestamp())

    def throttled(self, retry_after: float | None) -> None:
        """Let nobody call this channel before the time that a throttled answer told."""
        seconds = UNTOLD_WAIT if retry_after is None else retry_after
        self.limiter.block((self.clock.now() + timedelta(seconds=seconds)).timestamp())

    def ask(self, cost: float, call: Callable[[], A]) -> A:
        """Make a call that changes nothing (a reading, a list of orders); a failed one is made again, within bounds.

        Raises `PlatformError` when it may not be tried again or has failed `retries` times more, `OutOfTimeError`.
        """

        def once() -> A:
            while True:
                self.wait(cost)
                try:
                    answer = call()
                except PlatformError as error:
                    if error.recovery is not Recovery.WAIT:
                        raise
                    # A wait uses up no retry; the deadline or the platform's own word bounds it.
                    self.throttled(error.retry_after)
                    continue
                self.learn(answer.budget, cost)
                return answer

        return self.retrying(once)

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
        return self.rng.uniform(0.0, min(LONGEST_BACKOFF, 0.5 * 2.0**state.attempt_number))

    def _sleep(self, seconds: float) -> None:
        if self.clock.now() + timedelta(seconds=seconds) >= self.deadline:
            raise OutOfTimeError
        self.clock.sleep(seconds)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, PlatformError) and error.recovery in (Recovery.RETRY, Recovery.SETTLE)
