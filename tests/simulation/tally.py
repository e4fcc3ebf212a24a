"""What happened in a simulated world."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """What happened, so that a test can assert that enough did."""

    orders: int = 0
    refused_orders: int = 0
    cancels: int = 0
    shipments: int = 0
    refunds: int = 0
    edits: int = 0
    erp_events: int = 0
    webhooks_lost: int = 0
    webhooks_doubled: int = 0
    webhooks_late: int = 0
    deaths: int = 0
    restores: int = 0
    side_by_side: int = 0
    writes: int = 0
    cycles: int = 0
    violations: list[str] = field(default_factory=list)
