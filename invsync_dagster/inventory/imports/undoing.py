"""Undoes an import that was applied: by compensating ledger entries, and with the statuses, mappings and rules of before."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update

from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.book import Book, CountInForce, event_id
from invsync_dagster.inventory.bulk import among, as_parameter, chunks, insert_rows
from invsync_dagster.inventory.counts import COUNT_COLUMNS, Count, balances_after, next_count_id
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.imports import results
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.importing import NotKeptError
from invsync_dagster.inventory.imports.reading import INVENTORY, MAPPING
from invsync_dagster.inventory.imports.results import SHOWN
from invsync_dagster.inventory.listings import KEY_COLUMNS, Listing, ListingKey, listing_key, set_listings
from invsync_dagster.inventory.looks import DecisionError
from invsync_dagster.inventory.rules import RULES
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.sources import forget
from invsync_dagster.inventory.tables import (
    central_inventory,
    imports,
    operator_actions,
    platform_mapping,
    stock_counts,
    stock_ledger,
)

# Before the first count of a SKU all that ever moved made its balance: as if nothing had been counted at the beginning.
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_CAME = {"status": "retired"}  # what a listing was before it came

# A SKU; a listing's id, or where it came with a change its key.
Key = str | int | ListingKey

_Action = Row[str, str, Any, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the undoing does to one SKU, in units on hand."""

    sku: str
    before: int
    after: int


@dataclass(slots=True)
class Undone:
    """What the undoing of an import changes.

    `restored` SKUs have the count before in force again, or listings are as they were; `retired` listings came with the
    import; `kept` ones were counted or changed again since, and stay as they are. `held_levels` moved too far at once.
    """

    import_id: str
    kind: str
    file: str
    restored: int = 0
    retired: int = 0
    kept: int = 0
    statuses: int = 0
    units_before: int = 0
    units_after: int = 0
    held_levels: int = 0
    largest: list[Taken] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self)

    def render(self) -> str:
        """Say it in words, several lines."""
        lines = [f"import {self.import_id} of {self.file}:"]
        if self.kind == INVENTORY:
            lines.append(
                f"  {self.restored} SKUs get the count before it: {self.units_before} -> {self.units_after} units on hand;"
                f" {self.statuses} get the status before it"
            )
            lines.append(f"  {self.kept} SKUs were counted again since, and stay as they are")
        else:
            lines.append(
                f"  {self.restored} listings get what they had before it, {self.retired} that it added are retired"
            )
            lines.append(f"  {self.kept} listings were changed again since, and stay as they are")
        if self.held_levels:
            lines.append(
                f"  {self.held_levels} listings move too far at once and are held: look at `invsync held list`"
            )
        lines += [f"  {one.sku}: {one.before} -> {one.after}" for one in self.largest]
        return "\n".join(lines)


@dataclass(slots=True)
class _Former:
    """What was changed by an import and by all that is taken back with it: `values` of before, and which of it the import
    `touched`. `stays` was changed by something else; `kept` counts what that did after the import."""

    values: dict[Key, dict[str, Any]] = field(default_factory=dict)
    touched: set[Key] = field(default_factory=set)
    stays: set[Key] = field(default_factory=set)
    kept: int = 0


def preview_undo(basis: Basis, import_id: str) -> Undone:
    """Say what undoing an import would change; nothing stays changed. Raises `DecisionError`."""
    with suppress(NotKeptError), write_transaction(basis.engine) as connection:
        found = _undo(connection, basis, _applied(connection, import_id))
        raise NotKeptError
    return found


def undo(basis: Basis, import_id: str, reason: str) -> Undone:
    """Undo an import in one transaction; the next push brings the channels in step. Raises `DecisionError`.

    On hand becomes the count before it, and what moved since that one: sales of the time between stay. Product names stay as
    the import made them. The same file can go in again afterwards.
    """
    with write_transaction(basis.engine) as connection:
        row = _applied(connection, import_id)
        found = _undo(connection, basis, row)
        connection.execute(update(imports).where(imports.c.id == import_id).values(state=results.UNDONE))
        forget(connection, import_id)
        record_action(
            connection,
            at=basis.now,
            actor=basis.actor,
            action="import undone",
            subject=f"import {import_id}",
            before={"state": row.state},
            after={"state": results.UNDONE},
            reason=reason,
        )
    return found


def _applied(connection: Connection, import_id: str) -> Row[Any]:
    row = connection.execute(select(imports).where(imports.c.id == import_id)).one_or_none()
    if row is None:
        raise DecisionError(f"there is no import '{import_id}'")
    if row.state != results.APPLIED:
        raise DecisionError(f"import '{import_id}' is {row.state}, not applied: there is nothing to undo")
    if row.kind not in (INVENTORY, MAPPING):
        raise DecisionError(f"import '{import_id}' holds {row.kind}, which a newer count corrects: count again")
    return row


