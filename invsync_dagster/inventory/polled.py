"""What polls have told of order lines: the totals as stated, kept beside what was booked, for the audit to hold both together.

A webhook's delivery is kept raw; the answer to a poll isn't, since it repeats the same orders every few minutes. So of each
answer stays what changed a line: its totals and revision, as its platform stated them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, or_, select

from invsync_dagster.inventory.bulk import CHUNK, upsert_rows
from invsync_dagster.inventory.orders import Document, Line, judge
from invsync_dagster.inventory.tables import polled_lines

# What the ledger's entries name as their reference where no delivery brought them (`ledger.Inbound.source`).
SOURCES = frozenset({"poll", "order", "cut_over"})

_COLUMNS = tuple(polled_lines.c)


def keep_polled(
    connection: Connection,
    documents: Mapping[tuple[str, str, str], Document],
    stored: Mapping[tuple[str, str, str], Line],
) -> None:
    """Keep, of the documents that polls brought, what is new against the lines that are `stored`."""
    rows = [
        (
            document.received_at,
            *key,
            document.reference,
            document.revision,
            *document.totals,
            document.revision_may_stay,
        )
        for key, document in documents.items()
        if document.reference in SOURCES and _is_news(document, stored.get(key))
    ]
    upsert_rows(connection, polled_lines, ("told_at", "channel", "order_id", "line_id"), _COLUMNS, rows)


def _is_news(document: Document, line: Line | None) -> bool:
    if line is None:
        return True
    known = (line.revision, line.totals)
    verdict = judge(document.revision, document.totals, document.asked, *known, may_stay=document.revision_may_stay)
    return verdict.holds


def polled_between(
    connection: Connection, since: datetime, until: datetime, channel: str
) -> Iterator[Sequence[Row[Any]]]:
    """Yield what was told from `since` to before `until` by one channel or ("") by all, in the order of time, in parts."""
    asked = {"since": since, "until": until, "of_channel": channel}
    yield from connection.execute(_BETWEEN, asked).partitions()


_TOLD = polled_lines.c
_BETWEEN = (
    select(polled_lines)
    .where(
        _TOLD.told_at >= bindparam("since", type_=_TOLD.told_at.type),
        _TOLD.told_at < bindparam("until", type_=_TOLD.told_at.type),
        or_(bindparam("of_channel") == "", _TOLD.channel == bindparam("of_channel")),
    )
    .order_by(_TOLD.told_at, _TOLD.channel, _TOLD.order_id, _TOLD.line_id)
    .execution_options(yield_per=CHUNK)
)
