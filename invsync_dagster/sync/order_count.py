"""The daily count: orders and units of a channel's last closed days, as the platform lists them, against our own documents.

The platform lists orders by their last change, so each order is in one day's list and in no other, however often it changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from invsync_dagster.events import Content, OrderDocument, OrderLine
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.channels import is_registered, is_retired
from invsync_dagster.inventory.order_totals import KnownLine, known_orders, orders_changed_between
from invsync_dagster.inventory.orders import Totals
from invsync_dagster.platforms.contract import OrdersPage
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.poll import UNCLEAR_PER_CALL, PollReport, apply_page
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.recognition import why_elsewhere
from invsync_dagster.sync.workspace import Workspace

LONGEST = timedelta(hours=3)

# Where a platform wants its orders listed seldom (`orders_every`), so many pages are asked for in a row, and the others so far
# apart: Amazon allows 20 calls at once and one in three minutes, of which the polls need half. In the longest time that is
# 4,000 orders.
PAGES_AT_ONCE = 5

# Differences that are named; more are counted. They point to one cause, and the first ones show it.
MOST_NAMED = 10_000

# Orders of ours that the list leaves out and that are asked for by id; Amazon allows 30 at once and one in two seconds.
MOST_ASKED = 50


class Kind(StrEnum):
    """What is different about an order line. GONE: the platform doesn't have its order any more."""

    MISSING = "missing_here"
    TOTALS = "other_totals"
    GONE = "gone_there"


@dataclass(frozen=True, slots=True)
class Difference:
    """A line that one side knows otherwise than the other; numbers are units, None where a side has no such line."""

    order_id: str
    line_id: str
    kind: Kind
    ordered_there: int | None
    ordered_here: int | None
    cancelled_there: int | None
    cancelled_here: int | None
    shipped_there: int | None
    shipped_here: int | None
    restocked_there: int | None
    restocked_here: int | None
    written_off_there: int | None
    written_off_here: int | None


@dataclass
class OrderCount:
    """What a count found, as it was before anything was mended. Units are those ordered and not cancelled.

    `entries` were booked by it; `unasked` orders of ours were not on the list and too many to ask for. `problem` is "" unless
    the platform couldn't be counted.
    """

    channel: str
    since: datetime
    until: datetime
    orders_there: int = 0
    orders_here: int = 0
    units_there: int = 0
    units_here: int = 0
    different: int = 0
    entries: int = 0
    unasked: int = 0
    api_calls: int = 0
    seconds: float = 0.0
    problem: str = ""
    differences: list[Difference] = field(default_factory=list)

    def totals(self) -> dict[str, int]:
        """Return all counts by stable names."""
        return {
            "orders_there": self.orders_there,
            "orders_here": self.orders_here,
            "units_there": self.units_there,
            "units_here": self.units_here,
            "lines_different": self.different,
            "entries": self.entries,
            "orders_unasked": self.unasked,
        }


