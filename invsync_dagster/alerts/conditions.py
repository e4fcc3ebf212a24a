"""What is wrong by the stock's own tables and the disk; each look costs as much as there are changes, never all levels."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, func, not_, select

from invsync_dagster.alerts.causes import Cause, Kind, Severity, help_page, reason
from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.clock import age_in_words
from invsync_dagster.inventory.clocks import clock_off
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.tables import CHANGES, channels, imports, inventory_levels, work_queue
from invsync_dagster.platforms.errors import Recovery, class_in

# A change that waits longer than this is worth a look; pushes retry failed rows at most an hour apart.
OLDEST_CHANGE = timedelta(minutes=15)

# A row that is refused so often in a row isn't refused by accident: its waits alone are some minutes by then.
REFUSALS = 4

# Below this the disk is about to be full, and nothing can be taken any more.
FREE_SHARE = 0.1


def stock_causes(
    connection: Connection, configuration: Configuration, now: datetime, secrets: Collection[str]
) -> tuple[Cause, ...]:
    """Return what is wrong with the channels in force (configured, active) and their levels, and what waits for a person."""
    usable = {channel.name: channel for channel in configuration.channels if not channel.disabled_reason}
    rows = {row.name: row for row in connection.execute(_CHANNELS) if row.name in usable}
    return (
        *(cause for name, row in rows.items() for cause in _channel_causes(usable[name], row, secrets)),
        *_clock_causes(rows),
        *_change_causes(connection, rows, now, secrets),
        *_held_causes(connection, rows, secrets),
        *_import_causes(connection, secrets),
    )


_CHANNELS = select(channels).where(channels.c.status == "active").order_by(channels.c.name)


def _channel_causes(channel: Channel, row: Row[Any], secrets: Collection[str]) -> Iterator[Cause]:
    name, page = channel.name, f"assets/push_results/{channel.name}"
    if row.stopped_reason:
        why = reason(row.stopped_reason, secrets)
        variables = " and ".join(channel.credential_variables())
        yield Cause(
            Kind.CREDENTIALS,
            name,
            Severity.ERROR,
            f"{channel.title} {'looks like another shop' if class_in(why) is Recovery.REVIEW else 'refuses us'}",
            f"{why}. Nothing is written to {name} until that is mended; each run asks once and goes on as soon as it is. "
            f"If the keys have changed, put the new ones into {variables} (in .env) and start Dagster again; else look at the "
            f"account there{_see(why)}.",
            page,
            name,
        )
    elif row.last_problem:
        why = reason(row.last_problem, secrets)
        silent = row.unreachable_since is not None
        yield Cause(
            Kind.PUSH_FAILED,
            name,
            Severity.ERROR,
            f"{channel.title} does not answer" if silent else f"{channel.title}: the push failed",
            f"{why}. What is left stays a change, and the next run attempts it anew; if it lasts, see whether the shop can be "
            f"reached at all{_see(why)}.",
            page,
            name,
        )


def _clock_causes(rows: dict[str, Row[Any]]) -> Iterator[Cause]:
    """A clock that is off is one cause, however many channels tell of it."""
    off = [row for row in rows.values() if row.clock_ahead]
    if off:
        yield Cause(
            Kind.CLOCK,
            "clock",
            Severity.ERROR,
            "A clock is off",
            f"{clock_off(off[0].name, off[0].clock_ahead)}. Channels that say so: {', '.join(row.name for row in off)}.",
            f"assets/push_results/{off[0].name}",
        )


def _change_causes(
    connection: Connection, rows: dict[str, Row[Any]], now: datetime, secrets: Collection[str]
) -> Iterator[Cause]:
    level = inventory_levels.c
    refused = level.failures >= REFUSALS
    late = level.out_of_step_since < now - OLDEST_CHANGE
    query = (
        select(
            work_queue.c.channel,
            func.count().filter(and_(late, not_(refused))),
            func.min(level.out_of_step_since).filter(and_(late, not_(refused))),
            func.count().filter(refused),
            func.max(level.last_error).filter(refused),
        )
        .select_from(CHANGES)
        .where(level.held_quantity.is_(None))
        .group_by(work_queue.c.channel)
        .order_by(work_queue.c.channel)
    )
    for name, waiting, since, refusals, words in connection.execute(query):
        if name not in rows or rows[name].push_approved_at is None:
            continue
        if now - rows[name].push_approved_at < OLDEST_CHANGE:
            waiting = 0  # they waited for a person, and are on their way now
        page = f"assets/push_results/{name}"
        if waiting:
            yield Cause(
                Kind.OLD_CHANGES,
                name,
                Severity.WARNING,
                f"{name}: old changes",
                f"{waiting} levels of {name} are out of step for longer than {age_in_words(OLDEST_CHANGE.total_seconds())}, "
                f"the oldest since {in_utc(since)}. The table `worst` of inventory_changes names "
                "them, and `invsync explain SKU` says why.",
                page,
                name,
            )
        if refusals:
            why = reason(words, secrets)
            yield Cause(
                Kind.REFUSED_ROWS,
                name,
                Severity.WARNING,
                f"{name} refuses listings",
                f"{refusals} levels of {name} failed {REFUSALS} times or more in a row; one of them: {why}. They are tried "
                f"again at most hourly; mend them there or in the mapping (`invsync explain SKU`){_see(why)}.",
                page,
                name,
            )


def _held_causes(connection: Connection, rows: dict[str, Row[Any]], secrets: Collection[str]) -> Iterator[Cause]:
    level = inventory_levels.c
    query = (
        select(level.channel, func.count(), func.max(level.held_reason))
        .where(level.held_quantity.is_not(None), level.held_dropped_at.is_(None))
        .group_by(level.channel)
        .order_by(level.channel)
    )
    for name, held, words in connection.execute(query):
        if name in rows:
            yield Cause(
                Kind.HELD_LISTINGS,
                name,
                Severity.WARNING,
                f"{name}: changes are held",
                f"The breaker holds {held} levels of {name}: {reason(words, secrets)}. They sell down from the number that they "
                f"had. Look at `invsync held list`, then `invsync held approve {name}` or take the change back.",
                "assets/inventory_changes?view=checks",
                name,
            )


def _import_causes(connection: Connection, secrets: Collection[str]) -> Iterator[Cause]:
    held: Sequence[Row[Any]] = connection.execute(
        select(imports).where(imports.c.state == "held").order_by(imports.c.created_at, imports.c.id)
    ).all()
    if held:
        first = held[0]
        others = f" {len(held) - 1} more wait besides." if len(held) > 1 else ""
        yield Cause(
            Kind.HELD_IMPORTS,
            "",
            Severity.WARNING,
            "An import is held",
            f"{first.kind} {reason(first.file_name, secrets)} is held since {in_utc(first.created_at)}: "
            f"{reason(first.reason, secrets)}.{others} Sales go on against the old stock. `invsync imports list --held` shows "
            f"it; approve or drop it (id {first.id}).",
            "assets/imports",
        )


def disk_cause(data: Path) -> tuple[Cause, ...]:
    """Return that the disk of the data folder is nearly full, if it is."""
    disk = shutil.disk_usage(data)
    if disk.free >= FREE_SHARE * disk.total:
        return ()
    cause = Cause(
        Kind.DISK,
        "data",
        Severity.ERROR,
        "The disk is nearly full",
        f"{disk.free / 1e9:.1f} GB of {disk.total / 1e9:.0f} GB are free where invsync keeps its data. Once it is full, webhooks "
        "are refused (503) and nothing is applied. Make room, or shorten `retention` in channels.yaml.",
        "assets/housekeeping",
    )
    return (cause,)


def _see(why: str) -> str:
    page = help_page(why)
    return f" ({page})" if page else ""
