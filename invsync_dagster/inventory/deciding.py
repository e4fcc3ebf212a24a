"""What the breaker holds before the wire, seen and decided: which levels, since when and why, approved or dropped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, exists, func, not_, or_, select

from invsync_dagster.inventory import holds
from invsync_dagster.inventory.bulk import among, as_parameter, chunks
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.looks import (
    DecisionError,
    Look,
    change_in_words,
    decided_by,
    source_in_words,
)
from invsync_dagster.inventory.tables import (
    channels,
    inventory_levels,
    operator_actions,
    platform_mapping,
    stock_ledger,
)

Decision = Literal["approve", "drop"]

_SAME_STOCK = "another location of the item stays held, and shows the same stock; approve that with it"

LONGEST_NUMBER = 18  # digits that any database takes


@dataclass(frozen=True, slots=True)
class Hold:
    """What one change moved too far on one channel. `number` names it; `dropped` of its levels are decided to stay so."""

    number: int
    channel: str
    reason: str
    since: datetime | None
    levels: int
    dropped: int

    @property
    def waits(self) -> int:
        """Levels that nobody has decided about."""
        return self.levels - self.dropped

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self) | {"since": self.since.isoformat() if self.since else None, "mend": self.mend}

    @property
    def mend(self) -> str:
        """How what held these levels is taken back, in words."""
        if found := re.match(r"import (\S+) would ", self.reason):
            return f"`invsync imports undo {found[1]}` takes the import back"
        if found := re.match(r"change (\d+) of the channel would ", self.reason):
            return f"`invsync rules undo {found[1]}` takes a change of the rules back"
        return "take the change back where it was made"


@dataclass(frozen=True, slots=True)
class HeldLevel:
    """One held level: the number that it shows now, and the one that the change wants."""

    hold: int
    channel: str
    sku: str
    item_id: str
    shown: int
    wanted: int | None
    since: datetime | None
    dropped: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self) | {"since": self.since.isoformat() if self.since else None}


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision did, in levels; `changed` ones stay held, with what has changed in words and how many each, and so do those
    `beside` a location that stays held."""

    decision: Decision
    levels: int
    changed: tuple[tuple[str, int], ...] = ()
    beside: int = 0

    def render(self) -> str:
        """Say it in words, several lines."""
        if self.decision == "drop":
            return (
                f"{self.levels} listings stay at what they show, less what is sold, until what held them is taken back; "
                "they can still be approved"
            )
        lines = [f"{self.levels} listings approved; the next push brings them in step"]
        lines += [f"{levels} stay held, since they changed after the look: {why}" for why, levels in self.changed]
        lines += [f"{self.beside} stay held: {_SAME_STOCK}"] if self.beside else []
        return "\n".join(lines)


def holds_now(connection: Connection, channel: str = "") -> list[Hold]:
    """Return what is held, of all channels or one, oldest first."""
    level, action = inventory_levels.c, operator_actions.c
    query = (
        select(
            level.held_revision,
            level.channel,
            func.max(level.held_reason),
            func.max(action.at),
            func.count(),
            func.count(level.held_dropped_at),
        )
        .select_from(inventory_levels.outerjoin(operator_actions, action.id == level.held_revision))
        .where(*_held(channel))
        .group_by(level.held_revision, level.channel)
        .order_by(level.held_revision, level.channel)
    )
    return [Hold(row[0] or 0, *row[1:]) for row in connection.execute(query)]


