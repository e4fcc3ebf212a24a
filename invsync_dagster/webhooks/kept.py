"""The kept deliveries: applied segments in a folder a day, read again, buyers' fields erased, and forgotten in time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from invsync_dagster.webhooks.files import write_durably
from invsync_dagster.webhooks.inbox import ERASED, SUFFIX, Inbox, opened
from invsync_dagster.webhooks.seals import SealedError, Seals
from invsync_dagster.webhooks.segments import Damaged, Delivery, rewritten, written_at


@dataclass(frozen=True, slots=True)
class Day:
    """A day of kept deliveries, by the time their segments were written (UTC)."""

    day: str
    segments: int
    size_bytes: int
    is_erased: bool


class Kept:
    """The applied segments of the inbox in `folder`."""

    def __init__(self, folder: Path, seals: Seals) -> None:
        self._done = folder / "done"
        self._quarantine = Inbox(folder, seals).quarantine
        self._seals = seals

    def days(self) -> list[Day]:
        """Return the days of which something is kept, the oldest first."""
        found = []
        for folder in self._folders():
            sizes = [path.stat().st_size for path in folder.glob(f"*{SUFFIX}")]
            found.append(Day(folder.name, len(sizes), sum(sizes), (folder / ERASED).exists()))
        return found

    def between(self, since: datetime, until: datetime, channel: str = "") -> Iterator[Delivery | Damaged]:
        """Yield what was received from `since` to before `until`, for one channel or for all, in the order of arrival.

        Of damaged lines and of segments that none of the keys opens nobody knows the time or the channel: they come too.
        """
        # A segment is written within a day of its deliveries. What was put back from the quarantine is in its old place too.
        first, last = since.date().isoformat(), (until + timedelta(days=1)).date().isoformat()
        for folder in self._folders():
            if first <= folder.name <= last:
                for path in sorted(folder.glob(f"*{SUFFIX}")):
                    try:
                        content = path.read_bytes()
                    except FileNotFoundError:  # its day was forgotten meanwhile
                        continue
                    for item in opened(path, content, self._seals):
                        if isinstance(item, Damaged) or (
                            since <= item.received_at < until and channel in ("", item.channel)
                        ):
                            yield item

    def receipts(self, segment: str) -> set[str]:
        """Return the receipts of all that is in a segment, damaged lines' as well. Raises OSError."""
        path = self._done / f"{written_at(segment):%Y-%m-%d}" / f"{segment}{SUFFIX}"
        return {item.receipt_id for item in opened(path, path.read_bytes(), self._seals)}

    def erase(self, before: date, erased: Callable[[Delivery], Delivery | None]) -> int:
        """Let `erased` make of each delivery of the days before `before` what is kept of it; return how many changed.

        One that it makes None of stays, and is asked about again the next time, as is what is sealed with a key that isn't
        here. Receipts stay what they were. Called again after a crash it goes on. Raises OSError.
        """
        changed = 0
        for folder in self._folders():
            if folder.name >= before.isoformat() or (folder / ERASED).exists():
                continue
            eraser = _Eraser(erased)
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                try:
                    content = self._seals.open(path.read_bytes())
                except SealedError:
                    eraser.left += 1
                    continue
                less = rewritten(path.name.removesuffix(SUFFIX), content, eraser.less_of)
                if less != content:
                    write_durably(path, self._seals.seal(less))
            changed += eraser.changed
            if not eraser.left:
                (folder / ERASED).touch(mode=0o600)
        return changed

    def forget(self, before: date) -> int:
        """Remove the days before `before`; return how many segments. Raises OSError.

        A segment that the quarantine names stays until it is applied: nothing else has what is sealed in it.
        """
        removed = 0
        for folder in self._folders():
            if folder.name >= before.isoformat():
                continue
            segments = list(folder.glob(f"*{SUFFIX}"))
            gone = [path for path in segments if not self._quarantine.path_of(f"{path.stem}:sealed").exists()]
            for path in gone:
                path.unlink()
            removed += len(gone)
            if len(gone) == len(segments):
                shutil.rmtree(folder)
        return removed

    def _folders(self) -> list[Path]:
        return sorted(self._done.glob("????-??-??"))


class _Eraser:
    """Counts what became of the deliveries of a day."""

    def __init__(self, erased: Callable[[Delivery], Delivery | None]) -> None:
        self._erased = erased
        self.changed = 0
        self.left = 0

    def less_of(self, delivery: Delivery) -> Delivery:
        less = self._erased(delivery)
        if less is None:
            self.left += 1
            return delivery
        self.changed += less.body != delivery.body
        return less
