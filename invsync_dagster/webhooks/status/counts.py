"""What only the receiver knows: how many deliveries it answered how, what it refused and why, and how long answers took."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

# Of the seconds that taken deliveries waited for their answer, the latest: some seconds of a flood, a day of a quiet shop.
KEPT = 1_000


@dataclass
class Counts:
    """Since the receiver started: answers by channel and status, refusals by channel and reason. Channels are those of the
    file and one name for all others, and reasons are ours, so that both stay few."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds_of_taken: float = 0.0
    _latest: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def answered(self, channel: str, status: int, seconds: float) -> None:
        """Count an answer; `seconds` are those since the whole head was there."""
        self.answers[channel, status] += 1
        if status < 300:
            self.seconds_of_taken += seconds
            self._latest.append(seconds)

    @property
    def taken(self) -> int:
        """How many deliveries were taken."""
        # The status is made beside the loop, which counts on: of a list, as a first answer of its kind may come meanwhile.
        return sum(number for (_, status), number in list(self.answers.items()) if status < 300)

    def quantiles(self, shares: Sequence[float]) -> list[float] | None:
        """Return the seconds within which these shares of the latest `KEPT` taken deliveries were answered; None without
        any."""
        latest = sorted(self._latest)
        return [latest[math.ceil(share * len(latest)) - 1] for share in shares] if latest else None