def changed_at(connection: Connection) -> datetime | None:
    """Return when levels were held or decided about last, None for never."""
    action = operator_actions.c
    query = (
        select(action.at)
        .where(action.action.in_((holds.HELD, holds.APPROVED, holds.DROPPED)))
        .order_by(action.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def held_levels(connection: Connection, channel: str = "", limit: int | None = None) -> list[HeldLevel]:
    """Return the held levels of all channels or one: those that nobody has decided about first."""
    level, action = inventory_levels.c, operator_actions.c
    query = (
        select(
            func.coalesce(level.held_revision, 0),
            level.channel,
            level.central_sku,
            level.item_id,
            level.desired,
            level.held_desired,
            action.at,
            level.held_dropped_at.is_not(None),
            level.held_reason,
        )
        .select_from(inventory_levels.outerjoin(operator_actions, action.id == level.held_revision))
        .where(*_held(channel))
        .order_by(level.held_dropped_at.is_not(None), level.held_revision, level.channel, level.central_sku, level.id)
        .limit(limit)
    )
    return [HeldLevel(*row) for row in connection.execute(query)]


def decide(
    connection: Connection,
    what: str,
    decision: Decision,
    *,
    skus: Collection[str] = (),
    seen: str = "",
    actor: str,
    reason: str,
    now: datetime,
) -> Decided:
    """Approve or drop what is held, in the caller's `write_transaction`: a hold by its number or all of a channel, as a
    whole or the levels of `skus`.

    An approval covers what a look saw (`seen`, else that of the moment when they were held), and the sales and cancels since:
    levels whose rules, mapping, status or stock were changed otherwise since stay held. So do those that would rise while another
    location of their item stays held at more than it should show. Raises `DecisionError` where nothing is
    held, or nothing as it was seen.
    """
    decided_by(actor, reason)
    level = inventory_levels.c
    if what.isdecimal() and len(what) > LONGEST_NUMBER:
        raise DecisionError(f"no hold has a number like {what[:40]}: `invsync held list` has them")
    which = level.held_revision == int(what) if what.isdecimal() else level.channel == what
    conditions = [*_held(""), which, *([level.central_sku.in_(skus)] if skus else [])]
    ids = list(connection.execute(select(level.id).where(*conditions).order_by(level.id)).scalars())
    if not ids:
        raise DecisionError(_nothing_held(connection, what, skus))
    by: dict[str, Any] = {"reason": reason, "actor": actor, "now": now}
    if decision == "drop":
        dropped = holds.drop(connection, ids, **by)
        if not dropped:
            raise DecisionError(f"all of it is dropped already: {_last_decision(connection, what)}")
        return Decided(decision, dropped)
    look = Look.parse(connection, seen) if seen else None
    changed = _changed(connection, ids, look)
    told = tuple(Counter(changed.values()).most_common())
    free = [level_id for level_id in ids if level_id not in changed]
    beside = _beside(connection, free)
    if beside and beside.issuperset(free):
        raise DecisionError(f"nothing was approved: {_SAME_STOCK}")
    if not free:
        why = "; ".join(f"{why} ({levels} listings)" for why, levels in told)
        raise DecisionError(
            f"nothing was approved, since it isn't what was seen any more: {why}. Look again: `invsync held list` ends with "
            "the command that approves what it shows"
        )
    free = [level_id for level_id in free if level_id not in beside]
    return Decided(decision, holds.approve(connection, free, **by), told, len(beside))


def _held(channel: str) -> list[ColumnElement[bool]]:
    level = inventory_levels.c
    return [level.held_quantity.is_not(None), *([level.channel == channel] if channel else [])]


def _changed(connection: Connection, level_ids: Sequence[int], look: Look | None) -> dict[int, str]:
    """Return by level what is no longer as it was seen, in words; without a `look`, since it was held."""
    found: dict[int, str] = {}
    words: dict[tuple[str, int], str] = {}
    asked = {"sequence": look.sequence if look else None}
    rows = [
        row for part in chunks(level_ids) for row in connection.execute(_SINCE, asked | {"ids": as_parameter(part)})
    ]
    # Not all that ever were: one import may have set a hundred thousand.
    oldest = min((row.held_revision or 0 for row in rows), default=0)
    statuses = _statuses_since(connection, look.revision if look else oldest)

    def told(kind: str, number: int) -> str:
        if (kind, number) not in words:
            say = change_in_words if kind == "change" else source_in_words
            words[kind, number] = say(connection, number)
        return words[kind, number]

    for row in rows:
        base = row.held_revision if look is None else look.revision
        revisions = [row.channel_revision, row.mapping_revision, statuses.get(row.central_sku, 0)]
        newer = max(revision or 0 for revision in revisions)
        if row.held_revision is not None and row.held_revision > base:
            found[row.id] = told("change", row.held_revision)
        # Until `catch_up` has come by, a look shows what the rules before wanted.
        elif newer > (base or 0) or row.channel_revision > row.rules_revision:
            found[row.id] = told("change", newer)
        elif row.entry is not None:
            found[row.id] = told("entry", row.entry)
    return found


_LEVEL, _OTHER = inventory_levels.c, inventory_levels.alias("other")
_BESIDE = select(_LEVEL.id).where(
    among(_LEVEL.id, "ids"),
    _LEVEL.held_desired > _LEVEL.desired,
    exists().where(
        _OTHER.c.channel == _LEVEL.channel,
        _OTHER.c.item_id == _LEVEL.item_id,
        _OTHER.c.held_desired < _OTHER.c.desired,
        not_(among(_OTHER.c.id, "ids")),
    ),
)


def _beside(connection: Connection, level_ids: Sequence[int]) -> set[int]:
    """Return which levels would rise while another location of their item stays held at more than it should show."""
    return set(connection.execute(_BESIDE, {"ids": as_parameter(level_ids)}).scalars())


def _statuses_since(connection: Connection, revision: int) -> dict[str, int]:
    """Return by SKU the last change of its status after an action."""
    action = operator_actions.c
    query = select(action.id, action.before).where(action.action == "SKU status set", action.id > revision)
    return {sku: number for number, before in connection.execute(query.order_by(action.id)) for sku, _ in before}


def _nothing_held(connection: Connection, what: str, skus: Collection[str]) -> str:
    named = f"as hold {what}" if what.isdecimal() else f"on {what!r}"
    of_skus = f" of {', '.join(sorted(skus))}" if skus else ""
    last = _last_decision(connection, what)
    return f"nothing is held {named}{of_skus}" + (f": {last}" if last else "")


def _last_decision(connection: Connection, what: str) -> str:
    """Say who decided last about a hold, or about any of a channel, "" if nobody did."""
    action = operator_actions.c
    subject = f"hold {what} of channel %" if what.isdecimal() else f"hold % of channel {what}"
    query = select(operator_actions).where(
        action.action.in_((holds.APPROVED, holds.DROPPED)), action.subject.like(subject)
    )
    row = connection.execute(query.order_by(action.id.desc()).limit(1)).one_or_none()
    if row is not None:
        return f"{row.actor} decided at {in_utc(row.at)} ({row.subject}, {row.action}: {row.reason})"
    if what.isdecimal() and connection.execute(select(action.id).where(action.id == int(what))).first():
        return "what held it was taken back, or sales have caught up with it"
    return ""


_LEVEL, _ENTRY = inventory_levels.c, stock_ledger.c
_SINCE = (
    select(
        _LEVEL.id,
        _LEVEL.central_sku,
        _LEVEL.held_revision,
        _LEVEL.rules_revision,
        channels.c.rules_revision.label("channel_revision"),
        # Of the item's listings at all locations: they share its stock (inventory/shares.py).
        select(func.max(platform_mapping.c.rules_revision))
        .where(
            platform_mapping.c.platform_name == _LEVEL.channel,
            platform_mapping.c.platform_item_id == _LEVEL.item_id,
        )
        .scalar_subquery()
        .label("mapping_revision"),
        select(func.min(_ENTRY.sequence))
        .where(
            _ENTRY.sku == _LEVEL.central_sku,
            _ENTRY.sequence > func.coalesce(bindparam("sequence", type_=BigInteger), _LEVEL.held_sequence),
            _ENTRY.order_id == "",
            or_(_ENTRY.quantity_delta != 0, _ENTRY.reserved_delta != 0),
        )
        .scalar_subquery()
        .label("entry"),
    )
    .join(channels, channels.c.name == _LEVEL.channel)
    .where(among(_LEVEL.id, "ids"))
)
