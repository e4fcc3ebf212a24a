"""What an import would do or did: counts, moves and rejected rows, in words, as JSON, and as the rejects file."""

from __future__ import annotations

import csv
import heapq
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from invsync_dagster.inventory.imports.reading import INVENTORY
from invsync_dagster.inventory.imports.refusals import FileError, Rejection
from invsync_dagster.settings import ImportLimits

SHOWN = 20  # largest moves, and rejected rows; enough to see what kind of file it is

APPLIED = "applied"
HELD = "held"
REJECTED = "rejected"
DROPPED = "dropped"
ALREADY = "already_imported"
UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Move:
    """What a row does to one SKU; quantities in units on hand, `available_*` what can be sold (0 if inactive)."""

    sku: str
    product_name: str
    quantity_before: int
    quantity_after: int
    available_before: int
    available_after: int

    @property
    def units(self) -> int:
        """Units moved: on hand or available, whichever is more (deactivating moves only the latter)."""
        return max(abs(self.quantity_after - self.quantity_before), abs(self.available_after - self.available_before))

    @property
    def zeroes(self) -> bool:
        return self.available_before > 0 >= self.available_after


@dataclass(frozen=True, slots=True)
class Preview:
    """What a file changes, in rows and units. For a mapping file the rows are listings, and units are left at 0.

    `zeroed` rows are among the `changed`, `older` ones (a newer count is in force) among the `unchanged`. `stocked`
    rows could be sold before. `absent` are the SKUs of the stock that the file doesn't name. `source` is the kind of a
    file that isn't ours, `counts` what the quantities are, in words; `left_out` are the rows of such a file that rightly
    state nothing, by reason. `left_behind` are the SKUs, by import, that keep what an earlier import of the same file counted,
    since this one doesn't name them. `beyond` says in words which limits the file goes beyond: it is held if there is one;
    `refused` why nothing of it can go in, `known` why it wouldn't change anything once more. Two are of a mapping:
    `renumbered` are those of the changed listings that lose the variant id which they had, `held_levels` the levels that the
    breaker holds, since it would zero or raise too many of a channel.
    """

    kind: str
    file: str = ""
    source: str = ""
    counts: str = ""
    rows: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    renumbered: int = 0
    older: int = 0
    absent: int = 0
    zeroed: int = 0
    stocked: int = 0
    units_before: int = 0
    units_after: int = 0
    units_moved: int = 0
    largest: tuple[Move, ...] = ()
    beyond: tuple[str, ...] = ()
    refused: str = ""
    known: str = ""
    held_levels: int = 0
    rejections: tuple[Rejection, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    left_behind: tuple[tuple[str, int], ...] = ()

    @property
    def rejected(self) -> int:
        return len(self.rejections)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys; `largest` and the first 20 `rejections` as lists of dicts."""
        first = replace(self, rejections=self.rejections[:SHOWN])  # of a long file's million `asdict` would copy each
        return asdict(first) | {
            "largest": [asdict(move) for move in self.largest],
            "beyond": list(self.beyond),
            "left_out": dict(self.left_out),
            "left_behind": dict(self.left_behind),
            "rejected": self.rejected,
            "rejections": [asdict(one) for one in first.rejections],
        }

    def render(self) -> str:
        """The preview in words, several lines."""
        noun = "SKUs" if self.kind == "inventory" else "listings"
        lines = [f"{REJECTED}: {self.refused}"] if self.refused else []
        lines += [f"{ALREADY}: {self.known}"] if self.known else []
        lines += [
            f"{self.file} ({self.source or self.kind}): {self.rows} rows; {noun}: {self.added} added, {self.changed} changed,"
            f" {self.unchanged} unchanged; {self.rejected} rows rejected"
        ]
        if self.kind == "inventory":
            lines.append(
                f"units on hand of these SKUs: {self.units_before} -> {self.units_after};"
                f" {self.units_moved} units moved in SKUs known before;"
                f" {self.zeroed} of {self.stocked} that could be sold go to 0"
            )
        if self.counts:
            lines.append(self.counts)
        lines += [f"{rows} rows left out: {why}" for why, rows in self.left_out]
        if self.absent:
            lines.append(f"{self.absent} SKUs of the stock are not in the file, and stay as they are")
        lines += [
            f"{skus} SKUs keep what import {import_id} made of the same file, of which no row sets them as it is read now: "
            f"`invsync imports undo {import_id}` shows what taking that back would change"
            for import_id, skus in self.left_behind
        ]
        if self.older:
            lines.append(f"{self.older} rows change nothing: a count of the same time or newer is in force")
        if self.largest:
            lines.append("largest moves:")
            lines += [
                f"  {move.sku}: {move.quantity_before} -> {move.quantity_after}  {move.product_name}"
                for move in self.largest
            ]
        lines += [f"beyond the limits: {reason}" for reason in self.beyond]
        if self.renumbered:
            lines.append(
                f"{self.renumbered} listings lose the variant id that they had: orders that name it find them by their SKU only"
            )
        if self.held_levels:
            lines.append(
                f"too many listings of a channel at once: {self.held_levels} are held at their number, or in review if they "
                "can't be; look at `invsync held list`"
            )
        lines += [str(one) for one in self.rejections[:SHOWN]]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of a file. `state`: applied, held, rejected (nothing of it can go in), dropped or already_imported.

    `rejections` are the rows that didn't go in, `rejects_file` holds them as CSV; `kept_file` is the copy that stays.
    """

    import_id: str
    state: str
    reason: str
    preview: Preview | None = None
    rejections: tuple[Rejection, ...] = ()
    rejects_file: Path | None = None
    kept_file: Path | None = None

    @property
    def rejected(self) -> int:
        """How many rows didn't go in."""
        return len(self.rejections) or (self.preview.rejected if self.preview else 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return {
            "import_id": self.import_id,
            "state": self.state,
            "reason": self.reason,
            "preview": self.preview.to_dict() if self.preview else None,
            "rejects_file": str(self.rejects_file) if self.rejects_file else None,
            "kept_file": str(self.kept_file) if self.kept_file else None,
        }

    def render(self) -> str:
        """The result in words, several lines."""
        if self.state == APPLIED and self.rejected:
            lines = [f"{APPLIED} in part: {self.reason}"]
        else:
            lines = [f"{self.state}: {self.reason}" if self.reason else self.state]
        if self.preview:
            lines.append(self.preview.render())
        if self.rejects_file:
            lines.append(f"all rejected rows: {self.rejects_file}")
        return "\n".join(lines)


@dataclass(slots=True)
class Tally:
    """What the rows of an inventory file do, added up row by row; `known` are moves of SKUs known before."""

    limits: ImportLimits
    rows: int = 0
    added: int = 0
    changed: int = 0
    older: int = 0
    zeroed: int = 0
    stocked: int = 0
    on_hand: int = 0
    units_before: int = 0
    units_after: int = 0
    units_moved: int = 0
    largest: list[Move] = field(default_factory=list)

    def add(self, move: Move, *, new: bool) -> None:
        """Count what one row does."""
        self.rows += 1
        self.units_after += move.quantity_after
        units = move.units
        if units:
            self.largest.append(move)
        if new:
            self.added += 1
            return
        self.units_before += move.quantity_before
        self.on_hand += max(move.quantity_before, 0)
        self.units_moved += units
        self.stocked += move.available_before > 0
        self.zeroed += move.zeroes

    def add_unmoved(self, quantity: int, available: int) -> None:
        """Count a row that changes nothing: the limits are about it too."""
        self.rows += 1
        self.units_before += quantity
        self.units_after += quantity
        self.on_hand += max(quantity, 0)
        self.stocked += available > 0

    def cut(self) -> None:
        """Keep the largest moves only."""
        self.largest = heapq.nsmallest(SHOWN, self.largest, key=lambda move: (-move.units, move.sku))

    def beyond(self) -> tuple[str, ...]:
        """Say in words beyond which limits the file goes; none: nothing to hold.

        Shares are of what the source names, not of the whole stock: an all-zero file of one shelf must not pass because
        the other shelves are full. Beyond a limit is what exceeds its share and its minimum both.
        """
        limits, beyond = self.limits, []
        if self.zeroed > limits.zeroed_minimum and self.zeroed > limits.zeroed_share * self.stocked:
            beyond.append(
                f"{self.zeroed} of {self.stocked} SKUs that can be sold would go to 0 (limit {limits.zeroed_share:.0%})"
            )
        if self.units_moved > limits.moved_minimum_units and self.units_moved > limits.moved_share * self.on_hand:
            beyond.append(
                f"{self.units_moved} units would move, of {self.on_hand} on hand (limit {limits.moved_share:.0%})"
            )
        return tuple(beyond)

    def preview(self) -> Preview:
        return Preview(
            kind=INVENTORY,
            rows=self.rows,
            added=self.added,
            changed=self.changed,
            unchanged=self.rows - self.added - self.changed,
            older=self.older,
            zeroed=self.zeroed,
            stocked=self.stocked,
            units_before=self.units_before,
            units_after=self.units_after,
            units_moved=self.units_moved,
            largest=tuple(self.largest),
            beyond=self.beyond(),
        )


def write_rejects(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write the rejected rows as CSV (file, line, column, value, reason, mend), whole or not at all. Raises `FileError`."""
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "line", "column", "value", "reason", "mend"))
            writer.writerows((one.file, one.line, one.column, one.value, one.reason, one.mend) for one in rejections)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileError(
            path.name,
            f"the rejected rows can't be written ({error.strerror})",
            f"free space in {path.parent.name}/ or make it writable, and give the file again; nothing of it went in",
        ) from error
