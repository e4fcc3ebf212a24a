"""From the inbox to the ledger: parse verified deliveries, apply them in one transaction, and then move their segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, insert, select

from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import NOT_STORABLE, write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.tables import deliveries as receipts
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.sync.bulk import ask_now
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.segments import Delivery

# Segments read at once; a folder of many is listed in slices (MEASURED 5: a listing is O(n)).
SEGMENTS_AT_ONCE = 200

# One transaction applies at most so many deliveries: 20,000 order events take about a second, in which no push can
# claim; a burst beyond it becomes several transactions of one run.
DELIVERIES_AT_ONCE = 5_000


@dataclass
class IntakeReport:
    """What one intake did. `oldest_seconds` is the age of the oldest delivery when it was applied."""

    segments: int = 0
    deliveries: int = 0
    entries: int = 0
    duplicates: int = 0
    quarantined: int = 0
    unresolved: int = 0
    ignored: int = 0
    held: int = 0
    skus: int = 0
    oldest_seconds: float = 0.0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)


def apply_inbox(ws: Workspace, *, run_id: str) -> IntakeReport:
    """Apply every waiting delivery exactly once, in the order received, and move its segment to done.

    A crash between the transaction and the move costs nothing: the receipts in the database make the second run a no-op.
    What can't be understood is copied to quarantine with the reason, and the rest goes on.
    """
    report = IntakeReport()
    began = ws.clock.now()
    inbox = Inbox(ws.home.inbox)
    while True:
        batch: list[Delivery] = []
        read: list[Path] = []
        for path in inbox.segments(SEGMENTS_AT_ONCE):
            batch.extend(inbox.read(path))
            read.append(path)
            if len(batch) >= DELIVERIES_AT_ONCE:
                break
        if not read:
            break
        for delivery, reason in apply_deliveries(ws, batch, report, run_id=run_id):
            inbox.quarantine(delivery, reason)
        for path in read:
            inbox.finish(path)
        report.segments += len(read)
    report.seconds = (ws.clock.now() - began).total_seconds()
    return report


def apply_deliveries(
    ws: Workspace, batch: Sequence[Delivery], report: IntakeReport, *, run_id: str
) -> list[tuple[Delivery, str]]:
    """Apply deliveries in one transaction, receipts included; return those for quarantine with their reasons.

    Where one of them can't be stored, the others are applied in several transactions.
    """
    doors: dict[str, WebhookDoor] = {}
    understood: list[tuple[Delivery, Inbound]] = []
    refused: list[tuple[Delivery, str]] = []
    for delivery in batch:
        try:
            if delivery.channel not in doors:
                channel = ws.channel(delivery.channel)
                if channel.disabled_reason:
                    refused.append(
                        (delivery, f"the channel is disabled; replay once mended: {channel.disabled_reason}")
                    )
                    continue
                doors[delivery.channel] = ws.door(channel)
            content = doors[delivery.channel].parse(delivery.headers, delivery.body)
        except NotUnderstoodError as error:
            refused.append((delivery, str(error)))
            continue
        except KeyError as error:  # the channel, or a secret of it, is gone since the delivery was taken
            refused.append((delivery, f"channel {delivery.channel!r} can't be read: {error.args[0]}"))
            continue
        inbound = Inbound(
            channel=delivery.channel,
            content=content,
            received_at=delivery.received_at,
            receipt_id=delivery.receipt_id,
            topic=delivery.topic,
            source="webhook",
        )
        understood.append((delivery, inbound))
    refused += _apply(ws, understood, report, run_id)
    now = ws.clock.now()
    if refused:
        with write_transaction(ws.engine) as connection:
            _enter_refused(connection, refused, now, run_id)
    report.deliveries += len(batch)
    report.quarantined += len(refused)
    report.reasons.extend(reason for _, reason in refused)
    if understood:
        oldest = min(inbound.received_at for _, inbound in understood)
        report.oldest_seconds = max(report.oldest_seconds, (now - oldest).total_seconds())
    return refused


def _apply(
    ws: Workspace, understood: Sequence[tuple[Delivery, Inbound]], report: IntakeReport, run_id: str
) -> list[tuple[Delivery, str]]:
    """Apply deliveries together; where a value of one can't be stored, each half alone, so that it stops no other."""
    if not understood:
        return []
    try:
        with write_transaction(ws.engine) as connection:
            batch = [inbound for _, inbound in understood]
            applied = ledger.apply(connection, batch, now=ws.clock.now(), run_id=run_id)
            for inbound in batch:
                ask_now(connection, inbound.channel, inbound.content.finished, ws.clock.now())
    except NOT_STORABLE as error:
        if len(understood) == 1:
            # The error's own text may hold the whole delivery.
            return [(understood[0][0], f"it holds a value that can't be stored ({type(error).__name__})")]
        half = len(understood) // 2
        return _apply(ws, understood[:half], report, run_id) + _apply(ws, understood[half:], report, run_id)
    report.entries += applied.entries
    report.duplicates += applied.duplicates
    report.unresolved += applied.unresolved
    report.ignored += applied.ignored
    report.held += applied.held
    report.skus += applied.skus
    reasons = applied.quarantined
    return [(each, reasons[each.receipt_id]) for each, _ in understood if each.receipt_id in reasons]


def _enter_refused(connection: Connection, refused: Sequence[tuple[Delivery, str]], now: datetime, run_id: str) -> None:
    ids = [delivery.receipt_id for delivery, _ in refused]
    known = set(connection.execute(select(receipts.c.receipt_id).where(receipts.c.receipt_id.in_(ids))).scalars())
    rows = [
        {
            "receipt_id": delivery.receipt_id,
            "channel": delivery.channel,
            "topic": delivery.topic,
            "received_at": delivery.received_at,
            "applied_at": now,
            "state": "quarantined",
            "reason": reason,
            "run_id": run_id,
        }
        for delivery, reason in refused
        if delivery.receipt_id not in known
    ]
    if rows:
        connection.execute(insert(receipts), rows)
