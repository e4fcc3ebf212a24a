"""All stand-ins of one configuration together: their locks and faults, the courier, and the file that keeps them."""

from __future__ import annotations

import csv
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from invsync_dagster.channels import Channel
from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.courier import Courier
from invsync_dagster.sandbox.faces import Article, Shown, StandIn
from invsync_dagster.sandbox.faults import Fault, Faults
from invsync_dagster.sandbox.standins import stand_in

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass
class Place:
    """One stand-in with what goes wrong before it; `lock` is held whenever either is touched."""

    standin: StandIn
    faults: Faults
    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    failed: int = 0


class World:
    """The stand-ins by channel name, safe for threads."""

    def __init__(
        self,
        channels: Iterable[Channel],
        environ: Mapping[str, str],
        catalogue: Mapping[str, Sequence[Article]],
        clock: Clock,
        random: Random,
        receiver: str,
        state_file: Path,
    ) -> None:
        """Make a stand-in for each channel and restore what `state_file` holds of it; webhooks go to `receiver`.

        Raises `KeyError` naming a missing environment variable, `ValueError` for a state file that can't be read.
        """
        self._state_file = state_file
        self._random = random
        self._late: set[threading.Timer] = set()
        self._saving = threading.Lock()
        self._saved = ""
        self._places = {
            channel.name: Place(
                stand_in(channel, environ, catalogue.get(channel.name, ()), clock, self._own_random()),
                self._faults_of(channel),
            )
            for channel in channels
        }
        self.courier = Courier(receiver, clock, self._own_random(), self._signed)
        self._restore()

    def start(self) -> None:
        """Begin to deliver webhooks."""
        self.courier.start()

    def stop(self) -> None:
        """Drop the writes that have not landed, stop delivering, and save."""
        for timer in list(self._late):
            timer.cancel()
        self.courier.stop()
        self.save()

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def next_fault(self, name: str) -> Fault | None:
        """Draw what goes wrong with the request that came in."""
        place = self._places[name]
        with place.lock:
            place.calls += 1
            fault = place.faults.next()
            place.failed += fault is not None
            return fault

    def handle(self, name: str, request: Request) -> Response:
        """Let the stand-in work on a request, and pass its webhooks to the courier."""
        return self.within(name, lambda standin: standin.handle(request))

    def within(self, name: str, work: Callable[[StandIn], _T]) -> _T:
        """Run `work` on a stand-in alone, and pass the webhooks that come of it to the courier."""
        place = self._places[name]
        with place.lock:
            try:
                return work(place.standin)
            finally:
                for webhook in place.standin.take_outgoing():
                    self.courier.take(name, webhook.headers, webhook.body, place.standin.webhook_retries)

    def land_later(self, name: str, request: Request, seconds: float) -> None:
        """Let a request reach the stand-in after `seconds`, its answer lost."""

        def land() -> None:
            self.handle(name, request)
            self._late.discard(timer)

        timer = threading.Timer(seconds, land)
        timer.daemon = True
        self._late.add(timer)
        timer.start()

    def with_faults(self, name: str, work: Callable[[Faults], _T]) -> _T:
        """Run `work` on the faults of a channel alone."""
        place = self._places[name]
        with place.lock:
            return work(place.faults)

    def books(self, name: str) -> Sequence[Shown]:
        """Return the books of a stand-in."""
        return self.within(name, lambda standin: standin.books())

    def figures(self) -> dict[str, Any]:
        """Return calls and faults per channel, webhooks on their way, and late writes not landed yet."""
        channels = {name: {"calls": place.calls, "failed": place.failed} for name, place in self._places.items()}
        return {"channels": channels, "webhooks": self.courier.figures(), "late_writes": len(self._late)}

    def save(self) -> bool:
        """Write the state file in one step if anything changed, and return whether it did."""
        with self._saving:
            # All at one moment: a sale without its webhook, or a webhook without its sale, is no state to go on from.
            with ExitStack() as stack:
                for place in self._places.values():
                    stack.enter_context(place.lock)
                channels = {name: place.standin.dump() for name, place in self._places.items()}
                state = {"courier": self.courier.state(), "channels": channels}
            text = json.dumps(state)
            if text == self._saved:
                return False
            self._state_file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._state_file.with_suffix(".tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._state_file)
            self._saved = text
            return True

    def _signed(self, name: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        place = self._places[name]
        with place.lock:
            return place.standin.signed(headers, body)

    def _faults_of(self, channel: Channel) -> Faults:
        # A write lands well within the time for which the channel says that it may (60 s unless it says so).
        linger = channel.limits.get("write_linger", 60.0)
        return Faults(self._own_random(), late_seconds=(0.1 * linger, 0.8 * linger))

    def _own_random(self) -> Random:
        return Random(self._random.getrandbits(64))  # noqa: S311 - ids, faults and baskets, nothing secret

    def _restore(self) -> None:
        if not self._state_file.exists():
            return
        try:
            state = json.loads(self._state_file.read_text(encoding="utf-8"))
            for name in self._places.keys() & state["channels"].keys():
                self._places[name].standin.load(state["channels"][name])
            courier = state["courier"]
            known = [delivery for delivery in courier["deliveries"] if delivery["channel"] in self._places]
            self.courier.restore({**courier, "deliveries": known})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self._state_file.name} can't be used ({error!r}); remove it to start afresh") from error


def read_catalogue(folder: Path) -> dict[str, list[Article]]:
    """Read inventory.csv and mapping.csv (the import formats) into what each channel lists.

    A column `shown` in mapping.csv says what a listing shows at first, where that isn't all there is.

    Raises `OSError`, and `ValueError` naming the file for a row that the sample data can't have.
    """
    quantities = {row["sku"]: _whole(row["quantity"], "inventory.csv") for row in _rows(folder / "inventory.csv")}
    articles: dict[str, list[Article]] = {}
    for row in _rows(folder / "mapping.csv"):
        article = Article(
            sku=row["platform_sku"],
            quantity=quantities.get(row["central_sku"], 0),
            item_id=row["platform_item_id"],
            location_id=row["platform_location_id"],
            variant_id=row.get("platform_variant_id", ""),
            shown=_whole(row["shown"], "mapping.csv") if row.get("shown") else None,
        )
        articles.setdefault(row["channel"], []).append(article)
    return articles


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _whole(text: str, file: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{file}: quantity {text!r} is no whole number") from None
