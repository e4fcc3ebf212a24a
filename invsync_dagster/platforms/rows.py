"""The rows of a write that are answered without being sent, on all platforms alike, and their place among the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invsync_dagster.platforms.contract import MAX_QUANTITY, Outcome, Result, WriteRow
from invsync_dagster.platforms.errors import Recovery


def review(code: str, words: str) -> Outcome:
    """Return the outcome of a row that a person must look at."""
    return Outcome(Result.REJECTED, Recovery.REVIEW, code, words)


def refused_unsent(row: WriteRow, times: int, ill_formed: str = "") -> Outcome | None:
    """Return why a row that its batch has `times` times is not worth a call, None if it is.

    `ill_formed`: what is wrong with the level's ids, "" if nothing is.
    """
    if ill_formed:
        return review("invalid_id", ill_formed)
    if times > 1:
        return Outcome(Result.REJECTED, Recovery.REJECT, "duplicate_row", f"the batch has {times} rows for this level")
    if not 0 <= row.quantity <= MAX_QUANTITY:
        words = f"the quantity {row.quantity} is not from 0 to {MAX_QUANTITY}"
        return Outcome(Result.REJECTED, Recovery.REJECT, "invalid_quantity", words)
    return None


def sent_without(
    refused: Sequence[Outcome | None], rows: Sequence[WriteRow], send: Callable[[Sequence[WriteRow]], Sequence[Outcome]]
) -> tuple[Outcome, ...]:
    """Send the rows that aren't refused in one call, if there are any; return one outcome a row, in their order."""
    good = [row for row, refusal in zip(rows, refused, strict=True) if refusal is None]
    answers = iter(send(good) if good else ())
    return tuple(refusal or next(answers) for refusal in refused)
