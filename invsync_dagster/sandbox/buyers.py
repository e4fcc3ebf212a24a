"""The buyers of the stand-ins: what they put into a basket, and how long until the next one comes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from random import Random

# Few articles sell most: with a Pareto tail of 1.16 a fifth of them makes four fifths of the sales.
_TAIL = 1.16
_LINES = ((1, 70), (2, 20), (3, 10))
_UNITS = ((1, 85), (2, 10), (3, 4), (6, 1))


class Buyers:
    """Customers with their own randomness; an article is as much in demand in every shop and after every restart."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._demand: dict[str, float] = {}

    def basket(self, offers: Mapping[str, int]) -> dict[str, int]:
        """Choose units per article out of what is shown (`offers`: article to units); {} where all is sold out."""
        shown = [article for article, units in offers.items() if units > 0]
        if not shown:
            return {}
        wanted = self._random.choices(shown, [self._demand_of(article) for article in shown], k=self._one_of(_LINES))
        return {article: min(self._one_of(_UNITS), offers[article]) for article in dict.fromkeys(wanted)}

    def gap(self, per_minute: float) -> float:
        """Return the seconds until the next buyer, where `per_minute` come on average (above 0), each by themselves."""
        return self._random.expovariate(per_minute / 60)

    def _one_of(self, weighted: tuple[tuple[int, int], ...]) -> int:
        values, weights = zip(*weighted, strict=True)
        return int(self._random.choices(values, weights)[0])

    def _demand_of(self, article: str) -> float:
        if article not in self._demand:
            digest = hashlib.sha256(article.encode()).digest()
            share = (int.from_bytes(digest[:8], "big") + 1) / 2**64
            self._demand[article] = share ** (-1 / _TAIL)
        return self._demand[article]
