"""What a person saw before they decided: an approval covers that, and the sales and cancels since; nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from sqlalchemy import Connection, func, select

from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.tables import operator_actions, stock_ledger

# What makes a number something else than what was shown. Not what platforms send to review: that stops a listing.
_CHANGES = ("channel configured", "channel active", "listings set", "SKU status set", "import undone")
# Kinds of ledger entries, where no order made them: a shipment that is taken back is an undo as well. Not a channel's counts:
# they come all day, and say themselves as of when.
_SOURCES = ("import", "undo")


class DecisionError(Exception):
    """Something that can't be decided so, and why."""


@dataclass(frozen=True, slots=True)
class Look:
    """The moment of a look: the last recorded change and the last ledger entry that it saw."""

    revision: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.revision}-{self.sequence}"

    @classmethod
    def at_present(cls, connection: Connection) -> Self:
        """Return the look that is taken now."""
        revision = connection.execute(select(func.coalesce(func.max(operator_actions.c.id), 0))).scalar_one()
        sequence = connection.execute(select(func.coalesce(func.max(stock_ledger.c.sequence), 0))).scalar_one()
        return cls(revision, sequence)

    @classmethod
    def parse(cls, connection: Connection, text: str) -> Self:
        """Read what `str` gave. Raises `DecisionError` for anything else, and for a look that nobody can have taken yet."""
        found = re.fullmatch(r"(\d{1,18})-(\d{1,18})", text.strip())
        look = cls(int(found[1]), int(found[2])) if found else None
        present = cls.at_present(connection)
        if look is None or look.revision > present.revision or look.sequence > present.sequence:
            raise DecisionError(
                f"{text.strip()[:40]!r} names no look at what is held: take it from the list that you looked at, "
                f"as {present}"
            )
        return look


def decided_by(actor: str, reason: str) -> None:
    """Refuse a decision of nobody, or for no reason. Raises `DecisionError`."""
    if not actor.strip():
        raise DecisionError("say who decides: it is kept with the decision")
    if not reason.strip():
        raise DecisionError("say why, for whoever asks later: it is kept with the decision")


def changed_since(connection: Connection, look: Look) -> str:
    """Return in words the first change of rules, mapping, statuses or imports since a look, "" if there is none."""
    action = operator_actions.c
    query = select(action.id).where(action.id > look.revision, action.action.in_(_CHANGES)).order_by(action.id)
    changed = connection.execute(query.limit(1)).scalar()
    if changed is not None:
        return change_in_words(connection, changed)
    entry = stock_ledger.c
    entries = select(entry.sequence).where(
        entry.sequence > look.sequence, entry.kind.in_(_SOURCES), entry.order_id == ""
    )
    sequence = connection.execute(entries.order_by(entry.sequence).limit(1)).scalar()
    return "" if sequence is None else source_in_words(connection, sequence)


def change_in_words(connection: Connection, number: int) -> str:
    """Name a recorded change for whoever has to look again."""
    row = connection.execute(select(operator_actions).where(operator_actions.c.id == number)).one()
    return f"{row.action} ({row.subject}, change {number}) by {row.actor} at {in_utc(row.at)}"


def source_in_words(connection: Connection, sequence: int) -> str:
    """Name what made a ledger entry that is no order's."""
    row = connection.execute(select(stock_ledger).where(stock_ledger.c.sequence == sequence)).one()
    named = row.reference if row.kind in _SOURCES else row.channel
    return f"{row.kind} {named} at {in_utc(row.applied_at)}"
