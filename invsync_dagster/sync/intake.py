"""From the inbox to the ledger: parse verified deliveries, apply them in one transaction, and then move their segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, insert, select

from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.bulk import collector_paused
from invsync_dagster.inventory.database import NOT_STORABLE, write_transaction
from invsync_dagster.inventory.hearing import note_deliveries
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.tables import deliveries as receipts
from invsync_dagster.sync.bulk import ask_now
from invsync_dagster.sync.understanding import Doors
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.seals import Seals
from invsync_dagster.webhooks.segments import Delivery

# Segments of one listing, which costs as much as the folder is long: 100,000 waiting ones are listed five times.
SEGMENTS_LISTED = 20_000

# One transaction applies at most so many deliveries: they take half a second, in which no push can claim; a burst beyond it
# becomes several transactions of one run.
DELIVERIES_AT_ONCE = 5_000
# And so many once a full one hasn't emptied the inbox: a level is recomputed once a transaction however often its SKU sold in
# it, so that a backlog costs a fifth less (docs/decisions/0034). A push waits 2 s for one, as long as reading the next takes.
BACKLOG_AT_ONCE = 20_000
# And at most so much of their bodies: a thousand of the largest would be a gigabyte.
BYTES_AT_ONCE = 64 * 1024 * 1024


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


class Batch(list[Delivery]):
    """What one transaction applies: at most so many deliveries, and `BYTES_AT_ONCE` of bodies."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.size_bytes = 0

    def take(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.append(delivery)
            self.size_bytes += len(delivery.body)

    @property
    def is_full(self) -> bool:
        return len(self) >= self._most or self.size_bytes >= BYTES_AT_ONCE


def apply_inbox(ws: Workspace, *, run_id: str) -> IntakeReport:
    """Apply every waiting delivery exactly once, in the order received, and move its segment to done.

    A crash between the transaction and the move costs nothing: the receipts in the database make the second run a no-op.
    What can't be understood is copied to quarantine with the reason, and the rest goes on; a file that can't be read, or isn't
    called like a segment, stays where it is, and its reason is in the report. Raises `InboxKeyError`.
    """
    report = IntakeReport()
    began = ws.clock.now()
    inbox = Inbox(ws.home.inbox, Seals.from_environment(ws.environ))
    left = dict[Path, str]()
    most = DELIVERIES_AT_ONCE
    while listed := [path for path in inbox.segments(SEGMENTS_LISTED + len(left)) if path not in left]:
        batch, read = Batch(most), list[Path]()
        with collector_paused():
            for path in listed:
                try:
                    batch.take(inbox.read(path))
                except (OSError, ValueError) as error:
                    left[path] = f"{path.name} stays in the inbox: it can't be read ({type(error).__name__})"
                    continue
                read.append(path)
                if batch.is_full:
                    _apply_segments(ws, inbox, batch, read, report, run_id)
                    most = BACKLOG_AT_ONCE
                    batch, read = Batch(most), []
            _apply_segments(ws, inbox, batch, read, report, run_id)
    left |= {path: f"{path.name} stays in the inbox: no segment is called so; move it away" for path in inbox.strays}
    report.quarantined += len(inbox.damaged) + len(left)
    report.reasons += [*(item.reason for item in inbox.damaged), *left.values()]
    report.seconds = (ws.clock.now() - began).total_seconds()
    return report


def _apply_segments(
    ws: Workspace, inbox: Inbox, batch: Sequence[Delivery], read: Iterable[Path], report: IntakeReport, run_id: str
) -> None:
    inbox.quarantine.keep_all(apply_deliveries(ws, batch, report, run_id=run_id))
    for path in read:
        inbox.finish(path)
        report.segments += 1


def apply_deliveries(
    ws: Workspace, batch: Sequence[Delivery], report: IntakeReport, *, run_id: str, again: bool = False
) -> list[tuple[Delivery, str]]:
    """Apply deliveries in one transaction, receipts included; return those for quarantine with their reasons.

    Where one of them can't be stored, the others are applied in several transactions. `again`: see `ledger.apply`.
    """
    understood, refused = Doors(ws).understand(batch)
    refused += _apply(ws, understood, report, run_id, again)
    now = ws.clock.now()
    if refused:
        with write_transaction(ws.engine) as connection:
            note_deliveries(connection, ((delivery.channel, delivery.received_at) for delivery, _ in refused))
            _enter_refused(connection, refused, now, run_id)
    report.deliveries += len(batch)
    report.quarantined += len(refused)
    report.reasons.extend(reason for _, reason in refused)
    if understood:
        oldest = min(inbound.received_at for _, inbound in understood)
        report.oldest_seconds = max(report.oldest_seconds, (now - oldest).total_seconds())
    return refused


def _apply(
    ws: Workspace, understood: Sequence[tuple[Delivery, Inbound]], report: IntakeReport, run_id: str, again: bool
) -> list[tuple[Delivery, str]]:
    """Apply deliveries together; where a value of one can't be stored, each half alone, so that it stops no other."""
    if not understood:
        return []
    try:
        with write_transaction(ws.engine) as connection:
            batch, now = [inbound for _, inbound in understood], ws.clock.now()
            applied = ledger.apply(connection, batch, now=now, run_id=run_id, again=again)
            note_deliveries(connection, ((inbound.channel, inbound.received_at) for inbound in batch))
            for inbound in batch:
                if inbound.content.finished:
                    ask_now(connection, inbound.channel, inbound.content.finished, now)
    except NOT_STORABLE as error:
        if len(understood) == 1:
            # The error's own text may hold the whole delivery.
            return [(understood[0][0], f"it holds a value that can't be stored ({type(error).__name__})")]
        half = len(understood) // 2
        halves = (understood[:half], understood[half:])
        return [one for part in halves for one in _apply(ws, part, report, run_id, again)]
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
