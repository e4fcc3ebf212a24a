"""Foreign edits taken into the stock (`differences: adopt`): only what a channel's orders leave unexplained, and only once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from invsync_dagster.inventory.book import Book, event_id
from invsync_dagster.inventory.bulk import as_parameter, chunks
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.lines import channel_facts
from invsync_dagster.inventory.sources import Window
from invsync_dagster.inventory.tables import channels, inventory_levels, platform_mapping, unclear_orders
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.settings import ImportLimits
from invsync_dagster.sync import levels
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.differences import Adoptable
from invsync_dagster.sync.levels import Doubt, LevelState
from invsync_dagster.sync.poll import PollReport, poll_orders
from invsync_dagster.sync.readings import PLACES, in_readings, read_back
from invsync_dagster.sync.record import reading_log, write_logs
from invsync_dagster.sync.workspace import Workspace

# What is adopted stays in the stock for good, so the orders are waited for: Amazon lists them every five minutes, and none of
# the last two.
LONGEST_WAIT = timedelta(minutes=15)
ASKED_AGAIN_SECONDS = 30.0

NEXT_RUN = "the next full run looks again"
EXPLAINED = "not adopted: the channel's orders, or a write of ours since, explain it; to be settled by a push"


def adopt(ws: Workspace, name: str, found: Sequence[Adoptable], calls: Calls, run_id: str) -> set[str]:
    """Take a channel's edits into the stock: what each level shows beyond what we expect; return the SKUs to push.

    The orders come first: an order or a cancel that no webhook told of is booked as what it is, and its level is read again.
    What is left is an edit once the orders are known past its reading, also those that the channel lists late. Where they
    can't be known nothing is adopted. What became of each stands in its row of the report. Raises `PlatformError` for dead
    credentials.
    """
    edits = _Edits(ws, name, calls, run_id, list(found))
    if refusal := edits.refusal() or edits.wait_for_orders():
        for one in edits.left:
            one.difference.done = refusal
    elif edits.left:
        edits.book()
    return edits.to_push


@dataclass
class _Edits:
    """The levels of one batch that are `left` to adopt, each by its latest reading."""

    ws: Workspace
    name: str
    calls: Calls
    run_id: str
    left: list[Adoptable]
    to_push: set[str] = field(default_factory=set)

    def refusal(self) -> str:
        """Say why nothing of this channel is adopted, "" if it is."""
        with self.ws.engine.connect() as connection:
            facts = channel_facts(connection, [self.name])[self.name]
        if facts.rehearses:
            return "reported: a sandbox beside production channels changes no stock"
        if not facts.moves_own_number:
            return "reported: the channel tells its stock by counts, which are taken by themselves; a reading is none"
        return ""

    def wait_for_orders(self) -> str:
        """Return once the orders explain what they can and are known past every reading that is left, or why they aren't."""
        clock = self.ws.clock
        gives_up_at = min(clock.now() + LONGEST_WAIT, self.calls.deadline)
        try:
            while True:
                known_until, problem = self._poll()
                if problem:
                    return f"reported, not adopted: {problem}; {NEXT_RUN}"
                disturbed = self._look_again()
                if not self.left:
                    return ""
                # A channel may list an order late: that is what the windows overlap for.
                overlap = timedelta(seconds=self.ws.configuration.settings.order_overlap_seconds)
                needed = max(one.ended for one in self.left) + overlap
                if not disturbed and known_until is not None and known_until >= needed:
                    return ""
                seconds = max(ASKED_AGAIN_SECONDS, (needed - clock.now()).total_seconds())
                if clock.now() + timedelta(seconds=seconds) > gives_up_at:
                    return f"reported, not adopted: {_why_not_known(disturbed, known_until)}; {NEXT_RUN}"
                clock.sleep(seconds)
        except OutOfTimeError as error:
            return f"reported, not adopted: {error}; {NEXT_RUN}"

    def _poll(self) -> tuple[datetime | None, str]:
        """Hear of the channel's orders: return until when they are known, and why not all of them are."""
        polled = PollReport()
        try:
            poll_orders(self.ws, self.name, self.calls, polled, run_id=self.run_id)
        except PlatformError as error:
            if error.recovery is Recovery.REAUTHENTICATE:
                raise
            return None, f"its orders could not be listed: {error}"
        with self.ws.engine.connect() as connection:
            unclear = connection.execute(_UNCLEAR, {"of_channel": self.name}).scalar_one()
        return polled.known_until, f"{unclear} of its orders are unclear" if unclear else ""

    def _look_again(self) -> bool:
        """Read the levels again that something happened to since their reading; leave out those that show what is expected now.

        Return whether some can't be read yet: what happened to them wouldn't show.
        """
        with self.ws.engine.connect() as connection:
            states = levels.load(connection, [one.level_id for one in self.left])
        limits, now = self.calls.platform.limits, self.ws.clock.now()
        disturbed = [one for one in self.left if not _stands(states[one.level_id], one, limits)]
        readable = [one for one in disturbed if _visible(states[one.level_id], now, limits)]
        self._read_again(readable)
        return len(readable) < len(disturbed)

    def _read_again(self, some: Sequence[Adoptable]) -> None:
        if not some:
            return
        rows = {one.level_id: one.difference for one in some}
        kept = [one for one in self.left if one.level_id not in rows]
        with self.ws.engine.connect() as connection:
            places = connection.execute(PLACES, {"ids": as_parameter(rows)}).all()
        for part in in_readings(places, self.calls.platform.limits):
            read = read_back(self.ws, self.name, part, self.calls, self.run_id)
            with write_transaction(self.ws.engine, self.name) as connection:
                states = levels.load(connection, list(read.readings))
                logs = []
                for level_id, reading in read.readings.items():
                    row, shown = rows[level_id], reading.quantity
                    if shown is None:
                        row.done = f"reported: it shows no number any more; {NEXT_RUN}"
                    elif shown == states[level_id].expected and states[level_id].touched == read.touched[level_id]:
                        row.done = EXPLAINED
                        self.to_push.add(row.sku)
                    else:
                        began, ended = read.attempted.began, read.attempted.ended
                        kept.append(Adoptable(level_id, shown, began, ended, read.touched[level_id], row))
                    words = "read again: an order, or a write of ours, came since it was read"
                    logs.append(reading_log(read.attempted, states[level_id], shown, words))
                write_logs(connection, logs)
        self.left = kept

    def book(self) -> None:
        """Book what is left, in one transaction with what it makes of the levels: killed before it, nothing has happened, and
        after it a level expects what it showed. So does one that another run has adopted meanwhile."""
        now, settings, name = self.ws.clock.now(), self.ws.configuration.settings, self.name
        limits = self.calls.platform.limits
        with write_transaction(self.ws.engine) as connection:
            states = levels.load(connection, [one.level_id for one in self.left])
            rules = _rules(connection, list(states))
            moves = {one.level_id: one.observed - (states[one.level_id].expected or 0) for one in self.left}
            refusal = _beyond(connection, name, moves, settings.import_limits, now)
            book = Book(connection, now=now, run_id=self.run_id)
            book.load({state.central_sku for state in states.values()})
            for one in self.left:
                state, move, row = states[one.level_id], moves[one.level_id], one.difference
                if not _stands(state, one, limits):
                    row.done = f"reported: an order, or a write of ours, came in between; {NEXT_RUN}"
                elif not move:
                    row.done = EXPLAINED
                    self.to_push.add(row.sku)
                elif refusal:
                    row.done = refusal
                elif not rules[one.level_id].pushable:
                    row.done = "reported: it was paused or stopped meanwhile"
                elif not (rules[one.level_id].plain and state.expected and one.observed):
                    row.done = "reported: its rules leave open how many are on hand"
                elif _counted_since(book, state.central_sku, name, one.began):
                    row.done = "reported: it was counted since, and the count holds"
                else:
                    words = f"it showed {one.observed} where {state.expected} were expected, with all orders known"
                    book.add(
                        state.central_sku,
                        "adopt",
                        move,
                        0,
                        moved=move,
                        event_id=event_id("adopt", name, self.run_id, str(one.level_id)),
                        occurred_at=one.began,
                        received_at=now,
                        channel=name,
                        reference="full run",
                        reason=words,
                    )
                    connection.execute(_EXPECT, {"of_level": one.level_id, "shown": one.observed, "now": now})
                    whole = move == (row.observed or 0) - (row.acknowledged or 0)
                    row.done = "adopted" if whole else f"adopted as {move:+d}: {words}"
                    self.to_push.add(row.sku)
            book.close()


