"""Alibaba.com's failures by what to do about them: lost answers, HTTP statuses, codes of the gateway and of the calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from invsync_dagster.platforms.alibaba.gateway import CHINA
from invsync_dagster.platforms.errors import PlatformError, Recovery, retry_after_seconds, told
from invsync_dagster.platforms.fields import json_in
from invsync_dagster.platforms.transport import Response

# The token alone is at fault: a new one may be all that is needed.
TOKEN_CODES = frozenset({"IllegalAccessToken", "IllegalRefreshToken", "26", "27", "isv.invalid-session"})
_MENDS = {
    "IllegalAccessToken": "the seller's grant has ended: authorise the app again",
    "IllegalRefreshToken": "the seller's grant has ended: authorise the app again, and put the new refresh token in place",
    "isv.invalid-session": "the seller's grant has ended: authorise the app again",
    "AppWhiteIpLimit": "this machine's public address isn't in the app's IP whitelist: add it in the app's console",
    "InvalidAppKey": "the app key is not one of this gateway (gop and top have keys of their own)",
    "AppKeyNotExist": "the app key is not one of this gateway (gop and top have keys of their own)",
    "isv.appkey-not-exists": "the app key is not one of this gateway (gop and top have keys of their own)",
    "IncompleteSignature": "the app's secret is wrong",
    "InvalidSignature": "the app's secret is wrong",
    "25": "the app's secret is wrong",
    "isv.invalid-signature": "the app's secret is wrong",
    "InsufficientPermission": "the app has no right to this call: ask for it in the app's console",
    "11": "the app has no right to this call: ask for it in the app's console",
    "isv.permission-api-package-limit": "the app has no right to this call: ask for it in the app's console",
    "InvalidTimestamp": "this machine's clock is off by more than Alibaba.com bears: set it right",
    "IllegalTimestamp": "this machine's clock is off by more than Alibaba.com bears: set it right",
    "isv.invalid-timestamp": "this machine's clock is off by more than Alibaba.com bears: set it right",
}
_CALL_LIMIT = frozenset({"ApiCallLimit", "7", "isv.api-call-limit", "accesscontrol.limited-by-api-access-count"})
_DAY_LIMIT = "AppCallLimit"
_BAN = re.compile(r"(\d{1,5}) (?:more )?second")
# Business codes: what isn't there, and what the service itself failed at (the write may have been done before it).
_GONE = frozenset({"B_PRODUCT_NOT_FOUND"})
_FAULT = re.compile(r"S_[A-Z_]+|isp\..*|ServiceUnavailable|ServiceTimeout")


def object_of(response: Response, *, writing: bool, secrets: Sequence[str]) -> Mapping[str, Any]:
    """Return the JSON object of an HTTP success; its numbers are exact, however long. Raises `PlatformError`."""
    doubt = Recovery.SETTLE if writing else Recovery.RETRY
    status = response.status
    if status == 429:
        wait = retry_after_seconds(response.headers.get("retry-after"))
        raise PlatformError(Recovery.WAIT, "throttled", "the gateway asks for fewer calls", wait)
    if status in (401, 403):
        raise PlatformError(Recovery.REAUTHENTICATE, f"http_{status}", f"the gateway refuses us with HTTP {status}")
    if status >= 500:
        raise PlatformError(doubt, "server_error", f"the gateway answered HTTP {status}")
    if not 200 <= status < 300:
        words = f"the gateway answered HTTP {status}; is gateway_url its address?"
        raise PlatformError(Recovery.REJECT, f"http_{status}", words)
    value = json_in(response.body)
    if not isinstance(value, Mapping) or not value:
        raise PlatformError(doubt, "malformed_answer", "the answer is not what the API promises")
    return value


def check(answer: Mapping[str, Any], now: datetime, *, writing: bool, secrets: Sequence[str]) -> None:
    """Raise what an answer says against its call: the gateway's code, then `success: false` with the call's own code.

    Both come as HTTP 200. Whether a success is there to be believed is the caller's to look at. Raises `PlatformError`.
    """
    doubt = Recovery.SETTLE if writing else Recovery.RETRY
    code = answer.get("code")
    if not isinstance(code, str | int) or isinstance(code, bool):
        raise PlatformError(doubt, "malformed_answer", "the answer has no code")
    if str(code) != "0":
        raise _of_gateway(str(code), _text(answer.get("message")), str(answer.get("type")), now, doubt, secrets)
    for layer in layers(answer):
        if "success" in layer and not is_true(layer["success"]):
            words = told(_text(layer.get("message")), secrets) or "Alibaba.com gives no reason"
            raise _of_call(_text(layer.get("msg_code")) or "refused", words, doubt)


def layers(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the answer and the objects in which its content may stand: the documents differ in how deep that is."""
    yield answer
    for name in ("result", "value", "response"):
        inner = answer.get(name)
        if isinstance(inner, Mapping):
            yield inner
            if isinstance(inner.get("data"), Mapping):
                yield inner["data"]
    if isinstance(answer.get("data"), Mapping):
        yield answer["data"]


def is_true(value: Any) -> bool:
    """Read a flag that may come as text."""
    return value is True or (isinstance(value, str) and value.lower() in ("true", "success"))


def _of_gateway(
    code: str, words: str, kind: str, now: datetime, doubt: Recovery, secrets: Sequence[str]
) -> PlatformError:
    said = told(words, secrets)
    short = told(code, secrets)[:80]
    if code == _DAY_LIMIT:
        return PlatformError(
            Recovery.WAIT, short, f"the app's calls of this day are used up: {said}", _until_midnight(now)
        )
    if code in _CALL_LIMIT:
        ban = _BAN.search(words)
        return PlatformError(
            Recovery.WAIT, short, f"too many calls of this kind: {said}", float(ban[1]) if ban else 1.0
        )
    if code in _MENDS or code in TOKEN_CODES:
        mend = _MENDS.get(code, "the seller's grant has ended: authorise the app again")
        return PlatformError(Recovery.REAUTHENTICATE, short, f"{mend} ({said})" if said else mend)
    if kind in ("ISP", "SYSTEM") or _FAULT.fullmatch(code):
        return PlatformError(doubt, short, said or "the service failed")
    return PlatformError(Recovery.REJECT, short, said or "the gateway gives no reason")


def _of_call(code: str, words: str, doubt: Recovery) -> PlatformError:
    if code in _GONE:
        return PlatformError(Recovery.REVIEW, "not_found", words)
    if _FAULT.fullmatch(code):
        return PlatformError(doubt, code[:80], words)
    return PlatformError(Recovery.REJECT, code[:80], words)


def _until_midnight(now: datetime) -> float:
    """Return the seconds until 24:00 of China's day, when the gateway counts anew."""
    here = now.astimezone(CHINA)
    midnight = (here + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - here).total_seconds()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
