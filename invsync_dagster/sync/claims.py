"""Claims: which due changes this worker attempts now, numbered and committed before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    and_,
    bindparam,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)

from invsync_dagster.inventory.bulk import among, any_of, as_parameter, found_by
from invsync_dagster.inventory.tables import NOT_THERE, NOTHING_KNOWN, inventory_levels, is_somewhere, work_queue
from invsync_dagster.platforms.contract import LevelReference, Limits
from invsync_dagster.sync.worker import Worker

# Claims of a reading carry this before their token: whoever takes one over need not doubt anything.
READ = "read:"
# Those of a bulk submission this one: what nobody answered for may stand in the platform's queue for long.
BULK = "bulk:"


class Claim(NamedTuple):
    """One claimed level: what to send (computed at the claim, from the ledger), and the basis of it."""

    level_id: int
    sku: str
    reference: LevelReference
    quantity: int
    compare: int | None
    attempt: int
    touched: int
    expected: int | None
    ledger_sequence: int
    rules_revision: int
    out_of_step_since: datetime | None
    absent: bool


_QUEUED = work_queue.c
_URGENCY = (_QUEUED.desired, _QUEUED.due_at)


def _goes_at_once(settles_first: bool) -> ColumnElement[bool]:
    """The condition of a level that is written without reading: certain, or a decrease below what is expected.

    Where differences are written, a decrease waits too: sent on top of one whose answer was lost, it would count twice.
    """
    if settles_first:
        return _QUEUED.uncertain.is_(None)
    return or_(_QUEUED.uncertain.is_(None), and_(_QUEUED.expected.is_not(None), _QUEUED.desired < _QUEUED.expected))


def _due(some_skus: bool) -> ColumnElement[bool]:
    """The condition of a channel's changes, all or those of `skus`, that are worth an attempt now and that nobody has claimed."""
    of_channel = _QUEUED.channel == bindparam("of_channel")
    if some_skus:
        # By their levels. The queue's order is of no use then, and would lead through all of it.
        level = inventory_levels.c
        of_skus = select(level.id).where(among(level.central_sku, "skus")).scalar_subquery()
        of_channel = and_(_QUEUED.channel.concat("") == bindparam("of_channel"), any_of(_QUEUED.level_id, of_skus))
    return and_(of_channel, _QUEUED.is_change.is_(True), _QUEUED.due_at <= bindparam("now"), _QUEUED.claim.is_(None))


def _goes_in_bulk() -> ColumnElement[bool]:
    """The condition of a level that a bulk submission may carry: certain, above the low stock, and in none that is open.

    And what it shows is known: where two writes of ours came in an order that nobody knows, the third is not to wait.
    """
    certain = and_(_QUEUED.uncertain.is_(None), _QUEUED.effective_quantity != NOTHING_KNOWN)
    return and_(certain, _QUEUED.bulk_handle.is_(None), _QUEUED.desired > bindparam("low"))


# Where a claim takes levels of a few locations, as many of the queue's first levels are looked at for each: of a product they
# mostly stand together.
LOOKED_AT = 20

# Built once: putting these expressions together anew costs more than running them (0.25 ms of 0.4 ms).
_KINDS = [(some, first) for some in (False, True) for first in (False, True)]
_WRITES = {(some, first): and_(_due(some), _goes_at_once(first)) for some, first in _KINDS}
_READS = {(some, first): and_(_due(some), not_(_goes_at_once(first))) for some, first in _KINDS}
_ALL_WRITES = _WRITES[False, False]
_SINGLE_WRITES = and_(_ALL_WRITES, not_(_goes_in_bulk()))


def _first(kind: str, condition: ColumnElement[bool]) -> ScalarSelect[str]:
    """Ask for the first of the queue: PostgreSQL takes an EXISTS for true in any row, and walks through the table (80 ms)."""
    first = select(literal(kind)).select_from(work_queue).where(condition)
    return first.order_by(*_URGENCY).limit(1).scalar_subquery()


# The readings last: to find none, each change there is has to be looked at.
_NEXT = {kind: select(func.coalesce(_first("write", _WRITES[kind]), _first("read", _READS[kind]))) for kind in _KINDS}
# What may go in bulk comes after the readings, which make more of it certain.
_NEXT_BESIDE_BULK = select(
    func.coalesce(_first("write", _SINGLE_WRITES), _first("read", _READS[False, False]), _first("bulk", _ALL_WRITES))
)
_COUNT = select(
    func.count().filter(and_(_QUEUED.due_at <= bindparam("now"), _QUEUED.claim.is_(None))), func.count()
).where(_QUEUED.channel == bindparam("of_channel"), _QUEUED.is_change.is_(True))


