"""A full run's bulk reading: a platform reads all levels in its own time, and those that show what they should are done.

Nobody waits for it: the run reads in the ordinary way until it is there. It only ever clears a level. Whatever shows
another number, isn't in it, is uncertain, or was written or sold since it was asked for gets an ordinary reading, which
is judged as ever (docs/decisions/0019).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from invsync_dagster.inventory.batches import batch_of
from invsync_dagster.inventory.bulk import among, as_parameter, chunks, found_by, numbers_by_id
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import bulk_readings, inventory_levels
from invsync_dagster.platforms.contract import BulkReader, BulkState, LevelReference, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.differences import has_no_failed_row
from invsync_dagster.sync.workspace import Workspace

# Levels that one transaction marks: no other writer waits longer for it than for a comparison.
LEVELS_AT_ONCE = 2_000

# Whoever fetches the numbers has so long before another one thinks it dead and begins anew, which does no harm.
FETCHING = timedelta(minutes=10)

_log = logging.getLogger(__name__)

_LEVEL, _READING = inventory_levels.c, bulk_readings.c
_OF_RUN = (_READING.channel == bindparam("of_channel")) & (_READING.run_id == bindparam("of_run"))
_ROW = select(bulk_readings).where(_OF_RUN)
_TURN = (
    update(bulk_readings)
    .where(_OF_RUN, _READING.state == BulkState.OPEN, _READING.check_after <= bindparam("now"))
    .values(check_after=bindparam("again"))
    .returning(_READING.handle)
)
_SET = update(bulk_readings).where(_OF_RUN)
_CHECK_AGAIN = _SET.values(check_after=bindparam("again"))
_OVER = _SET.values(state=bindparam("how"))
_PLACES = select(_LEVEL.id, _LEVEL.item_id, _LEVEL.location_id).where(
    _LEVEL.channel == bindparam("of_channel"), among(_LEVEL.item_id, "items")
)
_SHOWN = numbers_by_id("shown")
_ASKED_AT = bindparam("asked_at", type_=_LEVEL.observed_at.type)
_UNDISTURBED = (_LEVEL.claim.is_(None), _LEVEL.uncertain.is_(None))
_MARK = (
    update(inventory_levels)
    .where(
        _LEVEL.id == _SHOWN.c.id,
        _LEVEL.acknowledged_quantity == _SHOWN.c.number,
        *_UNDISTURBED,
        or_(_LEVEL.sent_at.is_(None), _LEVEL.sent_at <= bindparam("visible", type_=_LEVEL.sent_at.type)),
        or_(_LEVEL.moved_at.is_(None), _LEVEL.moved_at <= _ASKED_AT),
        or_(_LEVEL.observed_at.is_(None), _LEVEL.observed_at <= _ASKED_AT),
    )
    # It was read later than that; nobody tells when.
    .values(observed_quantity=_LEVEL.acknowledged_quantity, observed_at=_ASKED_AT)
)
_CLEARED = select(_LEVEL.id).where(
    found_by(_LEVEL.id, "ids"),
    _LEVEL.observed_at >= _ASKED_AT,
    _LEVEL.observed_quantity == _LEVEL.acknowledged_quantity,
    # Not one that was marked, and written to and fro since.
    or_(_LEVEL.sent_at.is_(None), _LEVEL.sent_at <= _LEVEL.observed_at),
    *_UNDISTURBED,
    has_no_failed_row(),
)


def ask_for_all(ws: Workspace, name: str, batches: Sequence[int], calls: Calls, *, run_id: str) -> None:
    """Ask the channel for all its levels where the platform can, and these batches have enough of them.

    A refusal (another operation runs) or a lost answer means that the run reads in the ordinary way. Raises
    `OutOfTimeError`, and `PlatformError` where the credentials are dead.
    """
    reader: Any = calls.platform
    if not isinstance(reader, BulkReader) or not reader.bulk_read.least:
        return
    in_batches = batch_of(_LEVEL.id, ws.configuration.settings.sku_batches).in_(list(batches))
    counted = select(func.count()).where(_LEVEL.channel == name, _LEVEL.pushable.is_(True), in_batches)
    with ws.engine.connect() as connection:
        if connection.execute(counted).scalar_one() < reader.bulk_read.least:
            return
    calls.wait(reader.bulk_read.cost)
    asked_at = ws.clock.now()
    outcome = reader.read_all()
    if outcome.result is not Result.ACCEPTED:
        if outcome.recovery is Recovery.REAUTHENTICATE:
            raise PlatformError(outcome.recovery, outcome.code, outcome.message)
        _log.warning("%s reads level by level: no bulk reading: %s: %s", name, outcome.code, outcome.message)
        return
    check_after = ws.clock.now() + timedelta(seconds=reader.bulk_read.check_every)
    row = {"channel": name, "run_id": run_id, "handle": outcome.handle, "state": BulkState.OPEN}
    with write_transaction(ws.engine) as connection:
        connection.execute(delete(bulk_readings).where(_READING.channel == name))
        connection.execute(insert(bulk_readings).values(row | {"asked_at": asked_at, "check_after": check_after}))


@dataclass
class BulkLook:
    """What one batch of a run sees of the run's bulk reading."""

    ws: Workspace
    name: str
    calls: Calls
    run_id: str
    open: bool = True
    asked_at: datetime | None = None

    def look(self) -> None:
        """See whether the reading is there, asking the platform if it is time, and take its numbers then.

        What fails is asked again at the next time. Raises `OutOfTimeError`, and `PlatformError` where the credentials are
        dead.
        """
        reader: Any = self.calls.platform
        if not self.open or not isinstance(reader, BulkReader):
            self.open = False
            return
        keys = {"of_channel": self.name, "of_run": self.run_id}
        now = self.ws.clock.now()
        with self.ws.engine.connect() as connection:
            row = connection.execute(_ROW, keys).one_or_none()
        if row is None or row.state != BulkState.OPEN:
            self.open = False
            self.asked_at = row.asked_at if row is not None and row.state == BulkState.DONE else None
            return
        if row.check_after > now:
            return
        with write_transaction(self.ws.engine) as connection:
            if connection.execute(_TURN, {**keys, "now": now, "again": now + FETCHING}).first() is None:
                return
        state = self._ask(reader, row.handle, row.asked_at)
        again = self.ws.clock.now() + timedelta(seconds=reader.bulk_read.check_every)
        with write_transaction(self.ws.engine) as connection:
            connection.execute(_CHECK_AGAIN, {**keys, "again": again})
            if state is not BulkState.OPEN:
                connection.execute(_OVER, {**keys, "how": state})
        self.open = state is BulkState.OPEN
        self.asked_at = row.asked_at if state is BulkState.DONE else None

    def cleared(self, level_ids: Sequence[int]) -> set[int]:
        """Return those of the levels that showed what is acknowledged when the channel was read, and since."""
        if self.asked_at is None:
            return set()
        with self.ws.engine.connect() as connection:
            found = connection.execute(_CLEARED, {"ids": as_parameter(level_ids), "asked_at": self.asked_at})
            return set(found.scalars())

    def _ask(self, reader: BulkReader, handle: str, asked_at: datetime) -> BulkState:
        self.calls.wait(reader.bulk_read.cost)
        try:
            told = reader.reading_of_all(handle)
            if told.message:
                _log.warning("%s: the bulk reading broke off: %s", self.name, told.message)
            cursor = ""
            while told.state is BulkState.DONE and told.address:
                if self.ws.clock.now() >= self.calls.deadline:
                    raise OutOfTimeError
                piece = reader.numbers_read(told.address, cursor)
                self._mark(piece.numbers, asked_at)
                if not piece.cursor:
                    break
                cursor = piece.cursor
        except PlatformError as error:
            if error.recovery is Recovery.REAUTHENTICATE:
                raise
            # Refused, or unknown there: the same again would be told each time.
            over = error.recovery in (Recovery.REJECT, Recovery.REVIEW)
            what = "given up" if over else "asked for again"
            _log.warning("%s: the bulk reading is %s: %s: %s", self.name, what, error.code, error.message)
            if over:
                return BulkState.LOST
            told = None
        if told is None or told.state is BulkState.OPEN:
            late = self.ws.clock.now() - asked_at > timedelta(seconds=reader.bulk_read.patience)
            return BulkState.LOST if late else BulkState.OPEN
        return told.state

    def _mark(self, numbers: Mapping[LevelReference, int], asked_at: datetime) -> None:
        visible = asked_at - timedelta(seconds=self.calls.platform.limits.read_lag)
        for some in chunks(numbers.items(), LEVELS_AT_ONCE):
            of_place = {(level.item_id, level.location_id): quantity for level, quantity in some}
            keys = {"of_channel": self.name, "items": as_parameter({item for item, _ in of_place})}
            with self.ws.engine.connect() as connection:
                places = connection.execute(_PLACES, keys).all()
            shown = {
                row.id: of_place[row.item_id, row.location_id]
                for row in places
                if (row.item_id, row.location_id) in of_place
            }
            with write_transaction(self.ws.engine) as connection:
                connection.execute(_MARK, {"shown": json.dumps(shown), "asked_at": asked_at, "visible": visible})
