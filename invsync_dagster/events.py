"""What channels tell us, in one vocabulary: order documents and stock counts, shared by platforms and inventory."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Movement(NamedTuple):
    """Units that left or re-entered the shelf at one moment."""

    quantity: int
    at: datetime


class LineReference(NamedTuple):
    """How a platform names what was sold; the ledger resolves it to a listing by the first of
    `item_id`, `variant_id`, `platform_sku` that is given and known for the channel.

    `locations` are those that its units are taken from, by the platform's names; none where it doesn't tell."""

    platform_sku: str = ""
    item_id: str = ""
    variant_id: str = ""
    locations: tuple[str, ...] = ()


class OrderLine(NamedTuple):
    """One line of an order with its cumulative totals, in units.

    `ordered` counts what was ordered in all, `cancelled` what will not be shipped any more (released),
    `shipments` what left the shelf, `restocks` what the platform put back after shipping, `write_offs` what was refunded
    after shipping and not put back there. `ignored`: why the line has no effect here, as where another ships it; a line
    that was booked before goes on by its totals all the same.
    """

    line_id: str
    reference: LineReference
    ordered: int
    cancelled: int = 0
    shipments: tuple[Movement, ...] = ()
    restocks: tuple[Movement, ...] = ()
    write_offs: tuple[Movement, ...] = ()
    ignored: str = ""

    @property
    def shipped(self) -> int:
        return sum(m.quantity for m in self.shipments)

    @property
    def restocked(self) -> int:
        return sum(m.quantity for m in self.restocks)

    @property
    def written_off(self) -> int:
        return sum(m.quantity for m in self.write_offs)


class OrderDocument(NamedTuple):
    """The state of a whole order as its platform showed it at one revision.

    `revision` grows with every change of the order at the platform (its version, or its update time in
    microseconds since the epoch); documents with a lower one are older. `whole`: it names every line that the order has
    now, so a line that was known and is missing was taken out of the order. `revision_may_stay`: an edit may take units or
    lines out of the order without a new revision, so less at an equal one is no older document but an unclear one.
    """

    order_id: str
    revision: int
    created_at: datetime
    updated_at: datetime
    lines: tuple[OrderLine, ...]
    whole: bool = False
    revision_may_stay: bool = False


class StockCount(NamedTuple):
    """A number of units that a source says it has on its shelf at `occurred_at` (not a difference)."""

    event_id: str
    platform_sku: str
    quantity: int
    occurred_at: datetime
    version: int = 0
    change_type: str = "count"


class Content(NamedTuple):
    """What one webhook, or one page of a poll, says.

    `unclear_orders` are ids of orders whose whole document must be asked of the platform, `finished` the handles of bulk
    submissions that it is through with.
    """

    documents: tuple[OrderDocument, ...] = ()
    counts: tuple[StockCount, ...] = ()
    unclear_orders: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
