"""SKUs: added, named, made active or inactive; their quantities come from counts and orders only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Connection, Text, Update, select, update

from invsync_dagster.inventory import breaker, holds, levels
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.bulk import as_parameter, chunks, found_by, insert_rows, update_rows
from invsync_dagster.inventory.tables import central_inventory, inventory_levels

Status = Literal["active", "inactive"]


@dataclass(frozen=True, slots=True)
class Sku:
    """One SKU; None leaves what is known (of a new one: no name, active)."""

    sku: str
    product_name: str | None = None
    status: Status | None = None


@dataclass(slots=True)
class SkusSet:
    """What `set_skus` did, in SKUs; `held` are the levels that the breaker holds."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    held: int = 0


def set_skus(connection: Connection, skus: Sequence[Sku], *, actor: str, reason: str, now: datetime) -> SkusSet:
    """Create SKUs (with nothing in stock), or change their name and status, in the caller's `write_transaction`.

    An inactive SKU desires 0 on every channel. A change of status is a recorded action; levels that it moves beyond a
    channel's limits are held.
    """
    result = SkusSet()
    before: dict[int, breaker.Shown] = {}
    cause = ""
    central = central_inventory.c
    for part in chunks({one.sku: one for one in skus}.values(), levels.SKUS_AT_ONCE):
        query = select(central.sku, central.product_name, central.status).where(found_by(central.sku, "skus"))
        asked = {"skus": as_parameter([one.sku for one in part])}
        known = {row.sku: row for row in connection.execute(query, asked)}
        new, changed, status = [], [], []
        for one in part:
            row = known.get(one.sku)
            if row is None:
                new.append((one.sku, one.product_name or "", 0, 0, 0, one.status or "active", now, 0))
                continue
            name = row.product_name if one.product_name is None else one.product_name
            new_status = one.status or row.status
            if (name, new_status) != (row.product_name, row.status):
                changed.append((name, new_status, one.sku))
            if new_status != row.status:
                status.append([one.sku, row.status, new_status])
        insert_rows(connection, central_inventory, _NEW, new)
        update_rows(connection, _change, _CHANGED, changed)
        if status:
            changing = [sku for sku, *_ in status]
            before |= breaker.shown(connection, inventory_levels.c.central_sku, changing)
            revision = record_action(
                connection,
                at=now,
                actor=actor,
                action="SKU status set",
                subject=f"{len(status)} SKUs",
                before=[[sku, before] for sku, before, _ in status],
                after=[[sku, after] for sku, _, after in status],
                reason=reason,
            )
            cause = cause or f"change {revision} of SKUs' status"
            levels.recompute(connection, changing, now)
            holds.undecide(connection, changing)
        result.created += len(new)
        result.changed += len(changed)
        result.unchanged += len(part) - len(new) - len(changed)
    result.held = len(breaker.hold_excess(connection, before, cause, now))
    return result


_NEW = tuple(
    central_inventory.c[name]
    for name in (
        "sku",
        "product_name",
        "quantity",
        "reserved_quantity",
        "reserved_external",
        "status",
        "last_updated",
        "version",
    )
)
_CHANGED = (Column("name", Text), Column("new_status", Text), Column("key", Text))


def _change(given: Mapping[str, ColumnElement[Any]]) -> Update:
    values = {"product_name": given["name"], "status": given["new_status"]}
    return update(central_inventory).where(central_inventory.c.sku == given["key"]).values(values)
