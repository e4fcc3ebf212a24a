"""Sends through Apprise: one message to one target, within seconds; its address is never told to anybody else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from invsync_dagster.alerts.causes import longest_first
from invsync_dagster.platforms.errors import told

if TYPE_CHECKING:
    from apprise import Apprise

# A sensor has 60 s for all that it does; a messenger that doesn't answer is tried again later.
SECONDS = 10.0

# Of an address, what is shorter than this is no key of its own: a scheme, a port.
SHORTEST_PART = 4


class Tone(StrEnum):
    """How a message looks where messengers have colours; the names are Apprise's types."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Message:
    """What a target is told at once."""

    title: str
    body: str
    tone: Tone


# Sends a message to the address; returns "" if it was taken, else why not, without the address. Never raises for it.
Sender = Callable[[str, Message], str]


def send(url: str, message: Message) -> str:
    """Send by Apprise; returns "" if every service of `url` took it, else why not, without anything of the address."""
    apprise = _apprise(url)
    if apprise is None:
        return "its variable holds no address that Apprise knows: see https://appriseit.com/services/"
    result = apprise.notify(body=message.body, title=message.title, notify_type=message.tone, timeout=SECONDS)
    try:
        if result:
            return ""
        words = "; ".join(dict.fromkeys(entry.message for entry in result.logs()))
        return without_address(words, url) or f"it did not take the message ({result.status.name.lower()})"
    finally:
        result.close()


def _apprise(url: str) -> Apprise | None:
    # Imported here: it and its hundred services cost 0.3 s and 43 MB, which nobody needs who has nothing to tell.
    import logging

    from apprise import Apprise, AppriseAsset

    # Its own words go into the result; no handler of the house must see them, since below a warning they name the address.
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    apprise = Apprise(asset=AppriseAsset(app_id="invsync", app_desc="invsync", language="en", service_timeout=SECONDS))
    return apprise if apprise.add(url) and len(apprise) else None


def without_address(words: str, url: str) -> str:
    """Return words without the address and without any part of it that may be a key, a user or a host."""
    parts = {part for part in re.split(r"[/:@?&=#,\s]+", url) if len(part) >= SHORTEST_PART}
    return told(" ".join(words.split()), longest_first({url, *parts}))
