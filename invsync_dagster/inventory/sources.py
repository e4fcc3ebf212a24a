"""The breaker before the ledger: what all sources together zeroed and moved within the window, against the whole stock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from invsync_dagster.inventory.tables import central_inventory, source_moves
from invsync_dagster.settings import ImportLimits

NAMED: Final = 3  # sources that a reason names


class Window:
    """What sources have moved within the window of `limits`, and what one more moves with it.

    A count that a person approved isn't entered, nor one that is held. The stock as a whole is summed up once a window, and
    only where a minimum is exceeded: a count of one SKU must not cost a look at a million.
    """

    def __init__(self, connection: Connection, limits: ImportLimits, now: datetime) -> None:
        self._connection = connection
        self._limits = limits
        self._now = now
        self._begin = now - timedelta(minutes=limits.window_minutes)
        row = connection.execute(_SUMS, {"begin": self._begin}).one()
        expired, self._zeroed, self._moved, stocked, units = (int(value or 0) for value in row)
        if expired:
            connection.execute(_FORGET, {"begin": self._begin})
        # As measured at the beginning of the window; None: not yet.
        self._whole = None if row.stocked is None else (stocked, units)

    def beyond(self, source: str, zeroed: int, moved: int, *, filled: int = 0) -> str:
        """Say what is beyond the limits if a source zeroes SKUs and moves units besides; "" for what may pass, and is entered.

        `filled` units came where nothing was: goods that come in, one delivery after the other, don't add up.
        """
        limits, known, reason = self._limits, self._whole, ""
        if zeroed and self._zeroed + zeroed > limits.zeroed_minimum:
            stocked, _ = self._measured()
            if self._zeroed + zeroed > limits.zeroed_share * stocked:
                reason = f"would zero {zeroed} of {stocked} stocked SKUs{self._since(self._zeroed)}"
        units_moved = moved + filled
        if not reason and units_moved and self._moved + units_moved > limits.moved_minimum_units:
            _, units = self._measured()
            if units and self._moved + units_moved > limits.moved_share * units:
                reason = f"would move {units_moved} units, with {units} in stock{self._since(self._moved)}"
        if reason:
            zeroed = moved = 0
        newly = self._whole if self._whole != known else None
        if zeroed or moved or newly:
            self._enter(source, zeroed, moved, newly)
        return reason

    def _measured(self) -> tuple[int, int]:
        """Return the stocked SKUs and the units on hand at the beginning of the window, as far as that can still be told."""
        if self._whole is None:
            stocked, units = self._connection.execute(_WHOLE).one()
            self._whole = int(stocked) + self._zeroed, int(units)
        return self._whole

    def _since(self, before: int) -> str:
        if not before:
            return ""
        rows = self._connection.execute(_MOVING, {"begin": self._begin}).all()
        sources = sorted({row.source for row in rows})
        named = ", ".join(sources[:NAMED]) + (" and others" if len(sources) > NAMED else "")
        return f", after {before} since {min(row.minute for row in rows):%H:%M} UTC by {named}"

    def _enter(self, source: str, zeroed: int, moved: int, whole: tuple[int, int] | None) -> None:
        # In one row only, so that it is measured anew when the window has left it behind.
        stocked, units = whole or (None, None)
        values = {
            "of_minute": self._now.replace(second=0, microsecond=0),
            "of_source": source,
            "more_zeroed": zeroed,
            "more_moved": moved,
            "of_stocked": stocked,
            "of_units": units,
        }
        if not self._connection.execute(_ADD, values).rowcount:
            self._connection.execute(_ENTER, values)


def forget(connection: Connection, source: str) -> None:
    """Take what a source has moved off the window: it was undone."""
    connection.execute(delete(source_moves).where(source_moves.c.source == source))


_S = source_moves.c
_BEGIN = bindparam("begin", type_=_S.minute.type)
_IN_WINDOW = _S.minute > _BEGIN
_SUMS = select(
    func.count().filter(_S.minute <= _BEGIN),
    func.sum(_S.zeroed).filter(_IN_WINDOW),
    func.sum(_S.moved).filter(_IN_WINDOW),
    func.max(_S.stocked).filter(_IN_WINDOW).label("stocked"),
    func.max(_S.units).filter(_IN_WINDOW).label("units"),
).select_from(source_moves)
_FORGET = delete(source_moves).where(_S.minute <= _BEGIN)
_MOVING = select(_S.minute, _S.source).where(_IN_WINDOW, or_(_S.zeroed > 0, _S.moved > 0))
_WHOLE = select(func.count(), func.coalesce(func.sum(central_inventory.c.quantity), 0)).where(
    central_inventory.c.quantity > 0
)
_ADD = (
    update(source_moves)
    .where(_S.minute == bindparam("of_minute", type_=_S.minute.type), _S.source == bindparam("of_source"))
    .values(
        zeroed=_S.zeroed + bindparam("more_zeroed"),
        moved=_S.moved + bindparam("more_moved"),
        stocked=func.coalesce(bindparam("of_stocked", type_=_S.stocked.type), _S.stocked),
        units=func.coalesce(bindparam("of_units", type_=_S.units.type), _S.units),
    )
)
_ENTER = insert(source_moves).values(
    minute=bindparam("of_minute"),
    source=bindparam("of_source"),
    zeroed=bindparam("more_zeroed"),
    moved=bindparam("more_moved"),
    stocked=bindparam("of_stocked"),
    units=bindparam("of_units"),
)
