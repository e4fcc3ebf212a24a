"""The file of the status document: written by a process that has the database, read by the receiver, which hasn't."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from invsync_dagster.webhooks.files import write_durably

# Of what the keys mean (docs/status.md). New ones may come; one that goes, or means something else, makes it another version.
VERSION = 1
FILE_NAME = "status.json"
# The sensor writes every 15 to 20 s: whoever has not written for so long isn't at work.
STALE = timedelta(minutes=2)

Document = Mapping[str, Any]


class Verdict(StrEnum):
    """How all stands, in a word: something is stopped, something waits for a person, or neither."""

    TROUBLE = "trouble"
    ATTENTION = "attention"
    WELL = "well"


def write(folder: Path, document: Document) -> None:
    """Put the document in place of the one before, for the owner only, whole or not at all. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(folder / FILE_NAME, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def read(folder: Path) -> Document | None:
    """Return the document; None if there is none, or none that can be read, or one of another version."""
    try:
        document = json.loads((folder / FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("version") == VERSION else None


@dataclass(frozen=True, slots=True)
class Seen:
    """The document as it is to be read now: with its age, and the problem that it is too old.

    `problems` have the worst first; each has cause, severity (error, warning), channel, title, message, since, page.
    """

    document: Document
    age_seconds: float | None
    problems: Sequence[Mapping[str, Any]]
    verdict: Verdict


def seen(document: Document | None, now: datetime) -> Seen:
    """Return a document as it is to be read at `now`."""
    if document is None:
        problem = _silent("No status has been written yet", "")
        return Seen({}, None, (problem,), Verdict.TROUBLE)
    written_at = datetime.fromisoformat(document["written_at"])
    age = max(now - written_at, timedelta())
    problems = list(document["problems"])
    if age > STALE:
        # Its words stay the same while it lasts: they are a label of Prometheus's, whose alerts wait for one that stays.
        problems.insert(
            0, _silent("The status is old", "; the figures below are of then", since=document["written_at"])
        )
    return Seen(document, age.total_seconds(), problems, _verdict(problems, document["waits_for_people"]))


def _verdict(problems: Sequence[Mapping[str, Any]], waits_for_people: int) -> Verdict:
    if any(problem["severity"] == "error" for problem in problems):
        return Verdict.TROUBLE
    return Verdict.ATTENTION if problems or waits_for_people else Verdict.WELL


def _silent(title: str, more: str, since: str | None = None) -> dict[str, Any]:
    return {
        "cause": "status:silent",
        "severity": "error",
        "channel": "",
        "title": title,
        "message": f"Nobody writes the status{more}. Webhooks are still taken and kept, but perhaps nothing is applied and "
        "nobody is alerted: see that Dagster's daemon and code server run (`systemctl status 'invsync-*'`), that `status_sensor` "
        "is on (Automation page), and that the disk isn't full.",
        "since": since,
        "page": "",
    }