def _why_not_known(disturbed: bool, known_until: datetime | None) -> str:
    if disturbed:
        return "orders or writes of ours keep coming"
    return f"the channel's orders are known only until {in_utc(known_until)}"


def _visible(state: LevelState, at: datetime, limits: Limits) -> bool:
    """Whether all that we know to have happened to a level shows in a reading whose request begins `at`."""
    if state.claim is not None or state.accepted_quantity is not None or state.bulk_handle is not None:
        return False
    lag = timedelta(seconds=limits.read_lag)
    known = [moment + lag for moment in (state.sent_at, state.moved_at) if moment is not None]
    return all(moment <= at for moment in (*known, state.linger_until or at))


def _stands(state: LevelState, one: Adoptable, limits: Limits) -> bool:
    return state.touched == one.touched and _visible(state, one.began, limits)


def _beyond(connection: Connection, name: str, moves: Mapping[int, int], limits: ImportLimits, now: datetime) -> str:
    """Say why so many units are no edit, "" if they may be one."""
    units = sum(map(abs, moves.values()))
    if len(moves) > limits.zeroed_minimum or units > limits.moved_minimum_units:
        return f"reported: {len(moves)} listings, {units} units at once are too many to adopt unseen"
    beyond = Window(connection, limits, now).beyond(name, 0, units)
    return f"reported: adopting {beyond}" if beyond else ""