@dataclass(frozen=True, slots=True)
class Due:
    """Which due changes are meant: a channel's, at a moment, of all SKUs or (`skus`) of some.

    `settles_first`: the channel's limit of this name, which leaves no uncertain level to the writes. `low_stock`: it has a
    bulk lane, for levels above that.
    """

    channel: str
    now: datetime
    skus: tuple[str, ...] | None = None
    settles_first: bool = False
    low_stock: int | None = None

    @property
    def kind(self) -> tuple[bool, bool]:
        """Which of the statements finds them."""
        return self.skus is not None, self.settles_first

    def parameters(self) -> dict[str, Any]:
        chosen = {} if self.skus is None else {"skus": as_parameter(self.skus)}
        above = {} if self.low_stock is None else {"low": self.low_stock}
        return {"of_channel": self.channel, "now": self.now, **chosen, **above}


def next_due(connection: Connection, due: Due) -> str | None:
    """Return what to do next: "write" what goes at once, then "read" what is uncertain; None where nothing is due.

    Beside a bulk lane, what may go by it comes last, as "bulk".
    """
    statement = _NEXT[due.kind] if due.low_stock is None else _NEXT_BESIDE_BULK
    return connection.execute(statement, due.parameters()).scalar_one()


def count_changes(connection: Connection, channel: str, now: datetime) -> tuple[int, int]:
    """Return how many changes of a channel are due now, and how many wait for later or are claimed."""
    due_now, everything = connection.execute(_COUNT, {"of_channel": channel, "now": now}).one()
    return due_now, everything - due_now


def claim_writes(
    connection: Connection, worker: Worker, token: str, due: Due, limits: Limits, until: datetime
) -> list[Claim]:
    """Claim up to a batch of levels for a write, lowest desired first (zeros and low stock), each with a new attempt number.

    Where one call writes levels of one location only (`limits`), those of the first level's location. Beside a bulk lane,
    none that may go by it. Where it makes few levels that aren't there, no more of them: thousands of them at a new location
    would fill each batch.
    """
    if due.low_stock is not None:
        return _claim(connection, _CLAIM_SINGLE_WRITES, worker, token, due, limits.write_batch, until)
    more: dict[str, Any] = {"absent": limits.absent_a_write} if limits.absent_a_write else {}
    where = _Where.ANY
    if limits.one_location_a_write:
        where, more["places"] = _first_places(connection, _FIRST_WRITES[due.kind], due, 1)
    statement = _CLAIM_WRITES[*due.kind, where, bool(limits.absent_a_write)]
    return _claim(connection, statement, worker, token, due, limits.write_batch, until, **more)


def any_bulk_due(connection: Connection, due: Due, least: int) -> bool:
    """Return whether at least `least` levels are due that a bulk submission may carry."""
    found = connection.execute(_COUNT_BULK, due.parameters() | {"least": least}).scalar_one()
    return found >= least


def claim_bulk(connection: Connection, worker: Worker, token: str, due: Due, most: int, until: datetime) -> list[Claim]:
    """Claim up to `most` levels for a bulk submission: certain, above the low stock, and in no open submission."""
    return _claim(connection, _CLAIM_BULK, worker, token, due, most, until)


def claim_reads(
    connection: Connection, worker: Worker, token: str, due: Due, limits: Limits, until: datetime
) -> list[Claim]:
    """Claim up to a batch of uncertain levels for a reading; a reading is no attempt.

    Where each location is a call of its own (`limits`), those of the first few locations.
    """
    where, more = _Where.ANY, {}
    if limits.read_locations:
        where, more["places"] = _first_places(connection, _FIRST_READS[due.kind], due, limits.read_locations)
    statement = _CLAIM_READS[*due.kind, where]
    return _claim(connection, statement, worker, READ + token, due, limits.read_batch, until, **more)


class _Where(Enum):
    """Where the levels of one claim are: anywhere, or at the locations `places`, of which "" (none) may be one or not."""

    ANY = auto()
    PLACES = auto()
    SOMEWHERE = auto()


def _first_places(connection: Connection, statement: Any, due: Due, most: int) -> tuple[_Where, str]:
    """Return up to `most` locations of the first levels of the queue, as a parameter, and how to find all at these."""
    levels_of_it = 1 if most == 1 else most * LOOKED_AT
    found = connection.execute(statement, due.parameters() | {"most": levels_of_it}).scalars()
    places = list(dict.fromkeys(found))[:most]
    return _Where.PLACES if "" in places else _Where.SOMEWHERE, as_parameter(places)


