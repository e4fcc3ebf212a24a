"""Shopify's failures by what to do about them: HTTP statuses, top-level GraphQL errors, and user errors of a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from invsync_dagster.platforms.contract import Budget, Outcome, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery, retry_after_seconds, told
from invsync_dagster.platforms.fields import json_in
from invsync_dagster.platforms.transport import Response

# Status: recovery, code, what people read. 402 and 423 end when the shop's owner acts, so the channel stops.
_STATUSES: dict[int, tuple[Recovery, str, str]] = {
    400: (Recovery.REJECT, "bad_request", "Shopify can't read the request"),
    401: (Recovery.REAUTHENTICATE, "unauthorized", "the access token is not valid"),
    402: (Recovery.REAUTHENTICATE, "shop_frozen", "the shop is frozen until its bill is paid"),
    403: (Recovery.REAUTHENTICATE, "forbidden", "the app has no access to this shop"),
    404: (Recovery.REAUTHENTICATE, "no_such_shop", "there is no such shop or API version at this address"),
    423: (Recovery.REAUTHENTICATE, "shop_locked", "the shop is locked"),
    429: (Recovery.WAIT, "throttled", "too many requests"),
}

# `extensions.code` of a top-level error. Those listed are decided before or instead of the work, so nothing was done.
_TOP_LEVEL: dict[str, tuple[Recovery, str]] = {
    "THROTTLED": (Recovery.WAIT, "throttled"),
    "ACCESS_DENIED": (Recovery.REAUTHENTICATE, "access_denied"),
    "SHOP_INACTIVE": (Recovery.REAUTHENTICATE, "shop_inactive"),
    "MAX_COST_EXCEEDED": (Recovery.REJECT, "max_cost_exceeded"),
}

# `InventorySetQuantitiesUserErrorCode` of 2026-04 to 2026-10.
_USER_ERRORS: dict[str, tuple[Result, Recovery]] = {
    "CHANGE_FROM_QUANTITY_STALE": (Result.REJECTED, Recovery.SETTLE),
    "COMPARE_QUANTITY_STALE": (Result.REJECTED, Recovery.SETTLE),
    "INVALID_INVENTORY_ITEM": (Result.REJECTED, Recovery.REVIEW),
    "INVALID_LOCATION": (Result.REJECTED, Recovery.REVIEW),
    "ITEM_NOT_STOCKED_AT_LOCATION": (Result.REJECTED, Recovery.REVIEW),
    "NON_MUTABLE_INVENTORY_ITEM": (Result.REJECTED, Recovery.REVIEW),
    # The same request is being worked on: how it ends is not known yet.
    "IDEMPOTENCY_CONCURRENT_REQUEST": (Result.UNKNOWN, Recovery.SETTLE),
    # The key belongs to another write, so this one was not done; what the other one did must be read.
    "IDEMPOTENCY_KEY_PARAMETER_MISMATCH": (Result.REJECTED, Recovery.SETTLE),
    # "Retry with a new idempotency key", which every attempt has.
    "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED": (Result.NOT_SENT, Recovery.RETRY),
}
# No cost or bucket comes near it.
_LARGEST_NUMBER = 1e12
_OTHER_USER_ERROR = (Result.REJECTED, Recovery.REJECT)


def data_of(response: Response, *, writing: bool, secrets: Sequence[str]) -> tuple[dict[str, Any], Budget | None]:
    """Return the answer's `data` and the budget that it tells. Raises `PlatformError` for everything but success."""
    doubt = Recovery.SETTLE if writing else Recovery.RETRY
    if response.status != 200:
        raise _of_status(response, doubt, secrets)
    malformed = PlatformError(doubt, "malformed_answer", "the answer is not what the API promises")
    answer = json_in(response.body)
    if not isinstance(answer, dict):
        raise malformed
    if errors := answer.get("errors"):
        raise _of_top_level(errors, answer.get("extensions"), doubt, secrets)
    data = answer.get("data")
    if not isinstance(data, dict):
        raise malformed
    return data, budget_of(answer.get("extensions"))


def budget_of(extensions: Any) -> Budget | None:
    """Read `extensions.cost.throttleStatus`; None where the answer has none."""
    status = _cost(extensions).get("throttleStatus")
    if not isinstance(status, Mapping):
        return None
    available, restore = _number(status.get("currentlyAvailable")), _number(status.get("restoreRate"))
    if available is None or restore is None:
        return None
    return Budget(available, restore, _number(_cost(extensions).get("actualQueryCost")))


