"""What must hold of every write of ours while it is made: of the ledger's number, in turn, and claimed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, bindparam, func, select

from invsync_dagster.clock import Clock
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, order_lines
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sync.claims import READ
from tests.simulation.books import ShopRules
from tests.simulation.shops import Shop
from tests.simulation.stock import PLATFORMS
from tests.simulation.tally import Tally
from tests.simulation.written import written_compare, written_rows

# Built once: they are asked at every write.
_LEVEL, _LINE = inventory_levels.c, order_lines.c
_ANY = (
    select(
        _LEVEL.id,
        _LEVEL.item_id,
        _LEVEL.attempt,
        _LEVEL.central_sku,
        central_inventory.c.quantity,
        central_inventory.c.reserved_quantity,
    )
    .join(central_inventory, central_inventory.c.sku == _LEVEL.central_sku)
    .where(_LEVEL.channel == bindparam("of"))
)
_CLAIMED_BY = _ANY.where(_LEVEL.claim == bindparam("by"))
# Most have no idempotency key that would tell the claim: there the items do.
_CLAIMED = _ANY.where(_LEVEL.claim.is_not(None), _LEVEL.claim.not_like(f"{READ}%"))
_HEARD = select(func.coalesce(func.sum(_LINE.ordered - _LINE.cancelled - _LINE.restocked), 0)).where(
    _LINE.channel == bindparam("of"), _LINE.sku == bindparam("sold")
)


class Watch:
    """Looks at each write on the wire, and notes in the tally what must not be."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        tally: Tally,
        rules: Mapping[str, ShopRules],
        shops: Mapping[str, Shop],
        dead_after: Mapping[str, timedelta],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._tally = tally
        self._rules = rules
        self._shops = shops
        # How long after its claim a write can land: until that ran out, and the platform's lingering after it.
        self._dead_after = dead_after
        self._in_flight: dict[int, tuple[str, datetime]] = {}
        self._last_attempt: dict[int, int] = {}

    def sent(self, channel: str, key: str, request: Request, worker: str, alive: Collection[str]) -> None:
        """Check a write that `worker` makes, against the ledger as it is now."""
        query = _CLAIMED_BY if key else _CLAIMED
        with self._engine.connect() as connection:
            claimed = {row.item_id: row for row in connection.execute(query, {"of": channel, "by": key})}
        sent = written_rows(request)
        self._tally.writes += len(sent)
        if set(sent) - set(claimed):
            self._violation(channel, f"writes without a claim: {sorted(set(sent) - set(claimed))}")
        rules = self._rules.get(channel, ShopRules())
        for item, quantity in sent.items():
            if item not in claimed:
                continue
            row = claimed[item]
            available = row.quantity - row.reserved_quantity
            if quantity != rules.shows(available):
                self._violation(
                    channel, f"stale: {row.central_sku} sent {quantity}, the ledger says {available} available"
                )
            if quantity > max(0, available):
                self._violation(channel, f"more than available: {row.central_sku} sent {quantity} of {available}")
            if row.attempt <= self._last_attempt.get(row.id, 0):
                self._violation(channel, f"attempt {row.attempt} of {row.central_sku} sent after a later one")
            self._last_attempt[row.id] = row.attempt
            if PLATFORMS.get(channel) == "shopify":
                self._check_rise(channel, row, quantity, written_compare(request, item))
            owner, sent_at = self._in_flight.get(row.id, (worker, self._clock.now()))
            dead = self._clock.now() - sent_at > self._dead_after[channel]
            if owner in alive and owner != worker and not dead:
                self._two_in_flight(channel, row)
            self._in_flight[row.id] = (worker, self._clock.now())

    def _check_rise(self, channel: str, row: Any, quantity: int, compare: int | None) -> None:
        """A rise that will be taken must not put back units that the shop sold and we haven't heard of.

        Asked of Shopify alone: the others have no compare-and-set, so a rise can meet a sale of the same moment, and is
        taken back when that sale is heard.
        """
        shown = self._shops[channel].show(row.central_sku)
        if quantity <= shown or compare != shown:
            return
        with self._engine.connect() as connection:
            heard = connection.execute(_HEARD, {"of": channel, "sold": row.central_sku}).scalar_one()
        shop = self._shops[channel]
        orders = map(shop.lines_of, shop.order_ids())
        sold = sum(line.gone for lines in orders for line in lines if line.sku == row.central_sku)
        if sold > heard:
            self._violation(channel, f"raised {row.central_sku} to {quantity} over {sold - heard} unheard sold units")

    def _two_in_flight(self, channel: str, row: Any) -> None:
        # Allowed only if the first one's claim ran out: then it counts as paused.
        with self._engine.connect() as connection:
            taken = connection.execute(
                select(inventory_levels.c.linger_until).where(inventory_levels.c.id == row.id)
            ).scalar_one()
        if taken is None:
            self._violation(channel, f"two writes of {row.central_sku} in flight")

    def over(self, worker: str) -> None:
        """Take note that no write of a worker is under way any more: it was answered, or its process died."""
        self._in_flight = {level: one for level, one in self._in_flight.items() if one[0] != worker}

    def _violation(self, channel: str, text: str) -> None:
        self._tally.violations.append(f"{self._clock.now():%d %H:%M:%S} {channel}: {text}")