def closed_days(today: date, days: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the begin of the first and the end of the last of the `days` before `today`, in UTC."""
    since, until = (datetime.combine(day, time(), zone) for day in (today - timedelta(days=days), today))
    return since.astimezone(UTC), until.astimezone(UTC)


def count_orders(ws: Workspace, name: str, *, days: int, run_id: str) -> OrderCount:
    """Count the orders of channel `name` that changed last within the last `days` closed days, and apply what differs.

    Never raises for the platform's failures: they stand in the report, and what was listed until then is applied.
    """
    zone = ZoneInfo(ws.configuration.settings.time_zone)
    began = ws.clock.now()
    count = OrderCount(name, *closed_days(began.astimezone(zone).date(), days, zone))
    channel = ws.channel(name)
    if channel.disabled_reason:
        count.problem = f"configuration: {channel.disabled_reason}"
        return count
    with ws.engine.connect() as connection:
        if is_retired(connection, name) or not is_registered(connection, name):
            return count
        count.problem = why_elsewhere(connection, channel)
    if count.problem:
        return count
    calls = calls_of(ws, channel, began + LONGEST, background=True)
    try:
        _Counting(ws, calls, count, run_id).run()
    except PlatformError as error:
        count.problem = str(error)
    except OutOfTimeError:
        count.problem = f"the platform did not list the orders within {LONGEST}"
    count.api_calls = calls.made
    count.seconds = (ws.clock.now() - began).total_seconds()
    return count


class _Counting:
    """One count under way: a page at a time, so that a day of any size takes the memory of a page and of its ids."""

    def __init__(self, ws: Workspace, calls: Calls, count: OrderCount, run_id: str) -> None:
        self._ws = ws
        self._calls = calls
        self._count = count
        self._run_id = run_id
        self._listed: set[str] = set()

    def run(self) -> None:
        platform, cursor = self._calls.platform, ""
        count = self._count
        for number in itertools.count(1):
            page = self._calls.ask_orders(
                lambda at=cursor: platform.orders_changed(count.since, count.until, at),  # type: ignore[misc]
            )
            self._compare(page.content.documents, counted=True)
            self._compare_asked(page.content.unclear_orders, counted=True)
            cursor = page.cursor
            if not cursor:
                break
            if number >= PAGES_AT_ONCE:
                self._ws.clock.sleep(platform.limits.orders_every)
        self._compare_unlisted()

    def _compare_asked(self, order_ids: Sequence[str], *, counted: bool) -> set[str]:
        """Fetch orders by id, compare them, and return those that the platform has."""
        found: set[str] = set()
        for ids in chunks(order_ids, UNCLEAR_PER_CALL):
            whole = self._calls.ask_orders(lambda some=ids: self._calls.platform.orders(some))  # type: ignore[misc]
            found |= {document.order_id for document in whole.content.documents}
            self._compare(whole.content.documents, counted=counted)
        return found

    def _compare(self, documents: Sequence[OrderDocument], *, counted: bool) -> None:
        """Compare orders with ours; `counted`: they are of these days."""
        count = self._count
        fresh = [each for each in documents if each.lines and each.order_id not in self._listed]
        self._listed |= {each.order_id for each in fresh}
        with self._ws.engine.connect() as connection:
            known = known_orders(connection, count.channel, [each.order_id for each in fresh])
        different = []
        for document in fresh:
            ours = known.get(document.order_id, {})
            if counted:
                count.orders_there += 1
                count.orders_here += bool(ours)
                count.units_there += sum(line.ordered - line.cancelled for line in document.lines)
                count.units_here += _units(ours)
            if found := differences_of(document, ours):
                self._name(found)
                different.append(document)
        self._apply(different)

    def _compare_unlisted(self) -> None:
        """Ask for orders of ours that the list left out: by the platform's own clock they may be another day's."""
        count = self._count
        with self._ws.engine.connect() as connection:
            unlisted = orders_changed_between(connection, count.channel, count.since, count.until) - self._listed
            asked = sorted(unlisted)[:MOST_ASKED]
            known = known_orders(connection, count.channel, asked)
        count.unasked = len(unlisted) - len(asked)
        there = self._compare_asked(asked, counted=False)
        for order_id in asked:
            if order_id not in there:
                ours = known[order_id]
                count.orders_here += 1
                count.units_here += _units(ours)
                # What was shipped or cancelled in whole promises nothing any more: nothing hangs on such a line.
                self._name(
                    [
                        _difference(order_id, key, Kind.GONE, None, line.totals)
                        for key, line in ours.items()
                        if _is_open(line)
                    ]
                )

    def _name(self, found: Collection[Difference]) -> None:
        self._count.different += len(found)
        self._count.differences += list(found)[: max(0, MOST_NAMED - len(self._count.differences))]

    def _apply(self, documents: Sequence[OrderDocument]) -> None:
        report = PollReport()
        page = OrdersPage(Content(documents=tuple(documents)))
        apply_page(self._ws, self._count.channel, page, report, source="poll", run_id=self._run_id)
        self._count.entries += report.entries


def differences_of(document: OrderDocument, ours: Mapping[str, KnownLine]) -> list[Difference]:
    """Return the lines of an order that we know otherwise; where ours is of a later change, it is what holds."""
    found = []
    for line in document.lines:
        known, there = ours.get(line.line_id), _totals(line)
        if known is None:
            found.append(_difference(document.order_id, line.line_id, Kind.MISSING, there, None))
        elif known.totals != there and known.revision <= document.revision:
            found.append(_difference(document.order_id, line.line_id, Kind.TOTALS, there, known.totals))
    if document.whole:
        named = {line.line_id for line in document.lines}
        for line_id, known in ours.items():
            if line_id not in named and known.revision <= document.revision and _is_open(known):
                found.append(_difference(document.order_id, line_id, Kind.TOTALS, None, known.totals))
    return found


def _is_open(line: KnownLine) -> bool:
    return line.totals.ordered - line.totals.cancelled > line.totals.shipped


def _units(lines: Mapping[str, KnownLine]) -> int:
    return sum(line.totals.ordered - line.totals.cancelled for line in lines.values())


def _totals(line: OrderLine) -> Totals:
    return Totals(*(getattr(line, name) for name in Totals._fields))


def _difference(order_id: str, line_id: str, kind: Kind, there: Totals | None, here: Totals | None) -> Difference:
    nothing = (None,) * len(Totals._fields)
    pairs = zip(there or nothing, here or nothing, strict=True)
    return Difference(order_id, line_id, kind, *(number for pair in pairs for number in pair))
