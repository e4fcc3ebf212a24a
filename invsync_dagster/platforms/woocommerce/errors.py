"""WooCommerce's failures by what to do about them: lost answers, HTTP statuses, pages instead of JSON, rows that failed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import unescape
from itertools import islice
from typing import Any
from urllib.parse import urljoin, urlsplit

from invsync_dagster.platforms.contract import Outcome, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery, retry_after_seconds, told
from invsync_dagster.platforms.transport import Response

# `code` of a row that failed: the listing names something that isn't there, or isn't what it was.
_GONE = re.compile(r"woocommerce_rest_(?:product_|product_variation_)?invalid_(?:product_|variation_)?id")
_TAG = re.compile(r"<[^<>]*>")
# Where JSON may begin in an answer: at its beginning, or after the notices (`<br />`, or a line each) that PHP printed
# before it, or the byte order marks of its files. An answer with more such places is none of these.
_OPENINGS = re.compile(r"(?:(?<=[>\n\ufeff])|\A)[\[{]")
# What may follow it: nothing, HTML, or notices as text (`Warning: …`, `PHP Deprecated:  …`).
_AFTER = re.compile(r"[\s\ufeff]*(?:\Z|<|(?:PHP )?[A-Z][a-z]+(?: [A-Za-z]+)*: )")
_MOST_OPENINGS = 200
# Headers in which a cache says how it answered (X-Cache, CF-Cache-Status, X-LiteSpeed-Cache, X-Kinsta-Cache, RFC 9211's
# Cache-Status; each host has its own), and the words for a copy. The others say what a cache should do or looks for.
_CACHE = re.compile(r"cache")
_NO_REPORT = re.compile(r"control|lookup|object|key|tag|vary")
_COPY = re.compile(r"(?<![a-z])(?:hit|stale|updating|revalidated)(?![a-z])")


def json_of(
    response: Response, expected: Callable[[Any], bool], *, store: str, writing: bool, secrets: Sequence[str]
) -> Any:
    """Return the answer's JSON. Raises `PlatformError` for everything but the success that `expected` describes.

    `store` is the address that was asked.

    Byte order marks, PHP's notices around the JSON and what plugins print after it are passed over.
    """
    doubt = Recovery.SETTLE if writing else Recovery.RETRY
    if not 200 <= response.status < 300:
        raise _of_status(response, store, doubt, secrets)
    if not writing and (cache := _cached_by(response.headers)):
        raise cached(cache)
    code = words = ""
    for value in _values_in(response.body):
        if expected(value):
            return value
        if not (code and words):
            code, words, _ = _parts(value)
    if code and words:  # plugins that close the API send WordPress' error object with a 200
        raise PlatformError(doubt, told(code, secrets), f"the store answered with an error: {told(words, secrets)}")
    if response.body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        words = "the store answered with a web page instead of JSON"
        raise PlatformError(doubt, "web_page", words)
    raise PlatformError(doubt, "malformed_answer", "the answer is not what the API promises")


def knows_no_caller(response: Response) -> bool:
    """Tell whether the store met a caller without a key that it knows: a wrong one, or none since its host dropped the
    `Authorization` header (many with Apache and FastCGI; woocommerce issues 12230, 14918, 17271). A wrong secret, and a key
    without the right, are told otherwise."""
    code, _, _ = _parts(next(_values_in(response.body), None)) if response.status == 401 else ("", "", 0)
    return code.startswith("woocommerce_rest_cannot_")


def outcome_of_row_error(error: Any, secrets: Sequence[str]) -> Outcome:
    """Return the outcome of a row that failed inside a 200."""
    code, words, status = _parts(error)
    message = told(words, secrets) or "the store gives no reason"
    if _GONE.fullmatch(code):
        return Outcome(Result.REJECTED, Recovery.REVIEW, "not_found", message)
    if status >= 500 or not code:
        return Outcome(Result.UNKNOWN, Recovery.SETTLE, code or "row_error", message)
    return Outcome(Result.REJECTED, Recovery.REJECT, code, message)


def _of_status(response: Response, store: str, doubt: Recovery, secrets: Sequence[str]) -> PlatformError:
    status = response.status
    code, words, _ = _parts(next(_values_in(response.body), None))
    words = told(words, secrets)
    retry_after = retry_after_seconds(response.headers.get("retry-after"))
    if status == 429:
        return PlatformError(Recovery.WAIT, "throttled", "the store's host asks for fewer calls", retry_after)
    if status in (401, 403):
        reason = words or "no reason is given (a firewall before the store?)"
        return PlatformError(Recovery.REAUTHENTICATE, code or "forbidden", f"the store refuses our key: {reason}")
    if status == 404 and _GONE.fullmatch(code):
        return PlatformError(Recovery.REVIEW, "not_found", words)
    if status == 404:
        words = f"there is no WooCommerce REST API of version 10.3 or later at this address: {words or 'not found'}"
        return PlatformError(Recovery.REAUTHENTICATE, "no_api", words)
    if status == 304:
        # We ask for no answer that we have already: a cache before the store compares with a copy of its own.
        return cached("HTTP 304")
    if 300 <= status < 400:
        return _moved(response, store, secrets)
    if status == 413:
        # Nothing was done; `pace` makes the next call smaller.
        return PlatformError(Recovery.RETRY, "too_large", words or "the store refuses so many rows in one call")
    if 400 <= status < 500:
        return PlatformError(Recovery.REJECT, code or f"http_{status}", words or f"the store answered HTTP {status}")
    # A gateway's 5xx may hide work that goes on behind it, so for a write every one is unknown.
    return PlatformError(doubt, code or "server_error", words or f"the store answered HTTP {status}", retry_after)


def _moved(response: Response, store: str, secrets: Sequence[str]) -> PlatformError:
    parts = urlsplit(urljoin(store, response.headers.get("location", "")))
    host = f"{parts.scheme}://{parts.netloc}"
    before, api, _ = parts.path.partition("/wp-json")
    place = host + before if api else host
    if place == store or (not api and store.startswith(f"{host}/")):
        # WordPress itself does so with plain permalinks, and plugins that hide the API send to the front page or to a login.
        words = (
            "the store shows a web page at the address of its REST API: choose any permalinks but Plain (WordPress → Settings → "
            "Permalinks), and let no plugin close /wp-json/"
        )
        return PlatformError(Recovery.REAUTHENTICATE, "no_api", words)
    words = f"the store sends us to {told(place, secrets)}: if that is its address now, put it into store_url"
    return PlatformError(Recovery.REAUTHENTICATE, "moved", words)


def cached(by: str) -> PlatformError:
    """Return the failure of a reading that isn't what the store says now; `by` is what gave it away."""
    words = f"the store's answers come out of a cache ({by}): let it leave out /wp-json/"
    return PlatformError(Recovery.REJECT, "cached_answer", words)


