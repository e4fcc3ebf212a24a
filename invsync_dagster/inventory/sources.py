"""The breaker before the ledger: what all sources together zeroed and moved within the window, against the whole stock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from invsync_dagster.inventory.bulk import upsert_rows
from invsync_dagster.inventory.tables import central_inventory, source_moves
from invsync_dagster.settings import ImportLimits


@dataclass(slots=True)
class Window:
    """What sources have moved within the window of `limits`, and what one more moves with it.

    `zeroed` SKUs, `moved` units. A count that a person approved isn't entered, nor one that is held. The stock as a whole is
    summed up once a window, and only where a minimum is exceeded: a count of one SKU must not cost a look at a million.
    """

    connection: Connection
    limits: ImportLimits
    now: datetime
    _rows: dict[tuple[datetime, str], Row[Any]] = field(init=False)
    _whole: tuple[int, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        begin = self.now - timedelta(minutes=self.limits.window_minutes)
        rows = self.connection.execute(_ROWS).all()
        self._rows = {(row.minute, row.source): row for row in rows if row.minute > begin}
        if len(self._rows) < len(rows):
            self.connection.execute(delete(source_moves).where(source_moves.c.minute <= begin))
        known = [row for row in self._rows.values() if row.stocked is not None]
        if known:
            first = min(known, key=lambda row: row.minute)
            self._whole = (first.stocked, first.units)

    @property
    def zeroed(self) -> int:
        return sum(row.zeroed for row in self._rows.values())

    @property
    def moved(self) -> int:
        return sum(row.moved for row in self._rows.values())

    def beyond(self, source: str, zeroed: int, moved: int, *, filled: int = 0) -> str:
        """Say what is beyond the limits if a source zeroes and moves so much besides; "" for what may pass, and is entered.

        `filled` units came where nothing was: goods that come in, one delivery after the other, don't add up.
        """
        before_zeroed, before_moved = self.zeroed, self.moved
        reason = ""
        measured = self._whole
        if self._exceeds(zeroed, before_zeroed, self.limits.zeroed_minimum):
            stocked, _ = measured = self._measured(before_zeroed)
            if before_zeroed + zeroed > self.limits.zeroed_share * stocked:
                reason = f"would zero {zeroed} of {stocked} stocked SKUs" + self._since(before_zeroed)
        if not reason and self._exceeds(moved + filled, before_moved, self.limits.moved_minimum_units):
            _, units = measured = self._measured(before_zeroed)
            if units and before_moved + moved + filled > self.limits.moved_share * units:
                reason = f"would move {moved + filled} units, with {units} in stock" + self._since(before_moved)
        newly = measured if measured != self._whole else None
        self._whole = measured
        if reason:
            zeroed = moved = 0
        if zeroed or moved or newly:
            self._enter(source, zeroed, moved, newly)
        return reason

    @staticmethod
    def _exceeds(more: int, before: int, minimum: int) -> bool:
        return more > 0 and before + more > minimum

    def _measured(self, zeroed: int) -> tuple[int, int]:
        """Return the stocked SKUs and the units on hand at the beginning of the window, as far as that can still be told."""
        if self._whole is not None:
            return self._whole
        stocked, units = self.connection.execute(_WHOLE).one()
        return int(stocked) + zeroed, int(units)

    def _since(self, before: int) -> str:
        if not before:
            return ""
        moving = [row for row in self._rows.values() if row.zeroed or row.moved]
        sources = sorted({row.source for row in moving})
        named = ", ".join(sources[:3]) + (" and others" if len(sources) > 3 else "")
        return f", after {before} since {min(row.minute for row in moving):%H:%M} UTC by {named}"

    def _enter(self, source: str, zeroed: int, moved: int, whole: tuple[int, int] | None) -> None:
        minute = self.now.replace(second=0, microsecond=0)
        there = self._rows.get((minute, source))
        if there is not None:
            zeroed, moved = there.zeroed + zeroed, there.moved + moved
            whole = whole or (None if there.stocked is None else (there.stocked, there.units))
        values = (minute, source, zeroed, moved, *(whole or (None, None)))
        upsert_rows(self.connection, source_moves, ("minute", "source"), tuple(source_moves.c), [values])


def forget(connection: Connection, source: str) -> None:
    """Take what a source has moved off the window: it was undone."""
    connection.execute(delete(source_moves).where(source_moves.c.source == source))


_ROWS = select(source_moves)
_WHOLE = select(func.count(), func.coalesce(func.sum(central_inventory.c.quantity), 0)).where(
    central_inventory.c.quantity > 0
)
