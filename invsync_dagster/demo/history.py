"""Two weeks of business before the demo begins, invented: orders, shipments, returns, desk sales, goods that came in.

Everything has ended by now: no order is open, and what is on the shelf is what inventory.csv says. So the shops' own
books, which know nothing of these weeks, fit the stock.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from invsync_dagster.demo.catalogue import Catalogue, Listing
from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine, StockCount
from invsync_dagster.inventory.ledger import Inbound

DAYS = 14
ORDERS_A_DAY = 60
DESK_SALES_A_DAY = 12
DELIVERIES_A_DAY = 8
ENDED_BEFORE = timedelta(minutes=30)
# Far from the stand-ins' own order numbers.
FIRST_ORDER = 5_100_000_000_000


@dataclass(frozen=True, slots=True)
class Happening:
    """What became known at one moment."""

    at: datetime
    inbound: Inbound


@dataclass(frozen=True)
class History:
    """`opening`: units on the shelf at `begins` by SKU; `happenings` by time."""

    begins: datetime
    opening: dict[str, int]
    happenings: tuple[Happening, ...]

    def batches(self, length: timedelta) -> Iterator[tuple[datetime, list[Inbound]]]:
        """Return what became known within each stretch of `length`, with the time of the last of it."""
        batch: list[Happening] = []
        for happening in self.happenings:
            if batch and happening.at >= batch[0].at + length:
                yield batch[-1].at, [one.inbound for one in batch]
                batch = []
            batch.append(happening)
        if batch:
            yield batch[-1].at, [one.inbound for one in batch]


def invent(catalogue: Catalogue, shops: Sequence[str], erp: str, now: datetime, random: Random) -> History:
    """Invent the weeks before `now`: orders of `shops`, and what happens at the shelf of the ERP channel `erp`."""
    return _Inventor(catalogue, shops, erp, now, random).history()


@dataclass(slots=True)
class _Move:
    """Units that reach (or leave, below 0) the shelf; the ERP tells of those with a `change_type` itself."""

    at: datetime
    units: int
    change_type: str = ""


class _Inventor:
    def __init__(self, catalogue: Catalogue, shops: Sequence[str], erp: str, now: datetime, random: Random) -> None:
        self._catalogue = catalogue
        self._erp = erp
        self._random = random
        self._begins = (now - timedelta(days=DAYS)).replace(minute=0, second=0, microsecond=0)
        self._ended = now - ENDED_BEFORE
        self._listings = {shop: [one for one in catalogue.of_shop(shop) if one.active] for shop in shops}
        self._demand = {shop: [_demand(one.sku) for one in listed] for shop, listed in self._listings.items()}
        self._moves: dict[str, list[_Move]] = defaultdict(list)
        # What comes back onto the shelf is at most what is there in the end: so it never was below 0 before.
        self._room = {sku: article.quantity for sku, article in catalogue.articles.items()}
        self._happenings: list[Happening] = []
        self._orders = 0

    def history(self) -> History:
        for day in range(DAYS):
            dawn = self._begins + timedelta(days=day)
            if any(self._listings.values()):
                for _ in range(ORDERS_A_DAY):
                    self._order(dawn)
            for _ in range(DESK_SALES_A_DAY):
                self._move(dawn, "sale", -self._random.choice((1, 1, 1, 2)))
            for _ in range(DELIVERIES_A_DAY):
                self._move(dawn, "restock", self._random.choice((5, 10, 20)))
        opening = {
            sku: article.quantity - sum(move.units for move in self._moves[sku])
            for sku, article in self._catalogue.articles.items()
        }
        for sku, moves in self._moves.items():
            self._tell_counts(sku, opening[sku], sorted(moves, key=lambda move: move.at))
        return History(self._begins, opening, tuple(sorted(self._happenings, key=lambda one: one.at)))

    def _time(self, dawn: datetime, hours: float = 24.0) -> datetime:
        return min(dawn + timedelta(hours=self._random.uniform(0.01, hours)), self._ended)

    def _order(self, dawn: datetime) -> None:
        shop = self._random.choices(list(self._listings), [len(listed) for listed in self._listings.values()])[0]
        listed = self._listings[shop]
        chosen = self._random.choices(listed, self._demand[shop], k=self._random.choice((1, 1, 1, 2, 3)))
        created = self._time(dawn)
        self._orders += 1
        number = FIRST_ORDER + self._orders
        lines = [
            OrderLine(f"{number}{place}", _reference(listing), self._random.choice((1, 1, 1, 1, 2, 3)))
            for place, listing in enumerate(dict.fromkeys(chosen))
        ]
        skus = [listing.sku for listing in dict.fromkeys(chosen)]
        self._know(shop, str(number), created, created, lines)
        if self._random.random() < 0.08:
            gone = min(self._time(created, 6), self._ended)
            self._know(shop, str(number), created, gone, [line._replace(cancelled=line.ordered) for line in lines])
            return
        shipped = self._time(created + timedelta(minutes=20), 36)
        lines = [line._replace(shipments=(Movement(line.ordered, shipped),)) for line in lines]
        self._know(shop, str(number), created, shipped, lines)
        for sku, line in zip(skus, lines, strict=True):
            self._moves[sku].append(_Move(shipped, -line.ordered))
        back = shipped + timedelta(days=self._random.uniform(1.5, 4))
        units = sum(line.ordered for line in lines)
        if back < self._ended and self._random.random() < 0.08 and all(self._room[sku] >= units for sku in skus):
            lines = [line._replace(restocks=(Movement(line.ordered, back),)) for line in lines]
            self._know(shop, str(number), created, back, lines)
            for sku, line in zip(skus, lines, strict=True):
                self._moves[sku].append(_Move(back, line.ordered))
                self._room[sku] -= line.ordered

    def _know(self, shop: str, order: str, created: datetime, at: datetime, lines: Sequence[OrderLine]) -> None:
        revision = int(at.timestamp() * 1_000_000)
        document = OrderDocument(order, revision, created, at, tuple(lines))
        known = at + timedelta(seconds=2)
        self._happenings.append(Happening(known, Inbound(shop, Content(documents=(document,)), known, source="poll")))

    def _move(self, dawn: datetime, change_type: str, units: int) -> None:
        sku = self._random.choice(list(self._room))
        if units > 0:
            if self._room[sku] < units:
                return
            self._room[sku] -= units
        self._moves[sku].append(_Move(self._time(dawn), units, change_type))

    def _tell_counts(self, sku: str, on_hand: int, moves: Sequence[_Move]) -> None:
        for move in moves:
            on_hand += move.units
            if move.change_type:
                count = StockCount(f"past-{sku}-{move.at.timestamp():.0f}", sku, on_hand, move.at, 0, move.change_type)
                known = move.at + timedelta(seconds=1)
                inbound = Inbound(self._erp, Content(counts=(count,)), known, source="poll")
                self._happenings.append(Happening(known, inbound))


def _reference(listing: Listing) -> LineReference:
    return LineReference(listing.shop_sku, listing.item_id, listing.variant_id)


def _demand(sku: str) -> float:
    """Few articles sell most, the same ones in every shop."""
    share = (int.from_bytes(hashlib.sha256(sku.encode()).digest()[:8], "big") + 1) / 2**64
    return float(share ** (-1 / 1.16))
