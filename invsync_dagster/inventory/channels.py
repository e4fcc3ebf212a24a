"""Channels in the database: registered from the configuration, paused, retired, and their first push approved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, insert, select, update

from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.rules import LOW_STOCK, RuleValues
from invsync_dagster.inventory.tables import channels
from invsync_dagster.settings import ChangeLimits

CONFIGURATION = "channels.yaml"  # the actor of what the file changed
MISSING = "missing from channels.yaml"

# What makes the levels of a channel different when it changes; the rest takes effect by being read.
_RECOMPUTED = {"status", "buffer", "percent", "minimum", "maximum", "dead_band", "low_stock"}


class NotRegisteredError(LookupError):
    """A channel that the stock doesn't know."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the stock has no channel {name!r}; `invsync channels sync` brings in those of channels.yaml")


def register(
    connection: Connection,
    name: str,
    platform: str,
    environment: str,
    moves_own_number: bool,
    rules: RuleValues,
    cut_over_at: datetime | None,
    now: datetime,
    *,
    contains_orders_of: Sequence[str] = (),
    count_lag_seconds: float = 0.0,
    restock: str = "as_told",
    low_stock: int = LOW_STOCK,
    change_limits: ChangeLimits = ChangeLimits(),  # noqa: B008 - frozen
) -> bool:
    """Bring the channel's row in line with the configuration; say whether `catch_up` has levels to recompute.

    A channel that was paused because the file had lost it becomes active again. A new channel waits for the approval of
    its first push. `cut_over_at` None: the moment of its first registration, so that older orders have no effect.
    """
    wanted = {
        "platform": platform,
        "environment": environment,
        "moves_own_number": moves_own_number,
        "buffer": rules.buffer,
        "percent": rules.percent,
        "minimum": rules.minimum,
        "maximum": rules.maximum,
        "dead_band": rules.dead_band,
        "low_stock": low_stock,
        "zeroed_share": change_limits.zeroed_share,
        "raised_share": change_limits.raised_share,
        "moved_minimum": change_limits.minimum,
        "moved_window_minutes": change_limits.window_minutes,
        "contains_orders_of": list(contains_orders_of),
        "count_lag_seconds": count_lag_seconds,
        "restock": restock,
    }
    row = connection.execute(select(channels).where(channels.c.name == name)).mappings().one_or_none()
    if row is None:
        values = wanted | {"cut_over_at": cut_over_at or now}
        revision = _record(connection, name, "channel registered", None, values, CONFIGURATION, "", now)
        connection.execute(
            insert(channels).values(
                values | {"name": name, "rules_revision": revision, "recomputed_revision": revision}
            )
        )
        return False
    if cut_over_at is not None:
        wanted["cut_over_at"] = cut_over_at
    if row["status"] == "paused" and row["status_reason"] == MISSING:
        wanted |= {"status": "active", "status_reason": ""}
    return _change(connection, dict(row), wanted, "channel configured", CONFIGURATION, "", now)


def rehearses() -> ColumnElement[bool]:
    """The condition on `channels` of a sandbox beside production channels: it gets the numbers that real shops show, and what
    it sells or counts must not change them. Where all channels are sandboxes, the stock is one too."""
    others = channels.alias()
    real = exists().where(others.c.environment == "production", others.c.status != "retired")
    return and_(channels.c.environment == "sandbox", real).label("rehearses")


def pause_missing(connection: Connection, configured: Collection[str], now: datetime) -> list[str]:
    """Pause the active channels that the configuration no longer names; return their names."""
    rows = connection.execute(
        select(channels).where(channels.c.status == "active", channels.c.name.not_in(configured))
    ).mappings()
    missing = [dict(row) for row in rows]
    for row in missing:
        wanted = {"status": "paused", "status_reason": MISSING}
        _change(connection, row, wanted, "channel paused", CONFIGURATION, MISSING, now)
    return [str(row["name"]) for row in missing]


def set_status(connection: Connection, name: str, status: str, *, actor: str, reason: str, now: datetime) -> bool:
    """Make a channel `active`, `paused` or `retired`; say whether `catch_up` has levels to recompute.

    Raises `NotRegisteredError`, ValueError for another status.
    """
    if status not in ("active", "paused", "retired"):
        raise ValueError(f"a channel is active, paused or retired, not {status!r}")
    wanted = {"status": status, "status_reason": "" if status == "active" else reason}
    return _change(connection, _row(connection, name), wanted, f"channel {status}", actor, reason, now)


def is_retired(connection: Connection, name: str) -> bool:
    """Tell whether a channel was given up; one that isn't registered yet was not."""
    return (
        connection.execute(select(channels.c.status).where(channels.c.name == name)).scalar_one_or_none() == "retired"
    )


def is_registered(connection: Connection, name: str) -> bool:
    """Say whether the stock knows a channel: before, nothing of it may be booked, as its cut-over isn't set."""
    return connection.execute(select(channels.c.name).where(channels.c.name == name)).first() is not None


def at_rest(connection: Connection) -> dict[str, str]:
    """Return the channels that are paused or retired, each with which of the two it is."""
    query = select(channels.c.name, channels.c.status).where(channels.c.status != "active")
    return {row.name: row.status for row in connection.execute(query)}


def why_at_rest(connection: Connection, name: str) -> str:
    """Say why a channel's levels are neither compared nor written, and what ends that; "" for an active one."""
    row = connection.execute(select(channels.c.status, channels.c.status_reason).where(channels.c.name == name)).first()
    if row is None:
        return f"channel {name!r} is not registered yet; run `invsync channels sync`"
    if row.status == "active":
        return ""
    return f"{name} is {row.status} ({row.status_reason}) until `invsync channels resume {name} --reason R`"


def approve_first_push(connection: Connection, name: str, *, actor: str, reason: str, now: datetime) -> None:
    """Allow the channel to be written to; a second approval changes nothing. Raises `NotRegisteredError`."""
    row = _row(connection, name)
    if row["push_approved_at"] is None:
        approval = {"push_approved_at": now, "push_approved_by": actor}
        _record(connection, name, "first push approved", None, approval, actor, reason, now)
        connection.execute(update(channels).where(channels.c.name == name).values(approval))


def _row(connection: Connection, name: str) -> dict[str, Any]:
    row = connection.execute(select(channels).where(channels.c.name == name)).mappings().one_or_none()
    if row is None:
        raise NotRegisteredError(name)
    return dict(row)


def _change(
    connection: Connection,
    row: dict[str, Any],
    wanted: dict[str, Any],
    action: str,
    actor: str,
    reason: str,
    now: datetime,
) -> bool:
    changed = {column: value for column, value in wanted.items() if row[column] != value}
    if not changed:
        return False
    before = {column: row[column] for column in changed}
    revision = _record(connection, row["name"], action, before, changed, actor, reason, now)
    recompute = not _RECOMPUTED.isdisjoint(changed)
    values = changed | ({"rules_revision": revision} if recompute else {})
    connection.execute(update(channels).where(channels.c.name == row["name"]).values(values))
    return recompute


def _record(
    connection: Connection,
    name: str,
    action: str,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    actor: str,
    reason: str,
    now: datetime,
) -> int:
    return record_action(
        connection,
        at=now,
        actor=actor,
        action=action,
        subject=f"channel {name}",
        before=None if before is None else _as_json(before),
        after=_as_json(after),
        reason=reason,
    )


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}
