"""Amazon's failures by what to do about them: lost answers, HTTP statuses, token refusals, and issues inside a 200."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from invsync_dagster.platforms.contract import Outcome, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery, retry_after_seconds, told
from invsync_dagster.platforms.fields import json_in
from invsync_dagster.platforms.transport import Response

# Amazon documents no code for a SKU that isn't there; its words say so. Such a level is read before it is ever written.
_NO_SUCH_SKU = re.compile(r"\bsku\b.*\b(?:not (?:found|exist)|does ?n[o']t exist|unknown)", re.IGNORECASE | re.DOTALL)
_MENDS = {
    "invalid_grant": "the seller has revoked the app, or the refresh token is wrong: authorize the app again",
    "invalid_client": "the app's client id or secret is wrong, or the secret has expired: put the new one in",
    "unauthorized_client": "the refresh token is another app's: use the client id that it was given to",
}


def json_of(response: Response, expected: Callable[[Any], bool], *, writing: bool, secrets: Sequence[str]) -> Any:
    """Return the answer's JSON. Raises `PlatformError` for everything but the success that `expected` describes."""
    doubt = Recovery.SETTLE if writing else Recovery.RETRY
    if not 200 <= response.status < 300:
        raise _of_status(response, doubt, secrets)
    value = json_in(response.body)
    if expected(value):
        return value
    raise PlatformError(doubt, "malformed_answer", "the answer is not what the Selling Partner API promises")


def of_token(response: Response, secrets: Sequence[str]) -> PlatformError:
    """Return what a refused renewal of the token means; its errors have OAuth's flat form, not the API's."""
    value = json_in(response.body)
    fields = value if isinstance(value, Mapping) else {}
    code = str(fields.get("error") or "")
    words = told(str(fields.get("error_description") or ""), secrets)
    if response.status == 429:
        wait = retry_after_seconds(response.headers.get("retry-after"))
        return PlatformError(Recovery.WAIT, "throttled", "Login with Amazon asks for fewer calls", wait)
    if response.status >= 500 or 200 <= response.status < 300:
        return PlatformError(Recovery.RETRY, "no_token", "Login with Amazon gave no token")
    mend = _MENDS.get(code, "check the app's client id and secret and the refresh token")
    reason = f"{told(code, secrets)}: {words}" if words else told(code, secrets) or f"HTTP {response.status}"
    return PlatformError(Recovery.REAUTHENTICATE, "no_token", f"Login with Amazon refuses us ({reason}); {mend}")


def outcome_of_issues(issues: Any, secrets: Sequence[str]) -> Outcome:
    """Return the outcome of a submission that is INVALID, in the words of its errors."""
    listed = [each for each in issues if isinstance(each, Mapping)] if isinstance(issues, list) else []
    errors = [each for each in listed if each.get("severity") == "ERROR"] or listed
    words = told("; ".join(str(each.get("message", "")) for each in errors[:3]), secrets)
    code = told(str(errors[0].get("code", "")), secrets, 80) if errors else ""
    if any(_NO_SUCH_SKU.search(str(each.get("message", ""))) for each in errors):
        return Outcome(Result.REJECTED, Recovery.REVIEW, "not_found", words)
    return Outcome(Result.REJECTED, Recovery.REJECT, code or "invalid", words or "Amazon gives no reason")


def _of_status(response: Response, doubt: Recovery, secrets: Sequence[str]) -> PlatformError:
    status = response.status
    code, words = _parts(json_in(response.body), secrets)
    retry_after = retry_after_seconds(response.headers.get("retry-after"))
    if status == 429:
        # No Retry-After is documented; one that comes is obeyed.
        return PlatformError(Recovery.WAIT, "throttled", words or "Amazon asks for fewer calls", retry_after)
    if status in (401, 403):
        # An unknown path answers 403 too, and so does another region's host.
        reason = words or "no reason is given"
        mend = "check the app's roles and authorization, seller_id, region and marketplaces"
        return PlatformError(Recovery.REAUTHENTICATE, code or "unauthorized", f"Amazon refuses us ({reason}); {mend}")
    if status == 404:
        return PlatformError(Recovery.REVIEW, "not_found", words or "Amazon doesn't have it")
    if 300 <= status < 400:
        return PlatformError(Recovery.REAUTHENTICATE, "moved", "Amazon sends us elsewhere: check region and api_url")
    if 400 <= status < 500:
        return PlatformError(Recovery.REJECT, code or f"http_{status}", words or f"Amazon answered HTTP {status}")
    return PlatformError(doubt, code or "server_error", words or f"Amazon answered HTTP {status}", retry_after)


def _parts(value: Any, secrets: Sequence[str]) -> tuple[str, str]:
    """Return code and words of the first error; codes are spelled differently between APIs (NotFound, NOT_FOUND)."""
    errors = value.get("errors") if isinstance(value, Mapping) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, Mapping):
        return "", ""
    code, message, details = (first.get(name) for name in ("code", "message", "details"))
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).lower() if isinstance(code, str) else ""
    words = " ".join(part for part in (message, details) if isinstance(part, str) and part)
    return told(snake, secrets, 80), told(words, secrets)
