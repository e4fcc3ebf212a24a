"""An explanation of one SKU: the walk from what channels show back to what came in, its shape, words and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry. `origin` says in words where it came from: the raw delivery, the import file, the poll."""

    sequence: int
    kind: str
    quantity_delta: int
    reserved_delta: int
    quantity_after: int
    reserved_after: int
    channel: str
    order_id: str
    line_id: str
    reference: str
    origin: str
    reason: str
    occurred_at: datetime
    received_at: datetime
    applied_at: datetime
    run_id: str

    def line(self) -> str:
        order = (
            f" {self.channel} order {self.order_id}" if self.order_id else f" {self.channel}" if self.channel else ""
        )
        origin = f"; from {self.origin}" if self.origin else ""
        reason = f"; {self.reason}" if self.reason else ""
        run = f"; run {self.run_id}" if self.run_id else ""
        return (
            f"  #{self.sequence} {self.kind}{order}: on hand {self.quantity_delta:+d} -> {self.quantity_after},"
            f" reserved {self.reserved_delta:+d} -> {self.reserved_after};"
            f" occurred {in_utc(self.occurred_at)}, applied {in_utc(self.applied_at)}{origin}{reason}{run}"
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of `sync_logs`, with the balance that it was computed from (None: an entry that is not there)."""

    at: datetime
    action: str
    status: str
    old_quantity: int | None
    new_quantity: int | None
    number: int
    ledger_sequence: int
    quantity_then: int | None
    reserved_then: int | None
    rules_revision: int
    code: str
    message: str
    run_id: str

    def line(self) -> str:
        words = " ".join(part for part in (self.code, self.message) if part)
        basis = f", from ledger entry {self.ledger_sequence}"
        if self.quantity_then is not None:
            basis += f" ({self.quantity_then} on hand, {self.reserved_then} reserved)"
        run = f"; run {self.run_id}" if self.run_id else ""
        return (
            f"    {in_utc(self.at)} {self.action} {self.number}:"
            f" {_number(self.old_quantity)} -> {_number(self.new_quantity)}"
            f" {self.status}{basis}, rules {self.rules_revision}" + (f"; {words}" if words else "") + run
        )


@dataclass(frozen=True, slots=True)
class ListingExplanation:
    """One listing and the level behind it; quantities in units, None where nothing is known."""

    channel: str
    environment: str
    platform_sku: str
    item_id: str
    location_id: str
    variant_id: str
    status: str
    status_reason: str
    verdict: str
    desired: int
    desired_sequence: int
    rule_steps: tuple[str, ...]
    rules_set: str
    expected: int | None
    observed: int | None
    observed_at: datetime | None
    acknowledged: int | None
    acknowledged_at: datetime | None
    accepted: int | None
    sent: int | None
    sent_at: datetime | None
    sent_sequence: int | None
    attempt: int
    uncertain: str | None
    uncertain_since: datetime | None
    out_of_step_since: datetime | None
    due_at: datetime
    failures: int
    last_error: str
    held_quantity: int | None
    held_reason: str
    stopped_reason: str
    attempts: tuple[Attempt, ...]

    def lines(self) -> list[str]:
        level = self.item_id + (f" at {self.location_id}" if self.location_id else "")
        lines = [
            self.channel + (" (sandbox)" if self.environment == "sandbox" else "") + f": {self.verdict}",
            f"  listing {self.platform_sku or self.variant_id or '-'}, level {level}"
            + (f" ({self.status_reason})" if self.status_reason else ""),
            f"  reading: {_number(self.observed)} at {in_utc(self.observed_at)}",
            f"  answer: {_number(self.acknowledged)} acknowledged at {in_utc(self.acknowledged_at)}"
            + (f", {self.accepted} accepted and open" if self.accepted is not None else ""),
            f"  attempt {self.attempt}: {_number(self.sent)} sent at {in_utc(self.sent_at)},"
            f" from ledger entry {_number(self.sent_sequence)}",
            f"  rules: {', '.join(self.rule_steps)}; desired {self.desired} by ledger entry {self.desired_sequence}"
            + (f" ({self.rules_set})" if self.rules_set else ""),
        ]
        if self.uncertain is not None:
            lines.append(
                f"  uncertain since {in_utc(self.uncertain_since)}: {self.uncertain}; expected {_number(self.expected)}"
            )
        if self.out_of_step_since is not None:
            lines.append(f"  out of step since {in_utc(self.out_of_step_since)}, due {in_utc(self.due_at)}")
        if self.last_error:
            lines.append(f"  last failure ({self.failures} in a row): {self.last_error}")
        return [*lines, "  last attempts and readings, newest first:", *(one.line() for one in self.attempts)][
            : None if self.attempts else -1
        ]


@dataclass(frozen=True, slots=True)
class ExplainedBalance:
    """The balance of one SKU, in units, at the moment that an explanation is of."""

    sku: str
    status: str
    quantity: int
    reserved_quantity: int

    @property
    def available(self) -> int:
        return self.quantity - self.reserved_quantity

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys; times as ISO text."""
        return plain(asdict(self) | {"available": self.available})

    def balance_in_words(self) -> str:
        """The balance as one line begins."""
        return f"  {self.quantity} on hand - {self.reserved_quantity} reserved = {self.available} available ({self.status})"


@dataclass(frozen=True, slots=True)
class Explanation(ExplainedBalance):
    """The walk back from what channels show of one SKU to what came in."""

    product_name: str
    reserved_external: int
    version: int
    last_updated: datetime
    count: str
    open_orders: tuple[str, ...]
    listings: tuple[ListingExplanation, ...]
    entries: tuple[Entry, ...]

    def render(self) -> str:
        """The walk in words: the balance, each channel from reading to rules, the last ledger entries."""
        lines = [
            f"{self.sku}  {self.product_name}".rstrip(),
            f"{self.balance_in_words()}, by ledger entry {self.version} at {in_utc(self.last_updated)}",
        ]
        if self.reserved_external:
            lines.append(
                f"  {self.reserved_external} of the reserved were stated by an import, not by a channel's order"
            )
        if self.count:
            lines.append(f"  count in force: {self.count}")
        lines += [f"  open: {order}" for order in self.open_orders]
        for listing in self.listings:
            lines += ["", *listing.lines()]
        if not self.listings:
            lines += ["", "it has no listing here"]
        lines += ["", "last ledger entries, newest first:"]
        lines += [entry.line() for entry in self.entries] or ["  none"]
        return "\n".join(lines)


def in_utc(moment: datetime | None) -> str:
    """The moment as people read it, in UTC; `-` for none."""
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _number(quantity: int | None) -> str:
    return "?" if quantity is None else str(quantity)


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return a dataclass's values as JSON takes them: tuples as lists, times as ISO text."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value
