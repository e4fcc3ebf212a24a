"""The one contract that every platform fulfils: write a batch, read a batch, list orders."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from invsync_dagster.events import Content
from invsync_dagster.platforms.errors import PlatformError, Recovery, in_words


@dataclass(frozen=True, slots=True)
class LevelReference:
    """The platform's own names of one inventory level: Shopify's inventory item and location gid, the ERP's SKU,
    WooCommerce's product id, or variation id with the product's id as its location."""

    item_id: str
    location_id: str = ""


@dataclass(frozen=True, slots=True)
class WriteRow:
    """An absolute quantity for one level; `expected` is the compare-and-set value, None where it is not known.

    `absent`: the level was read and isn't there yet (`Reading.absent`), so this write makes it.
    """

    level: LevelReference
    quantity: int
    expected: int | None = None
    absent: bool = False


# The code of a problem that says that the platform keeps the level's stock in a warehouse of its own: its listing is excluded.
KEPT_BY_PLATFORM = "fba"

# The most that Shopify and the ERP's contract take as a quantity; other platforms say nothing.
MAX_QUANTITY = 1_000_000_000


class Result(StrEnum):
    """What became of one row of a write (DESIGN: outcomes of a row)."""

    ACKNOWLEDGED = "acknowledged"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one row, in the platform's words where it failed.

    A compare-and-set that was refused is REJECTED with recovery SETTLE: nothing was written, read again.
    A good row in a call that was refused because of other rows is NOT_SENT with recovery RETRY.
    A row that was refused for now, while others of its call were not, is REJECTED with recovery WAIT: it alone waits.
    """

    result: Result
    recovery: Recovery | None = None
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    handle: str = ""
    check_after: float | None = None

    @property
    def words(self) -> str:
        """A failure as people read it: `code: message [class]`."""
        return in_words(self.code, self.message, self.recovery)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a platform told of its rate limit in an answer: points left, points restored a second, and what the call
    really cost (None: not told)."""

    available: float
    restore_rate: float
    spent: float | None = None


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """One outcome per row, in the order of the rows."""

    outcomes: tuple[Outcome, ...]
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the platform shows for one level; `quantity` is None where `problem` says why there is none.

    A number that no shelf holds (`MAX_QUANTITY`) is a problem by itself: it goes to a person, and no database column has
    to hold it.

    `variant_id` and `platform_sku` are what the platform calls the level's article, where the read tells it.
    `absent`: the platform said that the level isn't there, and a write of it as `absent` makes it. Never of an answer that is
    only unclear: what follows is a write without a compare-and-set.
    """

    level: LevelReference
    quantity: int | None
    problem: Outcome | None = None
    variant_id: str = ""
    platform_sku: str = ""
    absent: bool = False

    def __post_init__(self) -> None:
        if self.quantity is not None and abs(self.quantity) > MAX_QUANTITY:
            words = f"the channel shows {Decimal(self.quantity):.3g} pieces, which can't be; set the right number there"
            object.__setattr__(self, "quantity", None)
            object.__setattr__(
                self, "problem", Outcome(Result.REJECTED, Recovery.REVIEW, "implausible_quantity", words)
            )


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """One reading per asked level, in the order asked."""

    readings: tuple[Reading, ...]
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class OrdersPage:
    """One page of orders (and, from an ERP, counts) changed in a half-open window; `cursor` is "" on the last page.

    `known_until`: the platform lists no change from then on yet (None: it lists all that there is).
    """

    content: Content
    cursor: str = ""
    budget: Budget | None = None
    known_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChannelListing:
    """One offer that a channel lists. `quantity` is the number it shows, None where it keeps none; `problem` says why its
    stock can't be driven, "" if it can."""

    level: LevelReference
    listing_id: str
    variant_id: str = ""
    platform_sku: str = ""
    title: str = ""
    quantity: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ListingsPage:
    """A page of a channel's listings; `cursor` is "" on the last one."""

    listings: tuple[ChannelListing, ...]
    cursor: str = ""
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a platform allows, in rows, seconds and points; each channel may lower them in its settings.

    `rate` points a second are restored up to `burst`; a call costs `write_cost`, `read_cost` or,
    for a page of orders or of listings, `orders_cost`.
    `write_linger`: how long after a lost answer a write may still land. `read_lag`: how late a reading may be.
    `webhook_delay`: how late a webhook normally comes. `one_location_a_write`: the rows of one write share their
    `location_id`. `settles_first`: the platform takes differences only, so an uncertain level is never written, whatever
    is expected of it, before a valid reading. `absent_a_write`: how many levels that aren't there one write makes, 0 where
    there are none. `orders_apart`: orders have a budget of their own, so that who is throttled there may go on with the rest.
    `read_locations`: how many locations' levels one reading may ask for, 0 where that is all one. These five are not a
    channel's to change. `orders_every`: changed orders are
    listed once so many seconds of them are unknown, and not sooner. `writes_a_day`: how often one level may be written in
    any 24 hours, 0 where nobody counts.
    """

    write_batch: int
    read_batch: int
    rate: float
    burst: float
    write_cost: float = 1.0
    read_cost: float = 1.0
    orders_cost: float = 1.0
    request_deadline: float = 30.0
    write_linger: float = 60.0
    read_lag: float = 0.0
    webhook_delay: float = 60.0
    one_location_a_write: bool = False
    orders_every: float = 0.0
    writes_a_day: int = 0
    settles_first: bool = False
    absent_a_write: int = 0
    read_locations: int = 0
    orders_apart: bool = False

    def changed(self, overrides: Mapping[str, float], *, most_rows: int, fixed: Collection[str] = ()) -> Limits:
        """Return these limits as a channel changes them: batches up to `most_rows`, none of `fixed`.

        Raises `ValueError` naming a limit that there isn't, or that can't be so.
        """
        names = {each.name for each in fields(self)} - _NOT_A_CHANNELS - set(fixed)
        if unknown := sorted(set(overrides) - names):
            raise ValueError(f"unknown limit {unknown[0]!r}; there are {', '.join(sorted(names))}")
        for name, value in overrides.items():
            if name in _BATCHES and not 1 <= value <= most_rows:
                raise ValueError(f"{name} must be from 1 to {most_rows}")
            if value < 0 or (value == 0 and name in _MORE_THAN_0):
                raise ValueError(
                    f"{name} must be {'more than 0' if name in _MORE_THAN_0 else '0 or more'}, not {value}"
                )
            if name in _WHOLE and value != int(value):
                raise ValueError(f"{name} must be a whole number, not {value}")
        changed = {name: int(value) if name in _WHOLE else value for name, value in overrides.items()}
        return replace(self, **changed)  # type: ignore[arg-type]  # fields by name, checked above


_BATCHES = frozenset({"write_batch", "read_batch"})
_WHOLE = _BATCHES | {"writes_a_day"}
_MORE_THAN_0 = frozenset({"rate", "burst", "request_deadline"})
# How a platform works, not how much it bears.
_NOT_A_CHANNELS = frozenset(
    {"one_location_a_write", "settles_first", "absent_a_write", "orders_apart", "read_locations"}
)


@dataclass(frozen=True, slots=True)
class BulkLimits:
    """What a bulk lane allows: `rows` at most in a submission, `least` to make one worth it, `submissions` at most in any
    `window` seconds, looked at every `check_every` seconds; one that is open after `patience` seconds is lost."""

    rows: int
    least: int
    submissions: int
    window: float
    check_every: float
    patience: float


class BulkState(StrEnum):
    """Where a submission stands. LOST: some, none or all of its rows may have been done."""

    OPEN = "open"
    DONE = "done"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class BulkReport:
    """What became of a submission: the outcomes of the rows that failed, by their number. The others were accepted for
    good; `shown` are the numbers that the report itself shows for levels, as a reading made when it was written."""

    state: BulkState
    failed: Mapping[int, Outcome] = field(default_factory=dict)
    message: str = ""
    shown: Mapping[LevelReference, int] = field(default_factory=dict)


@runtime_checkable
class BulkLane(Protocol):
    """A platform that also takes many rows at once, works on them in its own time, and reports on each."""

    @property
    def bulk(self) -> BulkLimits: ...

    def submit(self, rows: Mapping[int, WriteRow]) -> Outcome:
        """Hand in rows by number (1 to 2,147,483,647); one outcome for all, ACCEPTED with the handle to ask with."""
        ...

    def submitted(self, handle: str) -> BulkReport:
        """Tell where a submission stands. Raises `PlatformError`."""
        ...


@dataclass(frozen=True, slots=True)
class BulkReadLimits:
    """How all levels are read at once: worth it from `least` levels on (0: never), looked at every `check_every` seconds
    at `cost` points a call; one that isn't there after `patience` seconds is given up."""

    least: int
    check_every: float
    patience: float
    cost: float


