"""The forms of the Selling Partner API's answers: what one must hold to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_submission(value: Any) -> bool:
    """Tell whether an answer says what became of a patch."""
    return (
        isinstance(value, Mapping)
        and value.get("status") in ("ACCEPTED", "INVALID")
        and isinstance(value.get("submissionId"), str)
    )


def is_items(value: Any) -> bool:
    """Tell whether an answer is a page of listings items."""
    return (
        isinstance(value, Mapping)
        and _are_objects(value.get("items"))
        and type(value.get("numberOfResults")) is int
        and all(_are_objects(item.get("summaries") or []) for item in value["items"])
    )


def is_item(value: Any) -> bool:
    """Tell whether an answer is a listings item."""
    return isinstance(value, Mapping) and isinstance(value.get("sku"), str)


def is_orders(value: Any) -> bool:
    """Tell whether an answer is a page of orders."""
    return isinstance(value, Mapping) and _are_objects(value.get("orders"))


def is_order(value: Any) -> bool:
    """Tell whether an answer holds an order."""
    return isinstance(value, Mapping) and isinstance(value.get("order"), Mapping)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)


def next_token(answer: Mapping[str, Any]) -> str:
    """Return what the next page is asked for with, "" on the last one."""
    pagination = answer.get("pagination")
    token = pagination.get("nextToken") if isinstance(pagination, Mapping) else None
    return token if isinstance(token, str) else ""