def outcomes_of_user_errors(
    errors: Sequence[Any], rows: int, *, partly_done: bool, secrets: Sequence[str]
) -> tuple[Outcome, ...]:
    """Map a refused call's user errors to its rows, by the index in `field` (`["input","quantities","3","quantity"]`).

    An error without an index is every row's. Rows without an error were refused with the call: one call is one
    adjustment group, all or nothing; should an answer show a group beside errors (`partly_done`), they are unknown.
    """
    named: dict[int, Outcome] = {}
    common: Outcome | None = None
    for error in errors:
        code = str(error.get("code") or "user_error") if isinstance(error, Mapping) else "user_error"
        words = str(error.get("message") or "") if isinstance(error, Mapping) else ""
        result, recovery = _USER_ERRORS.get(code, _OTHER_USER_ERROR)
        outcome = Outcome(result, recovery, code.lower(), told(words, secrets))
        index = _index(error.get("field") if isinstance(error, Mapping) else None, rows)
        if index is None:
            common = common or outcome
        else:
            named.setdefault(index, outcome)
    if common is None and partly_done:
        common = Outcome(Result.UNKNOWN, Recovery.SETTLE, "partly_done", "other rows of the call were refused")
    if common is None:
        common = Outcome(Result.NOT_SENT, Recovery.RETRY, "batch_refused", "other rows of the call were refused")
    return tuple(named.get(row, common) for row in range(rows))


def outcome_of_activation(errors: Sequence[Any], secrets: Sequence[str]) -> Outcome:
    """Say what an item's refused stocking at a location means; its user errors have no code, only a field and words.

    Of `available` Shopify complains where the item is stocked there already: nothing was written, read again.
    """
    first = errors[0] if isinstance(errors[0], Mapping) else {}
    recovery = Recovery.SETTLE if first.get("field") == ["available"] else Recovery.REVIEW
    return Outcome(Result.REJECTED, recovery, "not_activated", told(str(first.get("message") or ""), secrets))


def _of_status(response: Response, doubt: Recovery, secrets: Sequence[str]) -> PlatformError:
    retry_after = retry_after_seconds(response.headers.get("retry-after"))
    if known := _STATUSES.get(response.status):
        recovery, code, words = known
        own = _own_words(response.body, secrets)
        return PlatformError(
            recovery,
            code,
            f"{words} (HTTP {response.status}{f': {own}' if own else ''})",
            retry_after if recovery is Recovery.WAIT else None,
        )
    # A 503 may come from a gateway in front of work already done, so for a write every 5xx is unknown.
    code = "server_error" if response.status >= 500 else "unexpected_status"
    return PlatformError(doubt, code, f"Shopify answered HTTP {response.status}", retry_after)


def _own_words(body: bytes, secrets: Sequence[str]) -> str:
    """Return what Shopify says beside a status: `{"errors": "..."}`, where lists and objects occur too; "" for a web page."""
    answer = json_in(body)
    errors = answer.get("errors") if isinstance(answer, Mapping) else None
    return told(errors if isinstance(errors, str) else json.dumps(errors), secrets) if errors else ""


def _of_top_level(errors: Any, extensions: Any, doubt: Recovery, secrets: Sequence[str]) -> PlatformError:
    entries = errors if isinstance(errors, list) else [errors]
    found = [_top_level(entry) for entry in entries]
    words = told("; ".join(message for _, message in found), secrets)
    # One error that we don't know makes the whole call doubtful: it may have been raised in the midst of the work.
    unknown = next((code for code, _ in found if code not in _TOP_LEVEL), None)
    if unknown is not None:
        return PlatformError(doubt, unknown.lower() or "graphql_error", words)
    recovery, code = _TOP_LEVEL[found[0][0]]
    return PlatformError(recovery, code, words, _throttle_wait(extensions) if recovery is Recovery.WAIT else None)


def _top_level(entry: Any) -> tuple[str, str]:
    if not isinstance(entry, Mapping):
        return "", str(entry)
    extensions = entry.get("extensions")
    code = extensions.get("code") if isinstance(extensions, Mapping) else None
    return (code if isinstance(code, str) else ""), str(entry.get("message") or "")


def _throttle_wait(extensions: Any) -> float | None:
    """Seconds until the bucket holds what was asked for: (requested - available) / restore rate (rate limits page)."""
    requested, budget = _number(_cost(extensions).get("requestedQueryCost")), budget_of(extensions)
    if budget is None or requested is None or budget.restore_rate <= 0:
        return None
    return max(0.0, (requested - budget.available) / budget.restore_rate)


def _cost(extensions: Any) -> Mapping[str, Any]:
    cost = extensions.get("cost") if isinstance(extensions, Mapping) else None
    return cost if isinstance(cost, Mapping) else {}


def _number(value: Any) -> float | None:
    """Return a finite number as a float; JSON as Python reads it may hold NaN, and integers too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST_NUMBER else None


def _index(field: Any, rows: int) -> int | None:
    if not isinstance(field, list) or "quantities" not in field[:-1]:
        return None
    text = str(field[field.index("quantities") + 1])
    return int(text) if text.isdecimal() and len(text) <= 4 and int(text) < rows else None