def _cached_by(headers: Mapping[str, str]) -> str:
    """Return the header that says that an answer is a copy made earlier, "" if none does."""
    age = headers.get("age", "0").strip()
    if age.isascii() and age.isdigit() and int(age) > 0:
        return "age"
    # Varnish names the request that a copy was made for beside our own.
    if len(headers.get("x-varnish", "").split()) > 1:
        return "x-varnish"
    for name, value in headers.items():
        if _CACHE.search(name) and not _NO_REPORT.search(name) and _COPY.search(value.lower()):
            return name
    return ""


def _values_in(body: bytes) -> Iterator[Any]:
    """Yield the JSON objects and lists that may be a body's content, those that begin earliest first.

    A body that begins as JSON is that or nothing: a part of an answer that was cut off must not pass for the whole.
    """
    # Each of a store's PHP files that was saved with a byte order mark prints its own, with the blank lines around it.
    text = body.decode("utf-8", "replace").strip("\ufeff \t\r\n")
    decoder = json.JSONDecoder()
    for opening in islice(_OPENINGS.finditer(text), 1 if text[:1] in ("[", "{") else _MOST_OPENINGS):
        try:
            value, end = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        if _AFTER.match(text, end):
            yield value


def _parts(error: Any) -> tuple[str, str, int]:
    """Return code, message and HTTP status of an error object."""
    if not isinstance(error, Mapping):
        return "", "", 0
    code, words, data = error.get("code"), error.get("message"), error.get("data")
    status = data.get("status") if isinstance(data, Mapping) else None
    return (
        code[:80] if isinstance(code, str) else "",
        # WordPress writes its messages for a page: "<p>There has been a critical error …</p>", "/products/&lt;product_id&gt;".
        " ".join(unescape(_TAG.sub(" ", words)).split()) if isinstance(words, str) else "",
        status if isinstance(status, int) else 0,
    )
