"""The audit from the outside: every kept delivery is read again and held against the books; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from invsync_dagster.inventory.polled import polled_between
from invsync_dagster.inventory.proof import Proof, Proven
from invsync_dagster.sync.replay import kept_batches
from invsync_dagster.sync.understanding import Doors
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.seals import Seals


@dataclass
class ProofReport:
    """What was proven; `unread` deliveries are damaged, sealed with a key that isn't here, or not understood: what they say
    isn't in the books either, and the quarantine has them with their reasons."""

    proven: Proven = field(default_factory=Proven)
    unread: int = 0


def prove_orders(ws: Workspace, since: datetime, until: datetime, *, channel: str = "") -> ProofReport:
    """Hold the order documents of the kept deliveries received from `since` to before `until` against the books.

    What polls told of orders in that time is held against them as well. What is no longer kept can't prove anything. Raises
    `InboxKeyError`.
    """
    report, proof, doors = ProofReport(), Proof(), Doors(ws)

    kept = Kept(ws.home.inbox, Seals.from_environment(ws.environ))
    for batch, damaged in kept_batches(kept.between(since, until, channel)):
        understood, refused = doors.understand(batch)
        report.unread += len(refused) + len(damaged)
        with ws.engine.connect() as connection:
            proof.take(connection, [inbound for _, inbound in understood])
    with ws.engine.connect() as connection:
        for rows in polled_between(connection, since, until, channel):
            proof.take_polled(connection, rows)
        report.proven = proof.result(connection, since, until, channel)
    return report
