"""The rules that turn what is available into what a level should show: one definition in Python, the same in SQL."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

from sqlalchemy import BigInteger, ColumnElement, and_, case, false, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

# Stands for "no maximum" in SQL, far above any stock and far below 64 bits.
NO_MAXIMUM = 2**62

# At or below this many units a dead band never holds a change back, unless the settings say otherwise.
LOW_STOCK = 5


class RuleValues(Protocol):
    """What a rule set is made of; the configuration's own class has the same fields."""

    @property
    def buffer(self) -> int: ...
    @property
    def percent(self) -> int: ...
    @property
    def minimum(self) -> int: ...
    @property
    def maximum(self) -> int | None: ...
    @property
    def dead_band(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """Units, except `percent` (0 to 100). `maximum` None: no cap. `dead_band` 0: off."""

    buffer: int = 0
    percent: int = 100
    minimum: int = 0
    maximum: int | None = None
    dead_band: int = 0


# In the order in which they stand in tables and files.
RULES: Final = tuple(one.name for one in fields(Rules))


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that took part: its name with its value, and the number of units after it."""

    rule: str
    result: int


@dataclass(frozen=True, slots=True)
class Trace:
    """How a desired quantity came about, step by step, from available to the result."""

    available: int
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return " -> ".join([f"available {self.available}", *(f"{step.rule}: {step.result}" for step in self.steps)])


def desired(
    available: int,
    rules: RuleValues,
    *,
    active: bool = True,
    acknowledged: int | None = None,
    low_stock: int = LOW_STOCK,
    percent_before: int | None = None,
) -> tuple[int, Trace]:
    """Apply the rules of one listing to `available` units (may be negative).

    Order: below 0 shows 0, buffer, percent (rounded down), maximum, minimum (below it 0), inactive SKU, dead band. The
    dead band keeps `acknowledged` if the result is at most `dead_band` away from it, neither is low or 0, and it is not
    more than available. `percent_before`: what the item's locations before this one have, None where it has only one
    (`inventory/shares.py`). Of several the band keeps nothing above the result: the shop adds them up.
    """
    steps = []
    before = percent_before or 0
    shelf = max(0, available)
    result = shelf
    if available < 0:
        steps.append(Step("negative shows as 0", 0))
    if rules.buffer:
        result = max(0, result - rules.buffer)
        steps.append(Step(f"buffer {rules.buffer}", result))
    if rules.percent != 100:
        result = result * (before + rules.percent) // 100 - result * before // 100
        steps.append(Step(f"percent {rules.percent}", result))
    if rules.maximum is not None and result > rules.maximum:
        result = rules.maximum
        steps.append(Step(f"maximum {rules.maximum}", result))
    if result < rules.minimum:
        result = 0
        steps.append(Step(f"below minimum {rules.minimum}", 0))
    if not active:
        result = 0
        steps.append(Step("inactive SKU", 0))
    if (
        acknowledged is not None
        and result != acknowledged
        and abs(result - acknowledged) <= rules.dead_band
        and min(result, acknowledged) > low_stock
        and acknowledged <= (shelf if percent_before is None else result)
    ):
        result = acknowledged
        steps.append(Step(f"dead band {rules.dead_band}", result))
    return result, Trace(available, tuple(steps))


class greatest(FunctionElement[int]):
    """The greater of two numbers; SQLite calls its scalar form max."""

    type = BigInteger()
    name = "greatest"
    inherit_cache = True


class least(FunctionElement[int]):
    """The lesser of two numbers; SQLite calls its scalar form min."""

    type = BigInteger()
    name = "least"
    inherit_cache = True


@compiles(greatest, "sqlite")
def _sqlite_greatest(element: greatest, compiler: SQLCompiler, **kw: Any) -> str:
    return f"max({compiler.process(element.clauses, **kw)})"


@compiles(least, "sqlite")
def _sqlite_least(element: least, compiler: SQLCompiler, **kw: Any) -> str:
    return f"min({compiler.process(element.clauses, **kw)})"


@compiles(greatest)
def _greatest(element: greatest, compiler: SQLCompiler, **kw: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **kw)})"


@compiles(least)
def _least(element: least, compiler: SQLCompiler, **kw: Any) -> str:
    return f"least({compiler.process(element.clauses, **kw)})"


@dataclass(frozen=True)
class RuleColumns:
    """The SQL expressions of the rules in force for a listing: its own value, else its channel's."""

    buffer: ColumnElement[int]
    percent: ColumnElement[int]
    minimum: ColumnElement[int]
    maximum: ColumnElement[int]
    dead_band: ColumnElement[int]
    percent_before: ColumnElement[int | None]

    @classmethod
    def of(cls, listing: Any, channel: Any) -> RuleColumns:
        """Take them from the column collections of `platform_mapping` and `channels`."""
        return cls(
            buffer=func.coalesce(listing.buffer, channel.buffer),
            percent=func.coalesce(listing.percent, channel.percent),
            minimum=func.coalesce(listing.minimum, channel.minimum),
            maximum=func.coalesce(listing.maximum, channel.maximum, NO_MAXIMUM),
            dead_band=func.coalesce(listing.dead_band, channel.dead_band),
            percent_before=listing.percent_before,
        )


def result_sql(available: ColumnElement[int], rules: RuleColumns, active: ColumnElement[bool]) -> ColumnElement[int]:
    """Return `desired` without its dead band as one SQL expression."""
    after_buffer = greatest(greatest(available, 0) - rules.buffer, 0)
    before = func.coalesce(rules.percent_before, 0)
    share = after_buffer * (before + rules.percent) // 100 - after_buffer * before // 100
    capped = least(share, rules.maximum)
    return case((and_(active, capped >= rules.minimum), capped), else_=0)


def dead_band_sql(
    result: ColumnElement[int],
    most: ColumnElement[int],
    dead_band: ColumnElement[int],
    acknowledged: ColumnElement[int | None],
    low_stock: ColumnElement[int],
) -> ColumnElement[int]:
    """Return the dead band of `desired` over `result` as an SQL expression; it keeps nothing above `most`."""
    keeps = and_(
        dead_band > 0,
        acknowledged.is_not(None),
        func.abs(result - acknowledged) <= dead_band,
        least(result, acknowledged) > low_stock,
        acknowledged <= most,
    )
    return case((func.coalesce(keeps, false()), acknowledged), else_=result)
