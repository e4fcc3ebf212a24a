"""The quarantine: a JSON file each for deliveries that could not be applied, with the reason; kept until they are replayed."""

from __future__ import annotations

import base64
import contextlib
import heapq
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from invsync_dagster.webhooks.files import write_all_durably
from invsync_dagster.webhooks.seals import NO_SEALS, SealedError, Seals
from invsync_dagster.webhooks.segments import Damaged, Delivery, written_at

# Files that are open at once where several are written together.
AT_ONCE = 100

_NOT_OURS = "is damaged, or none of ours: look at it, then drop it"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file of the quarantine, with what its finder may see. `received_at` is "" for a damaged line."""

    path: Path
    receipt_id: str
    reason: str
    channel: str = ""
    topic: str = ""
    received_at: str = ""


class Quarantine:
    """The files in `folder`. Reasons are readable by whoever may read the file; what the sender sent is sealed."""

    def __init__(self, folder: Path, seals: Seals = NO_SEALS) -> None:
        self.folder = folder
        self._seals = seals

    def keep(self, delivery: Delivery, reason: str) -> Path:
        """Keep a delivery that can't be applied; on disk on return.

        The name comes from the receipt, so that doing it again changes nothing.
        """
        self.keep_all([(delivery, reason)])
        return self.path_of(delivery.receipt_id)

    def keep_all(self, refused: Sequence[tuple[Delivery, str]]) -> None:
        """Keep several, as `keep` does, many files at a time."""
        for start in range(0, len(refused), AT_ONCE):
            self._write([_fields(*one) for one in refused[start : start + AT_ONCE]])

    def keep_damaged(self, damaged: Damaged) -> Path:
        """Keep a line of a segment that isn't what was written; on disk on return."""
        open_fields = {"receipt_id": damaged.receipt_id, "reason": damaged.reason}
        self._write([(open_fields, {"raw": base64.b64encode(damaged.raw).decode()})])
        return self.path_of(damaged.receipt_id)

    def files(self) -> list[Path]:
        """Return the files, the oldest receipt first; none where there is no quarantine yet."""
        return sorted(self.folder.glob("*.json"))

    def entries(self) -> Iterator[Quarantined]:
        """Yield what is in quarantine, the oldest receipt first."""
        for path in self.files():
            with contextlib.suppress(FileNotFoundError):  # put back meanwhile
                yield _found(path)

    def standing(self, shown: int) -> tuple[int, list[Quarantined]]:
        """Return how many deliveries are in quarantine, and the latest `shown` of them; costs as much as there are names."""
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(".json")]
        except FileNotFoundError:
            return 0, []
        latest = []
        for name in heapq.nlargest(shown, names):
            with contextlib.suppress(FileNotFoundError):
                latest.append(_found(self.folder / name))
        return len(names), latest

    def delivery_in(self, path: Path) -> Delivery:
        """Return the delivery in a file, with its receipt.

        Raises ValueError for one that holds no whole delivery (any more), or that is sealed with a key that isn't here.
        """
        fields = self._read(path)
        if "body" not in fields:
            raise ValueError(f"{path.name} holds no whole delivery: {fields['reason']}")
        return Delivery(
            channel=fields["channel"],
            topic=fields["topic"],
            received_at=datetime.fromisoformat(fields["received_at"]),
            headers=fields["headers"],
            body=base64.b64decode(fields["body"]),
            receipt_id=fields["receipt_id"],
        )

    def path_of(self, receipt_id: str) -> Path:
        """Return where a delivery of this receipt is kept, if it is."""
        return self.folder / f"{receipt_id.replace(':', '-')}.json"

    def erase(self, before: datetime, erased: Callable[[Delivery], Delivery | None]) -> int:
        """Let `erased` make of each delivery received before `before` what is kept of it (None: all), and empty damaged
        lines of that age; return how many files changed. What is sealed with a key that isn't here stays."""
        changed = 0
        for path in self.files():
            try:
                fields = self._read(path)
            except (ValueError, FileNotFoundError):  # sealed, or applied by a replay meanwhile
                continue
            if fields.get("raw") and written_at(fields["receipt_id"]) < before:
                self._write([({name: fields[name] for name in ("receipt_id", "reason")}, {"raw": ""})])
                changed += 1
            elif "body" in fields and datetime.fromisoformat(fields["received_at"]) < before:
                delivery = self.delivery_in(path)
                less = erased(delivery)
                if less is not None and less.body != delivery.body:
                    self.keep(less, fields["reason"])
                    changed += 1
        return changed

    def _read(self, path: Path) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        if not _is_ours(fields):
            raise ValueError(f"{path.name} {_NOT_OURS}")
        if "sealed" in fields:
            try:
                fields |= json.loads(self._seals.open(base64.b64decode(fields.pop("sealed"))))
            except SealedError as error:
                raise ValueError(f"{path.name} can't be read: {error}") from error
        return fields

    def _write(self, kept: Sequence[_Fields]) -> None:
        files = []
        for open_fields, content in kept:
            if self._seals.has_key:
                content = {"sealed": base64.b64encode(self._seals.seal(json.dumps(content).encode())).decode()}
            path = self.path_of(open_fields["receipt_id"])
            files.append((path, json.dumps({**open_fields, **content}, indent=1).encode()))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_all_durably(files)


# What anybody may read who may read the file, and what is sealed.
_Fields = tuple[dict[str, str], dict[str, Any]]


def _fields(delivery: Delivery, reason: str) -> _Fields:
    open_fields = {
        "receipt_id": delivery.receipt_id,
        "reason": reason,
        "channel": delivery.channel,
        "topic": delivery.topic,
        "received_at": delivery.received_at.isoformat(),
    }
    return open_fields, {"headers": dict(delivery.headers), "body": base64.b64encode(delivery.body).decode()}


def _is_ours(fields: object) -> bool:
    return isinstance(fields, dict) and all(isinstance(fields.get(name), str) for name in ("receipt_id", "reason"))


def _found(path: Path) -> Quarantined:
    """Read what may be seen of a file of the quarantine. One that can't be read is told of like the others: each run looks here,
    and is to go on. Raises `FileNotFoundError`."""
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError):
        fields = None
    if not _is_ours(fields):
        return Quarantined(path, "", f"{path.name} {_NOT_OURS}")
    said = {name: fields.get(name, "") for name in ("channel", "topic", "received_at")}
    return Quarantined(path, fields["receipt_id"], fields["reason"], **said)
