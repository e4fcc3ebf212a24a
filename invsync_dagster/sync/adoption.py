"""Foreign edits taken into the stock (`differences: adopt`): only what a channel's orders leave unexplained, and only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.book import Balance, Book, event_id
from invsync_dagster.inventory.bulk import as_parameter, chunks
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.lines import channel_facts
from invsync_dagster.inventory.sources import Window
from invsync_dagster.inventory.tables import channels, inventory_levels, order_lines, platform_mapping, unclear_orders
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync import levels
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.differences import Adoptable
from invsync_dagster.sync.levels import Doubt, LevelState
from invsync_dagster.sync.poll import PollReport, poll_orders
from invsync_dagster.sync.readings import PLACES, ReadBack, in_readings, read_back
from invsync_dagster.sync.recognition import require_still_here
from invsync_dagster.sync.record import reading_log, write_logs
from invsync_dagster.sync.workspace import Workspace

# What is adopted stays in the stock for good, so the orders are waited for: Amazon lists them every five minutes, and none of
# the last two.
LONGEST_WAIT = timedelta(minutes=15)
ASKED_AGAIN_SECONDS = 30.0

NEXT_RUN = "the next full run looks again"
EXPLAINED = "not adopted: an order of the channel, or a write of ours since, may explain it; to be settled by a push"
CHANGED = f"reported, not adopted: it changed again meanwhile; {NEXT_RUN}"
OUT_OF_STEP = "not adopted: it was to show another number anyway, perhaps just this one; to be settled by a push"
SEVERAL = "reported: several listings of its SKU were edited, perhaps for the same units"


@dataclass
class Adopted:
    """What the batches of one full run have adopted together; each adds to it as the stock's one writer."""

    listings: int = 0
    units: int = 0


def adopt(
    ws: Workspace, name: str, found: Sequence[Adoptable], calls: Calls, run_id: str, adopted: Adopted
) -> set[str]:
    """Take a channel's edits into the stock: what each level shows beyond what we expect; return the SKUs to push.

    The orders come first: an order or a cancel that no webhook told of is booked as what it is, and what it may have moved is
    settled by a push. What nothing happened to is an edit once the orders are known past its reading, also those that the
    channel lists late, and it shows the same when it is read once more. Where that can't be known nothing is adopted. What
    became of each stands in its row of the report. Raises `PlatformError` for dead credentials, `OutOfTimeError` where the
    channel goes on at another address.
    """
    edits = _Edits(ws, ws.channel(name), calls, run_id, adopted, list(found))
    if refusal := edits.refusal():
        edits.report(edits.left, refusal)
    else:
        edits.wait_for_orders()
        edits.read_again()
        edits.book()
    return edits.to_push


