"""Changes of channels' and listings' rules, as they were recorded: what, by whom, from what to what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from invsync_dagster.inventory.rules import RULES
from invsync_dagster.inventory.tables import operator_actions

CONFIGURED: Final = "channel configured"
UNDONE: Final = "rules undone"

_OF_CHANNEL = "channel "


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One recorded change of rules: of a channel's own (`listings` 0), or of so many of its listings. `number` is the
    action's; where several listings changed, `before` and `after` are those of the first. `reason` names the import."""

    number: int
    at: datetime
    actor: str
    channel: str
    listings: int
    before: dict[str, int | None]
    after: dict[str, int | None]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self) | {"at": self.at.isoformat()}

    @property
    def words(self) -> str:
        """The change in words: `buffer 0 -> 10`."""
        told = ", ".join(
            f"{name} {_word(self.before.get(name))} -> {_word(value)}" for name, value in self.after.items()
        )
        return told + (f" (and {self.listings - 1} more)" if self.listings > 1 else "")


def rule_changes(connection: Connection, channel: str = "", limit: int = 50) -> list[RuleChange]:
    """Return the latest changes of rules, newest first, of all channels or one."""
    found = []
    for row in _recorded(connection, channel):
        change = _change(row)
        if change is not None:
            found.append(change)
            if len(found) == limit:
                break
    return found


def rule_change(connection: Connection, number: int) -> RuleChange | None:
    """Return one change by its number, None if that is no change of rules."""
    action = operator_actions.c
    row = connection.execute(select(operator_actions).where(action.id == number)).one_or_none()
    return None if row is None or row.action not in (CONFIGURED, "listings set") else _change(row)


def later_changes(connection: Connection, change: RuleChange) -> list[RuleChange]:
    """Return the changes of the same channel's rules that touch what a change of it set, newest first."""
    return [
        one
        for one in rule_changes(connection, change.channel, limit=1000)
        if one.number > change.number and not one.listings and not change.after.keys().isdisjoint(one.after)
    ]


def _recorded(connection: Connection, channel: str) -> Iterator[Row[Any]]:
    action = operator_actions.c
    query = select(operator_actions).where(action.action.in_((CONFIGURED, "listings set"))).order_by(action.id.desc())
    if channel:
        query = query.where(action.subject == f"{_OF_CHANNEL}{channel}")
    yield from connection.execute(query.execution_options(yield_per=100))


def _change(row: Row[Any]) -> RuleChange | None:
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    listings = 0
    if row.action == CONFIGURED:
        before, after = _rules(row.before), _rules(row.after)
    else:
        was = {one["id"]: one for one in row.before}
        for one in row.after:
            if isinstance(one, dict) and _rules(one):
                listings += 1
                if not after:
                    before, after = _rules(was[one["id"]]), _rules(one)
    if not after:
        return None
    channel = row.subject.removeprefix(_OF_CHANNEL)
    return RuleChange(row.id, row.at, row.actor, channel, listings, before, after, row.reason)


def _rules(values: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (values or {}).items() if name in RULES}


def _word(value: int | None) -> str:
    return "none" if value is None else str(value)
