"""The world's own arithmetic: what every channel must show, from the stand-ins' books alone, never from ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShopRules:
    """The rules of one channel, applied by a second hand: not by the code under test."""

    buffer: int = 0
    percent: int = 100
    minimum: int = 0
    maximum: int | None = None

    def shows(self, available: int) -> int:
        left = max(0, available)
        left = max(0, left - self.buffer)
        left = left * self.percent // 100
        if self.maximum is not None and left > self.maximum:
            left = self.maximum
        return 0 if left < self.minimum else left