@dataclass
class _Edits:
    """The levels of one batch that are `left` to adopt, each by its first reading, and what was `read` of them once more."""

    ws: Workspace
    channel: Channel
    calls: Calls
    run_id: str
    adopted: Adopted
    left: list[Adoptable]
    read: list[ReadBack] = field(default_factory=list)
    to_push: set[str] = field(default_factory=set)

    def report(self, some: Iterable[Adoptable], words: str) -> None:
        """Leave levels out, with the words that their rows say."""
        those = {one.level_id: one for one in some}
        for one in those.values():
            one.difference.done = words
            if words == EXPLAINED:
                self.to_push.add(one.difference.sku)
        self.left = [one for one in self.left if one.level_id not in those]

    def refusal(self) -> str:
        """Say why nothing of this channel is adopted, "" if it is."""
        with self.ws.engine.connect() as connection:
            facts = channel_facts(connection, [self.channel.name])[self.channel.name]
        if facts.rehearses:
            return "reported: a sandbox beside production channels changes no stock"
        if not facts.moves_own_number:
            return "reported: the channel tells its stock by counts, which are taken by themselves; a reading is none"
        return ""

    def wait_for_orders(self) -> None:
        """Leave in only what the orders are known past, and nothing has happened to."""
        clock = self.ws.clock
        gives_up_at = min(clock.now() + LONGEST_WAIT, self.calls.deadline)
        # A channel may list an order late: that is what the windows overlap for.
        overlap = timedelta(seconds=self.ws.configuration.settings.order_overlap_seconds)
        # A list that ends before its call (Amazon's) leaves out an order that was changed since its end, and the next one has it:
        # two are to reach past a reading.
        lists = 2 if self.calls.platform.limits.orders_every else 1
        reached: list[datetime | None] = [None] * lists
        try:
            while True:
                reaches, problem = self._poll()
                if reaches != reached[-1]:
                    reached = [*reached[1:], reaches]
                known_until = reached[0]
                if problem:
                    return self.report(self.left, f"reported, not adopted: {problem}; {NEXT_RUN}")
                with self.ws.engine.connect() as connection:
                    states = levels.load(connection, [one.level_id for one in self.left])
                self.report([one for one in self.left if not self._stands(states[one.level_id], one)], EXPLAINED)
                unknown = [one for one in self.left if known_until is None or known_until < one.ended + overlap]
                if not unknown:
                    return None
                needed = max(one.ended for one in unknown) + overlap
                seconds = max(ASKED_AGAIN_SECONDS, (needed - clock.now()).total_seconds())
                if clock.now() + timedelta(seconds=seconds) > gives_up_at:
                    words = f"the channel's orders are known only until {in_utc(known_until)}"
                    return self.report(unknown, f"reported, not adopted: {words}; {NEXT_RUN}")
                clock.sleep(seconds)
        except OutOfTimeError as error:
            self.report(self.left, f"reported, not adopted: {error}; {NEXT_RUN}")

    def _poll(self) -> tuple[datetime | None, str]:
        """Hear of the channel's orders: return until when they are known, and why not all of them are."""
        polled = PollReport()
        try:
            poll_orders(self.ws, self.channel.name, self.calls, polled, run_id=self.run_id)
        except PlatformError as error:
            if error.recovery is Recovery.REAUTHENTICATE:
                raise
            return None, f"its orders could not be listed: {error}"
        with self.ws.engine.connect() as connection:
            return polled.known_until, _unsettled(connection, self.channel.name)

    def read_again(self) -> None:
        """Read what is left once more: somebody may have put it right again. What can't be read is left out."""
        with self.ws.engine.connect() as connection:
            places = connection.execute(PLACES, {"ids": as_parameter([one.level_id for one in self.left])}).all()
        try:
            for part in in_readings(places, self.calls.platform.limits):
                self.read.append(read_back(self.ws, self.channel.name, part, self.calls, self.run_id))
        except (OutOfTimeError, PlatformError) as error:
            if isinstance(error, PlatformError) and error.recovery is Recovery.REAUTHENTICATE:
                raise
            read = {level_id for one in self.read for level_id in one.readings}
            unread = [one for one in self.left if one.level_id not in read]
            self.report(unread, f"reported, not adopted: it could not be read once more: {error}; {NEXT_RUN}")

    def book(self) -> None:
        """Book what is left, in one transaction with what it makes of the levels: killed before it, nothing has happened, and
        after it a level expects what it showed. So does one that another run has adopted meanwhile."""
        if not self.left:
            return
        now, name = self.ws.clock.now(), self.channel.name
        with write_transaction(self.ws.engine) as connection:
            require_still_here(connection, self.channel)
            states = levels.load(connection, [one.level_id for one in self.left])
            write_logs(
                connection,
                [
                    reading_log(one.attempted, states[level_id], reading.quantity, "read again, before it is adopted")
                    for one in self.read
                    for level_id, reading in one.readings.items()
                ],
            )
            book = Book(connection, now=now, run_id=self.run_id)
            book.load({state.central_sku for state in states.values()})
            rules = _rules(connection, list(states))
            shown = {level_id: reading.quantity for one in self.read for level_id, reading in one.readings.items()}
            for one in list(self.left):
                state, rule = states[one.level_id], rules[one.level_id]
                if why := self._why_not(state, one, shown[one.level_id], rule, book.balance(state.central_sku)):
                    self.report([one], why)
                    if why == OUT_OF_STEP:
                        self.to_push.add(one.difference.sku)
                        connection.execute(_EXPECT, {"of_level": one.level_id, "shown": one.observed, "now": now})
            edits = Counter(states[one.level_id].central_sku for one in self.left)
            self.report([one for one in self.left if edits[states[one.level_id].central_sku] > 1], SEVERAL)
            moves = {one.level_id: one.observed - (states[one.level_id].expected or 0) for one in self.left}
            if problem := _unsettled(connection, name):
                self.report(self.left, f"reported, not adopted: {problem}; {NEXT_RUN}")
            elif moves and (refusal := self._beyond(connection, moves, now)):
                self.report(self.left, refusal)
            for one in self.left:
                state, move, row = states[one.level_id], moves[one.level_id], one.difference
                words = f"it showed {one.observed} where {state.expected} were expected, with all orders known"
                book.add(
                    state.central_sku,
                    "adopt",
                    move,
                    0,
                    moved=move,
                    event_id=event_id("adopt", name, self.run_id, str(one.level_id), str(book.sequence + 1)),
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

    def _beyond(self, connection: Connection, moves: Mapping[int, int], now: datetime) -> str:
        """Say why so many units are no edit, with what the run's other batches have adopted, "" if they may be one."""
        limits, moved = self.ws.configuration.settings.import_limits, sum(map(abs, moves.values()))
        listings, units = self.adopted.listings + len(moves), self.adopted.units + moved
        if listings > limits.zeroed_minimum or units > limits.moved_minimum_units:
            return f"reported: {listings} listings, {units} units in one run are too many to adopt unseen"
        if beyond := Window(connection, limits, now).beyond(self.channel.name, 0, moved):
            return f"reported: adopting {beyond}"
        self.adopted.listings, self.adopted.units = listings, units
        return ""

    def _why_not(self, state: LevelState, one: Adoptable, shown: int | None, rule: Row[Any], balance: Balance) -> str:
        """Say why what a level showed, and is `shown` now, isn't booked; "" if it is."""
        if not self._stands(state, one) or state.expected == one.observed:
            return EXPLAINED
        seen_since = state.observed_at is not None and state.observed_at > one.ended
        if shown != one.observed or (seen_since and state.observed_quantity != one.observed):
            return CHANGED
        if not rule.pushable:
            return "reported: it was paused or stopped meanwhile"
        if not (rule.plain and state.expected and one.observed):
            return "reported: its rules leave open how many are on hand"
        if balance.count is not None and balance.count.is_before(self.channel.name, "adopt", one.began):
            return "reported: it was counted since, and the count holds"
        if state.desired != state.expected:
            return OUT_OF_STEP
        return ""

    def _stands(self, state: LevelState, one: Adoptable) -> bool:
        """Whether nothing has happened to a level since its reading. By how many units an order moved it may be open (one that
        doesn't tell its location): then what is expected stays, and what it shows would be booked twice."""
        return state.touched == one.touched and _visible(state, one.began, self.calls.platform.limits)


def _unsettled(connection: Connection, name: str) -> str:
    """Say which of a channel's orders may move its numbers and aren't booked, "" if none."""
    if unclear := connection.execute(_UNCLEAR, {"of_channel": name}).scalar_one():
        return f"{unclear} of its orders are unclear"
    if lines := connection.execute(_OPEN_LINES, {"of_channel": name}).scalar_one():
        return f"{lines} order lines belong to no listing: map them (invsync discover {name})"
    return ""


def _visible(state: LevelState, at: datetime, limits: Limits) -> bool:
    """Whether all that we know to have happened to a level shows in a reading whose request begins `at`."""
    if state.claim is not None or state.accepted_quantity is not None or state.bulk_handle is not None:
        return False
    lag = timedelta(seconds=limits.read_lag)
    known = [moment + lag for moment in (state.sent_at, state.moved_at) if moment is not None]
    return all(moment <= at for moment in (*known, state.linger_until or at))


def _rules(connection: Connection, level_ids: Sequence[int]) -> dict[int, Row[Any]]:
    """Return by level id whether it is `pushable`, and `plain`: its rules keep nothing back but a buffer, and nothing is held.
    Shared levels have several rules."""
    return {row.id: row for part in chunks(level_ids) for row in connection.execute(_RULES, {"ids": part})}


_UNCLEAR = select(func.count()).where(unclear_orders.c.channel == bindparam("of_channel"))
_OPEN_LINES = select(func.count()).where(
    order_lines.c.channel == bindparam("of_channel"), order_lines.c.sku.is_(None), order_lines.c.ignored_reason == ""
)
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
            func.coalesce(_LISTING.dead_band, _CHANNEL.dead_band) == 0,
            _LEVEL.held_quantity.is_(None),
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
