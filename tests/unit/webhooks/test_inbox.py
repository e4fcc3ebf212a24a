"""The inbox as a folder: durable writing, ordered reading, quarantine and replay."""

from __future__ import annotations

import errno
import json
import os
import random
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter, segment_time
from invsync_dagster.webhooks.segments import Delivery

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOW)


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    inbox = Inbox(tmp_path / "inbox")
    inbox.prepare(NOW)
    return inbox


@pytest.fixture
def writer(inbox: Inbox, clock: VirtualClock) -> SegmentWriter:
    return SegmentWriter(inbox.folder, clock, random.Random(1))


def delivery(body: str) -> Delivery:
    return Delivery("shop", "orders/create", NOW, {"x-test-topic": "orders/create"}, body.encode())


def bodies(inbox: Inbox) -> list[bytes]:
    return [item.body for path in inbox.segments(100) for item in inbox.read(path)]


def test_a_written_group_is_read_back_with_receipts(inbox: Inbox, writer: SegmentWriter) -> None:
    path = writer.write([delivery("one"), delivery("two")])
    assert inbox.segments(10) == [path]
    read = inbox.read(path)
    assert [item.body for item in read] == [b"one", b"two"]
    assert [item.receipt_id for item in read] == [f"{path.stem}:0", f"{path.stem}:1"]
    assert read[0].received_at == NOW
    assert segment_time(path) == NOW


def test_a_segment_is_for_the_owner_only(writer: SegmentWriter) -> None:
    path = writer.write([delivery("one")])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_names_sort_as_written_even_if_the_clock_stands_still(
    inbox: Inbox, writer: SegmentWriter, clock: VirtualClock
) -> None:
    written = [writer.write([delivery(str(index))]) for index in range(12)]
    clock.advance(1)
    written.append(writer.write([delivery("late")]))
    assert inbox.segments(100) == written
    assert inbox.segments(3) == written[:3]


def test_two_writers_at_one_moment_use_different_names(inbox: Inbox, clock: VirtualClock) -> None:
    paths = {SegmentWriter(inbox.folder, clock, random.Random(seed)).write([delivery("x")]) for seed in range(5)}
    assert len(paths) == 5


def test_file_and_folder_are_synced_and_the_name_appears_between_the_two(
    inbox: Inbox, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), len(inbox.segments(10))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    writer.write([delivery("one")])
    assert seen == [(False, 0), (True, 1)]


def test_a_disk_that_fails_leaves_no_segment_and_no_part(
    inbox: Inbox, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            writer.write([delivery("one")])
    assert [entry.name for entry in inbox.folder.iterdir() if entry.is_file()] == []
    writer.write([delivery("two")])
    assert bodies(inbox) == [b"two"]


def test_a_folder_that_is_gone_is_an_error_and_not_a_loss(tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(FileNotFoundError):
        SegmentWriter(tmp_path / "nowhere", clock, random.Random(1)).write([delivery("one")])


def test_no_inbox_holds_no_segments(tmp_path: Path) -> None:
    assert Inbox(tmp_path / "nowhere").segments(5) == []


def test_a_finished_segment_goes_to_its_day_and_finishing_again_changes_nothing(
    inbox: Inbox, writer: SegmentWriter
) -> None:
    path = writer.write([delivery("one")])
    inbox.finish(path)
    inbox.finish(path)
    assert inbox.segments(10) == []
    assert (inbox.folder / "done" / "2026-11-03" / path.name).is_file()
    assert inbox.read(path) == []


def test_a_damaged_line_goes_to_quarantine_and_the_rest_is_returned(inbox: Inbox, writer: SegmentWriter) -> None:
    path = writer.write([delivery("one"), delivery("two"), delivery("three")])
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b" ", b" A", 1)
    path.write_bytes(b"\n".join(lines))
    assert [item.body for item in inbox.read(path)] == [b"one", b"three"]
    assert [item.body for item in inbox.read(path)] == [b"one", b"three"]
    (kept,) = (inbox.folder / "quarantine").iterdir()
    fields = json.loads(kept.read_text(encoding="utf-8"))
    assert fields["receipt_id"] == f"{path.stem}:1"
    assert "checksum" in fields["reason"]


def test_a_torn_segment_gives_its_whole_deliveries_and_says_that_it_was_cut(
    inbox: Inbox, writer: SegmentWriter
) -> None:
    path = writer.write([delivery("one"), delivery("two")])
    path.write_bytes(path.read_bytes()[:-40])
    assert [item.body for item in inbox.read(path)] == [b"one"]
    reasons = [json.loads(kept.read_bytes())["reason"] for kept in (inbox.folder / "quarantine").iterdir()]
    assert any("ends early" in reason for reason in reasons)


def test_what_is_not_understood_is_kept_with_its_reason_and_can_be_replayed(
    inbox: Inbox, writer: SegmentWriter
) -> None:
    path = writer.write([delivery('{"id": 1}')])
    (read,) = inbox.read(path)
    kept = inbox.quarantine.keep(read, "line_items is missing")
    assert inbox.quarantine.keep(read, "line_items is missing") == kept
    inbox.finish(path)
    fields = json.loads(kept.read_text(encoding="utf-8"))
    assert (fields["channel"], fields["topic"], fields["reason"]) == ("shop", "orders/create", "line_items is missing")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    segment = inbox.put_back(kept, writer)
    (again,) = inbox.read(segment)
    assert (again.body, again.received_at, again.headers) == (read.body, read.received_at, read.headers)
    assert again.receipt_id != read.receipt_id
    assert not kept.exists()


def test_a_damaged_line_cannot_be_replayed(inbox: Inbox, writer: SegmentWriter) -> None:
    path = writer.write([delivery("one")])
    path.write_bytes(path.read_bytes().replace(b"end 1", b"end 2"))
    inbox.read(path)
    kept = next((inbox.folder / "quarantine").iterdir())
    with pytest.raises(ValueError, match="holds no whole delivery"):
        inbox.put_back(kept, writer)
    assert kept.exists()


def test_parts_that_a_dead_process_left_are_removed_and_young_ones_stay(inbox: Inbox) -> None:
    old, young = inbox.folder / ".old.segment.part", inbox.folder / ".young.segment.part"
    for part, age in ((old, timedelta(hours=2)), (young, timedelta(minutes=2))):
        part.write_bytes(b"")
        moment = (NOW - age).timestamp()
        os.utime(part, (moment, moment))
    inbox.prepare(NOW)
    assert (old.exists(), young.exists()) == (False, True)
    assert inbox.segments(10) == []
