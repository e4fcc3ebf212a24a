"""What one row of an inventory file states."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["active", "inactive"]

STATUSES: tuple[Status, ...] = ("active", "inactive")


class InventoryRow(NamedTuple):
    """What one row states of a SKU; None where the file says nothing, and what is known stays.

    `part`: the place that the quantity is of, where the file has a row for each."""

    line: int
    sku: str
    quantity: int
    product_name: str | None
    reserved_quantity: int | None
    status: Status | None
    part: str = ""
