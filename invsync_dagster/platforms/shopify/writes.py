"""One write call: the quantities of stocked levels as one adjustment group, and items to be stocked at a location beside it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from invsync_dagster.platforms.contract import (
    MAX_QUANTITY,
    LevelReference,
    Outcome,
    Result,
    WriteRow,
    outcomes_of_failure,
)
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.rows import refused_unsent
from invsync_dagster.platforms.shopify import documents, errors

# A mutation costs 10 points, a query at most 1,000, and Shopify does those of one call one after the other.
ACTIVATIONS_A_CALL = 25

_ITEM = re.compile(r"gid://shopify/InventoryItem/[0-9]{1,20}")
_LOCATION = re.compile(r"gid://shopify/Location/[0-9]{1,20}")

NOT_STOCKED = "item_not_stocked_at_location"
_NOT_YET = Outcome(
    Result.NOT_SENT, Recovery.RETRY, "not_stocked_yet", "more items are to be stocked than one call takes"
)
_NOT_MADE = Outcome(
    Result.REJECTED,
    Recovery.SETTLE,
    "not_stocked_then",
    "the item was not stocked at this location when it was read; it isn't to be stocked by us now, so it is read again",
)
_SAYS_NOTHING = Outcome(Result.UNKNOWN, Recovery.SETTLE, "malformed_answer", "the answer says nothing about the write")


@dataclass(frozen=True, slots=True)
class Writing:
    """What becomes of the rows of a write, by their index: `decided` ones are answered unsent, `quantities` are set, and
    `activations` stock their item at the location."""

    rows: Sequence[WriteRow]
    key: str
    decided: Mapping[int, Outcome]
    quantities: Sequence[int]
    activations: Sequence[int]

    def document(self) -> str:
        """Return the mutation of the call."""
        if not self.activations:
            return documents.SET_QUANTITIES
        return documents.activate_levels(len(self.activations), quantities=bool(self.quantities))

    def variables(self) -> dict[str, Any]:
        """Return the mutation's variables."""
        variables = self._quantities() if self.quantities else {}
        for number, index in enumerate(self.activations):
            level = self.rows[index].level
            variables |= {
                f"item{number}": level.item_id,
                f"at{number}": level.location_id,
                f"available{number}": self.rows[index].quantity,
                # Each mutation of the call needs a key of its own, the same whenever this write is repeated.
                f"key{number}": hashlib.sha256(f"{self.key} {level.item_id} {level.location_id}".encode()).hexdigest(),
            }
        return variables

    def _quantities(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "input": {
                "name": "available",
                "reason": "correction",
                "referenceDocumentUri": f"gid://invsync/Push/{self.key}",
                "quantities": [
                    {
                        "inventoryItemId": row.level.item_id,
                        "locationId": row.level.location_id,
                        "quantity": row.quantity,
                        # The key must be there even where we have nothing to compare with (2026-04).
                        "changeFromQuantity": row.expected,
                    }
                    for row in (self.rows[index] for index in self.quantities)
                ],
            },
        }

    def outcomes(self, data: Mapping[str, Any], *, activates: bool, secrets: Sequence[str]) -> tuple[Outcome, ...]:
        """Return one outcome a row from the answer's `data`; `activates`: items that aren't stocked are to be."""
        found = dict(self.decided)
        if self.quantities:
            of_set = _of_quantities(data.get("inventorySetQuantities"), len(self.quantities), secrets)
            for index, outcome in zip(self.quantities, of_set, strict=True):
                if activates and outcome.code == NOT_STOCKED:
                    outcome = replace(outcome, recovery=Recovery.SETTLE)
                found[index] = outcome
        for number, index in enumerate(self.activations):
            found[index] = _of_activation(data.get(f"activate{number}"), self.rows[index], secrets)
        return tuple(found[index] for index in range(len(self.rows)))

    def failed(self, error: PlatformError) -> tuple[Outcome, ...]:
        """Return one outcome a row of a call that failed as a whole."""
        (outcome,) = outcomes_of_failure(error, 1)
        return tuple(self.decided.get(index, outcome) for index in range(len(self.rows)))


def writing(rows: Sequence[WriteRow], key: str, *, activates: bool) -> Writing:
    """Sort the rows of a write: those that Shopify would refuse with all others are answered unsent.

    `activates`: rows that are `absent` stock their item at the location; else they are answered unsent too, since whoever
    stocked it meanwhile may have sold of it, and there is nothing to compare with.
    """
    times = Counter(row.level for row in rows)
    decided: dict[int, Outcome] = {}
    quantities: list[int] = []
    activations: list[int] = []
    for index, row in enumerate(rows):
        refusal = _refused_unsent(row, times[row.level])
        if refusal is not None:
            decided[index] = refusal
        elif not row.absent:
            quantities.append(index)
        elif not activates:
            decided[index] = _NOT_MADE
        elif len(activations) < ACTIVATIONS_A_CALL:
            activations.append(index)
        else:
            decided[index] = _NOT_YET
    return Writing(rows, key, decided, quantities, activations)


def well_formed(level: LevelReference) -> bool:
    """Tell whether a level's ids are gids of an inventory item and a location."""
    return bool(_ITEM.fullmatch(level.item_id) and _LOCATION.fullmatch(level.location_id))


def ill_formed(level: LevelReference) -> str:
    """Return what is wrong with a level's ids, "" if nothing is."""
    return "" if well_formed(level) else "the level's ids are not gids of a Shopify inventory item and location"


def _of_quantities(payload: Any, rows: int, secrets: Sequence[str]) -> tuple[Outcome, ...]:
    user_errors = payload.get("userErrors") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or not isinstance(user_errors, list):
        return (_SAYS_NOTHING,) * rows
    group = payload.get("inventoryAdjustmentGroup")
    if user_errors:
        return errors.outcomes_of_user_errors(user_errors, rows, partly_done=group is not None, secrets=secrets)
    if group is None:
        # Seen in the field without an error; whether nothing had to change or nothing was done, a reading tells.
        words = "the answer shows no adjustment"
        return (Outcome(Result.UNKNOWN, Recovery.SETTLE, "no_confirmation", words),) * rows
    return (Outcome(Result.ACKNOWLEDGED),) * rows


def _of_activation(payload: Any, row: WriteRow, secrets: Sequence[str]) -> Outcome:
    """Return what an activation says: only the level with the number that was sent is a confirmation."""
    user_errors = payload.get("userErrors") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or not isinstance(user_errors, list):
        return _SAYS_NOTHING
    if user_errors:
        return errors.outcome_of_activation(user_errors, secrets)
    level = payload.get("inventoryLevel")
    quantities = level.get("quantities") if isinstance(level, dict) else None
    if quantities == [{"name": "available", "quantity": row.quantity}]:
        return Outcome(Result.ACKNOWLEDGED)
    return Outcome(
        Result.UNKNOWN, Recovery.SETTLE, "no_confirmation", "the level doesn't show what it was stocked with"
    )


def _refused_unsent(row: WriteRow, times: int) -> Outcome | None:
    if (refusal := refused_unsent(row, times, ill_formed(row.level))) is not None:
        return refusal
    if row.expected is not None and abs(row.expected) > MAX_QUANTITY:
        words = f"the expected quantity {row.expected} is out of range"
        return Outcome(Result.REJECTED, Recovery.SETTLE, "invalid_expected", words)
    return None
