"""Writes what a walk found as a mapping file, to be corrected by a person and imported."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from invsync_dagster.inventory.discovery import Finding
from invsync_dagster.inventory.imports.fields import has_invisible
from invsync_dagster.inventory.imports.reading import LAYOUTS, MAPPING
from invsync_dagster.inventory.rules import RULES

COLUMNS = next(layout.columns for layout in LAYOUTS if layout.kind == MAPPING)

_UNSEEN = (
    "its SKU has a space around it, or an invisible character in it: mend it at the channel; until then only its id is "
    "mapped"
)


def write_mapping(path: Path, channel: str, findings: Iterable[Finding]) -> int:
    """Write a row for each finding as CSV, whole or not at all; return how many. Raises OSError.

    A row without `central_sku` is not imported: whoever agrees with `proposed_sku` copies it there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    written = 0
    try:
        with partial.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for one in findings:
                writer.writerow(_row(channel, one))
                written += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


def _row(channel: str, one: Finding) -> dict[str, object]:
    # An import refuses what nobody sees.
    unseen = one.platform_sku != one.platform_sku.strip() or has_invisible(one.platform_sku)
    note = f"{one.kind}: {one.note}" + (f"; {_UNSEEN}" if unseen else "") + (f" ({one.title})" if one.title else "")
    return {
        "central_sku": one.central_sku,
        "channel": channel,
        "platform_sku": "" if unseen else one.platform_sku,
        "platform_item_id": one.item_id,
        "platform_location_id": one.location_id,
        "platform_variant_id": one.variant_id,
        "status": one.status,
        **dict(zip(RULES, one.rules, strict=True)),
        "proposed_sku": one.proposed_sku,
        "note": " ".join(note.split()),
    }
