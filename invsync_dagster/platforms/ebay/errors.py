"""eBay's failures by what to do about them: lost answers, HTTP statuses, the token's, and rows that failed in a 207."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from invsync_dagster.platforms.contract import Outcome, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery, retry_after_seconds, told
from invsync_dagster.platforms.fields import json_in
from invsync_dagster.platforms.transport import Response

# errorId: no item with this SKU, no such resource (an offer), an offer that isn't published or isn't this SKU's.
_GONE = frozenset({25702, 25710, 25713})
# errorId: the same record is being changed by another call; nothing was done.
_CONCURRENT = 25025
# Until when a listing that has no revision left for the day waits: asked again each hour, as the day's end is eBay's.
SPENT_SECONDS = 3600.0


def of_token(response: Response, secrets: Sequence[str]) -> PlatformError:
    """Return why the token endpoint gave no token; it answers in OAuth's flat form."""
    value = json_in(response.body)
    fields = value if isinstance(value, Mapping) else {}
    code, words = fields.get("error"), fields.get("error_description")
    code = code if isinstance(code, str) and code else "no_token"
    said = told(words if isinstance(words, str) else "", secrets) or f"eBay answered HTTP {response.status}"
    if response.status == 429:
        wait = retry_after_seconds(response.headers.get("retry-after"))
        return PlatformError(Recovery.WAIT, "throttled", "eBay asks for fewer tokens", wait)
    if code == "invalid_grant":
        return PlatformError(
            Recovery.REAUTHENTICATE, code, f"the seller's consent is gone; let the seller consent again: {said}"
        )
    if 400 <= response.status < 500:
        mend = "check client id and secret, and that they belong to this environment (production or sandbox)"
        return PlatformError(Recovery.REAUTHENTICATE, told(code, secrets, 80), f"{said}; {mend}")
    return PlatformError(Recovery.RETRY, "no_token", said)


def json_of(response: Response, expected: Callable[[Any], bool], *, writing: bool, secrets: Sequence[str]) -> Any:
    """Return the answer's JSON. Raises `PlatformError` for everything but the success that `expected` describes."""
    doubt = Recovery.SETTLE if writing else Recovery.RETRY
    value = json_in(response.body)
    # A bulk call whose rows have all failed may be answered 400: what counts is each row's own status.
    has_rows = response.status == 400 and isinstance(value, Mapping) and bool(value.get("responses"))
    if not 200 <= response.status < 300 and not has_rows:
        raise _of_status(response, doubt, secrets)
    if not expected(value):
        raise PlatformError(doubt, "malformed_answer", "the answer is not what eBay's API promises")
    return value


def outcome_of_row(status: Any, errors: Any, secrets: Sequence[str]) -> Outcome:
    """Return the outcome of a row of a bulk answer: its own status and errors, whatever the call's status is."""
    number, category, words = _first(errors)
    words = told(words, secrets) or "eBay gives no reason"
    if isinstance(status, int) and 200 <= status < 300 and not number:
        return Outcome(Result.ACKNOWLEDGED)
    code = f"ebay_{number}" if number else "row_error"
    if number == _CONCURRENT:
        return Outcome(Result.NOT_SENT, Recovery.RETRY, code, words)
    if number in _GONE or status == 404:
        return Outcome(Result.REJECTED, Recovery.REVIEW, code if number else "not_found", words)
    if status == 429 or _is_spent(words):
        return Outcome(Result.REJECTED, Recovery.WAIT, "revisions_spent", words, SPENT_SECONDS)
    if not isinstance(status, int) or status >= 500 or status < 300 or category in ("SYSTEM", "APPLICATION"):
        return Outcome(Result.UNKNOWN, Recovery.SETTLE, code, words)
    return Outcome(Result.REJECTED, Recovery.REJECT, code, words)


def _is_spent(words: str) -> bool:
    """Tell whether eBay speaks of the revisions that a listing has a day: it publishes no number for this error."""
    lower = words.lower()
    return "revis" in lower and any(word in lower for word in ("limit", "exceed", "maximum", "too many", "250"))


def _of_status(response: Response, doubt: Recovery, secrets: Sequence[str]) -> PlatformError:
    status = response.status
    value = json_in(response.body)
    number, _, words = _first(value.get("errors") if isinstance(value, Mapping) else None)
    code, words = f"ebay_{number}" if number else "", told(words, secrets)
    wait = retry_after_seconds(response.headers.get("retry-after"))
    if status == 429:
        return PlatformError(
            Recovery.WAIT, "throttled", words or "the calls of the application's quota are used up", wait
        )
    if status in (401, 403):
        reason = words or "no reason is given"
        mend = "the consent needs the scopes sell.inventory and sell.fulfillment"
        return PlatformError(
            Recovery.REAUTHENTICATE, code or "unauthorized", f"eBay refuses our token: {reason}; {mend}"
        )
    if status == 404 or number in _GONE:
        return PlatformError(Recovery.REVIEW, code or "not_found", words or "eBay has nothing at this address")
    if 300 <= status < 400:
        return PlatformError(Recovery.REAUTHENTICATE, "moved", "eBay's API isn't at api_url: it sends us elsewhere")
    if number == _CONCURRENT:
        return PlatformError(Recovery.RETRY, code, words)
    if 400 <= status < 500:
        return PlatformError(Recovery.REJECT, code or f"http_{status}", words or f"eBay answered HTTP {status}")
    # 25001, a system error, may come after the work was done in part.
    return PlatformError(doubt, code or "server_error", words or f"eBay answered HTTP {status}", wait)


def _first(errors: Any) -> tuple[int, str, str]:
    """Return errorId, category and words of the first error, 0 and "" where there is none."""
    entries = errors if isinstance(errors, list) else []
    error = next((each for each in entries if isinstance(each, Mapping)), None)
    if error is None:
        return 0, "", ""
    number, category = error.get("errorId"), error.get("category")
    words = error.get("longMessage") or error.get("message")
    return (
        number if type(number) is int else -1,
        category if isinstance(category, str) else "",
        words if isinstance(words, str) else "",
    )
