"""Order documents folded into totals, and totals into bookings: pure functions, no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from operator import itemgetter
from typing import Any, NamedTuple

from invsync_dagster.events import Movement, OrderLine

# [[units, ISO time in UTC], …] in the database.
StoredMovements = tuple[tuple[int, str], ...]


class Restock(StrEnum):
    """A channel's policy for units that were refunded after shipping: put back what the platform says that it put back
    (`as_told`), nothing (`never`: a person or a count does it), or all (`always`)."""

    AS_TOLD = "as_told"
    NEVER = "never"
    ALWAYS = "always"


class Verdict(Enum):
    """What one document of an order line is to another one.

    Where two contradict each other (`TAKES_MORE`, `UNCLEAR`) the platform is to be asked for the order. Until it was, the one
    that takes more units off the shelf holds, for too few on show harm nobody.
    """

    NEWER = "newer"
    OLDER = "older"
    SAME = "same"
    UNCLEAR = "unclear"
    TAKES_MORE = "takes more"

    @property
    def holds(self) -> bool:
        return self in (Verdict.NEWER, Verdict.TAKES_MORE)

    @property
    def is_to_be_asked(self) -> bool:
        return self in (Verdict.UNCLEAR, Verdict.TAKES_MORE)


class Totals(NamedTuple):
    """The cumulative totals of an order line, in units."""

    ordered: int
    cancelled: int
    shipped: int
    restocked: int
    written_off: int = 0


@dataclass(slots=True)
class Line:
    """One order line as it is stored: its totals, what of them is booked, and what it resolved to.

    `sku` is None while it resolves to no listing. `level_id` is None where that or the level is not known. Of the units
    restocked or written off, `booked_restocked` are back on the shelf and `declined` are not, by the channel's policy.
    """

    channel: str
    order_id: str
    line_id: str
    sku: str | None
    level_id: int | None
    platform_sku: str
    item_id: str
    variant_id: str
    revision: int
    ordered: int
    cancelled: int
    shipped: int
    restocked: int
    written_off: int
    shipments: StoredMovements
    restocks: StoredMovements
    write_offs: StoredMovements
    bookings: int
    booked_reserved: int
    booked_shipped: int
    booked_restocked: int
    declined: int
    created_at: datetime
    updated_at: datetime
    ignored_reason: str

    @property
    def totals(self) -> Totals:
        return Totals(self.ordered, self.cancelled, self.shipped, self.restocked, self.written_off)


class Document(NamedTuple):
    """One line of one order document, with what its order says of it and how it reached us.

    `asked`: the whole order was asked of the platform, so at an equal revision it is what holds. `open_at_cut_over`: it
    counts although it may be from before the channel's cut-over.
    """

    revision: int
    asked: bool
    totals: Totals
    line: OrderLine
    created_at: datetime
    updated_at: datetime
    received_at: datetime
    reference: str
    open_at_cut_over: bool = False
    revision_may_stay: bool = False


class Booking(NamedTuple):
    """One ledger entry of an order line: `moved` units on the shelf and `reserved` units promised, signed.

    `cumulative` is the booked value that it leads to; with the line's count of bookings it makes the event id. `reason`
    says what the channel's policy had to do with it, `declined` how many units it didn't put back.
    """

    kind: str
    moved: int
    reserved: int
    cumulative: int
    occurred_at: datetime
    reason: str = ""
    declined: int = 0


def judge(
    revision: int, totals: Totals, asked: bool, known_revision: int, known: Totals, *, may_stay: bool = False
) -> Verdict:
    """Say what a document is to the known totals of its line.

    A higher revision is newer, whatever its totals. At an equal one the totals only ever grow, so the one that is at
    least as high everywhere is the newer; where neither is, or where an edit may leave the revision (`may_stay`), only a
    document that was asked for decides: more may be newer, or be from before an edit and come late. Until then more holds.
    """
    if revision != known_revision:
        return Verdict.NEWER if revision > known_revision else Verdict.OLDER
    if totals == known:
        return Verdict.SAME
    if asked:
        return Verdict.NEWER
    if not may_stay and all(map(int.__ge__, totals, known)):
        return Verdict.NEWER
    if not may_stay and all(map(int.__le__, totals, known)):
        return Verdict.OLDER
    return Verdict.TAKES_MORE if _taken(totals) > _taken(known) else Verdict.UNCLEAR


def _taken(totals: Totals) -> int:
    """Return the units that are off the shelf, or promised."""
    return totals.ordered - totals.cancelled - totals.restocked


def bookings(line: Line, before: Totals, policy: Restock) -> list[Booking]:
    """Return what is still to be booked so that the ledger shows the line's totals.

    `before` are the totals that are booked (zeros for a line that was never booked). Applying the result gives
    booked_reserved = max(0, ordered - cancelled - shipped), booked_shipped equal to its total, and booked_restocked and
    declined together equal to what was restocked or written off: what was decided once stays so when the policy changes.
    """
    result = []
    promised_before = max(0, before.ordered - before.cancelled)
    first = line.bookings == 0
    reserved = line.booked_reserved
    promised = max(0, line.ordered - line.cancelled)
    # An order that is first seen with cancelled units was promised in full until then: a count in between has seen that.
    top = line.ordered if first else promised
    if top > promised_before:
        reserved += top - promised_before
        at = line.created_at if first else line.updated_at
        result.append(Booking("reserve", 0, top - promised_before, top, at))
    shipped = line.booked_shipped
    for units, at in _not_yet_booked(line.shipments, shipped, line.shipped, line.updated_at):
        released = min(units, reserved)
        reserved -= released
        shipped += units
        result.append(Booking("ship", -units, -released, shipped, at))
    if line.shipped < shipped:
        result.append(Booking("undo", shipped - line.shipped, 0, line.shipped, line.updated_at))
    if (line.restocked, line.written_off, before.restocked, before.written_off) != (0, 0, 0, 0):
        result += _returns(line, before, policy)
    left = max(0, promised - line.shipped) - reserved
    if left:
        result.append(Booking("reserve" if left > 0 else "release", 0, left, reserved + left, line.updated_at))
    return result


def _returns(line: Line, before: Totals, policy: Restock) -> list[Booking]:
    """Return the decisions on units that were refunded after shipping; one that moves nothing is an entry as well."""
    result = []
    booked, declined = line.booked_restocked, line.declined
    fewer_told = max(0, before.restocked - line.restocked)
    fewer_kept = max(0, before.written_off - line.written_off)
    if fewer_told or fewer_kept:
        # What policy decided on each unit isn't kept: as the platform told it, if there are so many.
        back = min(fewer_told + max(0, fewer_kept - declined), booked)
        rest = fewer_told + fewer_kept - back
        booked, declined = booked - back, declined - rest
        result.append(Booking("undo", -back, 0, booked, line.updated_at, declined=-rest))
    told = _not_yet_booked(line.restocks, before.restocked, line.restocked, line.updated_at)
    kept = _not_yet_booked(line.write_offs, before.written_off, line.written_off, line.updated_at)
    for units, at in told:
        if policy is Restock.NEVER:
            declined += units
            reason = f"{units} restocked by the channel, not put back here (restock: {policy})"
            result.append(Booking("return", 0, 0, declined, at, reason, units))
        else:
            booked += units
            result.append(Booking("restock", units, 0, booked, at))
    for units, at in kept:
        if policy is Restock.ALWAYS:
            booked += units
            reason = f"{units} refunded without restocking by the channel, put back here (restock: {policy})"
            result.append(Booking("restock", units, 0, booked, at, reason))
        else:
            declined += units
            reason = f"{units} refunded without restocking by the channel, not put back here (restock: {policy})"
            result.append(Booking("return", 0, 0, declined, at, reason, units))
    return result


def own_movement(before: Totals, now: Totals) -> int | None:
    """Return by how many units a line has moved the number of its own channel since, None if it hasn't touched it.

    Sold and cancelled since comes to 0, and may be more: not every cancel puts its units back there.
    """
    if (now.ordered, now.cancelled, now.restocked) == (before.ordered, before.cancelled, before.restocked):
        return None
    return _own(now) - _own(before)


def _own(totals: Totals) -> int:
    return totals.restocked - max(0, totals.ordered - totals.cancelled)


def _not_yet_booked(
    movements: StoredMovements, booked: int, total: int, otherwise: datetime
) -> list[tuple[int, datetime]]:
    """Return (units, time) of the movements after the first `booked` units; units without a movement have `otherwise`."""
    if total <= booked:
        return []
    fresh = []
    seen = 0
    for units, at in sorted(movements, key=itemgetter(1)):
        left = min(seen + units, total) - max(seen, booked)
        seen += units
        if left > 0:
            fresh.append((left, datetime.fromisoformat(at)))
    if max(seen, booked) < total:
        fresh.append((total - max(seen, booked), otherwise))
    return fresh


def as_stored(movements: Sequence[Movement]) -> StoredMovements:
    """Return movements as the JSON column holds them."""
    if not movements:
        return ()
    return tuple((units, (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat()) for units, at in movements)


def frozen(movements: Sequence[Sequence[Any]]) -> StoredMovements:
    """Return movements as they were read from the JSON column."""
    return tuple((units, at) for units, at in movements)
