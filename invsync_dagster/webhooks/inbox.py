"""The inbox: a folder of segments, written durably, read in order, moved to done/ or quarantine/; no database here."""

from __future__ import annotations

import base64
import contextlib
import heapq
import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from invsync_dagster.clock import Clock
from invsync_dagster.webhooks.segments import Damaged, Delivery, decode, encode

SUFFIX = ".segment"
PART_SUFFIX = ".part"
# A group is written within seconds; what is still a part after an hour was left by a process that died, and its
# deliveries were never answered.
LEFT_BEHIND = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SegmentWriter:
    """Writes groups of deliveries into the inbox, one segment a group. Not for several threads at once."""

    def __init__(self, inbox: Path, clock: Clock, rng: random.Random) -> None:
        self._inbox = inbox
        self._clock = clock
        self._token = f"{rng.getrandbits(48):012x}"
        self._last = 0

    def write(self, deliveries: Sequence[Delivery]) -> Path:
        """Write one segment and return its path; then file and folder are on disk. Raises OSError, and then none of
        the deliveries may be answered as taken.

        The name sorts by time (microseconds since the epoch) and is unique by the writer's token; it appears only
        when the file is whole.
        """
        self._last = max(self._last + 1, (self._clock.now() - EPOCH) // timedelta(microseconds=1))
        path = self._inbox / f"{self._last:016d}-{self._token}{SUFFIX}"
        write_durably(path, encode(deliveries))
        return path


def write_durably(path: Path, content: bytes) -> None:
    """Write a file for the owner only, whole or not at all, and on disk with its name on return. Raises OSError."""
    part = path.with_name(f".{path.name}{PART_SUFFIX}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Inbox:
    """The reading side of the inbox in `folder`. Several processes may read at once: receipts make it harmless."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, now: datetime) -> None:
        """Create the folders, for the owner only, and remove parts that a dead process left. Raises OSError."""
        for folder in (self.folder, self.folder / "done", self.folder / "quarantine"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self.folder.glob(f".*{PART_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if datetime.fromtimestamp(part.stat().st_mtime, UTC) < now - LEFT_BEHIND:
                    part.unlink()

    def segments(self, limit: int) -> list[Path]:
        """Return the oldest `limit` segments, oldest first; none where there is no inbox yet."""
        try:
            with os.scandir(self.folder) as entries:
                names = heapq.nsmallest(limit, (entry.name for entry in entries if entry.name.endswith(SUFFIX)))
        except FileNotFoundError:
            return []
        return [self.folder / name for name in names]

    def read(self, path: Path) -> list[Delivery]:
        """Return a segment's deliveries in the order of arrival; none if another process has moved it meanwhile.

        Damaged lines go to quarantine with the reason, and the rest is returned.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        deliveries = []
        for item in decode(path.name.removesuffix(SUFFIX), content):
            if isinstance(item, Damaged):
                self._keep(item.receipt_id, item.reason, {"raw": base64.b64encode(item.raw).decode()})
            else:
                deliveries.append(item)
        return deliveries

    def finish(self, path: Path) -> None:
        """Move an applied segment to done/<day>/; nothing happens if another process has done so."""
        folder = self.folder / "done" / f"{segment_time(path):%Y-%m-%d}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.replace(folder / path.name)

    def forget(self, before: date) -> int:
        """Remove the days of applied segments before `before`; return how many segments. Raises OSError."""
        removed = 0
        for folder in sorted((self.folder / "done").glob("????-??-??")):
            if folder.name < before.isoformat():
                removed += sum(1 for _ in folder.iterdir())
                shutil.rmtree(folder)
        return removed

    def quarantine(self, delivery: Delivery, reason: str) -> Path:
        """Keep a delivery that can't be applied, with its reason, as a JSON file of its own; on disk on return.

        The name comes from the receipt, so that doing it again changes nothing.
        """
        fields = asdict(delivery) | {
            "received_at": delivery.received_at.isoformat(),
            "body": base64.b64encode(delivery.body).decode(),
        }
        del fields["receipt_id"]
        return self._keep(delivery.receipt_id, reason, fields)

    def replay(self, path: Path, writer: SegmentWriter) -> Path:
        """Put a quarantined delivery back into the inbox, where it gets a new receipt, and return its segment.

        Raises ValueError for a damaged line, which holds no whole delivery.
        """
        fields = json.loads(path.read_bytes())
        if "raw" in fields:
            raise ValueError(f"{path.name} holds no whole delivery: {fields['reason']}")
        delivery = Delivery(
            channel=fields["channel"],
            topic=fields["topic"],
            received_at=datetime.fromisoformat(fields["received_at"]),
            headers=fields["headers"],
            body=base64.b64decode(fields["body"]),
        )
        segment = writer.write([delivery])
        path.unlink()
        return segment

    def _keep(self, receipt_id: str, reason: str, fields: Mapping[str, object]) -> Path:
        folder = self.folder / "quarantine"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{receipt_id.replace(':', '-')}.json"
        write_durably(path, json.dumps({"receipt_id": receipt_id, "reason": reason, **fields}, indent=1).encode())
        return path


def segment_time(path: Path) -> datetime:
    """Return when a segment was written, from its name."""
    return EPOCH + timedelta(microseconds=int(path.name.partition("-")[0]))
