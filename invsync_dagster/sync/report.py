"""What a push says of itself: counts, times and failed rows, ready for metadata, the terminal and reports."""

from __future__ import annotations

from dataclasses import dataclass, field

# The time of a push that goes on with what another left. Between two such pushes some 4 s pass; where a platform's bucket is
# small (Alibaba.com: a second's calls), they would take a sixth of the rate from pushes of 20 s, and take 3 % from these.
BACKLOG_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class RowFailure:
    """One level that could not be brought in step, in the platform's words."""

    sku: str
    item_id: str
    location_id: str
    quantity: int | None
    code: str
    message: str


@dataclass
class PushReport:
    """One channel's push. Counts are levels, times are seconds; `problem` is "" unless the channel as a whole failed.

    `stopped`: the platform refuses us altogether (credentials, a frozen shop), so each push first asks whether it still does.
    `clock_ahead`: seconds that the host's clock is ahead of ours, 0 where that doesn't matter.
    `left` is what is still out of step at the end and due now; `waiting` is due later (after a failure or a linger time).
    """

    channel: str
    pushed: int = 0
    acknowledged: int = 0
    accepted: int = 0
    rejected: int = 0
    not_sent: int = 0
    unknown: int = 0
    read: int = 0
    settled: int = 0
    review: int = 0
    left: int = 0
    waiting: int = 0
    orders: int = 0
    api_calls: int = 0
    wait_seconds: float = 0.0
    seconds: float = 0.0
    problem: str = ""
    stopped: bool = False
    clock_ahead: float = 0.0
    approval_missing: bool = False
    latencies: list[float] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Whether another push at once would bring more in step: this one did, and its time ended before the work.

        Not so where nothing was taken: the platform, or a person, is to be waited for. A problem beside it, as an order that
        can't be asked for, is no reason: the next push ends with nothing taken if it is one.
        """
        moved = self.acknowledged + self.accepted + self.settled
        return self.left > 0 and moved > 0 and not self.approval_missing

    def latency(self, share: float) -> float | None:
        """Return the latency, change to acknowledgement, below which `share` of this push's rows lie (0.5: the median)."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
