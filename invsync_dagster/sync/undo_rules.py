"""Undoes a change of a channel's rules: the former values go into channels.yaml, and from there the way of any change."""

from __future__ import annotations

import heapq
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select, update

from invsync_dagster.channels import load
from invsync_dagster.channels_file import NotWrittenError, by_hand, write_rules
from invsync_dagster.inventory import breaker, levels
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.catch_up import hold_beyond_limits
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.looks import DecisionError, decided_by
from invsync_dagster.inventory.rule_changes import UNDONE, RuleChange, later_changes, rule_change
from invsync_dagster.inventory.tables import channels, inventory_levels, operator_actions
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.sync.workspace import Workspace

SHOWN = 20  # largest moves


class _TriedError(Exception):
    """Rolls back what was tried."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What one listing shows before and after."""

    sku: str
    before: int
    after: int


@dataclass(slots=True)
class RulesUndone:
    """What undoing a change of rules moves on its channel, in listings; `held` ones move too far at once and stay."""

    number: int
    channel: str
    present: dict[str, int | None]
    former: dict[str, int | None]
    moved: int = 0
    zeroed: int = 0
    raised: int = 0
    held: int = 0
    largest: list[Moved] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self)

    def render(self) -> str:
        """Say it in words, several lines."""
        rules = ", ".join(
            f"{name} {_word(value)} -> {_word(self.former[name])}" for name, value in self.present.items()
        )
        lines = [
            f"change {self.number} of {self.channel}: {rules}",
            f"  {self.moved} listings on {self.channel} show another number: {self.zeroed} go to 0, {self.raised} rise",
        ]
        if self.held:
            lines.append(f"  {self.held} move too far at once and are held: look at `invsync held list`")
        return "\n".join(lines + [f"  {one.sku}: {one.before} -> {one.after}" for one in self.largest])


def preview_rules_undo(ws: Workspace, number: int) -> RulesUndone:
    """Say what undoing a change of rules would move; nothing stays changed. Raises `DecisionError`."""
    with suppress(_TriedError), write_transaction(ws.engine) as connection:
        change = _undoable(connection, number)
        found = _tried(ws, connection, change)
        raise _TriedError
    return found


def undo_rules(ws: Workspace, number: int, *, actor: str, reason: str) -> RulesUndone:
    """Put the former rules back, into channels.yaml and into force; the next push brings the channel in step.

    The file is written before they are in force: what dies between is made good by the next cycle. Raises `DecisionError`,
    also with the lines to write by hand where the file can't be written.
    """
    decided_by(actor, reason)
    found = preview_rules_undo(ws, number)
    with write_transaction(ws.engine) as connection:
        change = _undoable(connection, number)
        _refuse_unlike_file(ws, change)
        record_action(
            connection,
            at=ws.clock.now(),
            actor=actor,
            action=UNDONE,
            subject=_subject(change),
            before=change.after,
            after=change.before,
            reason=reason,
        )
        try:
            write_rules(ws.home.channels_file, change.channel, change.before)
        except NotWrittenError as error:
            raise DecisionError(str(error)) from error
    register_channels(replace(ws, configuration=load(ws.home, ws.environ)))
    return found


def _undoable(connection: Connection, number: int) -> RuleChange:
    """Return a change of a channel's rules that is still in force. Raises `DecisionError`."""
    change = rule_change(connection, number)
    if change is None:
        raise DecisionError(f"change {number} is no change of rules: `invsync rules list` has them")
    if change.listings:
        import_id = change.reason.removeprefix("import ")
        raise DecisionError(
            f"change {number} is of listings' rules, which came with {change.reason or 'a mapping'}: "
            f"`invsync imports undo {import_id}` takes it back"
        )
    action = operator_actions.c
    undone = connection.execute(
        select(operator_actions).where(action.action == UNDONE, action.subject == _subject(change))
    ).one_or_none()
    if undone is not None:
        raise DecisionError(
            f"change {number} was undone already: {undone.actor} decided at {in_utc(undone.at)} ({undone.reason})"
        )
    later = later_changes(connection, change)
    if later:
        last = later[0]
        raise DecisionError(
            f"the rules of {change.channel} were changed again since: {last.words} (change {last.number}, "
            f"{last.actor}, {in_utc(last.at)}). Undo that first, or write what you want into channels.yaml"
        )
    return change


def _subject(change: RuleChange) -> str:
    return f"change {change.number} of channel {change.channel}"


def _refuse_unlike_file(ws: Workspace, change: RuleChange) -> None:
    """Refuse where channels.yaml says something else than what is in force: somebody is at work there."""
    rules = next((one.rules for one in load(ws.home, ws.environ).channels if one.name == change.channel), None)
    if rules is None or any(getattr(rules, name) != value for name, value in change.after.items()):
        raise DecisionError(
            f"channels.yaml doesn't have the rules of change {change.number} of {change.channel} any more: run `invsync "
            f"channels sync`, then look at `invsync rules list`; or {by_hand(change.channel, change.before)}"
        )


def _tried(ws: Workspace, connection: Connection, change: RuleChange) -> RulesUndone:
    """Make the change in the caller's transaction, which is rolled back, and say what it moves."""
    name, now, level = change.channel, ws.clock.now(), inventory_levels.c
    found = RulesUndone(change.number, name, change.after, change.before)
    query = select(level.id, level.central_sku).where(level.channel == name)
    skus = {row.id: row.central_sku for row in connection.execute(query)}
    held = select(level.id).where(level.channel == name, level.held_quantity.is_not(None))
    held_before = set(connection.execute(held).scalars())
    before = breaker.shown(connection, level.channel, [name])
    revision = connection.execute(select(channels.c.rules_revision).where(channels.c.name == name)).scalar_one() + 1
    connection.execute(
        update(channels).where(channels.c.name == name).values(change.before | {"rules_revision": revision})
    )
    hold_beyond_limits(connection, now)
    levels.recompute(connection, set(skus.values()), now, channel=name)
    after = breaker.shown(connection, level.channel, [name])
    moved = [
        Moved(skus[level_id], was.number, after[level_id].number)
        for level_id, was in before.items()
        if after[level_id].number != was.number
    ]
    found.held = len(set(connection.execute(held).scalars()) - held_before)
    found.moved = len(moved)
    found.zeroed = sum(one.after == 0 for one in moved)
    found.raised = sum(one.after > one.before for one in moved)
    found.largest = heapq.nsmallest(SHOWN, moved, key=lambda one: (-abs(one.after - one.before), one.sku))
    return found


def _word(value: int | None) -> str:
    return "none" if value is None else str(value)