def _undo(connection: Connection, basis: Basis, row: Row[Any]) -> Undone:
    found = Undone(row.id, row.kind, row.file_name)
    if row.kind == INVENTORY:
        _put_statuses_back(connection, basis, found)
        _put_counts_back(connection, basis, found)
    else:
        _put_listings_back(connection, basis, found)
    return found


def _put_statuses_back(connection: Connection, basis: Basis, found: Undone) -> None:
    former = _former(connection, operator_actions.c.action == "SKU status set", found.import_id, _statuses_before)
    back = [Sku(str(sku), status=former.values[sku]["status"]) for sku in former.touched]
    done = set_skus(connection, back, actor=basis.actor, reason=_cause(found), now=basis.now)
    found.statuses, found.held_levels = len(back), done.held


def _put_counts_back(connection: Connection, basis: Basis, found: Undone) -> None:
    count, central = stock_counts.c, central_inventory.c
    mine = count.source == found.import_id
    still = select(central.sku).join(stock_counts, central.count_id == count.id).where(mine)
    in_force = sorted(connection.execute(still).scalars())
    counted = connection.execute(select(func.count(count.sku.distinct())).where(mine)).scalar_one()
    found.restored, found.kept = len(in_force), counted - len(in_force)
    for part in chunks(in_force):
        book = Book(connection, now=basis.now, run_id=basis.run_id)
        book.load(part)
        former = _former_counts(connection, part, found.import_id)
        stated = _stated_reserved(connection, part, former)
        by_contents: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for sku in part:
            by_contents[tuple(former[sku].contains) if sku in former else ()].append(sku)
        for skus in by_contents.values():
            _put_back(book, skus, former, stated, found)
        book.close()
        found.largest = heapq.nsmallest(SHOWN, found.largest, key=lambda one: (-abs(one.after - one.before), one.sku))


def _put_back(
    book: Book, skus: Sequence[str], former: Mapping[str, Row[Any]], stated: Mapping[str, int], found: Undone
) -> None:
    """Put the former counts of SKUs into force, which contain the same channels' orders."""
    counts: dict[str, Count] = {}
    in_forces: dict[str, CountInForce] = {}
    for sku in skus:
        row = former.get(sku)
        if row is None:
            counts[sku] = Count(sku, 0, _BEGINNING)
            in_forces[sku] = CountInForce(_BEGINNING, 0, "on_hand", frozenset(), timedelta())
        else:
            counts[sku] = Count(sku, row.quantity, row.as_of, row.basis, row.version)
            lag = timedelta(seconds=row.lag_seconds)
            in_forces[sku] = CountInForce(row.as_of, row.version, row.basis, frozenset(row.contains), lag)
        balance = book.balance(sku)
        balance.external -= stated.get(sku, 0)
    wanted = balances_after(book, counts, in_forces)
    count_id = next_count_id(book.connection)
    rows = []
    for sku in skus:
        balance, (quantity, external) = book.balance(sku), wanted[sku]
        found.units_before += balance.quantity
        found.units_after += quantity
        found.largest.append(Taken(sku, balance.quantity, quantity))
        if quantity != balance.quantity or stated.get(sku):
            book.add(
                sku,
                "undo",
                quantity - balance.quantity,
                -stated.get(sku, 0),
                event_id=event_id("undo", found.import_id, sku),
                occurred_at=book.now,
                received_at=book.now,
                reference=found.import_id,
            )
        if sku not in former:
            book.set_count(sku, None, None, external)
            continue
        book.set_count(sku, count_id, in_forces[sku], external)
        again: dict[str, Any] = dict(former[sku]._mapping) | {"id": count_id, "sequence": book.sequence}
        rows.append(tuple(again[column.name] for column in COUNT_COLUMNS))
        count_id += 1
    insert_rows(book.connection, stock_counts, COUNT_COLUMNS, rows)


def _former_counts(connection: Connection, skus: Sequence[str], import_id: str) -> dict[str, Row[Any]]:
    """Return by SKU the last count before the import's, leaving out those of imports that are undone."""
    count = stock_counts.c
    undone = select(imports.c.id).where(imports.c.state == results.UNDONE)
    mine = stock_counts.alias()
    of_import = select(func.max(mine.c.id)).where(mine.c.sku == count.sku, mine.c.source == import_id).scalar_subquery()
    latest = (
        select(func.max(count.id))
        .where(among(count.sku, "skus"), count.id < of_import, count.source != import_id, count.source.not_in(undone))
        .group_by(count.sku)
    )
    query = select(stock_counts).where(count.id.in_(latest))
    return {row.sku: row for row in connection.execute(query, {"skus": as_parameter(skus)})}


def _stated_reserved(connection: Connection, skus: Sequence[str], former: Mapping[str, Row[Any]]) -> dict[str, int]:
    """Return by SKU by how much sources have moved the reserved units that they state since the former count: the import,
    and those undone before it that were still in force then."""
    entry = stock_ledger.c
    query = select(entry.sku, entry.sequence, entry.reserved_delta).where(
        among(entry.sku, "skus"), entry.order_id == "", entry.reserved_delta != 0
    )
    stated: dict[str, int] = defaultdict(int)
    for sku, sequence, units in connection.execute(query, {"skus": as_parameter(skus)}):
        if sku not in former or sequence > former[sku].sequence:
            stated[sku] += units
    return stated


