"""Rows of channels, listings and SKUs as they were at a past moment: today's, with what was changed since taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from invsync_dagster.inventory.tables import central_inventory, channels, operator_actions, platform_mapping

# What is recorded under another name than its column's.
_COLUMN = {"reason": "status_reason"}
_OF_LISTINGS = operator_actions.c.action.startswith("listings ")


def listings_of(connection: Connection, sku: str, at: datetime) -> list[dict[str, Any]]:
    """Return the rows of `platform_mapping` that were the SKU's at `at`, ordered by channel and id.

    What no action records is as it is today: a location's share (`percent_before`), and the review of two SKUs on one level.
    """
    listing = platform_mapping.c
    changes = list(_listings_before(connection, at))
    elsewhere = {change["id"] for change in changes if change.get("central_sku") == sku}
    query = select(platform_mapping).where((listing.central_sku == sku) | listing.id.in_(elsewhere))
    rows = {row["id"]: dict(row) for row in connection.execute(query).mappings()}
    for change in changes:
        if change["id"] in rows:
            rows[change["id"]] |= {_COLUMN.get(name, name): value for name, value in change.items()}
    then = [row for row in rows.values() if row["central_sku"] == sku and row["created_at"] <= at]
    return sorted(then, key=lambda row: (row["platform_name"], row["id"]))


def channel(connection: Connection, name: str, at: datetime) -> dict[str, Any] | None:
    """Return the row of `channels` as it was at `at`; None where the channel wasn't there yet. Its times are ISO texts where
    they were changed since."""
    row = connection.execute(select(channels).where(channels.c.name == name)).mappings().one_or_none()
    if row is None:
        return None
    then = dict(row)
    own = (operator_actions.c.subject == f"channel {name}") & ~_OF_LISTINGS
    for action in _since(connection, at, own):
        if action.action == "channel registered":
            return None
        if action.action == "first push approved":
            then |= {"push_approved_at": None, "push_approved_by": ""}
        elif isinstance(action.before, Mapping):
            then |= action.before
    return then


def sku_status(connection: Connection, sku: str, at: datetime) -> str:
    """Return the status that the SKU had at `at`. Raises NoResultFound for one that isn't there."""
    status = connection.execute(select(central_inventory.c.status).where(central_inventory.c.sku == sku)).scalar_one()
    for action in _since(connection, at, operator_actions.c.action == "SKU status set"):
        status = dict(action.before).get(sku, status)
    return str(status)


def _listings_before(connection: Connection, at: datetime) -> Iterator[dict[str, Any]]:
    """Yield what listings were before each change since `at`, newest change first: their id, and the columns changed."""
    for action in _since(connection, at, _OF_LISTINGS):
        yield from action.before


def _since(connection: Connection, at: datetime, wanted: ColumnElement[bool]) -> Iterator[Row[str, Any]]:
    """Yield the actions since `at`, newest first. What isn't wanted isn't read: an import's record of a million listings is
    hundreds of megabytes."""
    action = operator_actions.c
    query = select(action.action, action.before).where(action.at > at, wanted).order_by(action.id.desc())
    yield from connection.execute(query.execution_options(yield_per=100))
