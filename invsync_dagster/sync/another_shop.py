"""Tells a channel that answers for another shop from one that lost a few listings: then nothing is decided level by level."""

from __future__ import annotations

from typing import Final

from invsync_dagster.platforms.contract import Outcome
from invsync_dagster.platforms.errors import Recovery

ANOTHER_SHOP: Final = "another_shop"

# Of fewer than ten, a mistake in the mapping is the likelier cause, and a review of each is what helps.
AT_LEAST = 10
SHARE = 0.5

# What platforms say of a listing that they have, and that keeps no number of its own there: a shop may switch its stock
# management off, or close a location, as a whole.
_THERE = frozenset(
    {
        "unmanaged",
        "untracked",
        "stock_on_product",
        "fba",
        "own_quantity",
        "not_stocked",
        "item_not_stocked_at_location",
    }
)


def is_unknown(problem: Outcome | None) -> bool:
    """Say whether a row's outcome, or the problem of a reading, means that the platform doesn't know the listing."""
    return problem is not None and problem.recovery is Recovery.REVIEW and problem.code not in _THERE


def is_another_shop(missing: int, asked: int) -> bool:
    """Say whether so many of the listings asked for don't exist that the channel is no longer the shop that was mapped."""
    return asked >= AT_LEAST and missing > asked * SHARE


def another_shop(name: str, missing: int, asked: int) -> str:
    """Return the sentence for whoever has to look."""
    return (
        f"{missing} of {asked} listings are unknown at {name}: are address, credentials or mapping those of another shop? "
        "No more of them are sent to review; mend it, and the next push goes on"
    )
