"""Applies what channels tell us, in batches and exactly once: receipts, order documents, counts, one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection, select

from invsync_dagster.events import Content
from invsync_dagster.inventory import counts, lines
from invsync_dagster.inventory.book import Book
from invsync_dagster.inventory.bulk import among, as_parameter, collector_paused, upsert_rows
from invsync_dagster.inventory.counts import DEFAULT_LIMITS
from invsync_dagster.inventory.orders import Document, Totals, Verdict, judge
from invsync_dagster.inventory.removed_lines import Whole, with_removed
from invsync_dagster.inventory.tables import deliveries, unclear_orders
from invsync_dagster.settings import ImportLimits


class Inbound(NamedTuple):
    """What one delivery or one page of a poll said.

    `receipt_id` ("" for a poll) makes a delivery apply once. `source` "order": whole orders that were asked for; "cut_over":
    orders that were open when the channel joined, which count although they are from before.
    """

    channel: str
    content: Content
    received_at: datetime
    receipt_id: str = ""
    topic: str = ""
    source: Literal["webhook", "poll", "order", "cut_over"] = "webhook"


@dataclass
class Applied:
    """What a batch did.

    `duplicates` are deliveries that had been applied before, `unchanged` and `older` documents of lines that say nothing
    new, `unresolved` lines and counts that fit no listing, `ignored` lines and counts without effect, `held` counts that
    wait for a person, `unclear` orders to be asked for, `quarantined` reasons by the receipts of deliveries that fit no
    listing.
    """

    entries: int = 0
    skus: int = 0
    documents: int = 0
    counts: int = 0
    duplicates: int = 0
    unchanged: int = 0
    older: int = 0
    unresolved: int = 0
    ignored: int = 0
    held: int = 0
    unclear: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)


def apply(
    connection: Connection,
    batch: Sequence[Inbound],
    *,
    now: datetime,
    run_id: str,
    limits: ImportLimits = DEFAULT_LIMITS,
    again: bool = False,
) -> Applied:
    """Apply a batch in the caller's `write_transaction`: ledger, balances, order totals, desired quantities, receipts.

    A delivery whose receipt was applied or held before is skipped; a quarantined one is applied now. Documents are
    applied before counts, whatever their order. Counts of one channel beyond `limits` are held, and the rest goes on.
    `again`: what was applied before isn't skipped, for it may book what a mended parser or mapping sees only now; totals,
    revisions and counts' times keep it from booking anything twice, and its receipt stays as it is.
    """
    with collector_paused():
        return _apply(connection, batch, now, run_id, limits, again)


def _apply(
    connection: Connection, batch: Sequence[Inbound], now: datetime, run_id: str, limits: ImportLimits, again: bool
) -> Applied:
    applied = Applied()
    fresh, entered = _fresh(connection, batch, again)
    applied.duplicates = len(batch) - len(fresh)
    facts = lines.channel_facts(connection, {inbound.channel for inbound in fresh})
    book = Book(connection, now=now, run_id=run_id)
    unclear: set[tuple[str, str]] = set()

    documents = with_removed(connection, _fold(fresh, unclear, applied), _wholes(fresh), unclear)
    booked = lines.book_documents(book, documents, facts, unclear)
    applied.unchanged += booked.unchanged
    applied.older += booked.older
    applied.unresolved += booked.unresolved
    applied.ignored += booked.ignored
    book.flush()

    troubles: dict[str, tuple[str, str]] = {}  # by receipt: state and reason
    for channel in sorted({inbound.channel for inbound in fresh if inbound.content.counts}):
        if facts[channel].rehearses:
            applied.ignored += sum(len(inbound.content.counts) for inbound in fresh if inbound.channel == channel)
            continue
        outcome = counts.apply_channel(
            book,
            counts.CountSource(channel, facts[channel].contains, facts[channel].lag_seconds),
            [
                counts.Stated(count, inbound.received_at, inbound.receipt_id)
                for inbound in fresh
                if inbound.channel == channel
                for count in inbound.content.counts
            ],
            limits,
        )
        applied.counts += outcome.applied
        applied.older += outcome.older
        applied.held += outcome.held
        applied.unresolved += len(outcome.unresolved)
        troubles |= outcome.troubles
    book.close()

    applied.quarantined = {receipt: reason for receipt, (state, reason) in troubles.items() if state == "quarantined"}
    _enter_unclear(connection, unclear, fresh, now)
    applied.unclear = len(unclear)
    _enter_receipts(connection, [one for one in fresh if one.receipt_id not in entered], troubles, now, run_id)
    applied.entries, applied.skus = book.entries, len(book.touched)
    return applied


_DONE_RECEIPTS = select(deliveries.c.receipt_id, deliveries.c.state).where(
    among(deliveries.c.receipt_id, "receipts"), deliveries.c.state != "quarantined"
)


def _fresh(connection: Connection, batch: Sequence[Inbound], again: bool) -> tuple[list[Inbound], set[str]]:
    """Return what is to be applied, each receipt once, and which of it was applied before.

    What was applied before is left out unless it is applied `again`; what is held waits for a person either way.
    """
    receipts = {inbound.receipt_id for inbound in batch if inbound.receipt_id}
    known = connection.execute(_DONE_RECEIPTS, {"receipts": as_parameter(receipts)}).all()
    entered = {receipt for receipt, state in known if again and state == "applied"}
    done = {receipt for receipt, _ in known} - entered
    fresh = []
    for inbound in batch:
        if inbound.receipt_id:
            if inbound.receipt_id in done:
                continue
            done.add(inbound.receipt_id)
        fresh.append(inbound)
    return fresh, entered


def _fold(batch: Sequence[Inbound], unclear: set[tuple[str, str]], applied: Applied) -> dict[lines.Key, Document]:
    """Return the newest document of each line in the batch."""
    newest: dict[lines.Key, Document] = {}
    for inbound in batch:
        channel, asked = inbound.channel, inbound.source in ("order", "cut_over")
        reference = inbound.receipt_id or inbound.source
        unclear.update((channel, order_id) for order_id in inbound.content.unclear_orders)
        applied.documents += len(inbound.content.documents)
        for order in inbound.content.documents:
            for line in order.lines:
                totals = Totals(
                    line.ordered,
                    line.cancelled,
                    line.shipped if line.shipments else 0,
                    line.restocked if line.restocks else 0,
                    line.written_off if line.write_offs else 0,
                )
                key = (channel, order.order_id, line.line_id)
                before = newest.get(key)
                if before is not None:
                    verdict = judge(
                        order.revision,
                        totals,
                        asked,
                        before.revision,
                        before.totals,
                        may_stay=order.revision_may_stay,
                    )
                    if verdict.is_to_be_asked:
                        unclear.add((channel, order.order_id))
                    if not verdict.holds:
                        applied.older += verdict is Verdict.OLDER
                        applied.unchanged += verdict is Verdict.SAME
                        continue
                newest[key] = Document(
                    order.revision,
                    asked,
                    totals,
                    line,
                    order.created_at,
                    order.updated_at,
                    inbound.received_at,
                    reference,
                    inbound.source == "cut_over",
                    order.revision_may_stay,
                )
    return newest


def _wholes(batch: Sequence[Inbound]) -> list[Whole]:
    """Return the documents of the batch that name every line of their order."""
    return [
        Whole(
            inbound.channel,
            order,
            inbound.source in ("order", "cut_over"),
            inbound.received_at,
            inbound.receipt_id or inbound.source,
        )
        for inbound in batch
        for order in inbound.content.documents
        if order.whole
    ]


def _enter_unclear(
    connection: Connection, unclear: set[tuple[str, str]], batch: Sequence[Inbound], now: datetime
) -> None:
    told = {(inbound.channel, order_id) for inbound in batch for order_id in inbound.content.unclear_orders}
    rows = [
        (
            channel,
            order_id,
            "a webhook named it without its whole document"
            if (channel, order_id) in told
            else "two documents of one revision contradict each other",
            now,
        )
        for channel, order_id in sorted(unclear)
    ]
    upsert_rows(connection, unclear_orders, ("channel", "order_id"), tuple(unclear_orders.c), rows)


def _enter_receipts(
    connection: Connection,
    batch: Sequence[Inbound],
    troubles: dict[str, tuple[str, str]],
    now: datetime,
    run_id: str,
) -> None:
    rows = {}
    for inbound in batch:
        if receipt := inbound.receipt_id:
            state, reason = troubles.get(receipt, ("applied", ""))
            rows[receipt] = (receipt, inbound.channel, inbound.topic, inbound.received_at, now, state, reason, run_id)
    upsert_rows(
        connection, deliveries, ("receipt_id",), tuple(deliveries.c), [rows[receipt] for receipt in sorted(rows)]
    )
