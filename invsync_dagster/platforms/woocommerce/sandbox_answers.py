"""The stand-in store's answers: JSON, pages of it with WordPress' counting headers, and refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from invsync_dagster.platforms.transport import Response

MOST_ROWS = 100


class RefusedError(Exception):
    """An answer that says no: HTTP status, code and message as in WordPress' error object."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.response = answer(status, {"code": code, "message": message, "data": {"status": status}})


def page(entries: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> Response:
    """Return a page with the headers that count, and with the wanted fields only."""
    size, number = int(query.get("per_page", "10")), int(query.get("page", "1"))
    if not 1 <= size <= MOST_ROWS or number < 1:
        raise RefusedError(400, "rest_invalid_param", "Invalid parameter(s): per_page")
    # WP_Query counts no pages where it is told an offset.
    start = int(query["offset"]) if "offset" in query else (number - 1) * size
    shown = entries[start : start + size]
    if "_fields" in query:
        wanted = query["_fields"].split(",")
        shown = [{name: value for name, value in entry.items() if name in wanted} for entry in shown]
    counts = {"x-wp-total": str(len(entries)), "x-wp-totalpages": str(math.ceil(len(entries) / size))}
    return answer(200, list(shown), counts)


def numbers(text: str, name: str) -> set[int]:
    """Read ids between commas. Raises `RefusedError`."""
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise RefusedError(400, "rest_invalid_param", f"Invalid parameter(s): {name}")
    return {int(part) for part in parts}


def answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as JSON."""
    return Response(
        status, {"content-type": "application/json; charset=UTF-8", **(headers or {})}, json.dumps(value).encode()
    )
