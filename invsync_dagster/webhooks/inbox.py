"""The inbox: a folder of segments, written durably, read in order, moved to done/; no database here."""

from __future__ import annotations

import contextlib
import heapq
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from invsync_dagster.clock import Clock
from invsync_dagster.webhooks.files import PART_SUFFIX, write_durably
from invsync_dagster.webhooks.quarantine import Quarantine
from invsync_dagster.webhooks.seals import NO_SEALS, SealedError, Seals
from invsync_dagster.webhooks.segments import EPOCH, Damaged, Delivery, decode, encode, written_at

SUFFIX = ".segment"
# In a kept day's folder: nothing is left in it that could be erased.
ERASED = ".erased"
# A group is written within seconds; what is still a part after an hour was left by a process that died, and its
# deliveries were never answered.
LEFT_BEHIND = timedelta(hours=1)


class SegmentWriter:
    """Writes groups of deliveries into the inbox, one segment a group. Not for several threads at once."""

    def __init__(self, inbox: Path, clock: Clock, rng: random.Random, seals: Seals = NO_SEALS) -> None:
        self._inbox = inbox
        self._seals = seals
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
        write_durably(path, self._seals.seal(encode(deliveries)))
        return path


class Inbox:
    """The reading side of the inbox in `folder`. Several processes may read at once: receipts make it harmless.

    `damaged`: the lines and segments that were read so far and could not be. `strays`: files that the last listing left out,
    since they only end like a segment.
    """

    def __init__(self, folder: Path, seals: Seals = NO_SEALS) -> None:
        self.folder = folder
        self.quarantine = Quarantine(folder / "quarantine", seals)
        self.damaged: list[Damaged] = []
        self.strays: list[Path] = []
        self._seals = seals

    def prepare(self, now: datetime) -> None:
        """Create the folders, for the owner only, and remove parts that a dead process left. Raises OSError."""
        for folder in (self.folder, self.folder / "done", self.quarantine.folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self.folder.glob(f".*{PART_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if datetime.fromtimestamp(part.stat().st_mtime, UTC) < now - LEFT_BEHIND:
                    part.unlink()

    def segments(self, limit: int) -> list[Path]:
        """Return the oldest `limit` segments, oldest first; none where there is no inbox yet."""
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(SUFFIX)]
        except FileNotFoundError:
            return []
        self.strays = [self.folder / name for name in names if not is_segment(name)]
        return [self.folder / name for name in heapq.nsmallest(limit, filter(is_segment, names))]

    def waiting(self) -> int:
        """Return how many segments wait."""
        try:
            with os.scandir(self.folder) as entries:
                return sum(is_segment(entry.name) for entry in entries)
        except FileNotFoundError:
            return 0

    def read(self, path: Path) -> list[Delivery]:
        """Return a segment's deliveries in the order of arrival; none if another process has moved it meanwhile.

        Damaged lines go to quarantine with the reason, and the rest is returned; so does the name of a segment that none
        of the keys opens: it is kept as it is, for a replay with its key.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        deliveries = []
        for item in opened(path, content, self._seals):
            if isinstance(item, Damaged):
                self.quarantine.keep_damaged(item)
                self.damaged.append(item)
            else:
                deliveries.append(item)
        return deliveries

    def finish(self, path: Path) -> None:
        """Move an applied segment to done/<day>/; nothing happens if another process has done so."""
        folder = self.folder / "done" / f"{segment_time(path):%Y-%m-%d}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.replace(folder / path.name)
            (folder / ERASED).unlink(missing_ok=True)  # the day's others were erased while it waited

    def put_back(self, path: Path, writer: SegmentWriter) -> Path:
        """Put a quarantined delivery back into the inbox, where it gets a new receipt, and return its segment.

        Raises ValueError for a file that holds no whole delivery.
        """
        segment = writer.write([self.quarantine.delivery_in(path)])
        path.unlink()
        return segment


def is_segment(name: str) -> bool:
    """Say whether a file is called like a segment; what else ends so isn't ours."""
    return name.endswith(SUFFIX) and name[:16].isdecimal() and name[16:17] == "-"


def segment_time(path: Path) -> datetime:
    """Return when a segment was written, from its name."""
    return written_at(path.name)


def opened(path: Path, content: bytes, seals: Seals) -> list[Delivery | Damaged]:
    """Return what is in a segment's file; the receipt `<segment>:sealed` stands for one that can't be opened."""
    name = path.name.removesuffix(SUFFIX)
    try:
        return list(decode(name, seals.open(content)))
    except SealedError as error:
        return [Damaged(f"{name}:sealed", str(error), b"")]
