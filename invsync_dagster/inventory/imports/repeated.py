"""A file whose content came before: known already, read anew as it is declared now, or waiting for a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, exists, func, select

from invsync_dagster.inventory.imports import results
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.parsing import Parsed, commonest
from invsync_dagster.inventory.imports.reading import INVENTORY
from invsync_dagster.inventory.imports.results import ImportResult
from invsync_dagster.inventory.tables import imports, stock_counts


def dated_as_before(connection: Connection, declaration: Declaration, sha256: str) -> Declaration:
    """Fill in the as-of time that the same content had before, where none is declared: a copy of a file is no later count."""
    before = _before(connection, sha256)
    if before is None or declaration.as_of is not None:
        return declaration
    return replace(declaration, as_of=_declared(before).as_of)


def answer(connection: Connection, parsed: Parsed, sha256: str) -> ImportResult | None:
    """The answer for a file that is held already, or that is an inventory file in force, read in the same way.

    None: it is to go in. A mapping always is: channels and SKUs that it names may have come since. Of a file that is held as
    it was declared before the answer is that it is rejected: an approval would apply that, not what is declared now. So is one
    declared as of an earlier time: its own count is newer, and nothing would come of it.
    """
    before = _before(connection, sha256)
    if before is None or parsed.kind != INVENTORY:
        return None
    then, now = before.summary.get("read_as", {}), parsed.read_as
    was, is_now = _declared(before).as_of, parsed.declaration.as_of
    if before.state == results.HELD:
        differs = _differences(then | {"as_of": str(was)}, now | {"as_of": str(is_now)})
        if not differs:
            return ImportResult(before.id, results.HELD, f"it is held already, approve or drop it: {before.reason}")
        return ImportResult(
            before.id,
            results.REJECTED,
            f"{parsed.file} is held as import {before.id}, read in another way: {differs} - drop that one first "
            f"(`invsync imports drop {before.id} --reason …`), then give the file again",
        )
    if is_now is not None and was is not None and is_now < was:
        return ImportResult(
            before.id,
            results.REJECTED,
            f"{parsed.file} went in as import {before.id}, as of {was.isoformat()}, and is declared as of {is_now.isoformat()} "
            f"now - take that one back first (`invsync imports undo {before.id} --reason …`), then give the file again",
        )
    if then != now or (is_now is not None and was is not None and is_now > was):
        return None
    reason = f"already imported at {before.created_at:%Y-%m-%d %H:%M:%S} UTC"
    if parsed.rejections:
        reason += f", without the rows that can't go in now either: {commonest(parsed)}"
    else:
        reason += "; to count the same numbers anew, declare a later as_of"
    return ImportResult(before.id, results.ALREADY, reason)


def earlier(connection: Connection, sha256: str, import_id: str) -> frozenset[str]:
    """The imports that applied the same content before `import_id`, however it was read."""
    mine = (imports.c.sha256 == sha256) & (imports.c.kind == INVENTORY) & (imports.c.state == results.APPLIED)
    return frozenset(connection.execute(select(imports.c.id).where(mine, imports.c.id != import_id)).scalars())


def _before(connection: Connection, sha256: str) -> Row[Any] | None:
    """The import of the same content that is held, else the last one of it that was applied, if no other file came over it."""
    held = select(imports).where(imports.c.sha256 == sha256, imports.c.state == results.HELD)
    row = connection.execute(held).first()
    if row is not None:
        return row
    entered = func.coalesce(imports.c.decided_at, imports.c.created_at)
    applied = (imports.c.kind == INVENTORY) & (imports.c.state == results.APPLIED)
    query = select(imports).where(applied).order_by(entered.desc(), imports.c.id.desc()).limit(1)
    last = connection.execute(query).first()
    row = connection.execute(query.where(imports.c.sha256 == sha256)).first()
    if row is None or last is None or row.id == last.id:
        return row
    return row if _in_force(connection, row.id) else None


def _in_force(connection: Connection, import_id: str) -> bool:
    """Whether an import counted something of which no other file has counted any SKU since: lists of other SKUs take turns."""
    mine, theirs = stock_counts.alias(), stock_counts.alias()
    files = select(imports.c.id).where(imports.c.kind == INVENTORY, imports.c.state == results.APPLIED)
    newer = exists().where(
        theirs.c.sku == mine.c.sku, theirs.c.id > mine.c.id, theirs.c.source != import_id, theirs.c.source.in_(files)
    )
    of_it = exists().where(mine.c.source == import_id)
    return bool(connection.execute(select(of_it & ~of_it.where(newer))).scalar())


def _declared(row: Row[Any]) -> Declaration:
    return Declaration.from_dict(row.summary["declaration"])


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key.replace('_', ' ')} {_in_words(then.get(key))}, now {_in_words(now.get(key))}"
        for key in {**then, **now}
        if then.get(key) != now.get(key)
    )


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{ours}: {theirs}" for ours, theirs in value.items()]
    return str(", ".join(value) if isinstance(value, list) else value) or "none"
