"""Failures of a platform, grouped by what to do about them (the recovery), never by who raised them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum


class Recovery(StrEnum):
    """What the caller does about a failure."""

    WAIT = "wait"
    RETRY = "retry"
    SETTLE = "settle"
    REAUTHENTICATE = "re-authenticate"
    REVIEW = "review"
    REJECT = "reject"


def with_class(message: str, recovery: Recovery | None) -> str:
    """Return a message that ends with the class of its failure in brackets: people find it under docs/errors/."""
    return message if recovery is None else f"{message} [{recovery}]".lstrip()


def in_words(code: str, message: str, recovery: Recovery | None) -> str:
    """Return a failure as people read it: `code: message [class]`."""
    return with_class(f"{code}: {message}", recovery)


def class_in(text: str) -> Recovery | None:
    """Return the class that a message ends with, None where it has none; the full stop behind it may be there."""
    for recovery in Recovery:
        if text.rstrip(" .").endswith(f"[{recovery}]"):
            return recovery
    return None


class PlatformError(Exception):
    """A call that failed as a whole; as text it is `in_words`.

    `code` is a short stable name for tables and metadata, `message` a sentence for people without any secret,
    `retry_after` the seconds that the platform asked us to wait, if it did.
    """

    def __init__(self, recovery: Recovery, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(in_words(code, message, recovery))
        self.recovery = recovery
        self.code = code
        self.message = message
        self.retry_after = retry_after


class SignatureError(Exception):
    """A webhook whose signature, timestamp or headers don't prove its sender: answered 401."""


class NotUnderstoodError(Exception):
    """A webhook signed rightly whose content can't be used: kept in quarantine with this reason."""


def retry_after_seconds(text: str | None) -> float | None:
    """Read a Retry-After header as seconds; None where it is missing or isn't a number of seconds from 0 to a day.

    The HTTP-date form is not used by any of our platforms, and would need the platform's clock to agree with ours.
    """
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= 86_400 else None


def told(text: str, secrets: Iterable[str], length: int = 300) -> str:
    """Return a platform's own words, cut to `length` characters, without any of `secrets` (an answer may echo one)."""
    for secret in secrets:
        text = text.replace(secret, "[secret]")
    return text if len(text) <= length else text[: length - 1] + "…"