def _put_listings_back(connection: Connection, basis: Basis, found: Undone) -> None:
    former = _former(connection, operator_actions.c.action.startswith("listings "), found.import_id, _listings_before)
    wanted: list[Listing] = []
    for row in _rows(connection, former.touched):
        number, key = row["id"], _key(row)
        was = dict(former.values.get(number, {}))
        if number not in former.stays:
            was |= former.values.get(key, {})
        elif number not in former.touched:
            found.kept += 1  # it came with the import, and was changed since
            continue
        wanted.append(_listing(row, was))
        came = was.get("status") == _CAME["status"] and key in former.values
        found.retired += came
        found.restored += not came
    found.kept += former.kept
    done = set_listings(connection, wanted, actor=basis.actor, reason=_cause(found), now=basis.now, run_id=basis.run_id)
    found.held_levels = done.held


def _rows(connection: Connection, touched: Collection[Key]) -> list[dict[str, Any]]:
    """Return the listings of ids and of keys."""
    listing = platform_mapping.c
    rows: dict[int, dict[str, Any]] = {}
    for part in chunks(key for key in touched if isinstance(key, int)):
        query = select(platform_mapping).where(listing.id.in_(part))
        rows |= {row["id"]: dict(row) for row in connection.execute(query).mappings()}
    items: dict[str, set[str]] = defaultdict(set)
    for key in touched:
        if isinstance(key, tuple):
            items[key[0]].add(key[1])
    for channel, item_ids in items.items():
        for part_of_items in chunks(item_ids):
            query = select(platform_mapping).where(
                listing.platform_name == channel, listing.platform_item_id.in_(part_of_items)
            )
            rows |= {row["id"]: dict(row) for row in connection.execute(query).mappings() if _key(row) in touched}
    return [rows[number] for number in sorted(rows)]


def _key(row: Mapping[Any, Any]) -> ListingKey:
    return listing_key(row["platform_name"], *(row[name] for name in KEY_COLUMNS))


def _listing(row: Mapping[Any, Any], former: Mapping[str, Any]) -> Listing:
    was = dict(row) | dict(former)
    # What was in review before goes back there by itself, for the same reason.
    status = was["status"] if was["status"] in ("active", "paused", "excluded", "retired") else None
    return Listing(
        channel=was["platform_name"],
        sku=was["central_sku"],
        item_id=was["platform_item_id"],
        location_id=was["platform_location_id"],
        platform_sku=was["platform_sku"],
        variant_id=was["platform_variant_id"],
        status=status,
        **{name: was[name] for name in RULES},
    )


def _former(
    connection: Connection,
    actions: ColumnElement[bool],
    import_id: str,
    told: Callable[[_Action], Iterable[tuple[Key, dict[str, Any]]]],
) -> _Former:
    """Walk back through the record of changes, from the newest, and leave out what is taken back.

    So imports can be undone in any order: one that was undone earlier, and its undoing, are no change since, and what this
    one found where another was still in force is not what was before. Nor is a review that it led to a change since.
    """
    table = operator_actions.c
    undone = connection.execute(select(imports.c.id).where(imports.c.state == results.UNDONE)).scalars()
    own = _of_import(import_id)
    taken_back = {own, *(reason for one in undone for reason in (_of_import(one), _of_undo(one)))}
    first = select(func.min(table.id)).where(actions, table.reason.in_(taken_back)).scalar_subquery()
    query = select(table.action, table.reason, table.before, table.after).where(actions, table.id >= first)
    found = _Former()
    for action in connection.execute(query.order_by(table.id.desc()).execution_options(yield_per=100)):
        for key, values in told(action):
            led_to = action.action == "listings needs_review" and key not in found.touched
            if key in found.stays:
                found.kept += action.reason == own
            elif action.reason in taken_back or led_to:
                found.values[key] = found.values.get(key, {}) | values
                if action.reason == own:
                    found.touched.add(key)
            else:
                found.stays.add(key)
    return found


def _statuses_before(action: _Action) -> Iterator[tuple[Key, dict[str, Any]]]:
    for sku, status in action.before:
        yield sku, {"status": status}


def _listings_before(action: _Action) -> Iterator[tuple[Key, dict[str, Any]]]:
    for one in action.before:
        yield one["id"], one
    for one in action.after:
        if isinstance(one, list):
            channel, item_id, location_id, platform_sku, values = one
            variant_id = values.get("platform_variant_id", "")
            yield listing_key(channel, item_id, location_id, platform_sku, variant_id), _CAME


def _of_import(import_id: str) -> str:
    """The reason that an import gives to its actions."""
    return f"import {import_id}"


def _of_undo(import_id: str) -> str:
    return f"undo of import {import_id}"


def _cause(found: Undone) -> str:
    return _of_undo(found.import_id)
