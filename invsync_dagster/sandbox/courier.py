"""Brings the stand-ins' webhooks to the receiver: each platform's retries, and losses, doubles, delays if told so."""

from __future__ import annotations

import heapq
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import requests

from invsync_dagster.clock import Clock

_log = logging.getLogger(__name__)

# Shopify gives a receiver 1 s to connect and 5 s in all (webhooks, delivery timing); the ERP's contract has the same.
_TIMEOUT = (1.0, 5.0)
_WORKERS = 4
_LONGEST_GAP = 900.0

Headers = dict[str, str]
Sign = Callable[[str, Headers, bytes], Headers]


@dataclass(frozen=True, slots=True)
class WebhookFaults:
    """Shares (0 to 1) of the webhooks that are never sent, sent twice, or held back up to `delay_seconds`, which also
    puts them behind later ones."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.drop, self.duplicate, self.delay)) or self.delay_seconds < 0:
            raise ValueError("drop, duplicate and delay are shares from 0 to 1, delay_seconds is 0 or more")

    def waits(self, random: Random) -> list[float]:
        """Return the seconds to wait before each copy of one webhook is sent, none where it is lost."""
        if random.random() < self.drop:
            return []
        copies = 2 if random.random() < self.duplicate else 1
        return [random.uniform(0, self.delay_seconds) if random.random() < self.delay else 0.0 for _ in range(copies)]


@dataclass(order=True, slots=True)
class Delivery:
    """One copy of a webhook on its way; `attempts` were made so far."""

    due: datetime
    number: int
    channel: str = field(compare=False)
    headers: Headers = field(compare=False)
    body: bytes = field(compare=False)
    retries: int = field(compare=False)
    attempts: int = field(compare=False, default=0)


class Courier:
    """Sends deliveries when they are due, several at a time; what fails is sent again after doubling gaps.

    The platforms spread their retries over hours; here the first comes after `first_retry_seconds`, so that a demo's
    receiver that was down for a moment is caught up with soon.
    """

    def __init__(
        self, receiver: str, clock: Clock, random: Random, sign: Sign, *, first_retry_seconds: float = 1.0
    ) -> None:
        """`receiver` is the address before /webhooks/<channel>; `sign` gives the headers of an attempt made now."""
        self._receiver = receiver.rstrip("/")
        self._clock = clock
        self._random = random
        self._sign = sign
        self._first_retry = first_retry_seconds
        self._waiting: list[Delivery] = []
        self._under_way: dict[int, Delivery] = {}
        self._number = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="courier")
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._faults = WebhookFaults()
        self._counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more and wait for what is under way; what is left stays in `state`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def take(self, channel: str, headers: Headers, body: bytes, retries: int) -> None:
        """Accept a webhook of a stand-in, which may be sent again `retries` times."""
        with self._changed:
            waits = self._faults.waits(self._random)
            self._counts["dropped" if not waits else "taken"] += 1
            self._counts["doubled"] += len(waits) > 1
            for wait in waits:
                self._number += 1
                due = self._clock.now() + timedelta(seconds=wait)
                heapq.heappush(self._waiting, Delivery(due, self._number, channel, headers, body, retries))
            self._changed.notify_all()

    def set_faults(self, changed: Mapping[str, Any]) -> WebhookFaults:
        """Change some of the faults. Raises `ValueError` or `TypeError` for what can't be."""
        with self._changed:
            self._faults = replace(self._faults, **changed)
            return self._faults

    def figures(self) -> dict[str, int]:
        """Return the counts so far, and under `pending` how many deliveries are neither answered 2xx nor given up."""
        with self._changed:
            return {"pending": len(self._waiting) + len(self._under_way), **self._counts}

    def state(self) -> dict[str, Any]:
        """Return the deliveries on their way and the counts, as JSON data."""
        with self._changed:
            on_their_way = sorted([*self._waiting, *self._under_way.values()])
            deliveries = [asdict(delivery) for delivery in on_their_way]
            counts = dict(self._counts)
        for entry in deliveries:
            entry["due"] = entry["due"].isoformat()
            entry["body"] = entry["body"].decode()
        return {"deliveries": deliveries, "counts": counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        with self._changed:
            for entry in state["deliveries"]:
                fresh = {"due": datetime.fromisoformat(entry["due"]), "body": entry["body"].encode()}
                heapq.heappush(self._waiting, Delivery(**{**entry, **fresh}))
                self._number = max(self._number, entry["number"])
            self._counts = Counter(state["counts"])
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and (wait := self._seconds_to_wait()) > 0:
                    self._changed.wait(wait)
                if self._stopped:
                    return
                delivery = heapq.heappop(self._waiting)
                self._under_way[delivery.number] = delivery
            self._pool.submit(self._attempt, delivery)

    def _seconds_to_wait(self) -> float:
        if len(self._under_way) >= _WORKERS or not self._waiting:
            return 60.0
        return (self._waiting[0].due - self._clock.now()).total_seconds()

    def _attempt(self, delivery: Delivery) -> None:
        headers = self._sign(delivery.channel, delivery.headers, delivery.body)
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False  # the receiver is on loopback: no proxy
        url = f"{self._receiver}/webhooks/{delivery.channel}"
        try:
            answer = self._local.session.post(
                url, data=delivery.body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
            )
            outcome = "" if 200 <= answer.status_code < 300 else f"HTTP {answer.status_code}"
        except requests.RequestException as error:
            outcome = type(error).__name__
        with self._changed:
            del self._under_way[delivery.number]
            self._settle(delivery, outcome)
            self._changed.notify_all()

    def _settle(self, delivery: Delivery, problem: str) -> None:
        delivery.attempts += 1
        self._counts["attempts"] += 1
        if not problem:
            self._counts["delivered"] += 1
        elif delivery.attempts > delivery.retries:
            self._counts["given_up"] += 1
            _log.warning(
                "%s: a webhook is given up after %d attempts: %s", delivery.channel, delivery.attempts, problem
            )
        else:
            gap = min(self._first_retry * 2 ** (delivery.attempts - 1), _LONGEST_GAP)
            delivery.due = self._clock.now() + timedelta(seconds=gap)
            heapq.heappush(self._waiting, delivery)