def _first_places_statement(condition: ColumnElement[bool]) -> Any:
    return select(_QUEUED.location_id).where(condition).order_by(*_URGENCY).limit(bindparam("most"))


_FIRST_WRITES = {kind: _first_places_statement(_WRITES[kind]) for kind in _KINDS}
_FIRST_READS = {kind: _first_places_statement(_READS[kind]) for kind in _KINDS}


def _claim_statement(
    condition: ColumnElement[bool],
    values: dict[str, Any],
    *,
    where: _Where = _Where.ANY,
    some_absent: bool = False,
) -> Any:
    level = inventory_levels.c
    urgency: tuple[ColumnElement[Any], ...] = _URGENCY
    if where is not _Where.ANY:
        condition = and_(condition, among(_QUEUED.location_id, "places"))
    if where is _Where.SOMEWHERE:
        # As they stand, SQLite would rather walk through the queue than sort what the index of places gives.
        condition, urgency = and_(condition, is_somewhere()), (_QUEUED.desired + 0, _QUEUED.due_at)
    if some_absent:
        not_there = _QUEUED.effective_quantity == NOT_THERE
        few = select(_QUEUED.level_id).where(condition, not_there).order_by(*urgency).limit(bindparam("absent"))
        condition = and_(condition, or_(not_(not_there), _QUEUED.level_id.in_(few.scalar_subquery())))
    chosen = select(_QUEUED.level_id).where(condition).order_by(*urgency).limit(bindparam("most")).scalar_subquery()
    return (
        update(inventory_levels)
        .where(level.id.in_(chosen))
        .values(
            {
                "claim": bindparam("by_token"),
                "claim_until": bindparam("until"),
                "claim_worker": bindparam("worker"),
                **values,
            }
        )
        .returning(
            level.id,
            level.central_sku,
            level.item_id,
            level.location_id,
            level.desired,
            level.attempt,
            level.touched,
            level.expected,
            level.effective_quantity,
            level.uncertain,
            level.desired_sequence,
            level.rules_revision,
            level.out_of_step_since,
        )
    )


_ATTEMPT = {
    "attempt": inventory_levels.c.attempt + 1,
    "touched": inventory_levels.c.touched + 1,
    "sent_quantity": inventory_levels.c.desired,
    "sent_at": bindparam("now"),
    "sent_sequence": inventory_levels.c.desired_sequence,
}
_CLAIM_WRITES = {
    (*kind, where, absent): _claim_statement(_WRITES[kind], _ATTEMPT, where=where, some_absent=absent)
    for kind in _KINDS
    for where in _Where
    for absent in (False, True)
}
_CLAIM_SINGLE_WRITES = _claim_statement(_SINGLE_WRITES, _ATTEMPT)
_CLAIM_READS = {(*kind, where): _claim_statement(_READS[kind], {}, where=where) for kind in _KINDS for where in _Where}


_BULK = and_(_due(False), _goes_in_bulk())
_CLAIM_BULK = _claim_statement(_BULK, _ATTEMPT)
_COUNT_BULK = select(func.count()).select_from(
    select(_QUEUED.level_id).where(_BULK).limit(bindparam("least")).subquery()
)


def _claim(
    connection: Connection,
    statement: Any,
    worker: Worker,
    token: str,
    due: Due,
    limit: int,
    until: datetime,
    **others: Any,
) -> list[Claim]:
    parameters = due.parameters() | {"by_token": token, "until": until, "worker": worker.name, "most": limit} | others
    claims = []
    # Unpacked, not by name: a name's look-up costs as much as what is done with it, and there are thirteen a level.
    for (
        level_id, sku, item_id, location_id, desired, attempt, touched, expected, effective, uncertain, sequence, revision,
        since,
    ) in connection.execute(statement, parameters):  # fmt: skip
        known = expected if uncertain is not None else effective
        compare = known if known is not None and known >= 0 else None
        reference = LevelReference(item_id, location_id)
        absent = uncertain is None and effective == NOT_THERE
        claim = Claim(
            level_id, sku, reference, desired, compare, attempt, touched, expected, sequence, revision, since, absent
        )
        claims.append(claim)
    return sorted(claims, key=attrgetter("quantity", "level_id"))


def release(connection: Connection, claims: Sequence[Claim], token: str) -> None:
    """Give claims back untouched: a reading that did not happen."""
    ids = as_parameter([claim.level_id for claim in claims])
    connection.execute(_RELEASE, {"ids": ids, "by_token": READ + token})


_RELEASE = (
    update(inventory_levels)
    .where(found_by(inventory_levels.c.id, "ids"), inventory_levels.c.claim == bindparam("by_token"))
    .values(claim=None, claim_until=None, claim_worker=None)
)