@dataclass(frozen=True, slots=True)
class BulkReading:
    """Where a reading of all levels stands. DONE: `address` is where its numbers are, "" if there are none. LOST: there
    will be none. `message` says what went wrong; a reading that broke off may still have the numbers of a part."""

    state: BulkState
    address: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class BulkNumbers:
    """A piece of what was read: the number of each level that shows one; `cursor` is "" on the last piece."""

    numbers: Mapping[LevelReference, int]
    cursor: str = ""


@runtime_checkable
class BulkReader(Protocol):
    """A platform that reads all of a channel's levels in its own time. Nothing follows from a level that isn't in it."""

    @property
    def bulk_read(self) -> BulkReadLimits: ...

    def read_all(self) -> Outcome:
        """Ask for all levels' numbers: ACCEPTED with the handle to ask with, else nothing comes of it."""
        ...

    def reading_of_all(self, handle: str) -> BulkReading:
        """Tell where such a reading stands. Raises `PlatformError`."""
        ...

    def numbers_read(self, address: str, cursor: str = "") -> BulkNumbers:
        """Fetch a piece of its numbers. Raises `PlatformError`."""
        ...


@runtime_checkable
class QuickReader(Protocol):
    """A platform whose `read` asks level by level for what seldom changes: whoever saw that not long ago leaves it out."""

    def read_quickly(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read levels as `read` does, without that. Raises `PlatformError`."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A platform that learns from its answers how much one call may ask for, and how long it may take. All processes of a
    channel go on from what the last of them learned."""

    @property
    def pace(self) -> str:
        """What was learned so far, as a text for `go_on_from`."""
        ...

    def go_on_from(self, pace: str) -> None:
        """Take over what another process learned; what its text doesn't hold, or the limits no longer allow, stays out."""
        ...


class Platform(Protocol):
    """A connected channel of one platform. Reads and order lists raise `PlatformError`; writes never do."""

    @property
    def limits(self) -> Limits: ...

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        """Set absolute quantities; `key` is the idempotency key, replayed only for the identical rows."""
        ...

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read levels, at most `limits.read_batch` of `limits.read_locations`. Raises `PlatformError`."""
        ...

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        """List what changed in the half-open window [since, until). Raises `PlatformError`."""
        ...

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        """Fetch whole orders by id, unknown ones left out. Raises `PlatformError`."""
        ...

    def open_orders(self, cursor: str = "") -> OrdersPage:
        """List the orders with units neither shipped nor cancelled, whenever they were created. Raises `PlatformError`."""
        ...

    def listings(self, cursor: str = "") -> ListingsPage:
        """Return a page of all that the channel lists. Raises `PlatformError`."""
        ...

    def make_ready(self) -> None:
        """Renew what calls need and what runs out (an access token): done before a claim, so that no number waits for it
        between its claim and its write. Raises `PlatformError`; nothing else was sent then."""
        ...

    def check_credentials(self) -> None:
        """Return if the credentials work for what we need, else raise `PlatformError`."""
        ...


def outcomes_of_failure(error: PlatformError, rows: int) -> tuple[Outcome, ...]:
    """Give each of `rows` rows the outcome of a call that failed as a whole."""
    result = {
        Recovery.WAIT: Result.NOT_SENT,
        Recovery.RETRY: Result.NOT_SENT,
        Recovery.SETTLE: Result.UNKNOWN,
        Recovery.REAUTHENTICATE: Result.NOT_SENT,
        Recovery.REVIEW: Result.REJECTED,
        Recovery.REJECT: Result.REJECTED,
    }[error.recovery]
    return (Outcome(result, error.recovery, error.code, error.message, error.retry_after),) * rows
