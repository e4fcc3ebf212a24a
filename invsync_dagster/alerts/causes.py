"""What an alert is about: one cause, with words that hold nothing secret and nothing of buyers."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from invsync_dagster.channels import Configuration
from invsync_dagster.environment import readable
from invsync_dagster.platforms.errors import class_in, told

# A message is read on a phone: the whole stands on the page that it links to.
LONGEST_REASON = 400

# Also one that whoever gave the words has cut.
_MAIL = re.compile(r"[\w.+-]+@(?:[\w-]+(?:\.[\w-]+)+|[\w.-]*…)")
# International, or in groups as people write them; the ids of platforms have other groups, or none.
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d[\d ()/-]{6,}\d|\(?\d{2,5}\)?[ /]\d{3,}(?:[ /]\d{2,})+|\(?\d{3}\)?[ -]\d{3}-\d{4})(?![\w-])"
)

# Less than this is no secret but a word: to blank it out would garble every message.
SHORTEST_SECRET = 4


class Kind(StrEnum):
    """The kinds of causes; with the subject it is the cause's key."""

    CREDENTIALS = "credentials"
    PUSH_FAILED = "push_failed"
    OLD_CHANGES = "old_changes"
    REFUSED_ROWS = "refused_rows"
    HELD_LISTINGS = "held_listings"
    HELD_IMPORTS = "held_imports"
    CLOCK = "clock"
    DISK = "disk"
    CHECK = "check"
    RUN = "run"


class Severity(StrEnum):
    """How much it matters: an error stops something, a warning will if nobody looks."""

    WARNING = "warning"
    ERROR = "error"

    def reaches(self, least: str) -> bool:
        """Say whether whoever wants `least` and above is told."""
        return self is Severity.ERROR or least == Severity.WARNING


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong, however often it fails.

    `title` is a few words, `message` a sentence or two: the reason in the words of whoever gave it, and the mend. `page` is
    where it shows in Dagster's UI, from its root; `channel` is "" where it is of none.
    """

    kind: Kind
    subject: str
    severity: Severity
    title: str
    message: str
    page: str = ""
    channel: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found; the keys of `undecided` are neither there nor gone, as a check whose run is under way."""

    causes: tuple[Cause, ...] = ()
    undecided: frozenset[str] = frozenset()

    def and_also(self, other: Found) -> Found:
        """Return both. What may follow from a channel that is down is undecided until it is up: one cause, one alert."""
        both = (*self.causes, *other.causes)
        down = {one.channel for one in both if one.kind in DOWN}
        follows = {one.key for one in both if one.channel in down and one.kind not in DOWN}
        causes = tuple(one for one in both if one.key not in follows)
        return Found(causes, self.undecided | other.undecided | follows)


# A channel with one of these can't be brought in step at all.
DOWN = (Kind.CREDENTIALS, Kind.PUSH_FAILED)


def secrets_of(configuration: Configuration, environ: Mapping[str, str]) -> frozenset[str]:
    """Return the values of all variables that channels and targets name: none of them may stand in a message."""
    names = {target.url_env for target in configuration.settings.alerts}
    for channel in configuration.channels:
        settings = channel.settings.model_dump()
        names |= {value for key, value in settings.items() if key.endswith("_env") and isinstance(value, str)}
    values = (readable(environ, name) for name in names)
    return frozenset(value for value in values if len(value) >= SHORTEST_SECRET)


def reason(words: str, secrets: Collection[str]) -> str:
    """Return a platform's or a check's words as they may leave the house: no secret, no mail address, no telephone number,
    in one line of at most `LONGEST_REASON` characters that keeps the class at its end."""
    line = " ".join(words.split()).rstrip(" .")
    recovery = class_in(line)
    ending = f" [{recovery}]" if recovery else ""
    line = told(line.removesuffix(ending), longest_first(secrets), sys.maxsize)
    # Cut last: half an address or number isn't known as one any more.
    return told(_PHONE.sub("[telephone]", _MAIL.sub("[mail]", line)), (), LONGEST_REASON) + ending


def longest_first(secrets: Iterable[str]) -> list[str]:
    """Return secrets so that one that holds another goes first."""
    return sorted(secrets, key=len, reverse=True)


def help_page(message: str) -> str:
    """Return the page of the docs on the class that a reason ends with, "" if it has none."""
    recovery = class_in(message)
    return f"docs/errors/{recovery}.md" if recovery else ""
