"""The record of what people and configuration changed; the id of an action is the rules revision that it makes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from invsync_dagster.inventory.tables import operator_actions


def record_action(
    connection: Connection,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    before: Any,
    after: Any,
    reason: str,
) -> int:
    """Append an action and return its id, higher than that of every action before; `before` and `after` are JSON."""
    row = {
        "at": at,
        "actor": actor,
        "action": action,
        "subject": subject,
        "before": before,
        "after": after,
        "reason": reason,
    }
    return int(connection.execute(insert(operator_actions).values(row).returning(operator_actions.c.id)).scalar_one())
