"""The kept deliveries of a time, applied again: harmless, for totals say what is booked, and the mend of what was lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from invsync_dagster.sync import intake
from invsync_dagster.sync.intake import Batch, IntakeReport, apply_deliveries
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.seals import Seals
from invsync_dagster.webhooks.segments import Damaged, Delivery


def replay(ws: Workspace, since: datetime, until: datetime, *, channel: str = "", run_id: str) -> IntakeReport:
    """Apply the kept deliveries received from `since` to before `until` again, of one channel or of all.

    What they say is booked already, so that this changes nothing; it mends what a restored database has lost, what a
    mapping or a mended parser understands only now, and what was sealed with a key that is back. A delivery that is applied
    now leaves the quarantine, a sealed segment once all that is in it is applied; what still can't be has its reason in the
    report. Raises `InboxKeyError`.
    """
    report = IntakeReport()
    began = ws.clock.now()
    seals = Seals.from_environment(ws.environ)
    quarantine = Inbox(ws.home.inbox, seals).quarantine
    kept = Kept(ws.home.inbox, seals)
    waiting = set(quarantine.files())
    unsealed = defaultdict[str, set[str]](set)

    def apply(batch: Sequence[Delivery]) -> None:
        refused = {
            delivery.receipt_id for delivery, _ in apply_deliveries(ws, batch, report, run_id=run_id, again=True)
        }
        for delivery in batch if waiting else ():
            receipt = delivery.receipt_id
            segment = receipt.rpartition(":")[0]
            if receipt not in refused:
                if (path := quarantine.path_of(receipt)) in waiting:
                    path.unlink(missing_ok=True)
                if quarantine.path_of(f"{segment}:sealed") in waiting:
                    unsealed[segment].add(receipt)

    for batch, damaged in kept_batches(kept.between(since, until, channel)):
        report.quarantined += len(damaged)
        report.reasons += [f"{item.receipt_id}: {item.reason}" for item in damaged]
        apply(batch)
    for segment, applied in unsealed.items():
        if kept.receipts(segment) <= applied:
            quarantine.path_of(f"{segment}:sealed").unlink(missing_ok=True)
    report.seconds = (ws.clock.now() - began).total_seconds()
    return report


def kept_batches(kept: Iterable[Delivery | Damaged]) -> Iterator[tuple[Batch, list[Damaged]]]:
    """Yield kept deliveries in batches as large as a transaction's, each with the damaged lines met on the way."""
    batch, damaged = Batch(intake.DELIVERIES_AT_ONCE), list[Damaged]()
    for item in kept:
        if isinstance(item, Damaged):
            damaged.append(item)
            continue
        batch.take([item])
        if batch.is_full:
            yield batch, damaged
            batch, damaged = Batch(intake.DELIVERIES_AT_ONCE), []
    yield batch, damaged