def _counted_since(book: Book, sku: str, name: str, began: datetime) -> bool:
    count = book.balance(sku).count
    return count is not None and count.is_before(name, "adopt", began)


def _rules(connection: Connection, level_ids: Sequence[int]) -> dict[int, Row[Any]]:
    """Return by level id whether it is `pushable`, and `plain`: its rules keep nothing back but a buffer. Shared levels have
    several rules."""
    return {row.id: row for part in chunks(level_ids) for row in connection.execute(_RULES, {"ids": part})}


_UNCLEAR = select(func.count()).where(unclear_orders.c.channel == bindparam("of_channel"))
_LEVEL, _LISTING, _CHANNEL = inventory_levels.c, platform_mapping.c, channels.c
_RULES = (
    select(
        _LEVEL.id,
        and_(_LEVEL.pushable, _CHANNEL.status == "active").label("pushable"),
        and_(
            _LEVEL.shared.is_(False),
            func.coalesce(_LISTING.percent, _CHANNEL.percent) == 100,
            func.coalesce(_LISTING.minimum, _CHANNEL.minimum) == 0,
            func.coalesce(_LISTING.maximum, _CHANNEL.maximum).is_(None),
        ).label("plain"),
    )
    .join(platform_mapping, _LISTING.level_id == _LEVEL.id)
    .join(channels, _CHANNEL.name == _LEVEL.channel)
    .where(_LEVEL.id.in_(bindparam("ids", expanding=True)))
)
_EXPECT = (
    update(inventory_levels)
    .where(_LEVEL.id == bindparam("of_level"))
    .values(
        expected=bindparam("shown"),
        uncertain=func.coalesce(_LEVEL.uncertain, str(Doubt.DRIFT)),
        uncertain_since=func.coalesce(_LEVEL.uncertain_since, bindparam("now")),
        due_at=bindparam("now"),
    )
)
