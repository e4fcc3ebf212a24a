"""The first push of a channel as a decision: what it would change, shown before anything is written, then approved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, select, update

from invsync_dagster.inventory import channels as channel_rows
from invsync_dagster.inventory.bulk import update_rows
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import central_inventory, channels, inventory_levels
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.sync.another_shop import ANOTHER_SHOP
from invsync_dagster.sync.articles import told_apart
from invsync_dagster.sync.letting_in import require_right_shop
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.readings import in_readings, note_whole
from invsync_dagster.sync.workspace import Workspace

# A preview reads everything once: twice the time that the channel's budget asks for, and at least an hour. This bounds a platform
# that never answers or throttles for ever; 100,000 listings of a Shopify shop take 67 minutes.
SHORTEST_BOUND = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One level: what the channel shows now (None: nothing, see `problem`) and what a push would write; `absent`: it isn't
    there, and the push would make it."""

    sku: str
    product_name: str
    item_id: str
    location_id: str
    shown: int | None
    desired: int
    problem: str = ""
    absent: bool = False

    @property
    def move(self) -> int:
        """Units that the push would add (or take, below 0); 0 where nothing can be read."""
        return self.desired - (self.shown or 0) if self.written else 0

    @property
    def written(self) -> bool:
        """Whether the push would write it where that changes something."""
        return self.shown is not None or self.absent


@dataclass
class Preview:
    """What a push would change at a channel. `rows` holds every pushable level."""

    channel: str
    rows: list[PreviewRow] = field(default_factory=list)

    @property
    def changes(self) -> list[PreviewRow]:
        """Rows that would change, largest move first."""
        return sorted((row for row in self.rows if row.move), key=lambda row: (-abs(row.move), row.sku))

    @property
    def unreadable(self) -> list[PreviewRow]:
        """Rows that a push would not write, by SKU; each says why in `problem`."""
        return sorted((row for row in self.rows if not row.written), key=lambda row: row.sku)

    def totals(self) -> dict[str, int]:
        """Return counts of levels (equal, raised, of them made, lowered, zeroed, unreadable) and of units (shown, desired)."""
        return {
            "levels": len(self.rows),
            "equal": sum(row.shown == row.desired for row in self.rows),
            "raised": sum(row.move > 0 for row in self.rows),
            "made": sum(row.absent for row in self.rows),
            "lowered": sum(row.move < 0 for row in self.rows),
            "zeroed": sum(row.desired == 0 and row.move < 0 for row in self.rows),
            "unreadable": len(self.unreadable),
            "units_shown": sum(row.shown or 0 for row in self.rows),
            "units_desired": sum(row.desired for row in self.rows if row.written),
        }


def preview_channel(ws: Workspace, name: str) -> Preview:
    """Read every pushable level of a channel and compare it with what it should show; writes nothing there.

    The readings are kept as observed; one of another article is none. Raises `PlatformError` when the channel can't be read, and
    when it is another shop (then it is stopped); `OutOfTimeError`.
    """
    channel, level = ws.channel(name), inventory_levels.c
    query = (
        select(
            level.id,
            level.central_sku,
            central_inventory.c.product_name,
            level.item_id,
            level.location_id,
            level.desired,
        )
        .join(central_inventory, central_inventory.c.sku == level.central_sku)
        .where(level.channel == name, level.pushable.is_(True))
        .order_by(level.id)
    )
    with ws.engine.connect() as connection:
        levels = connection.execute(query).all()
    limits = ws.platform(channel).limits
    parts = list(in_readings(levels, limits))
    asked_for = timedelta(seconds=len(parts) * limits.read_cost / limits.rate)
    calls = calls_of(ws, channel, ws.clock.now() + max(SHORTEST_BOUND, 2 * asked_for), background=True)
    require_right_shop(ws, channel, calls)
    preview = Preview(name)
    for some in parts:
        references = [LevelReference(row.item_id, row.location_id) for row in some]
        began = ws.clock.now()
        answer = calls.ask(limits.read_cost, lambda asked=references: calls.platform.read(asked))  # type: ignore[misc]
        by_level = {row.id: reading for row, reading in zip(some, answer.readings, strict=True)}
        with ws.engine.connect() as connection:
            told = told_apart(connection, name, by_level)
        read = [(row, told[row.id]) for row in some]
        for row, reading in read:
            problem = reading.problem.words if reading.problem else ""
            preview.rows.append(
                PreviewRow(
                    row.central_sku,
                    row.product_name,
                    row.item_id,
                    row.location_id,
                    reading.quantity,
                    row.desired,
                    problem,
                    reading.absent,
                )
            )
        now = ws.clock.now()
        observed = [(row.id, reading.quantity, now) for row, reading in read]
        with write_transaction(ws.engine) as connection:
            update_rows(connection, _observe, _OBSERVED, observed)
            note_whole(connection, calls.platform, {row.id: each for row, each in read}, began)
    return preview


class AnotherShopError(Exception):
    """The approval of a channel that is stopped as another shop."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is stopped, and not approved: {reason}. Look at its preview once it is mended")


def approve(connection: Connection, name: str, *, actor: str, reason: str, now: datetime) -> None:
    """Allow the first push of a channel. Raises `NotRegisteredError`; `AnotherShopError` where it is stopped as another shop: no
    preview was of the shop that would be written."""
    query = select(channels.c.stopped_reason).where(channels.c.name == name)
    stopped = connection.execute(query).scalar_one_or_none() or ""
    if stopped.startswith(ANOTHER_SHOP):
        raise AnotherShopError(name, stopped)
    channel_rows.approve_first_push(connection, name, actor=actor, reason=reason, now=now)


_OBSERVED = tuple(inventory_levels.c[name] for name in ("id", "observed_quantity", "observed_at"))


def _observe(given: Mapping[str, ColumnElement[Any]]) -> Update:
    values = {name: given[name] for name in ("observed_quantity", "observed_at")}
    return update(inventory_levels).where(inventory_levels.c.id == given["id"]).values(values)
